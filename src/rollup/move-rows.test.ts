import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Consumer, packCurrency } from "#contract";
import { testDatabase } from "#harness";
import { neverCrash, systemClock } from "#kernel";
import { type Database, interruptFolds, prepareFoldSession, readRawRows, type Tx } from "#store";
import { commitTestBatch, openLane, type TestEvent, testEvent } from "./committed-batches.ts";
import { FoldLeaseLost, FoldWorker, ROLLUP_DEFAULTS } from "./fold-worker.ts";
import { moveRows } from "./move-rows.ts";
import { assertLedgerEqualsRaw, assertRollupsEqualRaw } from "./rollup-oracle.ts";
import { SystemMembers } from "./system-members.ts";

const CONSUMERS = ["usage", "people"] as const;
const HOUR_US = 3_600_000_000;
/** So late that folds remember the sketches of the hours before it. */
const NEWEST_US = Math.floor((systemClock.now() * 1000) / HOUR_US) * HOUR_US;

const openWorker = (database: Database, consumer: Consumer): FoldWorker =>
  new FoldWorker(consumer, {
    database,
    clock: systemClock,
    crash: neverCrash,
    settings: ROLLUP_DEFAULTS,
    owner: `worker of ${consumer}`,
  });

/** Folds all there is; a worker whose lease was ended learns so first, and forgets the sketches it remembers. */
async function foldAll(worker: FoldWorker): Promise<void> {
  for (;;) {
    const result = await worker.foldOnce().catch((error: unknown) => {
      if (!(error instanceof FoldLeaseLost)) throw error;
      return undefined;
    });
    if (result?.state === "folded" && !result.hasMore) return;
  }
}

/** What a consumer has folded so far, as raw has it now. */
async function* readFolded(tx: Tx, consumer: Consumer): AsyncGenerator<Buffer> {
  const batches = await tx.sql<{ batchId: number }>`
    select b.batch_id as "batchId"
      from ingestion_batches b
      join watermark w on w.lane_id = b.lane_id and w.batch_no >= b.batch_no and w.consumer = ${consumer}`;
  const batchIds = batches.map(({ batchId }) => batchId);
  const range = { batchIds, minUs: NEWEST_US - 24 * HOUR_US, maxUs: NEWEST_US };
  yield* readRawRows(tx, consumer, range);
}

/** Changes ratings in raw by a statement, and moves what is folded of them in the rollups of both consumers. */
async function rateAnew(database: Database, statement: string): Promise<void> {
  await using session = await database.openSession();
  await session.transaction(async (tx) => {
    for (const consumer of CONSUMERS) await prepareFoldSession(tx, consumer);
  });
  await session.transaction(async (tx) => {
    await interruptFolds(tx.sql);
    await moveRows(tx, {
      read: (consumer) => readFolded(tx, consumer),
      change: async () => void (await tx.exec(statement)),
      members: new SystemMembers(),
    });
  });
}

/** Every event anew: unpriced, or in one of two currencies, as its key, the salt and its size say. */
const byKey = (salt: number): string => `
  update usage_event e
     set rated_nano = case when pick > 0 then input_tokens::int8 * ${salt + 1} + pick end,
         rated_currency = case pick when 1 then ${packCurrency("USD")} when 2 then ${packCurrency("EUR")} end
    from (select event_key, abs(hashtext(event_key::text) + ${salt}) % 3 as pick from usage_event) as p
   where p.event_key = e.event_key`;

const count = fc.nat(5000);
const anyEvent: fc.Arbitrary<TestEvent> = fc.record({
  org: fc.constantFrom("acme", "globex"),
  model: fc.constantFrom("small", "large"),
  client: fc.option(fc.constantFrom("web", "batch")),
  actor: fc.option(fc.constantFrom("ann", "bob")),
  errorCode: fc.option(fc.constant("429")),
  source: fc.constant("http"),
  occurredAtUs: fc.nat(10).map((quarters) => NEWEST_US - quarters * (HOUR_US / 4)),
  outcome: fc.constantFrom(0, 0, 0, 3),
  currency: fc.constantFrom("USD", "EUR"),
  requests: fc.constantFrom(1, 1, 7),
  tokens: fc.tuple(count, count, count, count, count, count),
  latencyMs: fc.option(fc.oneof(fc.nat(300), fc.nat(2 ** 31 - 1))),
  costNano: fc.option(fc.integer({ min: -1000, max: 10 ** 9 })),
  rated: fc.option(fc.record({ nano: fc.nat(10 ** 9), currency: fc.constantFrom("USD", "EUR") })),
  tags: fc.subarray(["team=search", "team=ads", "region=eu"]),
});
const history = fc.array(
  fc.record({
    lane: fc.nat(1),
    events: fc.array(anyEvent, { maxLength: 40 }),
    folds: fc.subarray([...CONSUMERS]),
    salt: fc.option(fc.nat(100)),
  }),
  { minLength: 1, maxLength: 6 },
);

test("rollups equal raw after any sequence of events, folds and changed ratings", async () => {
  await fc.assert(
    fc.asyncProperty(history, fc.nat(100), async (steps, lastSalt) => {
      await using db = await testDatabase();
      const { database } = db;
      const lanes = [await openLane(database), await openLane(database)];
      await using usage = openWorker(database, "usage");
      await using people = openWorker(database, "people");
      for (const { lane, events, folds, salt } of steps) {
        const taken = lanes[lane];
        assert.ok(taken);
        await commitTestBatch(database, taken, events);
        if (folds.includes("usage")) await foldAll(usage);
        if (folds.includes("people")) await foldAll(people);
        if (salt !== null) await rateAnew(database, byKey(salt));
      }
      for (const worker of [usage, people]) await foldAll(worker);
      for (const consumer of CONSUMERS) await assertRollupsEqualRaw(database, consumer);
      await rateAnew(database, byKey(lastSalt));
      for (const consumer of CONSUMERS) await assertRollupsEqualRaw(database, consumer);
      await assertLedgerEqualsRaw(database);
    }),
    { numRuns: 8, endOnFailure: true },
  );
});

const USD = { nano: 7000, currency: "USD" };
const UNPRICED = "update usage_event set rated_nano = null, rated_currency = null";

/** A database with events that are folded by both consumers. */
async function foldedDatabase(events: readonly TestEvent[]) {
  const db = await testDatabase();
  await commitTestBatch(db.database, await openLane(db.database), events);
  for (const consumer of CONSUMERS) {
    await using worker = openWorker(db.database, consumer);
    await foldAll(worker);
  }
  return db;
}

test("a row that a move leaves with nothing is deleted, and errors and freshness stay as they are", async () => {
  const event = testEvent({ occurredAtUs: NEWEST_US, outcome: 3, errorCode: "429", rated: USD });
  await using db = await foldedDatabase([event, { ...event, latencyMs: null }]);
  const { database } = db;
  const facts = () => database.sql`
    select r.requests, d.requests as "ofDay", f.last_ingested_at::text, l.accepted, l.updated_at::text, s.last_ingested_at::text as source
      from rollup_error_15m r, rollup_error_day d, freshness f, ledger l, source_freshness s`;
  const before = await facts();
  assert.ok(before.length > 0);
  await rateAnew(database, UNPRICED);
  const rows = await database.sql`
    select rating, rated_nano::text as "ratedNano", requests from rollup_model_hour where org_id = 0`;
  assert.deepEqual(rows, [{ rating: 0, ratedNano: "0", requests: 2 }]);
  assert.deepEqual(await facts(), before);
  for (const consumer of CONSUMERS) await assertRollupsEqualRaw(database, consumer);
});

test("a new amount in the same currency changes nothing but that amount", async () => {
  await using db = await foldedDatabase([testEvent({ occurredAtUs: NEWEST_US, rated: USD })]);
  const { database } = db;
  await rateAnew(database, "update usage_event set rated_nano = 2");
  const rows = await database.sql`
    select rated_nano::text as "ratedNano", requests, latency_count as latencies from rollup_actor_day`;
  assert.deepEqual(rows, [{ ratedNano: "2", requests: 1, latencies: 1 }]);
  for (const consumer of CONSUMERS) await assertRollupsEqualRaw(database, consumer);
});

test("ratings that change places take their latencies with them, as many and as long in sum as they may be", async () => {
  const swapped = [
    ["USD", 5],
    ["USD", 5],
    ["EUR", 4],
    ["EUR", 6],
  ] as const;
  await using db = await foldedDatabase(
    swapped.map(([currency, latencyMs]) =>
      testEvent({ occurredAtUs: NEWEST_US, latencyMs, rated: { nano: 7000, currency } }),
    ),
  );
  const { database } = db;
  const [usd, eur] = [packCurrency("USD"), packCurrency("EUR")];
  await rateAnew(
    database,
    `update usage_event set rated_currency = case rated_currency when ${usd} then ${eur} else ${usd} end`,
  );
  for (const consumer of CONSUMERS) await assertRollupsEqualRaw(database, consumer);
});

for (const [name, statement, latencyMs] of [
  ["a count", "update rollup_client_day set output_tokens = output_tokens - 1", null],
  ["all of a row", "delete from rollup_client_day", null],
  ["a latency", "update rollup_client_day set latency_sketch = '\\x0001'", 900],
] as const) {
  test(`a move that takes what a row has lost, ${name}, is refused as a whole`, async () => {
    const event = testEvent({ occurredAtUs: NEWEST_US, rated: USD, latencyMs });
    await using db = await foldedDatabase([event, event]);
    const { database } = db;
    await database.transaction((tx) => tx.exec(statement));
    await assert.rejects(rateAnew(database, UNPRICED), RangeError);
    const rows =
      await database.sql`select requests, rating <> 0 as "isRated" from rollup_org_15m where org_id = 0`;
    assert.deepEqual(rows, [{ requests: 2, isRated: true }]);
  });
}
