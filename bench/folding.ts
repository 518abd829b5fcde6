import { Registry } from "prom-client";
import type { Consumer } from "#contract";
import { neverCrash, silentLogger, sleepMs, systemClock } from "#kernel";
import { type Rollup, startRollup } from "#rollup";
import type { Database } from "#store";
import { startChild } from "./child.ts";

/** A running rollup, here or in another process. */
export type Folding = AsyncDisposable & {
  /** Folds now, without waiting for the interval, until every committed event is in every rollup. */
  foldAll(): Promise<void>;
  /** CPU time of the rollup's own process, µs; null when it has none. */
  readCpuUs(): Promise<number | null>;
};

/** Starts the rollup in this process, at its usual intervals. */
export async function startFolding(database: Database): Promise<Folding> {
  const rollup = await startRollup({
    database,
    clock: systemClock,
    logger: silentLogger,
    registry: new Registry(),
    crash: neverCrash,
    random: Math.random,
  });
  return {
    foldAll: async () => {
      await Promise.all([foldUp(rollup, "usage"), foldUp(rollup, "people")]);
    },
    readCpuUs: async () => null,
    [Symbol.asyncDispose]: () => rollup[Symbol.asyncDispose](),
  };
}

/** Starts the rollup as a process of its own on the database at `url`. */
export async function startFoldProcess(url: string): Promise<Folding> {
  const child = await startChild(new URL("./fold-child.ts", import.meta.url), [url]);
  return {
    foldAll: async () => void (await child.ask("foldAll")),
    readCpuUs: async () => (await child.ask("readCpu"))["cpuUs"] ?? null,
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

const STANDBY_MS = 50;

async function foldUp(rollup: Rollup, consumer: Consumer): Promise<void> {
  for (;;) {
    const result = await rollup.foldOnce(consumer);
    // Nothing left, as seen by a fold that began after the call.
    if (result.state === "folded" && result.batches === 0 && !result.hasMore) return;
    if (result.state === "standby") await sleepMs(STANDBY_MS);
  }
}
