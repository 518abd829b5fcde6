import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "#harness";
import { neverCrash, silentLogger } from "#kernel";
import type { Database, Tx } from "#store";
import { apply, assertVerified, type Bench, clock, DID, openBench, work } from "./rating-bench.ts";
import { type ReratingWorker, startReratingWorker } from "./rerating-worker.ts";
import {
  applyRerating,
  cancelRerating,
  getRerating,
  orderRerating,
  undoRerating,
} from "./reratings.ts";

const WISH = {
  orgId: null,
  modelId: null,
  start: new Date("2026-11-01T00:00:00Z"),
  end: new Date("2026-12-01T00:00:00Z"),
  reason: "a price was wrong",
};

/** A call of one day that had no price, and a price since. */
async function openDay(): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const bench = stack.use(await openBench());
  await bench.send([{ input_tokens: 1000 }]);
  await bench.fold();
  await apply(bench.database, "prices: [{ model: '*', perMillion: { input: 1, output: 0 } }]");
  const owned = stack.move();
  return { ...bench, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const order = async ({ database }: Bench): Promise<number> =>
  (await orderRerating(database, WISH, DID)).id;
const stateOf = async ({ database }: Bench, id: number): Promise<string> =>
  (await getRerating(database, id)).state;
const isRated = async ({ database }: Bench): Promise<boolean> =>
  (
    await database.sql<{
      by: number;
    }>`select rerating_id as by from usage_event where rated_nano is not null`
  ).length > 0;
const auditedOf = async ({ database }: Bench, id: number): Promise<string[]> => {
  const rows = await database.sql<{ action: string }>`
    select entry::json ->> 'action' as action
      from audit_log
     where org_id = 0
       and entry::json ->> 'target' = ${String(id)}
       and entry::json ->> 'action' like 'rerating.%'
     order by seq`;
  return rows.map(({ action }) => action.replace("rerating.", ""));
};

test("an order that has changed nothing is cancelled for good, in whichever state it is, and that is audited once", async () => {
  await using bench = await openDay();
  const { database, worker } = bench;
  for (const [steps, state] of [
    [0, "ordered"],
    [1, "previewing"],
    [2, "previewing"],
    [3, "previewed"],
  ] as const) {
    const id = await order(bench);
    for (let i = 0; i < steps; i++) assert.equal(await worker.step(), "worked");
    assert.equal(await stateOf(bench, id), state);
    const cancelled = await cancelRerating(database, id, DID);
    assert.deepEqual([cancelled.state, cancelled.finishedAt], ["cancelled", DID.at]);
    assert.deepEqual(await cancelRerating(database, id, DID), cancelled, "repeated");
    assert.deepEqual(await auditedOf(bench, id), ["create", "cancel"]);
    assert.equal(await worker.step(), "idle");
    await assert.rejects(applyRerating(database, id, DID), /is cancelled: it has to be previewed/);
    await assert.rejects(undoRerating(database, id, DID), /is cancelled: it has to be applying/);
    assert.equal(await worker.step(), "idle");
    assert.equal(await stateOf(bench, id), "cancelled");
  }
  assert.equal(await isRated(bench), false);
  await assert.rejects(cancelRerating(database, 77, DID), /no such re-rating/);
});

test("one that was to be applied is not cancelled, and told to be undone where that is a way", async () => {
  await using bench = await openDay();
  const { database, worker } = bench;
  const id = await order(bench);
  await work(bench);
  const refused = (words: RegExp) => assert.rejects(cancelRerating(database, id, DID), words);
  await applyRerating(database, id, DID);
  await refused(/is applying: undo it instead/);
  await worker.step();
  await refused(/is applying: undo it instead/);
  await work(bench);
  await refused(/is applied: undo it instead/);
  await undoRerating(database, id, DID);
  await refused(/is undoing: it has to be ordered or previewing or previewed/);
  await work(bench);
  await refused(/is undone: it has to be ordered or previewing or previewed/);
  assert.deepEqual(await auditedOf(bench, id), ["create", "apply", "undo"]);
  await assertVerified(bench);
});

test("a cancelled order fails no more, and was never applied for those after it", async () => {
  await using bench = await openDay();
  const { database, worker } = bench;
  const first = await order(bench);
  await work(bench);
  await applyRerating(database, first, DID);
  await work(bench);
  const second = await order(bench);
  await worker.step();
  await database.sql`alter table rerating_day add constraint broken check (done_in is null) not valid`;
  assert.equal(await worker.step(), "failed");
  assert.equal((await getRerating(database, second)).failure?.times, 1);
  await cancelRerating(database, second, DID);
  assert.equal((await getRerating(database, second)).failure, null);
  await database.sql`alter table rerating_day drop constraint broken`;
  await undoRerating(database, first, DID);
  await work(bench);
  assert.equal(await stateOf(bench, first), "undone");
  assert.equal(await isRated(bench), false);
});

/** A point at which a worker stands still until it is let go on. */
function createGate() {
  const reached = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  return {
    reached: reached.promise,
    release: released.resolve,
    pass: (): Promise<void> => (reached.resolve(), released.promise),
  };
}

/** More than any order of these tests takes. */
const STEPS_MAX = 8;

type Stop = { at: "before" | "after"; statement: RegExp };

/**
 * A worker of the same database that works until it stands still before a statement, or after it, ahead of the commit.
 * Disposing lets it go on, and ends it.
 */
function startHeldWorker({ database }: Bench, { at, statement }: Stop) {
  const gate = createGate();
  const hold = (tx: Tx): Tx => ({
    ...tx,
    sql: async (strings, ...values) => {
      const isIt = statement.test(String.raw({ raw: strings }, ...values));
      if (isIt && at === "before") await gate.pass();
      const rows = await tx.sql(strings, ...values);
      if (isIt && at === "after") await gate.pass();
      return rows;
    },
  });
  const held: Database = {
    ...database,
    openSession: async (prepare) => {
      const session = await database.openSession(prepare);
      return { ...session, transaction: (run) => session.transaction((tx) => run(hold(tx))) };
    },
  };
  const worker: ReratingWorker = startReratingWorker({
    database: held,
    clock,
    logger: silentLogger,
    crash: neverCrash,
    intervalMs: 3_600_000,
  });
  const steps = Promise.all(Array.from({ length: STEPS_MAX }, () => worker.step()));
  return {
    reached: gate.reached,
    release: gate.release,
    step: worker.step,
    [Symbol.asyncDispose]: async () => {
      gate.release();
      await steps;
      await worker[Symbol.asyncDispose]();
    },
  };
}

const BEGIN = /update rerating\s+set state = previewing/;
const PREVIEWED = /update rerating\s+set state = previewed/;
const APPLIED = /update rerating\s+set state = applied/;
const DAY_DONE = /update rerating_day/;

for (const { what, statement } of [
  { what: "begins with it", statement: BEGIN },
  { what: "ends a day of it", statement: DAY_DONE },
  { what: "has previewed it", statement: PREVIEWED },
])
  test(`who cancels an order before the worker ${what} has the last word`, async () => {
    await using bench = await openDay();
    const id = await order(bench);
    await using worker = startHeldWorker(bench, { at: "before", statement });
    await worker.reached;
    const cancelled = await cancelRerating(bench.database, id, DID);
    assert.equal(cancelled.state, "cancelled");
    worker.release();
    await work({ ...bench, worker });
    assert.deepEqual(
      await getRerating(bench.database, id).then(({ state, failure }) => [state, failure]),
      ["cancelled", null],
    );
    assert.equal(await isRated(bench), false);
  });

/** Resolves when a statement waits for a lock that another transaction holds. */
const someoneWaits = ({ database }: Bench): Promise<unknown> =>
  waitFor(
    async () =>
      (
        await database.sql`
        select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
      ).length > 0,
    { what: "a statement to wait for a lock" },
  );

for (const { what, statement } of [
  { what: "begun with it", statement: BEGIN },
  { what: "previewed it", statement: PREVIEWED },
])
  test(`who cancels an order when the worker has ${what}, not committed yet, waits for that and has the last word`, async () => {
    await using bench = await openDay();
    const id = await order(bench);
    await using worker = startHeldWorker(bench, { at: "after", statement });
    await worker.reached;
    const cancelling = cancelRerating(bench.database, id, DID);
    await someoneWaits(bench);
    worker.release();
    assert.equal((await cancelling).state, "cancelled");
    await work({ ...bench, worker });
    assert.equal(await stateOf(bench, id), "cancelled");
    assert.deepEqual(await auditedOf(bench, id), ["create", "cancel"]);
  });

test("who cancels while a day is looked at waits for nobody", async () => {
  await using bench = await openDay();
  const id = await order(bench);
  await using worker = startHeldWorker(bench, { at: "after", statement: DAY_DONE });
  await worker.reached;
  assert.equal((await cancelRerating(bench.database, id, DID)).state, "cancelled");
  worker.release();
  await work({ ...bench, worker });
  assert.equal(await stateOf(bench, id), "cancelled");
});

test("a day of a cancelled order is not looked at to its end", async () => {
  await using bench = await openDay();
  const id = await order(bench);
  const statement = /insert into rerate_stretch/;
  await using worker = startHeldWorker(bench, { at: "after", statement });
  await worker.reached;
  await cancelRerating(bench.database, id, DID);
  worker.release();
  await work({ ...bench, worker });
  const { daysDone, totals, failure } = await getRerating(bench.database, id);
  assert.deepEqual([daysDone, totals, failure], [0, [], null]);
});

test("an undo that meets the end of the apply sees it applied: a later one is in the way then", async () => {
  await using bench = await openDay();
  const { database } = bench;
  const [first, second] = [await order(bench), await order(bench)];
  await work(bench);
  await applyRerating(database, first, DID);
  await applyRerating(database, second, DID);
  await using worker = startHeldWorker(bench, { at: "after", statement: APPLIED });
  await worker.reached;
  const undoing = undoRerating(database, first, DID);
  undoing.catch(() => undefined);
  await someoneWaits(bench);
  worker.release();
  await assert.rejects(undoing, /came later: only the newest/);
  await work({ ...bench, worker });
  assert.deepEqual(
    [await stateOf(bench, first), await stateOf(bench, second)],
    ["applied", "applied"],
  );
  await assertVerified(bench);
});
