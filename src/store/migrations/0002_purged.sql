-- Up Migration

-- What retention has taken away of a day while its coarser rows stay: whatever arrives for that day later is counted in
-- the rows that are left, and no check expects the others.
create table purged (
  what text not null check (what in ('raw', '15m')),
  org_id int4 not null,
  day date not null,
  purged_at timestamptz not null default clock_timestamp(),
  primary key (what, day, org_id)
);
comment on table purged is 'UTC days whose raw events (org 0: all orgs) or 15-minute rollup rows (per org) retention has deleted.';
alter table purged enable row level security;
alter table purged force row level security;
create policy own_org on purged for all to tallystick_api using (org_id = nullif(current_setting('app.org_id', true), '')::int4) with check (org_id = nullif(current_setting('app.org_id', true), '')::int4);
create policy every_org on purged for select to tallystick_system using (true);
grant select on purged to tallystick_api, tallystick_system;
