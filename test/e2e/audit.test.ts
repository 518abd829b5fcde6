import assert from "node:assert/strict";
import { copyFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { anEvent, temporaryFolder, testDatabase, testService, waitFor } from "#harness";
import { runCli } from "./run-cli.ts";

test("audit verify ends with 0 when nothing is wrong, and with 1 and the rows when somebody touched the log", async () => {
  await using service = await testService();
  const { db, dataDir } = service;
  await service.send([anEvent({ occurred_at: new Date().toISOString() })]);
  await waitFor(
    async () => (await service.request("/analytics/v1/orgs/acme/freshness")).status === 200,
  );
  for (let i = 0; i < 4; i++) await service.get("/analytics/v1/orgs/acme/freshness");
  const there = ["--url", service.url, "--api-key", service.adminKey];
  const here = ["--data-dir", dataDir];
  const options = { env: { DATABASE_URL: db.url } };

  const list = await runCli(["audit", "list", "--org", "acme", "--limit", "3", ...there]);
  assert.equal(list.code, 0, list.stderr);
  assert.match(list.stdout, /org\.read +get\w*Freshness/i);
  assert.match(list.stderr, /There are more; --limit 30/);
  const all = await runCli(["audit", "list", "--org=acme", "--json", ...there]);
  const { items }: { items: { seq: number; action: string }[] } = JSON.parse(all.stdout);
  const [newest] = items;
  assert.ok(newest !== undefined && newest.seq === items.length && items.length >= 5);
  const nobody = await runCli(["audit", "list", "--org=nobody", ...there]);
  assert.equal(nobody.code, 1);

  const good = await runCli(["audit", "verify", ...here], options);
  assert.equal(good.code, 0, good.stderr + good.stdout);
  assert.match(good.stdout, /^\d+ rows in \d chains?\n.*Nothing is wrong\.\n$/s);

  await db.database.transaction(async (tx) => {
    await tx.exec("alter table audit_log disable trigger all");
    await tx.exec("update audit_log set entry = entry || ' ' where seq = 2");
    await tx.exec("delete from audit_log where seq = 4");
  });
  const bad = await runCli(["audit", "verify", "--org", "acme", ...here], options);
  assert.equal(bad.code, 1, bad.stderr);
  assert.match(bad.stdout, /acme +2 +edited: .*\nacme +4 +missing: .*\n2 faults\.\n$/);
  const json = await runCli(["audit", "verify", "--org=acme", "--json", ...here], options);
  const report: { isSound: boolean; faults: { kind: string; seq: number }[] } = JSON.parse(
    json.stdout,
  );
  assert.deepEqual(
    [report.isSound, report.faults.map(({ kind, seq }) => [kind, seq])],
    [
      false,
      [
        ["edited", 2],
        ["missing", 4],
      ],
    ],
  );
});

test("audit says what is in the way, with another code than what is wrong", async () => {
  await using service = await testService();
  const here = ["--data-dir", service.dataDir];
  const options = { env: { DATABASE_URL: service.db.url } };
  const verify = (...args: string[]) => runCli(["audit", "verify", ...here, ...args], options);
  assert.equal((await verify("--org=nobody")).code, 3);
  const none = await verify("--anchors", join(service.dataDir, "none.ndjson"));
  assert.equal(none.code, 3);
  assert.match(none.stderr, /There is no .*none\.ndjson/);
  for (const args of [
    ["audit"],
    ["audit", "mend"],
    ["audit", "verify", "now"],
    ["audit", "verify", "--limit=3"],
    ["audit", "verify", "--url=http://127.0.0.1:1"],
    ["audit", "list"],
    ["audit", "list", "--org=acme", "--system"],
    ["audit", "list", "--org=acme", "--limit=0"],
    ["audit", "list", "--org=acme", "--anchors=x"],
  ])
    assert.equal((await runCli(args)).code, 2, args.join(" "));
});

test("what is cut off at the end is found by a copy of the anchor file", async () => {
  await using db = await testDatabase();
  await using elsewhere = await temporaryFolder();
  await db.database.sql`
    select append_audit(0, '{"at":"2026-11-20T10:00:00.000Z","actor":"key-1","action":"org.create"}') from generate_series(1, 3)`;
  await using service = await testService({ db });
  const made = join(service.dataDir, "audit-anchors.ndjson");
  const copy = join(elsewhere.path, "copy.ndjson");
  // The row comes last, when the file is on disk.
  await waitFor(async () => (await db.database.sql`select from audit_anchor`).length > 0);
  await copyFile(made, copy);
  await rm(made);
  await db.database.transaction(async (tx) => {
    await tx.exec(
      "alter table audit_log disable trigger all; alter table audit_anchor disable trigger all",
    );
    await tx.exec("delete from audit_anchor; delete from audit_log where seq > 1");
  });
  const options = { env: { DATABASE_URL: db.url } };
  const verify = (...args: string[]) =>
    runCli(["audit", "verify", "--org=*", "--data-dir", service.dataDir, ...args], options);
  const without = await verify();
  assert.equal(without.code, 0);
  assert.match(without.stdout, /no anchor file/);
  const bad = await verify("--anchors", copy);
  assert.equal(bad.code, 1);
  assert.match(bad.stdout, /\n\* +2–3 +cut: /);
});
