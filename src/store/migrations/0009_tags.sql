-- Up Migration

-- Keys of metadata that an org declares to be broken down by. An event has, for each of them that its metadata has, one
-- word of the dictionary; rollups of the dimension "tag" are kept by these words.
alter table org
  add column tag_keys text[] not null default '{}'
    check (cardinality(tag_keys) <= 5 and array_position(tag_keys, null) is null);
comment on column org.tag_keys is 'Keys of its events'' metadata whose values usage is broken down by, from the moment they are declared.';
create index org_with_tag_keys on org (id) where tag_keys <> '{}';
grant select (tag_keys) on org to tallystick_directory;
grant insert (tag_keys), update (tag_keys) on org to tallystick_admin;

alter table usage_event add column tag_ids int4[];
comment on column usage_event.tag_ids is 'Words (dictionary, kind 5) of the keys that the org had declared when the event came, one a key; a key that the event has no value of has none. Null: no word at all.';
comment on table dictionary is 'Text to id, per org and kind (1 model, 2 client, 3 actor, 4 error code, 5 tag: <key>=<value>, or <key>(other) for all values beyond the cap). Id 0 means none given, -1 means other (cardinality cap).';

create table rollup_tag_15m (like rollup_org_15m including all) with (fillfactor = 45);
create table rollup_tag_hour (like rollup_org_15m including all) with (fillfactor = 45);
create table rollup_tag_day (like rollup_org_15m including all) with (fillfactor = 45);
comment on table rollup_tag_15m is 'As rollup_org_15m, by tag: an event is counted once under each of its words, so rows add up to the org''s only key by key, together with the events that have no word of that key.';

do $$
declare
  item record;
begin
  for item in select t from unnest(array['rollup_tag_15m', 'rollup_tag_hour', 'rollup_tag_day']) as t loop
    execute format('alter table %I enable row level security', item.t);
    execute format('alter table %I force row level security', item.t);
    execute format(
      'create policy own_org on %I for all to tallystick_api using (org_id = nullif(current_setting(''app.org_id'', true), '''')::int4) with check (org_id = nullif(current_setting(''app.org_id'', true), '''')::int4)',
      item.t);
    execute format('create policy every_org on %I for select to tallystick_system using (true)', item.t);
    execute format('grant select on %I to tallystick_api, tallystick_system', item.t);
  end loop;
end
$$;
