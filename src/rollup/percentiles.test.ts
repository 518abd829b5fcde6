import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LatencySketch } from "#contract";
import { testDatabase } from "#harness";
import { neverCrash, systemClock } from "#kernel";
import { commitTestBatch, openLane, testEvent } from "./committed-batches.ts";
import { FoldWorker, ROLLUP_DEFAULTS } from "./fold-worker.ts";

const NOON_US = Date.parse("2026-11-20T12:00:00Z") * 1000;
const SHARES = [0.5, 0.9, 0.95, 0.99];

const latency = fc.oneof(fc.nat(300), fc.nat(60_000), fc.nat(2 ** 31 - 1));
const batches = fc.array(fc.array(fc.tuple(latency, fc.nat(71)), { minLength: 1, maxLength: 60 }), {
  minLength: 1,
  maxLength: 4,
});

test("percentiles of merged rollup sketches are within 1 % of percentile_disc over raw, from every grain", async () => {
  await fc.assert(
    fc.asyncProperty(batches, async (history) => {
      await using db = await testDatabase();
      const { database } = db;
      const lane = await openLane(database);
      await using worker = new FoldWorker("usage", {
        database,
        clock: systemClock,
        crash: neverCrash,
        settings: ROLLUP_DEFAULTS,
        owner: "test",
      });
      for (const batch of history) {
        const events = batch.map(([latencyMs, hoursAgo], i) =>
          testEvent({
            latencyMs,
            model: `m${i % 3}`,
            occurredAtUs: NOON_US - hoursAgo * 3_600_000_000,
          }),
        );
        await commitTestBatch(database, lane, events);
        await worker.foldOnce();
      }
      const [raw] = await database.sql<{ exact: number[] }>`
        select percentile_disc(${SHARES}::float8[]) within group (order by latency_ms) as exact from usage_event`;
      const stored = await Promise.all([
        database.sql<{
          sketch: Buffer;
        }>`select latency_sketch as sketch from rollup_model_15m where org_id > 0`,
        database.sql<{
          sketch: Buffer;
        }>`select latency_sketch as sketch from rollup_model_hour where org_id = 0`,
        database.sql<{
          sketch: Buffer;
        }>`select latency_sketch as sketch from rollup_org_day where org_id > 0`,
      ]);
      for (const rows of stored) {
        const merged = new LatencySketch();
        for (const { sketch } of rows) merged.mergeEncoded(sketch);
        SHARES.forEach((share, i) => {
          const exact = raw?.exact[i] ?? Number.NaN;
          const answer = merged.quantile(share) ?? Number.NaN;
          assert.ok(
            Math.abs(answer - exact) * 100 <= exact,
            `p${share * 100}: ${answer}, exactly ${exact}`,
          );
        });
      }
    }),
    // Each step of shrinking would be a database of its own: the seed and the first counterexample are enough.
    { numRuns: 8, endOnFailure: true },
  );
});
