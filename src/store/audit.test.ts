import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { testDatabase, type TestDatabase } from "#harness";
import {
  appendAudit,
  auditedDatabase,
  type AuditEntry,
  type Database,
  formatAuditEntry,
  insertAnchors,
  listAudit,
  listMovedHeads,
  sqlStateOf,
  verifyAuditChains,
} from "#store";

const ENTRY: AuditEntry = {
  actor: "key-1",
  actorName: "Grace",
  action: "key.create",
  target: "key-2",
  requestId: "request-1",
  at: new Date("2026-11-20T10:00:00Z"),
};

async function makeOrgs(database: Database, count: number): Promise<number[]> {
  const rows = await database.sql<{ id: number }>`
    insert into org (external_id) select 'org-' || n from generate_series(1, ${count}::int4) n returning id`;
  return rows.map((row) => row.id);
}

/** A database with a chain of `rows` rows of one org and three rows of all orgs' chain. */
async function withChain(rows: number): Promise<TestDatabase & { orgId: number }> {
  const db = await testDatabase();
  const [orgId = 0] = await makeOrgs(db.database, 1);
  const entry = formatAuditEntry(ENTRY);
  await db.database.sql`
    select append_audit(${orgId}, replace(${entry}, 'key-2', 'key-' || n)) from generate_series(1, ${rows}::int4) n`;
  for (let i = 0; i < 3; i++) await db.database.transaction((tx) => appendAudit(tx, 0, ENTRY));
  return { ...db, orgId };
}

/** What somebody with every right does to the log. */
const tamper = (db: TestDatabase, ...statements: string[]): Promise<void> =>
  db.database.transaction(async (tx) => {
    await tx.exec("alter table audit_log disable trigger all");
    for (const statement of statements) await tx.exec(statement);
    await tx.exec("alter table audit_log enable always trigger audit_log_append_only");
  });

/** Faults as "kind org first-last". */
async function verify(db: TestDatabase, orgId?: number): Promise<string[]> {
  const report = await verifyAuditChains(db.database.sql, { orgId });
  assert.equal(report.isSound, report.faultCount === 0);
  return report.faults.map(
    ({ kind, org, seq, lastSeq }) =>
      `${kind} ${org} ${seq === lastSeq ? seq : `${seq}-${lastSeq}`}`,
  );
}

async function anchor(db: TestDatabase): Promise<void> {
  const { sql } = db.database;
  const anchors = await listMovedHeads(sql, { afterOrg: -1, limit: 100 });
  await insertAnchors(sql, { anchors, at: new Date() });
}

/** Makes every hash from a row on anew, as append_audit would have. */
const rehash = (orgId: number, from: number): string => `
  do $$
  declare
    item record;
    before bytea;
  begin
    select hash into before from audit_log where org_id = ${orgId} and seq = ${from} - 1;
    for item in select seq, entry from audit_log where org_id = ${orgId} and seq >= ${from} order by seq loop
      before := sha256(coalesce(before, decode(repeat('00', 32), 'hex')) || int8send(item.seq) || convert_to(item.entry, 'UTF8'));
      update audit_log set hash = before where org_id = ${orgId} and seq = item.seq;
    end loop;
  end
  $$`;

const EDIT = "update audit_log set entry = replace(entry, 'Grace', 'Mallory')";

test("an untouched log is sound, over pages and chains", async () => {
  await using db = await withChain(1203);
  const report = await verifyAuditChains(db.database.sql, {});
  assert.deepEqual(report, {
    isSound: true,
    chains: 2,
    rows: 1206,
    anchors: { stored: 0, given: 0 },
    faults: [],
    faultCount: 0,
  });
});

test("each way to change a chain is found and names its rows, at the borders of pages too", async () => {
  await using db = await withChain(1203);
  const { orgId } = db;
  const of = (seqs: string): string => `where org_id = ${orgId} and seq ${seqs}`;
  const swap = (a: number, b: number): string => `
    with pair as (select seq, at, actor, action, entry, hash from audit_log ${of(`in (${a}, ${b})`)})
    update audit_log l set entry = p.entry, hash = p.hash from pair p
     where l.org_id = ${orgId} and l.seq in (${a}, ${b}) and p.seq in (${a}, ${b}) and p.seq <> l.seq`;
  const cases: [string, string[], string[]][] = [
    ["an entry edited", [`${EDIT} ${of("= 7")}`], ["edited org-1 7"]],
    ["the first", [`${EDIT} ${of("= 1")}`], ["edited org-1 1"]],
    ["the last", [`${EDIT} ${of("= 1203")}`], ["edited org-1 1203"]],
    [
      "several",
      [`${EDIT} ${of("in (500, 501, 1001)")}`],
      ["edited org-1 500-501", "edited org-1 1001"],
    ],
    [
      "a hash edited",
      [`update audit_log set hash = sha256('') ${of("= 500")}`],
      ["edited org-1 500"],
    ],
    [
      "a column beside the entry",
      [`update audit_log set actor = 'Mallory' ${of("= 8")}`],
      ["edited org-1 8"],
    ],
    [
      "an instant by a microsecond",
      [`update audit_log set at = at + interval '1 microsecond' ${of("= 9")}`],
      ["edited org-1 9"],
    ],
    ["no JSON at all", [`update audit_log set entry = 'x' ${of("= 10")}`], ["edited org-1 10"]],
    ["a row deleted", [`delete from audit_log ${of("= 500")}`], ["missing org-1 500"]],
    ["the beginning deleted", [`delete from audit_log ${of("< 4")}`], ["missing org-1 1-3"]],
    [
      "rows deleted and one edited",
      [`delete from audit_log ${of("between 20 and 30")}`, `${EDIT} ${of("= 40")}`],
      ["missing org-1 20-30", "edited org-1 40"],
    ],
    ["neighbours swapped", [swap(100, 101)], ["moved org-1 100-101"]],
    ["others swapped", [swap(100, 200)], ["edited org-1 100-101", "edited org-1 200-201"]],
    [
      "a row put in, with the hash that it would have",
      [
        `update audit_log set seq = -seq ${of("> 1190")}`,
        `update audit_log set seq = 1 - seq ${of("< 0")}`,
        `insert into audit_log select org_id, 1191, at, actor, action, entry,
           sha256(hash || int8send(1191) || convert_to(entry, 'UTF8')) from audit_log ${of("= 1190")}`,
      ],
      ["moved org-1 1192-1204"],
    ],
    [
      "one edited and hashed anew, those after it not",
      [
        `${EDIT} ${of("= 50")}`,
        rehash(orgId, 50).replace("order by seq loop", "order by seq limit 1 loop"),
      ],
      ["edited org-1 51"],
    ],
  ];
  const keep = "create table kept as select * from audit_log";
  const restore = ["delete from audit_log", "insert into audit_log select * from kept"];
  await db.database.transaction((tx) => tx.exec(keep));
  await db.database.transaction((tx) =>
    tx.exec("alter table audit_log drop constraint audit_log_seq_check"),
  );
  for (const [what, statements, faults] of cases) {
    await tamper(db, ...statements);
    assert.deepEqual(await verify(db), faults, what);
    assert.deepEqual(await verify(db, 0), [], `${what}: another chain`);
    assert.deepEqual(await verify(db, orgId), faults, `${what}: this chain alone`);
    await tamper(db, ...restore);
  }
  assert.deepEqual(await verify(db), []);
});

test("what shows only against the anchors: a tail cut off, a chain taken away, a chain hashed anew", async () => {
  await using db = await withChain(30);
  const { orgId } = db;
  await anchor(db);
  await db.database.transaction((tx) => appendAudit(tx, orgId, ENTRY));
  await anchor(db);
  await tamper(db, `create table kept as select * from audit_log`);
  const restore = ["delete from audit_log", "insert into audit_log select * from kept"];

  await tamper(db, `delete from audit_log where org_id = ${orgId} and seq > 25`);
  assert.deepEqual(await verify(db), ["cut org-1 26-31"]);
  await tamper(db, ...restore, `delete from audit_log where org_id = ${orgId}`);
  assert.deepEqual(await verify(db), ["cut org-1 1-31"]);
  await tamper(db, ...restore, "delete from audit_log");
  assert.deepEqual(await verify(db), ["cut * 1-3", "cut org-1 1-31"]);

  await tamper(db, ...restore, `${EDIT} where org_id = ${orgId} and seq = 5`, rehash(orgId, 5));
  assert.deepEqual(await verify(db), ["rewritten org-1 1-30"]);
  await tamper(db, ...restore, `${EDIT} where org_id = ${orgId} and seq = 31`, rehash(orgId, 31));
  assert.deepEqual(await verify(db), ["rewritten org-1 1-31"]);
  await tamper(db, ...restore);
  assert.deepEqual(await verify(db), []);
});

test("two hundred writers at once, readers among them, make one chain without gaps", async () => {
  await using db = await testDatabase({ ownerConnectionsMax: 8, apiConnectionsMax: 8 });
  const { database } = db;
  const [acme = 0, globex = 0] = await makeOrgs(database, 2);
  const audited = auditedDatabase(database, ENTRY);
  const writes: (() => Promise<unknown>)[] = [
    () => database.change(acme, (tx) => appendAudit(tx, acme, ENTRY)),
    () => database.transaction((tx) => appendAudit(tx, acme, ENTRY)),
    () => audited.withOrg(acme, (tx) => tx.sql`select 1`),
    () => audited.withSystem((tx) => tx.sql`select 1`),
    () => audited.withOrg(globex, (tx) => tx.sql`select count(*) from usage_event`),
  ];
  await Promise.all(
    Array.from({ length: 50 }, () => writes).flatMap((all) => all.map((write) => write())),
  );
  const chains = await database.sql<{ orgId: number; rows: number; last: number }>`
    select org_id as "orgId", count(*) as rows, max(seq) as last from audit_log group by 1 order by 1`;
  assert.deepEqual(chains, [
    { orgId: 0, rows: 50, last: 50 },
    { orgId: acme, rows: 150, last: 150 },
    { orgId: globex, rows: 50, last: 50 },
  ]);
  assert.deepEqual(await verify(db), []);
});

test("readers of one chain who wait for it leave the other connections to everybody else", async () => {
  await using db = await testDatabase({ apiConnectionsMax: 2 });
  const { database } = db;
  const [acme = 0] = await makeOrgs(database, 1);
  const audited = auditedDatabase(database, ENTRY);
  const { promise: blocked, resolve: unblock } = Promise.withResolvers<void>();
  const readers = [1, 2, 3, 4].map(() => audited.withSystem(() => blocked));
  const own = await database.withOrg(acme, (tx) => tx.sql<{ one: number }>`select 1 as one`);
  assert.deepEqual(own, [{ one: 1 }]);
  unblock();
  await Promise.all(readers);
  assert.deepEqual(await verify(db), []);
});

test("a read of which no entry can be made gives nothing away, and the next one is served", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const [acme = 0] = await makeOrgs(database, 1);
  const audited = auditedDatabase(database, ENTRY);
  let reads = 0;
  const read = async (): Promise<number> => ++reads;
  await database.transaction((tx) =>
    tx.exec("alter table audit_log add constraint full_disk check (false) not valid"),
  );
  await assert.rejects(audited.withOrg(acme, read), { code: "23514" });
  await assert.rejects(audited.withSystem(read), { code: "23514" });
  assert.equal(reads, 0);
  await database.transaction((tx) => tx.exec("alter table audit_log drop constraint full_disk"));
  assert.equal(await audited.withOrg(acme, read), 1);
});

test("an entry whose commit fails fails the read", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const [acme = 0] = await makeOrgs(database, 1);
  await database.transaction((tx) =>
    tx.exec(`
      create function refuse_commit() returns trigger language plpgsql as 'begin raise exception ''no commit''; end';
      create constraint trigger refuse_commit after insert on audit_log deferrable initially deferred
        for each row execute function refuse_commit()`),
  );
  const audited = auditedDatabase(database, ENTRY);
  await assert.rejects(
    audited.withOrg(acme, async () => "figures"),
    /no commit/,
  );
  await database.transaction((tx) => tx.exec("drop trigger refuse_commit on audit_log"));
  assert.equal(await audited.withOrg(acme, async () => "figures"), "figures");
});

test("whoever holds a chain for long keeps its readers waiting no longer than a statement may take", async () => {
  await using db = await testDatabase({ apiStatementMsMax: 300 });
  const { database } = db;
  const [acme = 0] = await makeOrgs(database, 1);
  const audited = auditedDatabase(database, ENTRY);
  let reads = 0;
  const read = async (): Promise<number> => ++reads;
  const holders: ((hold: () => Promise<void>) => Promise<void>)[] = [
    // As another process does, in the database; then in this one, where the others wait for their turn.
    (hold) =>
      database.transaction(async (tx) => {
        await appendAudit(tx, acme, ENTRY);
        await hold();
      }),
    (hold) => audited.withOrg(acme, hold),
  ];
  for (const holder of holders) {
    const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    const holding = holder(() => {
      begin();
      return held;
    });
    await begun;
    const refused = await Promise.allSettled([1, 2, 3].map(() => audited.withOrg(acme, read)));
    assert.deepEqual(
      refused.map((result) => result.status === "rejected" && sqlStateOf(result.reason)),
      ["55P03", "55P03", "55P03"],
    );
    letGo();
    await holding;
  }
  assert.equal(await audited.withOrg(acme, read), 1);
  const rows = await database.sql<{ rows: number }>`select count(*) as rows from audit_log`;
  assert.deepEqual(rows, [{ rows: 3 }]);
  assert.deepEqual(await verify(db), []);
});

test("a read that fails leaves no entry, and the chain goes on", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const [acme = 0] = await makeOrgs(database, 1);
  const audited = auditedDatabase(database, ENTRY);
  await assert.rejects(
    audited.withOrg(acme, (tx) => tx.exec("select 1 / 0")),
    /zero/,
  );
  await audited.withOrg(acme, async () => undefined);
  const rows = await database.withOrg(acme, (tx) =>
    listAudit(tx.sql, { orgId: acme, beforeSeq: 100, limit: 10 }),
  );
  assert.deepEqual(
    rows.map(({ seq, action, actor }) => ({ seq, action, actor })),
    [{ seq: 1, action: "org.read", actor: "key-1" }],
  );
});

test("an entry and the change that it tells of happen together or not at all", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const [acme = 0] = await makeOrgs(database, 1);
  const suspend = async (isFailing: boolean): Promise<void> =>
    database.change(acme, async (tx) => {
      await tx.sql`update org set status = 'suspended' where id = ${acme}`;
      await appendAudit(tx, acme, { ...ENTRY, action: "org.suspend" });
      if (isFailing) throw new Error("something after it failed");
    });
  const state = () => database.sql<{ status: string; entries: number }>`
    select status, (select count(*) from audit_log) as entries from org where id = ${acme}`;
  await assert.rejects(suspend(true), /after it failed/);
  assert.deepEqual(await state(), [{ status: "active", entries: 0 }]);
  await suspend(false);
  assert.deepEqual(await state(), [{ status: "suspended", entries: 1 }]);
});

test("the log and its anchors are append-only for their owner, as a replica too", async () => {
  await using db = await withChain(3);
  await anchor(db);
  for (const table of ["audit_log", "audit_anchor"]) {
    for (const change of [
      `update ${table} set seq = 9`,
      `update ${table} set seq = 9 where false`,
      `delete from ${table}`,
      `truncate ${table}`,
    ]) {
      for (const before of ["select 1", "set local session_replication_role = replica"]) {
        const work = db.database.transaction(async (tx) => {
          await tx.exec(before);
          await tx.exec(change);
        });
        await assert.rejects(work, /is append-only/, `${before}; ${change}`);
      }
    }
  }
  assert.deepEqual(await verify(db), []);
});

test("an entry's text does not depend on the order of its keys, and whatever names it holds is stored and verified", async () => {
  await using db = await testDatabase();
  const backwards = Object.fromEntries(
    Object.entries({ ...ENTRY, details: { b: 1, a: "x" } }).toReversed(),
  );
  assert.equal(
    formatAuditEntry({ ...ENTRY, ...backwards, details: { a: "x", b: 1 } }),
    '{"action":"key.create","actor":"key-1","actorName":"Grace","at":"2026-11-20T10:00:00.000Z","details":{"a":"x","b":1},"requestId":"request-1","target":"key-2"}',
  );
  const texts = fc.sample(fc.string({ unit: "binary", maxLength: 2000 }), 60);
  for (const text of [
    ...texts,
    "\0",
    "\ud800",
    "x".repeat(100_000),
    `${"x".repeat(999)}😀`,
    "__proto__",
  ]) {
    const details = { [text]: text, list: [text] };
    const entry = { ...ENTRY, actor: text, actorName: text, target: text, details };
    await db.database.transaction((tx) => appendAudit(tx, 0, entry));
  }
  const [longest] = await db.database.sql<{ bytes: number }>`
    select max(octet_length(entry)) as bytes from audit_log`;
  assert.ok((longest?.bytes ?? 0) < 50_000);
  assert.deepEqual(await verify(db), []);
});
