-- Up Migration

-- An answer over thirteen months would add up every quarter of an hour that had errors: whole UTC days are kept as well.
create table rollup_error_day (like rollup_error_15m including all) with (fillfactor = 45);
comment on table rollup_error_15m is 'Failed requests per error code; sparse, so hours have no rows of their own.';
comment on table rollup_error_day is 'As rollup_error_15m, by the UTC day: the sums of its rows.';

-- A fold that is being written waits, so that none of it is missing.
lock table rollup_error_15m in share mode;
insert into rollup_error_day (org_id, model_id, bucket, outcome, error_code_id, requests)
select org_id, model_id, date_bin('1 day', bucket, timestamptz 'epoch') as day, outcome, error_code_id, sum(requests)
  from rollup_error_15m
 group by org_id, model_id, day, outcome, error_code_id
 order by day, org_id, model_id, outcome, error_code_id;

alter table rollup_error_day enable row level security;
alter table rollup_error_day force row level security;
create policy own_org on rollup_error_day for all to tallystick_api
  using (org_id = nullif(current_setting('app.org_id', true), '')::int4)
  with check (org_id = nullif(current_setting('app.org_id', true), '')::int4);
create policy every_org on rollup_error_day for select to tallystick_system using (true);
grant select on rollup_error_day to tallystick_api, tallystick_system;
