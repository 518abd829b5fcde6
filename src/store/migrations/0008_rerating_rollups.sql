-- Up Migration

-- Days whose raw events are gone are rated again from their rollups, where that is exact.
create table rerating_rollup (
  rerating_id int4 not null references rerating (id),
  org_id int4 not null,
  model_id int4 not null,
  bucket timestamptz not null,
  outcome int2 not null,
  currency int2 not null,
  rating int2 not null,
  requests int8 not null,
  nano_before numeric(38, 0) not null,
  nano_after numeric(38, 0) not null,
  primary key (rerating_id, bucket, org_id, model_id, outcome, currency, rating)
);
comment on table rerating_rollup is 'What an order has changed of an org''s model rows without raw, in the finest buckets that were there; every other row has got the sum of it, and an undo takes exactly that back.';
create index rerating_rollup_org on rerating_rollup (org_id);

create table rerating_tally (
  rerating_id int4 not null references rerating (id),
  day date not null,
  became text not null
    check (became in ('rated', 'unpriced', 'no_price', 'other_model', 'pool', 'cut', 'turn', 'currency', 'not_linear',
                      'fraction', 'not_counted', 'class_unpriced', 'too_large')),
  row_count int8 not null,
  requests int8 not null,
  primary key (rerating_id, day, became)
);
comment on table rerating_tally is 'What became of an order''s rollup rows without raw: rated again, or left as they are and why; as last previewed or applied. Rows that would not change are not counted.';

alter table rerating_rollup enable row level security;
alter table rerating_rollup force row level security;
create policy own_org on rerating_rollup for select to tallystick_api
  using (org_id = nullif(current_setting('app.org_id', true), '')::int4);
create policy every_org on rerating_rollup for select to tallystick_system using (true);
create policy chosen_org on rerating_rollup for all to tallystick_admin
  using (current_setting('app.org_id', true) in ('*', org_id::text))
  with check (current_setting('app.org_id', true) in ('*', org_id::text));

grant select on rerating_rollup to tallystick_api, tallystick_system, tallystick_admin;
grant select on rerating_tally to tallystick_system, tallystick_admin;
