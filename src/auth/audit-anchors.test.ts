import assert from "node:assert/strict";
import { appendFile, mkdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { fixedClock, temporaryFolder, testDatabase, waitFor } from "#harness";
import { createLogger, silentLogger } from "#kernel";
import { appendAudit, type AuditEntry, getInstallationId, verifyAuditChains } from "#store";
import { auditAnchorFile, openAuditAnchorFile, startAuditAnchors } from "./audit-anchors.ts";

const ENTRY: AuditEntry = {
  actor: "key-1",
  actorName: "Grace",
  action: "key.create",
  target: "key-2",
  requestId: "request-1",
  at: new Date("2026-11-20T10:00:00Z"),
};
const clock = fixedClock("2026-11-20T11:00:00Z");

/** A database with an org, a folder for the anchor file, and what was logged. */
async function audited() {
  await using scope = new AsyncDisposableStack();
  const db = scope.use(await testDatabase());
  const folder = scope.use(await temporaryFolder());
  const { database } = db;
  const [org] = await database.sql<{ id: number }>`
    insert into org (external_id) values ('acme') returning id`;
  assert.ok(org);
  const lines: Record<string, unknown>[] = [];
  const logger = createLogger("info", { write: (line) => lines.push(JSON.parse(line)) });
  const owned = scope.move();
  return {
    database,
    folder: folder.path,
    file: auditAnchorFile(folder.path),
    orgId: org.id,
    lines,
    deps: { database, logger, clock, folder: folder.path },
    append: (orgId: number) => database.transaction((tx) => appendAudit(tx, orgId, ENTRY)),
    anchored: () => database.sql<{ orgId: number; seq: number }>`
      select org_id as "orgId", seq from audit_anchor order by org_id, seq`,
    verify: async (path: string) => {
      await using file = await openAuditAnchorFile(path, await getInstallationId(database.sql));
      return await verifyAuditChains(database.sql, { anchors: file });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const readLines = async (file: string): Promise<Record<string, unknown>[]> =>
  (await readFile(file, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

test("the ends of chains are told at the start and when they have moved: in the log, in the file and in the database", async () => {
  await using t = await audited();
  await t.append(t.orgId);
  await t.append(t.orgId);
  await t.append(0);
  await using anchors = startAuditAnchors(t.deps);
  await waitFor(async () => (await t.anchored()).length === 2);
  assert.deepEqual(await t.anchored(), [
    { orgId: 0, seq: 1 },
    { orgId: t.orgId, seq: 2 },
  ]);
  const told = await readLines(t.file);
  const [{ hash } = { hash: "" }] = await t.database.sql<{ hash: string }>`
    select encode(hash, 'hex') as hash from audit_log where org_id = ${t.orgId} and seq = 2`;
  const installation = await getInstallationId(t.database.sql);
  const expected = { installation, orgId: t.orgId, org: "acme", seq: 2, hash };
  assert.deepEqual(told[1], { ...expected, at: "2026-11-20T11:00:00.000Z" });
  const logged = t.lines.filter(({ msg }) => msg === "audit_anchor");
  assert.equal(logged.length, 2);
  assert.deepEqual({ ...logged[1], ...expected }, logged[1]);
  assert.equal((await stat(t.file)).mode & 0o777, 0o600);

  assert.equal(await anchors.run(), 0, "nothing has moved");
  await t.append(t.orgId);
  assert.equal(await anchors.run(), 1);
  assert.deepEqual(
    (await readLines(t.file)).map(({ org, seq }) => [org, seq]),
    [
      ["*", 1],
      ["acme", 2],
      ["acme", 3],
    ],
  );
});

test("whoever cuts off the end of a chain, in the database's anchors too, is found by the file", async () => {
  await using t = await audited();
  for (let i = 0; i < 5; i++) await t.append(t.orgId);
  await using anchors = startAuditAnchors({ ...t.deps, logger: silentLogger });
  await anchors.run();
  await t.database.transaction(async (tx) => {
    await tx.exec("alter table audit_log disable trigger all");
    await tx.exec("alter table audit_anchor disable trigger all");
    await tx.exec("delete from audit_anchor; delete from audit_log where seq > 3");
    await tx.exec("alter table audit_log enable always trigger audit_log_append_only");
    await tx.exec("alter table audit_anchor enable always trigger audit_anchor_append_only");
  });
  assert.equal((await verifyAuditChains(t.database.sql, {})).isSound, true, "without the file");
  const cut = { orgId: t.orgId, org: "acme", kind: "cut", seq: 4, lastSeq: 5 } as const;
  assert.deepEqual((await t.verify(t.file)).faults, [cut]);

  // The chain goes on over what was cut, and is anchored there: the older anchor still tells.
  for (let i = 0; i < 5; i++) {
    await t.database.transaction((tx) => appendAudit(tx, t.orgId, { ...ENTRY, target: "key-3" }));
  }
  await anchors.run();
  const found = await t.verify(t.file);
  assert.deepEqual(found.anchors, { stored: 1, given: 2 });
  assert.deepEqual(found.faults, [{ ...cut, kind: "rewritten", seq: 1 }]);
});

test("an anchor that could not be written to the file is none, and comes with the next turn", async () => {
  await using t = await audited();
  await t.append(t.orgId);
  await mkdir(t.file);
  await using anchors = startAuditAnchors(t.deps);
  await assert.rejects(anchors.run(), { code: "EISDIR" });
  assert.deepEqual(await t.anchored(), []);
  assert.ok(t.lines.some(({ level, msg }) => level === "error" && /told again/.test(String(msg))));
  await rm(t.file, { recursive: true });
  assert.equal(await anchors.run(), 1);
  assert.equal((await readLines(t.file)).length, 1);
});

test("half a line that a crash left is taken away before the file grows, and is not read meanwhile", async () => {
  await using t = await audited();
  await t.append(t.orgId);
  await using anchors = startAuditAnchors({ ...t.deps, logger: silentLogger });
  await anchors.run();
  await appendFile(t.file, '{"installation":"');
  assert.deepEqual((await t.verify(t.file)).anchors, { stored: 1, given: 1 });
  await t.append(t.orgId);
  await anchors.run();
  assert.equal((await readLines(t.file)).length, 2);
  assert.deepEqual((await t.verify(t.file)).anchors, { stored: 2, given: 2 });
  await truncate(t.file, 3);
  await t.append(t.orgId);
  await anchors.run();
  assert.equal((await readLines(t.file)).length, 1);
});

test("a file with a line that is no anchor, or another installation's, is not taken for one", async () => {
  await using t = await audited();
  await t.append(t.orgId);
  await using anchors = startAuditAnchors({ ...t.deps, logger: silentLogger });
  await anchors.run();
  const good = await readFile(t.file, "utf8");
  for (const bad of [
    "x\n",
    "{}\n",
    `${"y".repeat(9000)}\n`,
    good.replace(/"hash":"../, '"hash":"'),
  ]) {
    await writeFile(t.file, good + bad);
    await assert.rejects(t.verify(t.file), /Line 2 of .*is no anchor/);
  }
  await writeFile(t.file, good.replace(/"installation":"[^"]{8}/, '"installation":"00000000'));
  await assert.rejects(t.verify(t.file), /Line 1 of .*another installation/);
  await writeFile(t.file, "");
  assert.deepEqual((await t.verify(t.file)).anchors, { stored: 1, given: 0 });
  assert.equal(await openAuditAnchorFile(`${t.file}.none`, ""), undefined);
});
