-- Up Migration

-- What the price book says an event costs, beside what the event says itself. Rated when it is ingested, by the book's
-- newest version; price_id keeps the entry, which is never changed, so every amount can be explained and made again.
alter table price alter column id type int4;
alter table usage_event
  add column rated_nano int8,
  add column price_id int4,
  add column former_price_id int4,
  add column rerating_id int4,
  add column rated_currency int2;
comment on column usage_event.rated_nano is 'Cost by the price book, in billionths of rated_currency; null: unpriced, which is not 0.';
comment on column usage_event.price_id is 'Entry of the price book that holds for the event at occurred_at, even where it cannot price all that was used; null: there is none.';
comment on column usage_event.former_price_id is 'The entry before the re-rating in rerating_id; what that made of the event can be made again.';
comment on column usage_event.rerating_id is 'The newest re-rating that changed the event''s rating.';
comment on column usage_event.rated_currency is 'As currency, of rated_nano.';

-- Rated events have rollup rows of their own, so that a row is either rated throughout or not at all.
do $$
declare
  name text;
begin
  foreach name in array array['org', 'model', 'client', 'actor'] loop
    execute format(
      $sql$
      alter table rollup_%1$s_15m
        add column rating int2 not null default 0,
        add column rated_nano numeric(38, 0) not null default 0,
        drop constraint rollup_%1$s_15m_pkey,
        add primary key (org_id, bucket, member_id, outcome, currency, rating);
      alter table rollup_%1$s_hour
        add column rating int2 not null default 0,
        add column rated_nano numeric(38, 0) not null default 0,
        drop constraint rollup_%1$s_hour_pkey,
        add primary key (org_id, bucket, member_id, outcome, currency, rating);
      alter table rollup_%1$s_day
        add column rating int2 not null default 0,
        add column rated_nano numeric(38, 0) not null default 0,
        drop constraint rollup_%1$s_day_pkey,
        add primary key (org_id, bucket, member_id, outcome, currency, rating);
      $sql$,
      name);
  end loop;
end
$$;
comment on table rollup_org_15m is 'Measures per org, member (0 for the org dimension), bucket start (UTC), outcome, currency and rating. Same shape for every dimension and grain.';
comment on column rollup_org_15m.rating is 'Currency of rated_nano (packed, as currency), negative where the events bring a cost of their own; 0: the price book prices none of them.';
comment on column rollup_org_15m.rated_nano is 'Sum of the events'' rated_nano, in the currency of rating.';

alter table org
  add column cost_basis text not null default 'event_or_computed'
    check (cost_basis in ('event_or_computed', 'event', 'computed')),
  add constraint org_cost_basis_of_all check (id > 0 or cost_basis = 'event_or_computed');
comment on column org.cost_basis is 'Which cost the org''s reports show: the event''s own, the price book''s, or the event''s where it has one and else the price book''s.';
grant select (cost_basis) on org to tallystick_directory;
grant insert (cost_basis), update (cost_basis) on org to tallystick_admin;
