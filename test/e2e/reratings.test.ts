/** Prices that come after the usage, as an operator brings them to what was counted already. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { anEvent, type ServiceFace, temporaryFolder, testService, waitFor } from "#harness";
import { runCli, startCli } from "./run-cli.ts";

const DAY_MS = 86_400_000;

/** A command line of a service, and prices for it from a file. */
async function operatorOf(service: ServiceFace) {
  const folder = await temporaryFolder();
  const file = join(folder.path, "prices.yaml");
  const run = (...args: string[]) => runCli([...args, "--data-dir", service.dataDir]);
  return {
    run,
    rerate: (...args: string[]) => run("rerate", ...args),
    applyPrices: async (input: string): Promise<void> => {
      await writeFile(
        file,
        `prices:\n  - { model: chat-large, perMillion: { input: ${input}, output: 10 } }\n`,
      );
      const { code, stderr } = await run("prices", "apply", file);
      assert.equal(code, 0, stderr);
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** Calls of today and of the two days before, without a cost; resolves when they are counted. */
async function sendUsage(service: ServiceFace): Promise<void> {
  const nowMs = Date.now();
  const events = [0, 1, 2].flatMap((days) =>
    ["acme", "acme", "globex"].map((org_id) =>
      anEvent({ org_id, occurred_at: new Date(nowMs - days * DAY_MS - 1000).toISOString() }),
    ),
  );
  assert.equal((await service.send(events)).counts.accepted, events.length);
  await waitFor(async () => (await totalsOf(service)).requests === 6);
}

type Totals = {
  requests: number;
  cost: { amount: string };
  pricedShare: { requests: number | null };
};
async function totalsOf(service: ServiceFace): Promise<Totals> {
  const start = new Date(Date.now() - 5 * DAY_MS).toISOString().slice(0, 10);
  const end = new Date(Date.now() + DAY_MS).toISOString().slice(0, 10);
  const path = `/analytics/v1/orgs/acme/usage?start=${start}&end=${end}`;
  const { totals } = (await service.get(path)) as { totals: Totals };
  return totals;
}
const moneyOf = async (service: ServiceFace): Promise<[string, number | null]> => {
  const { cost, pricedShare } = await totalsOf(service);
  return [cost.amount, pricedShare.requests];
};

test("usage from before its price is previewed, applied, found in answers, and undone to what it was", async () => {
  await using service = await testService({
    env: { PEOPLE_FOLD_INTERVAL_MS: "100", FOLD_INTERVAL_MS: "100" },
  });
  await using operator = await operatorOf(service);
  const { rerate, applyPrices } = operator;
  const agree = async (): Promise<void> => {
    const args = ["verify", "--data-dir", service.dataDir];
    const { code, stdout } = await runCli(args, { env: { DATABASE_URL: service.db.url } });
    assert.equal(code, 0, stdout);
  };
  await sendUsage(service);
  assert.deepEqual(await moneyOf(service), ["0.00", 0]);
  await applyPrices("2.50");
  assert.deepEqual(await moneyOf(service), ["0.00", 0], "a price alone changes nothing of before");

  const preview = await rerate("preview", "--reason=prices came late");
  assert.equal(preview.code, 0, preview.stderr);
  // 100 tokens in, 20 out: 0.00045 a call.
  assert.match(preview.stdout, /^id +1$/m);
  assert.match(preview.stdout, /^days done +3 of 3$/m);
  assert.match(preview.stdout, /^USD +previewed +0 +9 +0\.00 +0\.00405 +0\.00405$/m);
  assert.match(
    preview.stdout,
    /^\d{4}-\d\d-\d\d +acme +chat-large +USD +0 +2 +0\.00 +0\.0009 +0\.0009$/m,
  );
  const bySize = [...preview.stdout.matchAll(/^\d{4}-\S+ +(acme|globex) /gm)].map(([, org]) => org);
  assert.deepEqual(bySize, ["acme", "acme", "acme", "globex", "globex", "globex"]);
  assert.deepEqual(await moneyOf(service), ["0.00", 0], "a preview changes nothing");

  const applied = await rerate("apply", "1");
  assert.equal(applied.code, 0, applied.stderr);
  assert.match(applied.stdout, /^state +applied$/m);
  assert.match(applied.stdout, /^USD +applied +0 +9 +0\.00 +0\.00405 +0\.00405$/m);
  assert.match(applied.stdout, /^Previewed = applied\.$/m);
  assert.deepEqual(await moneyOf(service), ["0.0027", 1]);
  await agree();

  const again = await rerate("preview", "--reason=once more");
  assert.match(again.stdout, /^Nothing to change: no cost would be another one\.$/m);
  assert.equal((await rerate("undo", "2")).code, 1, "what was never applied");

  const undone = await rerate("undo", "1");
  assert.equal(undone.code, 0, undone.stderr);
  assert.match(undone.stdout, /^All of it is taken back\.$/m);
  assert.match(undone.stdout, /^USD +applied +0 +0 +0\.00 +0\.00 +0\.00$/m);
  assert.deepEqual(await moneyOf(service), ["0.00", 0]);

  const listed = await rerate("list");
  assert.match(listed.stdout, /^ *2 +previewed +3\/3 +all +all .* once more +\S/m);
  assert.match(listed.stdout, /^ *1 +undone +3\/3 +all +all .* prices came late +\S/m);
  const audit = await operator.run("audit", "list", "--system", "--limit=500");
  for (const did of ["create", "apply", "undo"])
    assert.match(audit.stdout, new RegExp(`rerating\\.${did} +1( |$)`, "m"));
  await agree();
});

test("only what was asked for is rated again, and nothing by prices that nobody has looked at", async () => {
  await using service = await testService();
  await using operator = await operatorOf(service);
  const { rerate, applyPrices } = operator;
  await sendUsage(service);
  await applyPrices("2.50");
  const narrow = await rerate(
    "preview",
    "--org=globex",
    "--model=chat-large",
    "--reason=one",
    "--json",
  );
  const { reratingId, totals, lines } = JSON.parse(narrow.stdout) as {
    reratingId: number;
    totals: { previewed: { requestsAfter: number } }[];
    lines: { orgId: string }[];
  };
  assert.deepEqual(
    totals.map(({ previewed }) => previewed.requestsAfter),
    [3],
  );
  assert.deepEqual([...new Set(lines.map(({ orgId }) => orgId))], ["globex"]);

  await applyPrices("99");
  const refused = await rerate("apply", String(reratingId));
  assert.deepEqual([refused.code, refused.stdout], [1, ""]);
  assert.match(refused.stderr, /Prices have changed since the preview.*version 1 .* at 2 now/);
  assert.match((await rerate("show", String(reratingId))).stdout, /^state +previewed$/m);
  const unknown = await rerate("preview", "--org=nobody", "--reason=x");
  assert.deepEqual([unknown.code, /no such org/.test(unknown.stderr)], [1, true]);

  const made = await operator.run(
    "keys",
    "create",
    "--system",
    "--name=f",
    "--role=finance",
    "--json",
  );
  const { key } = JSON.parse(made.stdout) as { key: string };
  const asFinance = { env: { TALLYSTICK_API_KEY: key } };
  const told = (...args: string[]) =>
    runCli(["rerate", ...args, "--data-dir", service.dataDir], asFinance);
  assert.equal((await told("show", String(reratingId))).code, 0);
  for (const args of [
    ["preview", "--reason=x"],
    ["apply", "1"],
    ["undo", "1"],
  ]) {
    const { code, stderr } = await told(...args);
    assert.deepEqual([code, /system:write/.test(stderr)], [1, true], stderr);
  }
  assert.deepEqual(await moneyOf(service), ["0.00", 0]);
});

test("what came out otherwise than it was told is said plainly, and no success", async () => {
  await using service = await testService();
  await using operator = await operatorOf(service);
  const { rerate } = operator;
  await sendUsage(service);
  await operator.applyPrices("2.50");
  const shown = await rerate("preview", "--reason=x", "--limit=1");
  assert.equal(shown.stdout.match(/ chat-large +USD /g)?.length, 1);
  assert.match(shown.stderr, /--limit 10 shows more/);
  const { sql } = service.db.database;
  await sql`update rerating_line set nano_after = nano_after + 1 where org_id = 1`;
  const applied = await rerate("apply", "1");
  assert.equal(applied.code, 1);
  assert.match(applied.stderr, /NOT what was previewed[^]*"rerate undo 1"/);
  assert.doesNotMatch(applied.stdout, /Previewed = applied/);
  assert.equal((await rerate("apply", "1", "--json")).code, 1, "said again");
  await sql`update rerating_line set applied_after = applied_after + 1`;
  await sql`
    insert into rerating_tally (rerating_id, day, became, row_count, requests)
    values (1, '2026-11-01', 'rated', 3, 7), (1, '2026-11-01', 'fraction', 1, 2), (1, '2026-11-02', 'rated', 1, 1200)`;
  const sums = (await rerate("show", "1")).stdout;
  assert.match(sums, /^rated again +4 +1,207$/m);
  assert.match(sums, /^left: the price has parts of a billionth +1 +2$/m);
  const undone = await rerate("undo", "1");
  assert.equal(undone.code, 1);
  assert.match(undone.stderr, /Not all of it could be taken back/);
});

/** How often an order was asked for so far. */
const asksOf = async (service: ServiceFace): Promise<number> => {
  const audit = await service.get("/analytics/v1/system/audit?limit=500");
  return JSON.stringify(audit).match(/"target":"getRerating"/g)?.length ?? 0;
};

test("nobody has to wait, and who stops waiting stops nothing", async () => {
  // Without the role that works orders off.
  await using service = await testService({ env: { TALLYSTICK_ROLES: "api,ingest,rollup" } });
  await using operator = await operatorOf(service);
  const begun = await operator.rerate("preview", "--reason=later", "--no-wait");
  assert.equal(begun.code, 0, begun.stderr);
  assert.match(begun.stdout, /^state +ordered$/m);
  assert.match(begun.stderr, /^"rerate show 1" tells how far it is\.$/m);
  const shown = await operator.rerate("show", "1");
  assert.match(shown.stdout, /^Nothing is known yet\.$/m);

  const before = await asksOf(service);
  await using waiting = startCli([
    "rerate",
    "preview",
    "--reason=x",
    "--data-dir",
    service.dataDir,
  ]);
  await waitFor(async () => (await asksOf(service)) > before, { what: "the command to wait" });
  waiting.kill("SIGINT");
  const ended = await waiting.ended;
  assert.deepEqual([ended.code, ended.stdout], [130, ""], ended.stderr);
  assert.match(ended.stderr, /the service goes on/);
});

test("who waits for an order that fails is told why, and for one behind it which; cancelled or undone, it is over", async () => {
  await using service = await testService({ env: { FOLD_INTERVAL_MS: "100" } });
  await using operator = await operatorOf(service);
  const { rerate } = operator;
  await sendUsage(service);
  await operator.applyPrices("2.50");
  const { sql } = service.db.database;
  const begin = (...args: string[]) => startCli(["rerate", ...args, "--data-dir", service.dataDir]);
  const failing = async (id: number, state: string): Promise<void> => {
    await waitFor(async () => {
      const { stdout } = await rerate("list");
      return new RegExp(`^ *${id} +${state}, failing `, "m").test(stdout);
    });
    const before = await asksOf(service);
    await waitFor(async () => (await asksOf(service)) > before + 1);
  };

  assert.equal((await rerate("preview", "--reason=first")).code, 0);
  await sql`alter table rerating_line add constraint broken check (rerating_id <> 2) not valid`;
  await using previewing = begin("preview", "--reason=second");
  await failing(2, "previewing");
  const shown = await rerate("show", "2");
  assert.match(
    shown.stdout,
    /^trouble +It failed \d+ times? in a row since 20\S+Z, the last time on 20\d\d-\d\d-\d\d with "23514: [^\n]*", and is tried again at 20\S+Z\. "rerate cancel 2" gives it up\.$/m,
  );
  const cancelled = await rerate("cancel", "2");
  assert.equal(cancelled.code, 0, cancelled.stderr);
  assert.match(cancelled.stdout, /^state +cancelled$/m);
  assert.match(cancelled.stdout, /^It is cancelled, and has changed nothing\.$/m);
  const waited = await previewing.ended;
  assert.equal(waited.code, 1);
  assert.match(waited.stderr, /^It failed 1 time in a row since .*23514: /m);
  assert.match(waited.stderr, /^It was cancelled meanwhile\.$/m);
  assert.match((await rerate("list")).stdout, /^ *2 +cancelled +0\/3 /m);

  assert.equal((await rerate("preview", "--reason=third")).code, 0);
  await sql`alter table rerating_line drop constraint broken`;
  await sql`
    alter table rerating_line add constraint broken check (rerating_id <> 1 or applied_after = 0) not valid`;
  await using first = begin("apply", "1");
  await failing(1, "applying");
  await using third = begin("apply", "3");
  await waitFor(async () => /^ *3 +applying, waits for 1 /m.test((await rerate("list")).stdout));
  const asked = await asksOf(service);
  // Either of the two asks no more often than every three seconds by then.
  await waitFor(async () => (await asksOf(service)) > asked + 4, { msMax: 30_000 });
  const refused = await rerate("cancel", "1");
  assert.deepEqual([refused.code, /is applying: undo it instead/.test(refused.stderr)], [1, true]);
  assert.equal((await rerate("undo", "1")).code, 0);
  const [ofFirst, ofThird] = [await first.ended, await third.ended];
  assert.equal(ofFirst.code, 1);
  assert.match(ofFirst.stderr, /^It failed 1 time .* "rerate undo 1" gives it up\.$/m);
  assert.match(ofFirst.stderr, /^It is (?:undoing|undone): somebody took it back meanwhile\.$/m);
  assert.equal(ofThird.code, 0, ofThird.stderr);
  assert.match(ofThird.stderr, /^It waits for re-rating 1 to end; "rerate show 1" tells how far/m);
  assert.match(ofThird.stdout, /^Previewed = applied\.$/m);
  assert.deepEqual(await moneyOf(service), ["0.0027", 1]);
});

test("what cannot be asked is refused before anything is sent", async () => {
  const refused = async (...args: string[]) => {
    const { code, stderr } = await runCli(["rerate", ...args]);
    assert.equal(code, 2, stderr);
    return stderr;
  };
  assert.match(await refused("again"), /preview, apply, undo, cancel, list, show/);
  assert.match(await refused("preview"), /--reason TEXT/);
  assert.match(await refused("preview", "1", "--reason=x"), /takes no number/);
  assert.match(await refused("preview", "--reason=x", "--from=yesterday"), /--from must be a day/);
  assert.match(
    await refused("preview", "--reason=x", "--from=2026-11-20", "--to=2026-11-20"),
    /earlier than --to/,
  );
  assert.match(await refused("apply"), /number of one order/);
  assert.match(await refused("apply", "1", "2"), /number of one order/);
  assert.match(await refused("undo", "one"), /number of one order/);
  assert.match(await refused("cancel"), /number of one order/);
  assert.match(await refused("cancel", "1", "--no-wait"), /cancel takes no --no-wait/);
  assert.match(await refused("apply", "1", "--limit=3"), /apply takes no --limit/);
  assert.match(await refused("list", "--no-wait"), /list takes no --no-wait/);
  assert.match(await refused("show", "1", "--limit=0"), /whole number from 1/);
});
