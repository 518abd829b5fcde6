import assert from "node:assert/strict";
import { test } from "node:test";
import { fixedClock, testDatabase } from "#harness";
import { silentLogger } from "#kernel";
import { openFirstKeyPartition, rotateKeyPartition, table } from "#store";
import { KeyLedger } from "./key-ledger.ts";

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
  await using ledger = await KeyLedger.open(
    database,
    { partitionKeysMax: 1_000_000, windowHours: 48, futureToleranceMs: 0 },
    { clock: fixedClock("2026-11-20T12:00:00Z"), logger: silentLogger },
  );
  const built = ledger.filtersBuilt;
  assert.equal(ledger.unfiltered, 4);
  await ledger.maintain();
  await built;
  assert.equal(ledger.unfiltered, 0);
});
