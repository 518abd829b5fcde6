import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger, type Logger, neverCrash, silentLogger } from "#kernel";
import { apply, assertVerified, type Bench, clock, DID, openBench, work } from "./rating-bench.ts";
import { type ReratingWorker, startReratingWorker } from "./rerating-worker.ts";
import {
  applyRerating,
  cancelRerating,
  getRerating,
  orderRerating,
  type Rerating,
  undoRerating,
} from "./reratings.ts";

const START = "2026-11-20T14:00:00Z";
const WISH = {
  orgId: null,
  modelId: null,
  start: new Date("2026-11-01T00:00:00Z"),
  end: new Date("2026-12-01T00:00:00Z"),
  reason: "a price was wrong",
};
const price = (input: number): string =>
  `prices: [{ model: '*', perMillion: { input: ${input}, output: 0 } }]`;
const BROKEN = '23514: new row for relation "rerating_line" violates check constraint "broken"';

/** Calls of two days that had no price, and a price since. */
async function openDays(): Promise<Bench> {
  clock.set(START);
  await using stack = new AsyncDisposableStack();
  const bench = stack.use(await openBench());
  const days = ["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"];
  await bench.send(days.map((occurred_at) => ({ occurred_at, input_tokens: 1000 })));
  await bench.fold();
  await apply(bench.database, price(1));
  const owned = stack.move();
  return { ...bench, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const order = async ({ database }: Bench): Promise<number> =>
  (await orderRerating(database, WISH, DID)).id;

/** Lets no line be written for which this does not hold, until it is mended. */
const breakLines = ({ database }: Bench, holds: string): Promise<unknown> =>
  database.transaction((tx) =>
    tx.exec(`alter table rerating_line add constraint broken check (${holds}) not valid`),
  );
const mendLines = ({ database }: Bench): Promise<unknown> =>
  database.sql`alter table rerating_line drop constraint broken`;

/** Steps until nothing is left that need not wait. */
async function stepOn({ worker }: { worker: ReratingWorker }): Promise<string[]> {
  const results: string[] = [];
  do {
    results.push(await worker.step());
    assert.ok(results.length < 100, "no end of it");
  } while (results.at(-1) !== "idle");
  return results;
}

const startWorker = ({ database }: Bench, logger: Logger = silentLogger): ReratingWorker =>
  startReratingWorker({ database, clock, logger, crash: neverCrash, intervalMs: 3_600_000 });

const failureOf = async ({ database }: Bench, id: number) => {
  const { failure } = await getRerating(database, id);
  if (failure === null) return null;
  const { since, failedAt, retryAt, ...rest } = failure;
  const ms = (from: string, to: string): number => Date.parse(to) - Date.parse(from);
  return { ...rest, sinceMs: ms(since, failedAt), pauseMs: ms(failedAt, retryAt) };
};
const stateOf = async ({ database }: Bench, id: number): Promise<Rerating["state"]> =>
  (await getRerating(database, id)).state;
const isWaitingFor = async ({ database }: Bench, id: number): Promise<number | null> =>
  (await getRerating(database, id)).waitsFor;

/** By which order each event was rated, by what entry, and at what cost. */
const ratingsOf = ({ database }: Bench): Promise<unknown[]> => database.sql<{ nano: number }>`
  select event_key as key, rated_nano as nano, price_id as price, former_price_id as former, rerating_id as by
    from usage_event
   order by event_key`;
const ratedBy = async (bench: Bench): Promise<unknown[]> =>
  (
    await bench.database.sql<{ by: number | null }>`
    select distinct rerating_id as by from usage_event order by 1`
  ).map(({ by }) => by);

test("an order whose day fails says so and why, others are worked on meanwhile, and mended it says nothing any more", async () => {
  await using bench = await openDays();
  const lines: string[] = [];
  const logger = createLogger("debug", { write: (line) => lines.push(JSON.parse(line).msg) });
  await using worker = startWorker(bench, logger);
  const [first, second] = [await order(bench), await order(bench)];
  await breakLines(bench, `rerating_id <> ${first} or day <> '2026-11-20'`);
  const results = await stepOn({ worker });
  assert.equal(results.filter((result) => result === "failed").length, 1, results.join());
  assert.deepEqual(
    [await stateOf(bench, first), await stateOf(bench, second)],
    ["previewing", "previewed"],
  );
  const { failure, days, daysDone } = await getRerating(bench.database, first);
  assert.deepEqual([days, daysDone], [2, 1]);
  assert.equal(failure?.day, "2026-11-20");
  assert.equal(failure?.error, BROKEN);
  assert.equal(Date.parse(failure?.since ?? ""), Date.parse(START));
  assert.equal((await getRerating(bench.database, second)).failure, null);

  clock.advance(2000);
  assert.deepEqual(await stepOn({ worker }), ["failed", "idle"]);
  await mendLines(bench);
  clock.advance(4000);
  await stepOn({ worker });
  assert.equal(await stateOf(bench, first), "previewed");
  assert.equal(await failureOf(bench, first), null);
  assert.deepEqual(await bench.database.sql`select * from rerating_failure`, []);
  assert.deepEqual(lines, [
    "A re-rating fails and is tried again",
    "A re-rating has come so far",
    "A re-rating goes on again",
    "A re-rating has come so far",
  ]);
});

test("it is tried again after pauses that double from two seconds to five minutes, whichever process would, until the day is done", async () => {
  await using bench = await openDays();
  const id = await order(bench);
  await breakLines(bench, `rerating_id <> ${id}`);
  assert.deepEqual(await stepOn(bench), ["worked", "failed", "idle"]);
  await using other = startWorker(bench);
  const workers = [bench.worker, other];
  let sinceMs = 0;
  for (const [i, seconds] of [2, 4, 8, 16, 32, 64, 128, 256, 300, 300].entries()) {
    const pauseMs = seconds * 1000;
    const told = { day: "2026-11-19", times: i + 1, sinceMs, pauseMs, error: BROKEN };
    assert.deepEqual(await failureOf(bench, id), told);
    clock.advance(pauseMs - 1);
    for (const worker of workers) assert.equal(await worker.step(), "idle");
    clock.advance(1);
    assert.equal(await workers[i % 2]?.step(), "failed");
    for (const worker of workers) assert.equal(await worker.step(), "idle");
    sinceMs += pauseMs;
  }
  await mendLines(bench);
  clock.advance(300_000);
  assert.equal(await bench.worker.step(), "worked");
  assert.deepEqual([await stateOf(bench, id), await failureOf(bench, id)], ["previewing", null]);
});

test("an apply waits for an older one that fails and says so, a preview does not; and the older one can be undone", async () => {
  await using bench = await openDays();
  const { database } = bench;
  const former = await ratingsOf(bench);
  const first = await order(bench);
  await work(bench);
  await applyRerating(database, first, DID);
  await breakLines(
    bench,
    `rerating_id <> ${first} or day <> '2026-11-20' or applied_after + applied_before = 0`,
  );
  await stepOn(bench);
  await apply(database, price(2));
  const second = await order(bench);
  await stepOn(bench);
  assert.equal(await stateOf(bench, second), "previewed", "a preview overtakes");
  await applyRerating(database, second, DID);
  const third = await order(bench);
  await stepOn(bench);
  assert.deepEqual(
    [await stateOf(bench, first), await stateOf(bench, second), await stateOf(bench, third)],
    ["applying", "applying", "previewed"],
  );
  assert.deepEqual(
    [await isWaitingFor(bench, first), await isWaitingFor(bench, second)],
    [null, first],
  );
  assert.equal(await isWaitingFor(bench, third), null);
  assert.deepEqual(await ratedBy(bench), [first, null], "the newer one has changed nothing");
  const failure = await failureOf(bench, first);
  assert.deepEqual([failure?.day, failure?.times], ["2026-11-20", 1]);

  await assert.rejects(cancelRerating(database, first, DID), /is applying: undo it/);
  await undoRerating(database, first, DID);
  assert.equal(await failureOf(bench, first), null, "another piece of work");
  assert.equal(await isWaitingFor(bench, second), first);
  await work(bench);
  assert.deepEqual(
    [await stateOf(bench, first), await stateOf(bench, second)],
    ["undone", "applied"],
  );
  assert.deepEqual(await ratedBy(bench), [second]);
  await assertVerified(bench);
  await undoRerating(database, second, DID);
  await work(bench);
  assert.deepEqual(await ratingsOf(bench), former);
  await assertVerified(bench);
});

test("an apply waits for an older undo that fails: what that takes back is never the newer one's", async () => {
  await using bench = await openDays();
  const { database } = bench;
  const former = await ratingsOf(bench);
  const first = await order(bench);
  await work(bench);
  await applyRerating(database, first, DID);
  await work(bench);
  await undoRerating(database, first, DID);
  await breakLines(bench, `rerating_id <> ${first} or day <> '2026-11-20' or applied_after > 0`);
  await stepOn(bench);
  await apply(database, price(2));
  const second = await order(bench);
  await stepOn(bench);
  await applyRerating(database, second, DID);
  assert.deepEqual(await stepOn(bench), ["idle"]);
  assert.equal(await isWaitingFor(bench, second), first);
  assert.deepEqual(await ratedBy(bench), [first, null]);

  await mendLines(bench);
  clock.advance(2000);
  await work(bench);
  assert.deepEqual(
    [await stateOf(bench, first), await stateOf(bench, second)],
    ["undone", "applied"],
  );
  await undoRerating(database, second, DID);
  await work(bench);
  assert.deepEqual(await ratingsOf(bench), former);
  await assertVerified(bench);
});

test("what is applied can only be undone as the newest, however far a later one has come", async () => {
  await using bench = await openDays();
  const { database } = bench;
  const first = await order(bench);
  await work(bench);
  await applyRerating(database, first, DID);
  await work(bench);
  await apply(database, price(2));
  const second = await order(bench);
  await work(bench);
  await applyRerating(database, second, DID);
  await assert.rejects(undoRerating(database, first, DID), /came later: only the newest/);
});

test("steps that go well on the way to the one that fails end neither the pauses nor the account", async () => {
  clock.set(START);
  await using bench = await openBench();
  const { database } = bench;
  const at = { occurred_at: "2026-11-19T10:00:00Z", input_tokens: 1000 };
  await bench.send([at]);
  // A few rows on each page make a day that is applied in several steps.
  await database.transaction((tx) =>
    tx.exec(`do $$ begin execute (
      select format('alter table %s set (fillfactor = 10)', tableoid::regclass) from usage_event limit 1); end $$`),
  );
  await bench.send(Array.from({ length: 3000 }, () => at));
  await bench.send([{ ...at, model_id: "last" }]);
  await bench.fold();
  await apply(database, price(1));
  const id = await order(bench);
  await work(bench);
  await applyRerating(database, id, DID);
  await breakLines(bench, `applied_after = 0 or model_id <> ${await modelIdOf(bench, "last")}`);
  const steps = await stepOn(bench);
  assert.deepEqual(steps.slice(-2), ["failed", "idle"]);
  assert.ok(steps.length > 2, "some steps before went well");
  assert.equal((await failureOf(bench, id))?.times, 1);
  clock.advance(2000);
  assert.deepEqual(await stepOn(bench), steps);
  const failure = await failureOf(bench, id);
  assert.deepEqual([failure?.times, failure?.pauseMs], [2, 4000]);
  await mendLines(bench);
  clock.advance(4000);
  await work(bench);
  assert.deepEqual([await stateOf(bench, id), await failureOf(bench, id)], ["applied", null]);
  await assertVerified(bench);
});

const modelIdOf = async ({ database }: Bench, name: string): Promise<number | undefined> =>
  (await database.sql<{ id: number }>`select id from dictionary where value = ${name}`)[0]?.id;
