import assert from "node:assert/strict";
import { test } from "node:test";
import pg from "pg";
import { testDatabase, type TestDatabase, type TestDatabaseOptions } from "#harness";
import { appendAudit, type AuditEntry, type Database, listTablesWithoutRowSecurity } from "#store";
import { fillOrgTables, listOrgTables } from "./org-rows.ts";

const FORBIDDEN = { code: "42501" };

const ENTRY: AuditEntry = {
  actor: "key-1",
  actorName: "Grace",
  action: "key.create",
  target: "key-2",
  requestId: "request-1",
  at: new Date("2026-11-20T10:00:00Z"),
};

/** A database with two orgs that each have a row in every table. */
async function twoOrgs(
  options: TestDatabaseOptions = {},
): Promise<TestDatabase & { acme: number; globex: number }> {
  const db = await testDatabase(options);
  const [acme, globex] = await db.database.sql<{ id: number }>`
    insert into org (external_id) values ('acme'), ('globex') returning id`;
  assert.ok(acme && globex);
  await fillOrgTables(db.database, [acme.id, globex.id]);
  return { ...db, acme: acme.id, globex: globex.id };
}

const failsWith = (code: string) => ({ code });

test("row-level security is on and forced on every table with rows of orgs, and each of its policies asks for the org", async () => {
  await using db = await testDatabase();
  const { sql } = db.database;
  const tables = await listOrgTables(sql);
  assert.ok(tables.length >= 25, `${tables.length} tables say whose their rows are`);
  assert.deepEqual(await listTablesWithoutRowSecurity(sql), []);
  const unforced = await sql<{ name: string }>`
    select c.relname as name
      from pg_class c
     where c.relname = any(${tables.map(({ name }) => name)}::text[])
       and not (c.relrowsecurity and c.relforcerowsecurity)`;
  assert.deepEqual(unforced, []);

  const policies = await sql<{ table: string; name: string; asks: boolean; role: string }>`
    select p.tablename as "table",
           p.policyname as name,
           p.roles::text as role,
           p.qual like '%app.org_id%' and (p.cmd = 'SELECT' or p.with_check like '%app.org_id%') as asks
      from pg_policies p
     where p.schemaname = 'public'`;
  for (const { name } of tables) {
    const ofApi = policies.filter((one) => one.table === name && one.role === "{tallystick_api}");
    assert.ok(
      ofApi.some((one) => one.asks),
      `${name} has a policy for tallystick_api`,
    );
  }
  assert.deepEqual(
    policies
      .filter(({ asks }) => !asks)
      .map(({ table, name, role }) => `${table} ${name} ${role}`)
      .filter((one) => !one.endsWith(" every_org {tallystick_system}"))
      .toSorted(),
    [
      "audit_anchor audited {tallystick_auditor}",
      "audit_log audited {tallystick_auditor}",
      "org names {tallystick_directory}",
      // Nobody's figures are kept of such a day, and no row of an org's own is among them.
      "purged every_purged_day {tallystick_api}",
    ],
  );
});

test("with the application's filter left out no table shows a row of another org", async () => {
  await using db = await twoOrgs();
  for (const { name, org } of await listOrgTables(db.database.sql)) {
    for (const orgId of [db.acme, db.globex]) {
      const seen = await db.database.withOrg(
        orgId,
        async (tx) => (await tx.exec(`select ${org} as org from ${name}`)).rows,
      );
      assert.deepEqual(seen, [{ org: orgId }], name);
    }
  }
});

test("with the application's filter left out a change touches no row of another org, and can make none", async () => {
  await using db = await twoOrgs();
  const { database, acme, globex } = db;
  const changes = {
    api_key: "update api_key set revoked_at = now() returning org_id as org",
    browser_session: "update browser_session set revoked_at = now() returning org_id as org",
    org: "update org set name = 'Mine' returning id as org",
  };
  for (const [name, change] of Object.entries(changes)) {
    const touched = await database.change(acme, async (tx) => (await tx.exec(change)).rows);
    assert.deepEqual(touched, [{ org: acme }], name);
  }
  const forge = `insert into api_key (id, org_id, name, roles, environment, secret_hash, created_at, created_by)
    values ('forged', ${globex}, '', '{org_admin}', 'live', sha256(''), now(), '')`;
  await assert.rejects(
    database.change(acme, (tx) => tx.exec(forge)),
    FORBIDDEN,
  );
  const every = await database.change(
    "*",
    async (tx) => (await tx.exec(changes.browser_session)).rows,
  );
  assert.equal(every.length, 2);
});

test("a connection on which no org was chosen sees nothing, in the empty state of a pooled one too", async () => {
  await using db = await twoOrgs();
  const tables = await listOrgTables(db.database.sql);
  for (const role of ["tallystick_api", "tallystick_admin"]) {
    await using scope = new AsyncDisposableStack();
    const client = new pg.Client({ connectionString: db.url, options: `-c role=${role}` });
    await client.connect();
    scope.defer(() => client.end());
    for (const setting of ["", "set app.org_id = ''"]) {
      await client.query(setting);
      for (const { name, org } of tables) {
        const seen = await client.query(`select ${org} from ${name}`).catch((error: unknown) => {
          assert.ok(role === "tallystick_admin" && error instanceof pg.DatabaseError);
          assert.equal(error.code, FORBIDDEN.code);
          return { rows: [] };
        });
        assert.deepEqual(seen.rows, [], `${name} as ${role}`);
      }
    }
  }
});

test("after a commit, a rollback and an error a pooled connection has no org, its first role and no lock", async () => {
  await using db = await twoOrgs({ apiConnectionsMax: 1 });
  const { database, acme } = db;
  const ends: Record<string, (work: Parameters<Database["withOrg"]>[1]) => Promise<unknown>> = {
    "a read": (work) => database.withOrg(acme, work),
    "an audited read": (work) => database.withOrg(acme, work, { ...ENTRY, action: "org.read" }),
    "a read of all": (work) => database.withSystem(work),
    "an audited read of all": (work) =>
      database.withSystem(work, { ...ENTRY, action: "system.read" }),
    "a look at the directory": (work) => database.withDirectory(work),
    "a change": (work) => database.change(acme, work),
    "a change of all": (work) => database.change("*", work),
  };
  const works: Record<string, Parameters<Database["withOrg"]>[1]> = {
    commit: async () => undefined,
    rollback: () => Promise.reject(new Error("the work failed")),
    error: (tx) => tx.exec("select 1 / 0"),
  };
  const pids = new Set<number>();
  for (const [how, begin] of Object.entries(ends)) {
    for (const [end, work] of Object.entries(works)) {
      await begin(work).catch((error: Error) => assert.match(error.message, /failed|zero/));
      // Ends the transaction early to look at the connection as the pool has it.
      const state = await database.withDirectory(async (tx) => {
        await tx.exec("rollback");
        const [row] = await tx.sql<{ pid: number; role: string; org: string; locks: number }>`
          select pg_backend_pid() as pid,
                 current_user::text as role,
                 coalesce(current_setting('app.org_id', true), '') as org,
                 (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks`;
        return row;
      });
      assert.ok(state);
      const { pid, ...rest } = state;
      assert.deepEqual(rest, { role: "tallystick_api", org: "", locks: 0 }, `${how}, ${end}`);
      pids.add(pid);
    }
  }
  assert.equal(pids.size, 1, "all of it was one connection");
});

test("no view and no function shows more than its caller may see, and none is everybody's", async () => {
  await using db = await testDatabase();
  const { sql } = db.database;
  const views = await sql<{ name: string }>`
    select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('v', 'm')`;
  assert.deepEqual(views, []);
  const functions = await sql<{ name: string; definer: boolean; path: string; open: boolean }>`
    select p.proname as name,
           p.prosecdef as definer,
           coalesce(array_to_string(p.proconfig, ' '), '') as path,
           exists (
             select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) where grantee = 0) as open
      from pg_proc p
     where p.pronamespace = 'public'::regnamespace
     order by p.proname`;
  assert.deepEqual(functions, [
    { name: "append_audit", definer: true, path: "search_path=pg_catalog, pg_temp", open: false },
    { name: "exact_sum", definer: false, path: "", open: false },
    { name: "refuse_change", definer: false, path: "", open: false },
  ]);
});

test("a transaction bound to one org appends to no other's chain, and one that may not write appends to none", async () => {
  await using db = await twoOrgs();
  const { database, acme, globex } = db;
  await database.change(acme, (tx) => appendAudit(tx, acme, ENTRY));
  await database.change("*", (tx) => appendAudit(tx, globex, ENTRY));
  await assert.rejects(
    database.change(acme, (tx) => appendAudit(tx, globex, ENTRY)),
    FORBIDDEN,
  );
  await assert.rejects(
    database.change(acme, (tx) => appendAudit(tx, 0, ENTRY)),
    FORBIDDEN,
  );
  const read: AuditEntry = { ...ENTRY, action: "org.read" };
  await assert.rejects(
    database.withOrg(acme, (tx) => appendAudit(tx, globex, read), read),
    FORBIDDEN,
  );
  await assert.rejects(
    database.withSystem((tx) => appendAudit(tx, acme, read), read),
    FORBIDDEN,
  );
  await assert.rejects(
    database.withOrg(acme, (tx) => appendAudit(tx, acme, read)),
    failsWith("25006"),
  );
  await assert.rejects(
    database.withDirectory((tx) => tx.exec("select append_audit(0, '{}')")),
    FORBIDDEN,
  );
});

test("an audited read still changes nothing but the audit log", async () => {
  await using db = await twoOrgs();
  const entry: AuditEntry = { ...ENTRY, action: "org.read" };
  for (const change of [
    "update org set name = 'x'",
    "delete from usage_event",
    "insert into audit_log values (1, 9, now(), '', '', '', sha256(''))",
    "create table more (id int)",
  ]) {
    await assert.rejects(
      db.database.withOrg(db.acme, (tx) => tx.exec(change), entry),
      FORBIDDEN,
      change,
    );
  }
});

test("hashes of secrets and what sessions stand for are read by no role that answers, and the directory shows names only", async () => {
  await using db = await twoOrgs();
  const { database, acme } = db;
  const secrets = [
    "select secret_hash from api_key",
    "select token_hash from browser_session",
    "select principal from browser_session",
    "select * from sign_in_link",
    "select * from sign_in_attempt",
    "select * from api_key",
  ];
  const reads: ((text: string) => Promise<unknown>)[] = [
    (text) => database.withOrg(acme, (tx) => tx.exec(text)),
    (text) => database.withSystem((tx) => tx.exec(text)),
    (text) => database.withDirectory((tx) => tx.exec(text)),
  ];
  for (const secret of secrets)
    for (const read of reads) await assert.rejects(read(secret), FORBIDDEN, secret);
  await assert.rejects(
    database.change("*", (tx) => tx.exec("select secret_hash from api_key")),
    FORBIDDEN,
  );
  for (const { name } of await listOrgTables(database.sql)) {
    const look = database.withDirectory((tx) => tx.exec(`select * from ${name}`));
    await assert.rejects(look, FORBIDDEN, name);
  }
  const names = await database.withDirectory((tx) => tx.exec("select name, status from org"));
  assert.equal(names.rows.length, 3);
});
