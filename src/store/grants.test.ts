import assert from "node:assert/strict";
import { test } from "node:test";
import { testDatabase } from "#harness";
import type { Tx } from "#store";

/** Every right of our roles, and of everybody, in the schema; columns in brackets, tables of one shape as one. */
async function listGrants(sql: Tx["sql"]): Promise<string[]> {
  const rows = await sql<{ grant: string }>`
    with grants as (
      select g.grantee, g.privilege_type, c.relname::text as what, null::text as col
        from pg_class c, aclexplode(c.relacl) g
       where c.relnamespace = 'public'::regnamespace and g.grantee <> c.relowner
       union all
      select g.grantee, g.privilege_type, c.relname, a.attname
        from pg_class c join pg_attribute a on a.attrelid = c.oid, aclexplode(a.attacl) g
       where c.relnamespace = 'public'::regnamespace and g.grantee <> c.relowner
       union all
      select g.grantee, g.privilege_type, p.proname || '()', null
        from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
       where p.pronamespace = 'public'::regnamespace and g.grantee <> p.proowner
       union all
      select g.grantee, g.privilege_type, 'schema ' || n.nspname, null
        from pg_namespace n, aclexplode(n.nspacl) g
       where n.nspname = 'public' and g.grantee <> n.nspowner
         and (g.grantee = 0 or g.grantee::regrole::text like 'tallystick\_%')
    ), things as (
      select case grantee when 0 then 'everybody' else replace(grantee::regrole::text, 'tallystick_', '') end as role,
             lower(privilege_type) as privilege,
             regexp_replace(what, '^rollup_(org|model|client|actor|tag)_(15m|hour|day)$', 'rollup_*') as what,
             string_agg(distinct col, ', ' order by col) as cols
        from grants
       group by grantee, privilege_type, what
    )
    select role || ': ' || privilege || ' ' || string_agg(distinct what || coalesce(' (' || cols || ')', ''), '; ') as grant
      from things
     group by role, privilege
     order by role, privilege`;
  return rows.map((row) => row.grant);
}

const OF_ORGS =
  "audit_anchor; audit_log; browser_session (created_at, expires_at, id, last_seen_at, org_id, principal_id, revoked_at); budget; budget_crossing; budget_terms; dictionary";

const KEY =
  "api_key (created_at, created_by, environment, expires_at, id, last_used_at, name, org_id, replaces, revoked_at, roles, scopes, writes_for)";

test("each role has exactly the rights that its work takes", async () => {
  await using db = await testDatabase();
  assert.deepEqual(await listGrants(db.database.sql), [
    "admin: delete budget; sign_in_attempt",
    "admin: execute append_audit()",
    "admin: insert api_key; browser_session; budget; budget_crossing; budget_terms; model; org (billing_contact, cost_basis, created_at, currency, entitlements, external_id, name, tag_keys, time_zone, updated_at); price; price_version; rerating; sign_in_attempt; sign_in_link; token_revocation",
    `admin: select ${KEY}; browser_session; budget; budget_crossing; budget_terms; model; org; price; price_version; rerating; rerating_day; rerating_failure; rerating_line; rerating_rollup; rerating_tally; sign_in_attempt; sign_in_link; token_revocation`,
    "admin: update api_key (expires_at, revoked_at); browser_session (expires_at, last_seen_at, revoked_at); budget (name, updated_at); budget_terms (amount_nano, thresholds); model; org (billing_contact, cost_basis, entitlements, name, status, status_changed_at, tag_keys, time_zone, updated_at); price (retired_version); rerating (finished_at, state); sign_in_link (used_at); token_revocation",
    "admin: usage schema public",
    "api: execute append_audit(); exact_sum()",
    `api: select ${KEY}; ${OF_ORGS}; fold_state; freshness; installation; lane; ledger; model; org; price; price_version (version); purged; quarantine; reconciliation; rerating; rerating_line; rerating_rollup; rollup_*; rollup_error_15m; rollup_error_day; source; source_freshness; usage_event; watermark`,
    "api: usage schema public",
    "auditor: select audit_anchor; audit_log",
    "auditor: usage schema public",
    "directory: select fold_state; org (cost_basis, created_at, currency, external_id, id, name, status, tag_keys, time_zone)",
    "directory: usage schema public",
    "everybody: usage schema public",
    "system: execute append_audit(); exact_sum()",
    `system: select ${KEY}; ${OF_ORGS}; event_key_partition; fold_state; freshness; ingestion_batches; installation; lane; lane_member; ledger; model; org; pool_hour; price; price_version; purged; quarantine; reconciliation; rerating; rerating_day; rerating_failure; rerating_line; rerating_rollup; rerating_tally; rollup_*; rollup_error_15m; rollup_error_day; source; source_freshness; stream_incident; token_revocation; usage_event; watermark`,
    "system: usage schema public",
  ]);
});

test("no role of ours logs in, passes row-level security, or is another's member", async () => {
  await using db = await testDatabase();
  const { sql } = db.database;
  const roles = await sql<{ name: string; can: boolean }>`
    select rolname as name,
           rolsuper or rolbypassrls or rolcanlogin or rolcreaterole or rolcreatedb or rolreplication as can
      from pg_roles
     where rolname like 'tallystick\_%'
     order by rolname`;
  assert.deepEqual(
    roles,
    ["admin", "api", "auditor", "directory", "system"].map((name) => ({
      name: `tallystick_${name}`,
      can: false,
    })),
  );
  const members = await sql<{ role: string }>`
    select member::regrole::text as role from pg_auth_members where member::regrole::text like 'tallystick\_%'`;
  assert.deepEqual(members, []);
});
