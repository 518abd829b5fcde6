import assert from "node:assert/strict";
import { Registry } from "prom-client";
import { type Consumer, CONSUMER_NAMES, parseUsageEvents } from "#contract";
import { anEvent, fixedClock, testDatabase, toNdjson, testIngestSettings } from "#harness";
import { type Ingestor, openIngestor } from "#ingest";
import { neverCrash, silentLogger } from "#kernel";
import { type Rollup, startRollup, verify } from "#rollup";
import type { Database } from "#store";
import { type ReratingWorker, startReratingWorker } from "./rerating-worker.ts";

/** When it is in these tests. */
export const clock = fixedClock("2026-11-20T14:00:00Z");
/** Who does it in these tests, and when. */
export const DID = {
  actor: "key-1",
  actorName: "Grace",
  requestId: "request-1",
  at: new Date("2026-11-20T14:00:00Z"),
};
/** Makes the book what this YAML says. */
export { applyTestPrices as apply } from "#harness";

/** A service in pieces, for tests of what rates its events. */
export type Bench = AsyncDisposable & {
  database: Database;
  ingestor: Ingestor;
  worker: ReratingWorker;
  send(events: readonly Record<string, unknown>[]): Promise<void>;
  fold(): Promise<void>;
};

/** Real ingest, folds that run when they are told to, and a worker whose steps are taken by hand. */
export async function openBench(): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const { database } = stack.use(await testDatabase());
  const common = { database, clock, logger: silentLogger, registry: new Registry() };
  const ingestor = stack.use(
    await openIngestor({
      ...common,
      crash: neverCrash,
      random: () => 0.5,
      settings: { ...testIngestSettings, lanes: 1 },
    }),
  );
  const rollup: Rollup = stack.use(
    await startRollup({
      ...common,
      crash: neverCrash,
      random: () => 0.5,
      settings: { foldIntervalMs: 3_600_000, peopleFoldIntervalMs: 3_600_000 },
    }),
  );
  const worker = stack.use(
    startReratingWorker({ ...common, crash: neverCrash, intervalMs: 3_600_000 }),
  );
  const owned = stack.move();
  return {
    database,
    ingestor,
    worker,
    send: async (events) => {
      const body = Buffer.from(toNdjson(events.map((event) => anEvent(event))));
      const items = parseUsageEvents(body, "ndjson", { eventsMax: 100_000 });
      const outcomes = await ingestor.ingest(items, {
        source: "http",
        backfill: false,
        writesFor: "any",
        correlationId: "test",
      });
      for (const { status } of outcomes) assert.equal(status, "accepted");
    },
    fold: async () => {
      for (const consumer of CONSUMER_NAMES) await foldAll(rollup, consumer);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Folds all that is committed. A fold that a step has interrupted takes its lease anew with the next. */
async function foldAll(rollup: Rollup, consumer: Consumer): Promise<void> {
  for (let tries = 0; tries < 10_000; tries++) {
    try {
      const result = await rollup.foldOnce(consumer);
      if (result.state === "folded" && !result.hasMore) return;
    } catch (error) {
      if (!/the lease of \w+ was lost/.test(String(error))) throw error;
    }
  }
  assert.fail("no end of folding");
}

/** Takes steps until nothing is left to do; what is not folded is folded meanwhile. */
export async function work({ worker, fold }: Bench): Promise<number> {
  let steps = 0;
  for (let result = await worker.step(); result !== "idle"; result = await worker.step()) {
    assert.notEqual(result, "failed");
    if (result === "waiting") await fold();
    assert.ok(++steps < 1000, "no end of it");
  }
  return steps;
}

/** Folds what is left, and finds that raw and rollups agree. */
export async function assertVerified({ database, fold }: Bench): Promise<void> {
  await fold();
  const report = await verify({ database, clock });
  assert.deepEqual(report.differences, []);
  assert.ok(report.checks.length > 5);
}
