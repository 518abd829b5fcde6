import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { testDatabase } from "#harness";
import { type Crash, type Crashpoint, neverCrash, systemClock } from "#kernel";
import type { Database } from "#store";
import { commitTestBatch, openLane, type TestEvent, testEvent } from "./committed-batches.ts";
import {
  FoldLeaseLost,
  type FoldResult,
  FoldWorker,
  ROLLUP_DEFAULTS,
  type RollupSettings,
} from "./fold-worker.ts";
import { RawRowsMissing } from "./read-fold.ts";
import { assertLedgerEqualsRaw, assertRollupsEqualRaw } from "./rollup-oracle.ts";

let owners = 0;
const openWorker = (
  database: Database,
  options: {
    consumer?: "usage" | "people";
    crash?: Crash;
    settings?: Partial<RollupSettings>;
  } = {},
): FoldWorker =>
  new FoldWorker(options.consumer ?? "usage", {
    database,
    clock: systemClock,
    crash: options.crash ?? neverCrash,
    settings: { ...ROLLUP_DEFAULTS, ...options.settings },
    owner: `worker-${owners++}`,
  });

async function foldAll(worker: FoldWorker): Promise<FoldResult & { state: "folded" }> {
  for (;;) {
    const result = await worker.foldOnce();
    assert.ok(result.state === "folded");
    if (!result.hasMore) return result;
  }
}

/** Ends the lease as if its time had run out. */
const expireLease = (database: Database) =>
  database.sql`update fold_state set lease_until = clock_timestamp() - interval '1 second'`;

const HOUR_US = 3_600_000_000;
const NOON_US = Date.parse("2026-11-20T12:00:00Z") * 1000;

const text = (...values: string[]) => fc.constantFrom(...values);
const count = fc.oneof(fc.nat(5000), fc.constantFrom(0, 2 ** 31 - 1));
const instant = fc.oneof(
  fc.integer({ min: NOON_US - 40 * 24 * HOUR_US, max: NOON_US }),
  fc.integer({ min: NOON_US - 2 * HOUR_US, max: NOON_US }),
  fc.nat(200).map((quarters) => NOON_US - quarters * (HOUR_US / 4)),
  fc.nat(200).map((quarters) => NOON_US - quarters * (HOUR_US / 4) - 1),
);
const anyEvent: fc.Arbitrary<TestEvent> = fc.record({
  org: text("acme", "globex", "initech"),
  model: text("small", "large"),
  client: fc.option(text("web", "batch")),
  actor: fc.option(text("ann", "bob", "eve")),
  errorCode: fc.option(text("429", "timeout")),
  source: text("http", "import"),
  occurredAtUs: instant,
  outcome: fc.nat(6),
  currency: text("USD", "EUR"),
  requests: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 1_000_000 })),
  tokens: fc.tuple(count, count, count, count, count, count),
  latencyMs: fc.option(fc.oneof(fc.nat(2000), fc.nat(2 ** 31 - 1))),
  costNano: fc.option(
    fc.oneof(
      fc.integer({ min: -1000, max: 10 ** 9 }),
      fc.constantFrom(9_007_199_000_000_000, -9_007_199_000_000_000),
    ),
  ),
  rated: fc.option(
    fc.record({
      nano: fc.oneof(fc.nat(10 ** 9), fc.constantFrom(0, 9_007_199_000_000_000)),
      currency: text("USD", "EUR"),
    }),
  ),
  tags: fc.subarray(["team=search", "team(other)", "region=eu", "region=us", "tier=1"]),
});
/** Batches, each for one of two lanes, and whether consumers fold after it. */
const history = fc.array(
  fc.record({
    lane: fc.nat(1),
    events: fc.array(anyEvent, { maxLength: 40 }),
    foldUsage: fc.boolean(),
    foldPeople: fc.boolean(),
  }),
  { minLength: 1, maxLength: 6 },
);

test("rollups, errors and ledger equal a re-aggregation of raw, however events are split over batches, lanes and folds", async () => {
  await fc.assert(
    fc.asyncProperty(history, fc.constantFrom(1, 50, 400_000), async (steps, foldEventsMax) => {
      await using db = await testDatabase();
      const { database } = db;
      const lanes = [await openLane(database), await openLane(database)];
      await using usage = openWorker(database, { settings: { foldEventsMax } });
      await using people = openWorker(database, {
        consumer: "people",
        settings: { foldEventsMax },
      });
      for (const step of steps) {
        const lane = lanes[step.lane];
        assert.ok(lane);
        await commitTestBatch(database, lane, step.events);
        if (step.foldUsage) await usage.foldOnce();
        if (step.foldPeople) await people.foldOnce();
      }
      await foldAll(usage);
      await foldAll(people);
      await assertRollupsEqualRaw(database, "usage");
      await assertRollupsEqualRaw(database, "people");
      await assertLedgerEqualsRaw(database);
    }),
    // Each step of shrinking would be a database of its own: the seed and the first counterexample are enough.
    { numRuns: 12, endOnFailure: true },
  );
});

/** Throws the first time a fold passes this point. */
function failOnceAt(point: Crashpoint): Crash {
  let left = 1;
  return (at) => {
    if (at === point && left-- > 0) throw new Error(`stopped at ${point}`);
  };
}

const someEvents = (count: number, overrides: Partial<TestEvent> = {}): TestEvent[] =>
  Array.from({ length: count }, (_, i) =>
    testEvent({
      latencyMs: 50 + i * 7,
      outcome: i % 7,
      model: `m${i % 3}`,
      errorCode: i % 2 ? "429" : null,
      ...overrides,
    }),
  );

for (const point of ["fold_after_read", "fold_before_commit", "fold_after_commit"] as const) {
  test(`a fold that ends at ${point} leaves nothing half counted, and the next one counts the rest once`, async () => {
    await using db = await testDatabase();
    const { database } = db;
    const lane = await openLane(database);
    await commitTestBatch(database, lane, someEvents(30));
    for (const consumer of ["usage", "people"] as const) {
      await using worker = openWorker(database, { consumer, crash: failOnceAt(point) });
      await assert.rejects(worker.foldOnce(), /stopped at/);
      await foldAll(worker);
      await commitTestBatch(database, lane, someEvents(20));
      await foldAll(worker);
    }
    await using usage = openWorker(database);
    await foldAll(usage);
    await assertRollupsEqualRaw(database, "usage");
    await assertRollupsEqualRaw(database, "people");
    await assertLedgerEqualsRaw(database);
  });
}

/** The same database, but a session's transactions wait for `pause` once that is set. */
function pausable(database: Database): {
  database: Database;
  pauseFor: (pause: Promise<unknown>) => void;
} {
  let pause: Promise<unknown> = Promise.resolve();
  return {
    pauseFor: (next) => void (pause = next),
    database: {
      ...database,
      openSession: async (prepare) => {
        const session = await database.openSession(prepare);
        return {
          ...session,
          transaction: async (work) => {
            await pause;
            return await session.transaction(work);
          },
        };
      },
    },
  };
}

test("a worker that was paused while another took over cannot commit, and nothing is counted twice", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(database, lane, someEvents(25));
  await using successor = openWorker(database);
  const slow = pausable(database);
  const takeOver = async () => {
    await expireLease(database);
    await foldAll(successor);
  };
  await using paused = openWorker(slow.database, {
    crash: (at) => {
      if (at === "fold_after_read") slow.pauseFor(takeOver());
    },
  });

  await assert.rejects(paused.foldOnce(), FoldLeaseLost);

  await assertRollupsEqualRaw(database, "usage");
  await assertLedgerEqualsRaw(database);
  assert.equal((await paused.foldOnce()).state, "standby");
});

test("even with a stolen epoch a batch is folded once: watermarks move only from where the fold began", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(database, lane, someEvents(25));
  const slow = pausable(database);
  await using fenced = openWorker(slow.database, {
    crash: (at) => {
      if (at === "fold_after_read")
        slow.pauseFor(database.sql`insert into watermark values ('usage', ${lane.laneId}, 1)`);
    },
  });
  await assert.rejects(fenced.foldOnce(), FoldLeaseLost);
  const [rows] = await database.sql<{
    rows: number;
  }>`select count(*)::int4 as rows from rollup_org_day`;
  assert.equal(rows?.rows, 0);
});

test("sketches stay exact when the lease goes to another worker and comes back", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await using first = openWorker(database);
  await using second = openWorker(database);
  const turn = async (worker: FoldWorker) => {
    await commitTestBatch(database, lane, someEvents(15));
    await expireLease(database);
    assert.equal((await worker.foldOnce()).state, "folded");
  };
  await turn(first);
  await turn(second);
  // Each learns at its next fold that its lease is gone, forgets its sketches, and may then take it again.
  await assert.rejects(first.foldOnce(), FoldLeaseLost);
  await turn(first);
  await assert.rejects(second.foldOnce(), FoldLeaseLost);
  await turn(second);
  await assertRollupsEqualRaw(database, "usage");
});

test("a missing raw row stops the fold before anything is written, and says which batch", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(database, lane, someEvents(10));
  await using worker = openWorker(database);
  await foldAll(worker);
  await commitTestBatch(database, lane, someEvents(10));
  await database.sql`delete from usage_event where ctid = (select max(ctid) from usage_event)`;

  await assert.rejects(worker.foldOnce(), (error) => {
    assert.ok(error instanceof RawRowsMissing);
    assert.deepEqual(
      [error.laneId, error.batchNo, error.expected, error.found],
      [lane.laneId, 2, 10, 9],
    );
    return true;
  });

  const [mark] = await database.sql<{
    batchNo: number;
  }>`select batch_no as "batchNo" from watermark where consumer = 'usage'`;
  assert.equal(mark?.batchNo, 1);
});

test("the claim covers what was answered before, never a batch that is still to be folded", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  for (let i = 0; i < 4; i++) await commitTestBatch(database, lane, someEvents(10));
  await using worker = openWorker(database, { settings: { foldEventsMax: 20 } });
  const committed = await database.sql<{ us: number }>`
    select (extract(epoch from committed_at) * 1000000)::int8 as us from ingestion_batches order by batch_no`;

  const partly = await worker.foldOnce();
  assert.ok(partly.state === "folded");
  assert.deepEqual(
    [partly.batches, partly.hasMore, partly.completeThroughUs],
    [2, true, committed[2]?.us],
  );
  const wholly = await worker.foldOnce();
  assert.ok(wholly.state === "folded");
  assert.deepEqual(
    [wholly.batches, wholly.hasMore, wholly.completeThroughUs],
    [2, false, wholly.nowUs],
  );
});

test("a fold of sparse events is written in parts, each of them whole batches", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  const spread = (n: number) =>
    Array.from({ length: n }, (_, i) => testEvent({ occurredAtUs: NOON_US - i * HOUR_US }));
  await commitTestBatch(database, lane, spread(60));
  for (let i = 0; i < 3; i++)
    await commitTestBatch(database, lane, Array.from({ length: 200 }, () => spread(45)).flat());
  await using worker = openWorker(database, { settings: { foldCellsMax: 50 } });

  const first = await worker.foldOnce();
  assert.ok(first.state === "folded");
  assert.ok(first.hasMore && first.batches < 4);
  await foldAll(worker);
  await assertRollupsEqualRaw(database, "usage");
});

test("freshness holds the newest event and commit of each org, model and source, and never goes back", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await using worker = openWorker(database);
  await commitTestBatch(database, lane, [
    testEvent({ occurredAtUs: NOON_US }),
    testEvent({ occurredAtUs: NOON_US - HOUR_US }),
  ]);
  await foldAll(worker);
  await commitTestBatch(database, lane, [testEvent({ occurredAtUs: NOON_US - 9 * HOUR_US })]);
  await foldAll(worker);
  const rows = await database.sql`
    select f.last_occurred_at = to_timestamp(${NOON_US / 1_000_000}) as occurred,
           f.last_ingested_at = b.committed_at as ingested,
           s.last_occurred_at = f.last_occurred_at and s.last_ingested_at = f.last_ingested_at as source
      from freshness f, source_freshness s, ingestion_batches b
     where b.batch_no = 2`;
  assert.deepEqual(rows, [{ occurred: true, ingested: true, source: true }]);
});

test("costs add up exactly beyond 64 bits, in one fold and over several", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await using worker = openWorker(database);
  const dearest = Array.from({ length: 1500 }, () =>
    testEvent({ costNano: 9_007_199_000_000_000 }),
  );
  await commitTestBatch(database, lane, dearest);
  await foldAll(worker);
  await commitTestBatch(database, lane, [...dearest, testEvent({ costNano: -1 })]);
  await foldAll(worker);
  await assertRollupsEqualRaw(database, "usage");
  const [row] = await database.sql<{ cost: string }>`
    select cost_nano::text as cost from rollup_org_day where org_id = 0`;
  assert.equal(row?.cost, (9_007_199_000_000_000n * 3000n - 1n).toString());
});
