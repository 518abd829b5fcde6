-- Up Migration

-- What an org means to spend in a month, on everything or on one model. Amounts are in the org's currency and months are
-- the org's own, by its time zone.
create table budget (
  org_id int4 not null references org (id),
  budget_id text not null check (budget_id <> ''),
  name text,
  model text check (model <> ''),
  created_at timestamptz not null,
  updated_at timestamptz not null,
  primary key (org_id, budget_id)
);
comment on column budget.model is 'A model id, for good; null: all of the org''s spend.';

-- A change holds from the month in which it was made on, so that late usage meets a former month as it was planned.
create table budget_terms (
  org_id int4 not null,
  budget_id text not null,
  month date not null check (extract(day from month) = 1),
  amount_nano numeric(38, 0) not null check (amount_nano > 0),
  thresholds int4[] not null check (cardinality(thresholds) > 0),
  primary key (org_id, budget_id, month),
  foreign key (org_id, budget_id) references budget (org_id, budget_id) on delete cascade
);
comment on table budget_terms is 'What a budget says from a month on, until the next row of it.';
comment on column budget_terms.amount_nano is 'Per month, in billionths of the currency''s unit.';
comment on column budget_terms.thresholds is 'Per cent of the amount, ascending.';

create table budget_crossing (
  org_id int4 not null,
  budget_id text not null,
  month date not null check (extract(day from month) = 1),
  percent int4 not null,
  crossed_at timestamptz not null,
  spent_nano numeric(38, 0) not null,
  amount_nano numeric(38, 0) not null,
  primary key (org_id, budget_id, month, percent),
  foreign key (org_id, budget_id) references budget (org_id, budget_id) on delete cascade
);
comment on table budget_crossing is 'Thresholds that spend has reached: each once per budget and month, whatever becomes of the amount later.';
comment on column budget_crossing.crossed_at is 'When the service found it so; late usage makes that later than the month.';

do $$
declare
  item record;
begin
  for item in select t from unnest(array['budget', 'budget_terms', 'budget_crossing']) as t loop
    execute format('alter table %I enable row level security', item.t);
    execute format('alter table %I force row level security', item.t);
    execute format(
      'create policy own_org on %I for select to tallystick_api using (org_id = nullif(current_setting(''app.org_id'', true), '''')::int4)',
      item.t);
    execute format('create policy every_org on %I for select to tallystick_system using (true)', item.t);
    execute format(
      'create policy chosen_org on %I for all to tallystick_admin using (current_setting(''app.org_id'', true) in (''*'', org_id::text)) with check (current_setting(''app.org_id'', true) in (''*'', org_id::text))',
      item.t);
  end loop;
end
$$;

grant select on budget, budget_terms, budget_crossing to tallystick_api, tallystick_system, tallystick_admin;
grant insert on budget, budget_terms, budget_crossing to tallystick_admin;
grant update (name, updated_at) on budget to tallystick_admin;
grant update (amount_nano, thresholds) on budget_terms to tallystick_admin;
grant delete on budget to tallystick_admin;
