-- Up Migration

-- Who the orgs are, beyond the words their events use.
alter table org
  add column billing_contact text,
  add column entitlements jsonb not null default '{}' check (jsonb_typeof(entitlements) = 'object'),
  add column status text not null default 'active' check (status in ('active', 'suspended', 'deleted')),
  add column status_changed_at timestamptz,
  add column updated_at timestamptz not null default now();
comment on column org.status is 'active; suspended: nobody of it gets in and its events go into quarantine; deleted: it is unknown to all.';
create index org_not_active on org (id) where status <> 'active';

create table model (
  model_id text primary key,
  display_name text,
  billing_tier text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table model is 'What people call a model, and what it is billed as. The same for all orgs.';

create table api_key (
  id text primary key,
  org_id int4 not null default 0 references org (id),
  name text not null,
  roles text[] not null check (cardinality(roles) > 0),
  scopes text[],
  writes_for text[],
  environment text not null,
  secret_hash bytea not null check (octet_length(secret_hash) = 32),
  created_at timestamptz not null,
  created_by text not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  replaces text references api_key (id)
);
comment on table api_key is 'Keys of programs and people; org 0: of the operator''s staff. The secret itself is nowhere.';
comment on column api_key.scopes is 'Null: all that the roles allow.';
comment on column api_key.writes_for is 'External ids of the orgs it may write events for. Null: its own org only; {*}: any.';
comment on column api_key.replaces is 'The key this one was made from when it was rotated.';
create index api_key_org on api_key (org_id, created_at desc, id desc);
create index api_key_replaces on api_key (replaces) where replaces is not null;

create table browser_session (
  id text primary key,
  token_hash bytea not null unique check (octet_length(token_hash) = 32),
  org_id int4 not null default 0 references org (id),
  principal_id text not null,
  principal jsonb not null,
  created_at timestamptz not null,
  last_seen_at timestamptz not null,
  expires_at timestamptz not null,
  revoked_at timestamptz
);
comment on column browser_session.principal_id is 'The key or subject that signed in; its sessions end with it.';
create index browser_session_principal on browser_session (principal_id);
create index browser_session_org on browser_session (org_id);
create index browser_session_expires on browser_session (expires_at);

create table sign_in_link (
  token_hash bytea primary key check (octet_length(token_hash) = 32),
  principal jsonb not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  used_at timestamptz
);
comment on table sign_in_link is 'Links that sign in once.';
create index sign_in_link_expires on sign_in_link (expires_at);

create table sign_in_attempt (
  state_hash bytea primary key check (octet_length(state_hash) = 32),
  nonce text not null,
  verifier text not null,
  return_path text not null,
  created_at timestamptz not null,
  expires_at timestamptz not null
);
comment on table sign_in_attempt is 'Sign-ins that are at the identity provider: what its answer must match. Taken away when it comes.';
create index sign_in_attempt_expires on sign_in_attempt (expires_at);

create table token_revocation (
  kind text not null check (kind in ('jti', 'sub')),
  issuer text not null,
  value text not null,
  until timestamptz not null,
  created_at timestamptz not null,
  created_by text not null,
  primary key (kind, issuer, value)
);
comment on table token_revocation is 'Tokens (jti), or all of a subject''s issued up to created_at (sub), that are refused although they have not expired; until: none of them is valid any longer by itself.';
create index token_revocation_until on token_revocation (until);

-- Who did what, and who read across orgs: one chain per org, and chain 0 for all orgs together. Each hash covers the row's
-- number, its entry and the hash before it, so that no row can be changed, taken out or put in without showing.
-- No foreign key: its check in a transaction of one snapshot would fail whenever the org's row had changed meanwhile.
create table audit_log (
  org_id int4 not null,
  seq int8 not null check (seq > 0),
  at timestamptz not null,
  actor text not null,
  action text not null,
  entry text not null,
  hash bytea not null check (octet_length(hash) = 32),
  primary key (org_id, seq)
);
comment on column audit_log.entry is 'The whole entry as JSON, byte for byte as it was hashed; at, actor and action repeat parts of it.';
comment on column audit_log.hash is 'SHA-256 of: hash of the row before (32 zero bytes for the first), seq as 8 bytes big-endian, entry in UTF-8.';

-- Heads of the chains as they were told to the log and the anchor file: what is missing at the end shows against these.
create table audit_anchor (
  org_id int4 not null,
  seq int8 not null,
  hash bytea not null check (octet_length(hash) = 32),
  at timestamptz not null,
  primary key (org_id, seq)
);

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end
$$;
create trigger audit_log_append_only before update or delete or truncate on audit_log
  for each statement execute function refuse_change();
create trigger audit_anchor_append_only before update or delete or truncate on audit_anchor
  for each statement execute function refuse_change();
alter table audit_log enable always trigger audit_log_append_only;
alter table audit_anchor enable always trigger audit_anchor_append_only;

-- The only way into the log. The lock makes one chain of what many write at once; a transaction of one snapshot must
-- have taken it before it began (database.ts), or it does not see the chain's end and fails on the primary key.
-- 1635083369 is AUDIT_LOCK_CLASS there. A transaction bound to one org appends to that org's chain and to no other.
create function append_audit(p_org int4, p_entry text, out seq int8, out hash bytea)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_role text := current_setting('role');
  v_org text := current_setting('app.org_id', true);
  v_entry jsonb := p_entry::jsonb;
  v_before record;
begin
  if v_role like 'tallystick\_%'
     and v_org is distinct from p_org::text
     and v_org is distinct from '*'
     and not (v_role = 'tallystick_system' and p_org = 0) then
    raise exception 'the audit chain of another org' using errcode = 'insufficient_privilege';
  end if;
  perform pg_advisory_xact_lock(1635083369, p_org);
  select l.seq, l.hash into v_before
    from public.audit_log l
   where l.org_id = p_org
   order by l.seq desc
   limit 1;
  seq := coalesce(v_before.seq, 0) + 1;
  hash := sha256(coalesce(v_before.hash, decode(repeat('00', 32), 'hex')) || int8send(seq) || convert_to(p_entry, 'UTF8'));
  insert into public.audit_log (org_id, seq, at, actor, action, entry, hash)
  values (p_org, seq, (v_entry ->> 'at')::timestamptz, v_entry ->> 'actor', v_entry ->> 'action', p_entry, hash);
end
$$;

-- Roles: tallystick_admin changes who may come in, for one org or (app.org_id '*') for all; tallystick_directory sees what
-- orgs there are and nothing of them; tallystick_auditor reads the audit log and nothing else, for whom an auditor's
-- login is made a member. Hashes of secrets and the principals of sessions are readable by none of those that answer.
do $$
declare
  item record;
begin
  perform pg_advisory_xact_lock(hashtext('tallystick roles'));
  for item in select r from unnest(array['tallystick_admin', 'tallystick_directory', 'tallystick_auditor']) as r loop
    if not exists (select from pg_roles where rolname = item.r) then
      execute format('create role %I nologin nosuperuser nobypassrls', item.r);
    end if;
    execute format('grant %I to current_user', item.r);
    execute format('grant usage on schema public to %I', item.r);
  end loop;

  for item in select t from unnest(array['api_key', 'browser_session', 'audit_log', 'audit_anchor']) as t loop
    execute format('alter table %I enable row level security', item.t);
    execute format('alter table %I force row level security', item.t);
    execute format(
      'create policy own_org on %I for all to tallystick_api using (org_id = nullif(current_setting(''app.org_id'', true), '''')::int4) with check (org_id = nullif(current_setting(''app.org_id'', true), '''')::int4)',
      item.t);
    execute format('create policy every_org on %I for select to tallystick_system using (true)', item.t);
  end loop;
end
$$;

create policy chosen_org on api_key for all to tallystick_admin
  using (current_setting('app.org_id', true) in ('*', org_id::text))
  with check (current_setting('app.org_id', true) in ('*', org_id::text));
create policy chosen_org on browser_session for all to tallystick_admin
  using (current_setting('app.org_id', true) in ('*', org_id::text))
  with check (current_setting('app.org_id', true) in ('*', org_id::text));
create policy chosen_org on org for all to tallystick_admin
  using (current_setting('app.org_id', true) in ('*', id::text))
  with check (current_setting('app.org_id', true) in ('*', id::text));
create policy names on org for select to tallystick_directory using (true);
create policy audited on audit_log for select to tallystick_auditor using (true);
create policy audited on audit_anchor for select to tallystick_auditor using (true);

grant select on audit_log, audit_anchor to tallystick_api, tallystick_system, tallystick_auditor;
grant select (id, org_id, name, roles, scopes, writes_for, environment, created_at, created_by, expires_at, revoked_at, last_used_at, replaces)
  on api_key to tallystick_api, tallystick_system, tallystick_admin;
grant select (id, org_id, principal_id, created_at, last_seen_at, expires_at, revoked_at)
  on browser_session to tallystick_api, tallystick_system;
grant select on model to tallystick_api, tallystick_system, tallystick_admin;
grant select on token_revocation to tallystick_system, tallystick_admin;

grant select (id, external_id, name, time_zone, currency, status, created_at) on org to tallystick_directory;
grant select on fold_state to tallystick_directory;

grant select on org to tallystick_admin;
grant insert (external_id, name, billing_contact, time_zone, currency, entitlements, created_at, updated_at) on org to tallystick_admin;
grant update (name, billing_contact, time_zone, entitlements, status, status_changed_at, updated_at) on org to tallystick_admin;
grant insert, update on model to tallystick_admin;
grant insert on api_key to tallystick_admin;
grant update (expires_at, revoked_at) on api_key to tallystick_admin;
grant select, insert on browser_session to tallystick_admin;
grant update (last_seen_at, expires_at, revoked_at) on browser_session to tallystick_admin;
grant select, insert on sign_in_link to tallystick_admin;
grant update (used_at) on sign_in_link to tallystick_admin;
grant select, insert, delete on sign_in_attempt to tallystick_admin;
grant insert, update on token_revocation to tallystick_admin;

revoke all on function append_audit(int4, text) from public;
revoke all on function refuse_change() from public;
grant execute on function append_audit(int4, text) to tallystick_api, tallystick_system, tallystick_admin;
