import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { fixedClock, testDatabase } from "#harness";
import { createLogger } from "#kernel";
import {
  copyKeys,
  type Database,
  KeyRows,
  listKeyPartitions,
  lockForBatch,
  openFirstKeyPartition,
  rotateKeyPartition,
  table,
  type Tx,
} from "#store";
import { KeyLedger } from "./key-ledger.ts";

type Key = readonly [number, number, number, number];

const SETTINGS = { partitionKeysMax: 1_000_000, windowHours: 48, futureToleranceMs: 0 };
const NOW = "2026-11-20T12:00:00Z";

async function openLedger(database: Database, log: string[] = []): Promise<KeyLedger> {
  const logger = createLogger("info", { write: (line) => void log.push(line) });
  return await KeyLedger.open(database, SETTINGS, { clock: fixedClock(NOW), logger });
}

const someKeys = (count: number): Key[] =>
  Array.from({ length: count }, () => {
    const bytes = randomBytes(16);
    return [
      bytes.readUInt32BE(0),
      bytes.readUInt32BE(4),
      bytes.readUInt32BE(8),
      bytes.readUInt32BE(12),
    ];
  });

/** What a batch's transaction knows of the partitions. */
async function lookAtPartitions(database: Database) {
  const numbers = (await listKeyPartitions(database.sql)).map(({ no }) => no);
  return { openKeyPartition: Math.max(...numbers), oldestKeyPartition: Math.min(...numbers) };
}

/** Commits keys as a batch does; `isNoted` false: its answer was lost. */
async function claim(
  database: Database,
  ledger: KeyLedger,
  keys: readonly Key[],
  { isNoted = true, beforeCommit }: { isNoted?: boolean; beforeCommit?: (tx: Tx) => void } = {},
): Promise<void> {
  const note = await database.transaction(async (tx) => {
    await lockForBatch(tx);
    const lane = await lookAtPartitions(database);
    const noteCommitted = ledger.remember(lane, keys);
    const rows = new KeyRows(keys.length * 42);
    for (const key of keys) rows.add(key, [1, 2], 1);
    await copyKeys(tx, lane.openKeyPartition, rows);
    beforeCommit?.(tx);
    return noteCommitted;
  });
  if (isNoted) note();
}

async function countKnown(
  database: Database,
  ledger: KeyLedger,
  keys: readonly Key[],
): Promise<number> {
  const lane = await lookAtPartitions(database);
  const occurredAtUs = Date.parse(NOW) * 1000;
  const questions = keys.map((key) => ({ key, occurredAtUs }));
  return (await database.transaction((tx) => ledger.listKnown(tx, lane, questions))).length;
}

const KEPT = /key filter kept/;

test("filters that are being built while the partitions are looked at again are the ones that are asked", async () => {
  await using db = await testDatabase();
  const { database } = db;
  await openFirstKeyPartition(database);
  for (const no of [1, 2, 3]) {
    await database.sql`
      insert into ${table(`event_key_${no}`)} (key, content_hash, org_id)
      select gen_random_uuid(), n, 1 from generate_series(1, 20000) as n`;
    await rotateKeyPartition(database, no);
  }
  await using ledger = await openLedger(database);
  const built = ledger.filtersBuilt;
  assert.equal(ledger.unfiltered, 4);
  await ledger.maintain();
  await built;
  assert.equal(ledger.unfiltered, 0);
});

test("a partition that one process filled keeps its filter when it is closed, also after a restart and a failed batch", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const log: string[] = [];
  const keys = someKeys(300);
  {
    await using ledger = await openLedger(database);
    await claim(database, ledger, keys.slice(0, 100));
  }
  await using ledger = await openLedger(database, log);
  // One batch may come while the filter is being built, and one fails.
  await claim(database, ledger, keys.slice(100, 200));
  await ledger.filtersBuilt;
  const failed = claim(database, ledger, someKeys(50), {
    beforeCommit: () => {
      throw new Error("no");
    },
  });
  await assert.rejects(failed, /no/);
  await claim(database, ledger, keys.slice(200));
  await rotateKeyPartition(database, 1);
  await ledger.maintain();
  await ledger.filtersBuilt;
  assert.equal(log.filter((line) => KEPT.test(line)).length, 1);
  assert.equal(ledger.unfiltered, 0);
  assert.equal(await countKnown(database, ledger, keys), 300);
  assert.equal(await countKnown(database, ledger, someKeys(300)), 0);
});

test("a filter that lacks keys of another process, or of a commit whose answer was lost, is not kept, and every key is found", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const log: string[] = [];
  const keys = someKeys(300);
  await using ours = await openLedger(database, log);
  await using theirs = await openLedger(database, log);
  await Promise.all([ours.filtersBuilt, theirs.filtersBuilt]);
  await claim(database, ours, keys.slice(0, 150));
  await claim(database, theirs, keys.slice(150));
  await rotateKeyPartition(database, 1);
  for (const ledger of [ours, theirs]) {
    await ledger.maintain();
    await ledger.filtersBuilt;
    assert.equal(await countKnown(database, ledger, keys), 300);
  }
  const more = someKeys(10);
  await claim(database, ours, more, { isNoted: false });
  await rotateKeyPartition(database, 2);
  await ours.maintain();
  await ours.filtersBuilt;
  assert.equal(await countKnown(database, ours, [...keys, ...more]), 310);
  assert.deepEqual(
    log.filter((line) => KEPT.test(line)),
    [],
  );
});
