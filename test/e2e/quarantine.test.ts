import assert from "node:assert/strict";
import { test } from "node:test";
import { anEvent, testService, waitFor } from "#harness";
import { type Ended, runCli } from "./run-cli.ts";

type Item = { id: number; code: string; state: string };

test("what was not counted can be listed, shown, replayed once the reason is gone, and dropped, from the command line", async () => {
  await using service = await testService();
  const now = new Date().toISOString();
  const old = "2024-02-29T10:00:00Z";
  await service.send([
    anEvent({ event_id: "good", occurred_at: now }),
    anEvent({ event_id: "bad\u001b[31m", occurred_at: now, input_tokens: -1 }),
    anEvent({ event_id: "old-1", occurred_at: old }),
    anEvent({ event_id: "old-2", occurred_at: old }),
    anEvent({ occurred_at: now, org_id: undefined }),
  ]);
  const run = (...args: string[]): Promise<Ended> =>
    runCli(["quarantine", ...args, "--data-dir", service.dataDir]);
  const list = async (...args: string[]): Promise<Item[]> => {
    const { stdout } = await run("list", "--json", ...args);
    const { items }: { items: Item[] } = JSON.parse(stdout);
    return items;
  };

  const table = await run("list", "--org=acme");
  assert.equal(table.code, 0, table.stderr);
  assert.match(table.stdout, /^ *id +received +source +code +where +event\n/);
  assert.ok(!table.stdout.includes("\u001b"));
  assert.deepEqual((await list("--org=acme", "--code=too_old")).length, 2);
  assert.equal((await list("--system")).length, 1);
  const bad = (await list("--org=acme")).find(({ code }) => code !== "too_old");
  assert.ok(bad !== undefined);
  const shown = await run("show", String(bad.id), "--org=acme");
  assert.match(shown.stdout, /"input_tokens":-1/);
  assert.ok(!shown.stdout.includes("\u001b"));

  const inVain = await run("replay", String(bad.id), "--org=acme");
  assert.equal(inVain.code, 1);
  assert.match(inVain.stdout, /1 item replayed: 0 counted, 1 refused again/);
  const replayed = await run("replay", "--all", "--code=too_old", "--backfill", "--org=acme");
  assert.deepEqual(
    [replayed.code, replayed.stdout],
    [0, "2 items replayed: 2 counted, 0 refused again\n"],
    replayed.stderr,
  );
  await waitFor(async () => {
    const path =
      "/analytics/v1/orgs/acme/usage?start=2024-02-29T00:00:00Z&end=2024-03-01T00:00:00Z&granularity=day";
    return ((await service.get(path)) as { totals: { requests: number } }).totals.requests === 2;
  });

  const dropped = await run("drop", "--all", "--org=acme", "--json");
  assert.deepEqual(JSON.parse(dropped.stdout), { dropped: 1 });
  assert.deepEqual(await list("--org=acme"), []);
  assert.equal((await list("--org=acme", "--state=replayed")).length, 2);
  const gone = await run("drop", String(bad.id), "--org=acme");
  assert.deepEqual([gone.code, gone.stdout], [1, ""]);
  assert.match(gone.stderr, /404/);
});

test("arguments that could touch more than was meant are refused", async () => {
  const cases = [
    ["list"],
    ["list", "--org=a", "--system"],
    ["drop", "--org=a"],
    ["drop", "1", "--all", "--org=a"],
    ["replay", "x", "--org=a"],
    ["purge", "--org=a"],
    [],
  ];
  for (const args of cases)
    assert.equal((await runCli(["quarantine", ...args])).code, 2, args.join(" "));
});
