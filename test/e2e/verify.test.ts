import assert from "node:assert/strict";
import { test } from "node:test";
import { anEvent, temporaryFolder, testService, waitFor } from "#harness";
import { runCli } from "./run-cli.ts";

test("verify ends with 0 when everything agrees, with 1 and org, hour, source and both figures when an event is gone", async () => {
  await using service = await testService({
    env: { PEOPLE_FOLD_INTERVAL_MS: "100", FOLD_INTERVAL_MS: "100" },
  });
  const atMs = Date.now() - 3 * 3_600_000;
  const hour = new Date(atMs - (atMs % 3_600_000)).toISOString().replace(".000Z", "Z");
  const occurred_at = new Date(atMs).toISOString();
  await service.send(
    Array.from({ length: 50 }, () => anEvent({ occurred_at, metadata: { note: "one of fifty" } })),
  );
  const sentMs = Date.now();
  await waitFor(async () => {
    const { consumers } = (await service.get("/analytics/v1/system/freshness")) as {
      consumers: Record<string, { completeThrough: string }>;
    };
    return Object.values(consumers).every(
      ({ completeThrough }) => Date.parse(completeThrough) >= sentMs,
    );
  });
  const args = ["verify", "--data-dir", service.dataDir];
  const options = { env: { DATABASE_URL: service.db.url } };

  const good = await runCli(args, options);
  assert.equal(good.code, 0, good.stderr + good.stdout);
  assert.match(good.stdout, /✓ ledger and raw events\n.*Everything agrees\.\n$/s);
  assert.doesNotMatch(good.stdout, /✗/);

  await service.db.database
    .sql`delete from usage_event where ctid = (select min(ctid) from usage_event)`;
  const bad = await runCli(args, options);
  assert.equal(bad.code, 1, bad.stderr);
  assert.match(bad.stdout, new RegExp(`ledger +acme +${hour} +http +\\S.* 50 +49\n`));
  assert.match(bad.stdout, /✗ ledger and raw events: 1 difference\n/);
  assert.match(bad.stdout, /✗ rollups and raw events: \d+ differences\n/);
  assert.match(bad.stdout, /✓ ledger and committed batches\n/);

  const json = await runCli([...args, "--json"], options);
  assert.equal(json.code, 1);
  const report: { isMatch: boolean; differences: Record<string, unknown>[] } = JSON.parse(
    json.stdout,
  );
  const ledger = report.differences.find(({ check }) => check === "ledger");
  assert.deepEqual(
    [report.isMatch, ledger?.["org"], ledger?.["hour"], ledger?.["source"], ledger?.["found"]],
    [false, "acme", hour, "http", "49"],
  );

  const today = await runCli([...args, "--from", hour], options);
  assert.match(today.stdout, /✗ ledger and raw events: 1 difference\n.*– number of keys: /s);

  const elsewhere = await runCli([...args, "--to", "2026-01-01"], options);
  assert.deepEqual([elsewhere.code, elsewhere.stdout], [0, "There is nothing to compare yet.\n"]);
});

test("what cannot be compared ends with another code than what differs", async () => {
  await using folder = await temporaryFolder();
  const none = await runCli(["verify", "--data-dir", folder.path]);
  assert.equal(none.code, 3);
  assert.match(none.stderr, /holds no database yet/);
  const away = await runCli(["verify", "--data-dir", folder.path], {
    env: { DATABASE_URL: "postgres://u:hunter2@127.0.0.1:1/x" },
  });
  assert.equal(away.code, 3);
  assert.doesNotMatch(away.stderr, /hunter2|should not have happened/);
  for (const args of [
    ["--from=yesterday"],
    ["--from=2026-11-20T10:00:00"],
    ["--from=2026-11-20", "--to=2026-11-20"],
    ["now"],
  ]) {
    assert.equal((await runCli(["verify", ...args])).code, 2);
  }
});
