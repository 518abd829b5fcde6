import assert from "node:assert/strict";
import { test } from "node:test";
import { testDatabase } from "#harness";
import { neverCrash, silentLogger, systemClock } from "#kernel";
import type { Database, Lane } from "#store";
import { commitTestBatch, openLane, type TestEvent, testEvent } from "./committed-batches.ts";
import { FoldWorker, ROLLUP_DEFAULTS } from "./fold-worker.ts";
import { type Retention, startRetention } from "./retention.ts";
import { verify } from "./verify.ts";

const DAY_MS = 86_400_000;
const TODAY = Math.floor(Date.now() / DAY_MS);
const isoDay = (daysAgo: number): string =>
  new Date((TODAY - daysAgo) * DAY_MS).toISOString().slice(0, 10);
const eventOf = (daysAgo: number, overrides: Partial<TestEvent> = {}): TestEvent =>
  testEvent({
    occurredAtUs: ((TODAY - daysAgo) * DAY_MS + 5 * 3_600_000) * 1000,
    tags: ["team=search"],
    ...overrides,
  });

const open = (database: Database): Retention =>
  startRetention({
    database,
    logger: silentLogger,
    settings: {
      rawRetentionDays: 30,
      rollup15mRetentionDays: 40,
      rollupRetentionMonths: 13,
      quarantineRetentionDays: 30,
      intervalMs: 3_600_000,
    },
  });

async function fold(database: Database): Promise<void> {
  for (const consumer of ["usage", "people"] as const) {
    await using worker = new FoldWorker(consumer, {
      database,
      clock: systemClock,
      crash: neverCrash,
      settings: ROLLUP_DEFAULTS,
      owner: "test",
    });
    await worker.foldOnce();
  }
}

/** Commits events, folded, as if it had happened so many days ago: their keys have left the window meanwhile. */
async function commitLongAgo(
  database: Database,
  lane: Lane,
  events: readonly TestEvent[],
  daysAgo: number,
): Promise<void> {
  await commitTestBatch(database, lane, events);
  await fold(database);
  await database.sql`
    update ingestion_batches set committed_at = now() - make_interval(days => ${daysAgo}) where batch_no = ${lane.batchNo}`;
  await database.sql`
    update ledger set updated_at = now() - make_interval(days => ${daysAgo}) where updated_at > now() - interval '1 hour'`;
  await database.sql`truncate event_key_1`;
  await database.sql`update installation set dedup_floor = now() - interval '2 days'`;
}

const rowsOf = async (database: Database, text: string): Promise<number> => {
  const result = await database.transaction((tx) =>
    tx.exec(`select count(*)::int4 as rows from ${text}`),
  );
  return result.rows[0].rows;
};

async function assertVerified(database: Database): Promise<void> {
  assert.deepEqual((await verify({ database, clock: systemClock })).differences, []);
}

test("raw days older than the retention go, unless their newest batch is younger or not folded", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitLongAgo(database, lane, [eventOf(35)], 34);
  await commitLongAgo(database, lane, [eventOf(29)], 29);
  await commitLongAgo(database, lane, [eventOf(400)], 5);
  await commitTestBatch(database, lane, [eventOf(36)]);
  await using retention = open(database);

  const dry = await retention.run({ isDryRun: true });
  assert.deepEqual(dry.rawDays, [isoDay(35)]);
  assert.equal(await rowsOf(database, "usage_event"), 4);
  const first = await retention.run();
  assert.deepEqual({ ...first, isDryRun: true }, dry);
  assert.equal(await rowsOf(database, "usage_event"), 3);
  await fold(database);
  assert.deepEqual((await retention.run()).rawDays, []);
  await assertVerified(database);

  // What was loaded late goes when that long has passed since then.
  await database.sql`truncate event_key_1`;
  await database.sql`
    update ingestion_batches set committed_at = now() - interval '31 days' where committed_at > now() - interval '10 days'`;
  assert.deepEqual((await retention.run()).rawDays, [isoDay(400), isoDay(36)]);
  await assertVerified(database);
});

test("old 15-minute rows go but for orgs whose zone is not on the hour, and late events are still counted exactly", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const failed = eventOf(45, { outcome: 3, errorCode: "429" });
  const lane = await openLane(database);
  await commitLongAgo(database, lane, [failed, { ...failed, org: "kolkata" }, eventOf(39)], 44);
  await database.sql`update org set time_zone = 'Asia/Kolkata' where external_id = 'kolkata'`;
  await using retention = open(database);
  assert.deepEqual((await retention.run()).rollup15mDays, [isoDay(45)]);

  const old = `b join org o on o.id = b.org_id where b.bucket < now() - interval '41 days'`;
  assert.equal(await rowsOf(database, `rollup_model_15m ${old} and o.external_id = 'kolkata'`), 1);
  assert.equal(await rowsOf(database, `rollup_model_15m ${old} and o.external_id <> 'kolkata'`), 0);
  assert.equal(await rowsOf(database, `rollup_model_hour ${old}`), 3);
  assert.equal(await rowsOf(database, `rollup_tag_15m ${old} and o.external_id <> 'kolkata'`), 0);
  assert.equal(await rowsOf(database, `rollup_tag_hour ${old}`), 2);
  // Hours have no error codes of their own: windows cut at them are answered from these.
  assert.equal(await rowsOf(database, `rollup_error_15m ${old}`), 3);
  await assertVerified(database);
  assert.deepEqual((await retention.run()).rollup15mDays, []);

  await commitTestBatch(database, lane, [
    { ...failed, latencyMs: 9 },
    eventOf(45, { org: "kolkata" }),
    eventOf(45, { org: "new" }),
  ]);
  await fold(database);
  assert.equal(await rowsOf(database, `rollup_model_15m ${old} and o.external_id = 'acme'`), 0);
  const [day] = await database.sql<{ requests: number }>`
    select sum(requests)::int4 as requests from rollup_org_day where org_id = 0 and bucket < now() - interval '41 days'`;
  assert.equal(day?.requests, 5);
  const errors = await database.sql<{ requests: number }>`
    select requests from rollup_error_day where bucket < now() - interval '41 days' order by requests`;
  assert.deepEqual(
    errors.map(({ requests }) => requests),
    [1, 2, 3],
  );
  await assertVerified(database);
});

test("after thirteen months nothing of a day is left, and history loaded into it again starts from nothing", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  const failed = eventOf(500, { outcome: 3, errorCode: "429" });
  const ancient = [failed, eventOf(500)];
  await commitLongAgo(database, lane, ancient, 450);
  await commitLongAgo(database, lane, [eventOf(480)], 100);
  await database.sql`update ingestion_batches set committed_at = now() - interval '100 days'`;
  await using retention = open(database);
  const report = await retention.run();
  assert.deepEqual(report.rawDays, [isoDay(500), isoDay(480)]);
  assert.deepEqual(report.rollupDays, [isoDay(500)]);
  for (const table of [
    "rollup_org_day",
    "rollup_model_hour",
    "rollup_client_15m",
    "rollup_tag_15m",
    "rollup_tag_day",
    "rollup_error_15m",
    "rollup_error_day",
  ]) {
    assert.equal(await rowsOf(database, `${table} where bucket < '${isoDay(490)}'`), 0, table);
  }
  assert.equal(await rowsOf(database, `ledger where hour < '${isoDay(490)}'`), 0);
  const notes = await database.sql<{ what: string; org: number }>`
    select what, org_id as org from purged where day < ${isoDay(490)}`;
  assert.deepEqual(notes, [{ what: "all", org: 0 }]);
  await assertVerified(database);

  await commitTestBatch(database, lane, [failed]);
  await fold(database);
  const [day] = await database.sql<{ requests: number }>`
    select sum(requests)::int4 as requests from rollup_org_day where org_id = 0 and bucket < ${isoDay(490)}`;
  assert.equal(day?.requests, 1);
  await assertVerified(database);

  await database.sql`update ingestion_batches set committed_at = now() - interval '14 months'`;
  await database.sql`update ledger set updated_at = now() - interval '14 months'`;
  await database.sql`truncate event_key_1`;
  assert.deepEqual((await retention.run()).rollupDays, [isoDay(500), isoDay(480)]);
  assert.equal(await rowsOf(database, `purged where what = 'all'`), 2);
  assert.equal(await rowsOf(database, "purged"), 2);
});

test("batches go after their events, once folded, in lane order; each lane keeps its last", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  for (let i = 0; i < 3; i++) await commitLongAgo(database, lane, [eventOf(34)], 32);
  await commitTestBatch(database, lane, [eventOf(34)]);
  await commitTestBatch(database, lane, [eventOf(34)]);
  await database.sql`truncate event_key_1`;
  await database.sql`update ingestion_batches set committed_at = now() - interval '33 days'`;
  await using retention = open(database);
  assert.equal((await retention.run({ isDryRun: true })).batches, 3);
  assert.equal((await retention.run()).batches, 3);
  await fold(database);
  assert.equal((await retention.run()).batches, 1);
  const left = await database.sql<{
    batchNo: number;
  }>`select batch_no as "batchNo" from ingestion_batches`;
  assert.deepEqual(left, [{ batchNo: 5 }]);
  await assertVerified(database);
});

test("refused events are kept for their time and no longer", async () => {
  await using db = await testDatabase();
  const { database } = db;
  for (const days of [29, 31, 400]) {
    await database.sql`
      insert into quarantine (org_id, source_id, batch_id, received_at, code, pointer, detail, bytes)
      values (0, 1, 1, now() - make_interval(days => ${days}), 'invalid_json', '', '', '')`;
  }
  await using retention = open(database);
  assert.equal((await retention.run({ isDryRun: true })).quarantineRows, 2);
  assert.equal((await retention.run()).quarantineRows, 2);
  assert.equal(await rowsOf(database, "quarantine"), 1);
});

test("a day that somebody reads is left for the next run", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitLongAgo(database, lane, [eventOf(35)], 34);
  await using retention = open(database);
  await database.transaction(async (tx) => {
    await tx.sql`select count(*) from usage_event`;
    assert.deepEqual((await retention.run()).rawDays, []);
  });
  assert.deepEqual((await retention.run()).rawDays, [isoDay(35)]);
});
