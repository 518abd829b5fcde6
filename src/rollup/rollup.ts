import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Consumer } from "#contract";
import { type Clock, type Crash, type Logger, sleepMs } from "#kernel";
import { classifyError, type Database } from "#store";
import {
  FoldLeaseLost,
  type FoldResult,
  FoldWorker,
  ROLLUP_DEFAULTS,
  type RollupSettings,
} from "./fold-worker.ts";

/** How often a process without the lease asks for it: within this of its end another takes over. */
const STANDBY_POLL_MS = 1000;
const BACK_OFF_MS = 250;
const BACK_OFF_MS_MAX = 15_000;
/** Errors that time alone will not mend are tried again too: somebody may mend the data. */
const STOPPED_MS = 10_000;

export type RollupDeps = {
  database: Database;
  clock: Clock;
  logger: Logger;
  registry: Registry;
  crash: Crash;
  /** 0 ≤ random() < 1: spreads retries, and names this process. */
  random: () => number;
  settings?: Partial<RollupSettings>;
};

/** What a consumer is doing: folding, waiting for its lease, trying again, or stopped by data that do not add up. */
export type ConsumerState = "starting" | "leading" | "standby" | "retrying" | "stopped";

export type ConsumerStats = {
  state: ConsumerState;
  /** Seconds that answers were behind when this process last folded, plus those since; null before that. */
  lagSeconds: number | null;
  eventsFolded: number;
  /** Milliseconds of the last fold that had events; null before it. */
  lastFoldMs: number | null;
  /** Message of the error that holds folding up; null while it works. */
  lastError: string | null;
};

/** The running rollup. Disposing it finishes the running folds and gives the leases back. */
export type Rollup = AsyncDisposable & {
  /** Folds a consumer once, now, between the folds it does by itself. Throws what stopped it. */
  foldOnce(consumer: Consumer): Promise<FoldResult>;
  stats(): Record<Consumer, ConsumerStats>;
};

/**
 * Starts folding committed batches into rollups: one loop per consumer, each under its own lease, so that of several
 * processes one folds and the others wait. It never ends by itself; errors are logged once per change of state.
 */
export async function startRollup(deps: RollupDeps): Promise<Rollup> {
  const settings = { ...ROLLUP_DEFAULTS, ...deps.settings };
  const owner = `rollup-${Math.floor(deps.random() * 2 ** 48).toString(16)}`;
  const loops: Partial<Record<Consumer, ConsumerLoop>> = {};
  const metrics = createMetrics(deps.registry, () => Object.values(loops));
  const start = (consumer: Consumer, intervalMs: number) =>
    (loops[consumer] = new ConsumerLoop(consumer, {
      ...deps,
      settings,
      owner,
      intervalMs,
      metrics,
    }));
  const usage = start("usage", settings.foldIntervalMs);
  const people = start("people", settings.peopleFoldIntervalMs);
  return {
    foldOnce: (consumer) => (consumer === "usage" ? usage : people).foldOnce(),
    stats: () => ({ usage: usage.stats(), people: people.stats() }),
    [Symbol.asyncDispose]: async () => {
      await Promise.all([usage[Symbol.asyncDispose](), people[Symbol.asyncDispose]()]);
    },
  };
}

type Metrics = { foldSeconds: Histogram<"consumer">; events: Counter<"consumer"> };

function createMetrics(registry: Registry, loops: () => ConsumerLoop[]): Metrics {
  const registers = [registry];
  const labelNames = ["consumer"] as const;
  new Gauge({
    name: "tallystick_rollup_lag_seconds",
    help: "How far behind now the instant lies up to which every answered event is counted.",
    labelNames,
    registers,
    collect() {
      for (const loop of loops()) {
        const { lagSeconds } = loop.stats();
        if (lagSeconds !== null) this.set({ consumer: loop.consumer }, lagSeconds);
      }
    },
  });
  return {
    foldSeconds: new Histogram({
      name: "tallystick_rollup_fold_seconds",
      help: "Duration of folds that had batches, read to committed.",
      labelNames,
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    events: new Counter({
      name: "tallystick_rollup_events_total",
      help: "Events folded into rollups by this process.",
      labelNames,
      registers,
    }),
  };
}

type LoopDeps = RollupDeps & {
  settings: RollupSettings;
  owner: string;
  intervalMs: number;
  metrics: Metrics;
};

/** Folds one consumer again and again until disposed. */
class ConsumerLoop implements AsyncDisposable {
  readonly consumer: Consumer;
  readonly #deps: LoopDeps;
  readonly #worker: FoldWorker;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #state: ConsumerState = "starting";
  #failures = 0;
  #eventsFolded = 0;
  #lastFoldMs: number | null = null;
  #lastError: string | null = null;
  #lag: { seconds: number; atMs: number } | null = null;

  constructor(consumer: Consumer, deps: LoopDeps) {
    this.consumer = consumer;
    this.#deps = deps;
    this.#worker = new FoldWorker(consumer, deps);
    this.#running = this.#run();
  }

  async foldOnce(): Promise<FoldResult> {
    const startedMs = this.#deps.clock.now();
    try {
      const result = await this.#worker.foldOnce();
      this.#succeeded(result, startedMs);
      return result;
    } catch (error) {
      this.#failed(error);
      throw error;
    }
  }

  stats(): ConsumerStats {
    const lag = this.#lag;
    return {
      state: this.#state,
      lagSeconds: lag && Math.max(0, lag.seconds + (this.#deps.clock.now() - lag.atMs) / 1000),
      eventsFolded: this.#eventsFolded,
      lastFoldMs: this.#lastFoldMs,
      lastError: this.#lastError,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#worker[Symbol.asyncDispose]();
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const waitMs = await this.foldOnce().then(
        (result) => this.#waitAfter(result),
        (error: unknown) => this.#backOff(error),
      );
      if (waitMs > 0) await this.#wait(waitMs);
    }
  }

  #waitAfter(result: FoldResult): number {
    if (result.state === "standby") return STANDBY_POLL_MS;
    return result.hasMore ? 0 : this.#deps.intervalMs;
  }

  #backOff(error: unknown): number {
    if (error instanceof FoldLeaseLost) return STANDBY_POLL_MS;
    if (this.#state === "stopped") return STOPPED_MS;
    const ceiling = Math.min(BACK_OFF_MS_MAX, BACK_OFF_MS * 2 ** Math.min(10, this.#failures));
    return ceiling * (0.5 + this.#deps.random() / 2);
  }

  /** Sleeps, keeping the lease; ends early when that fails (the next fold says why) or when stopped. */
  async #wait(waitMs: number): Promise<void> {
    const slice = this.#deps.settings.leaseMs / 3;
    try {
      for (let left = waitMs; left > 0; left -= slice) {
        await sleepMs(Math.min(left, slice), this.#stop.signal);
        if (left > slice) await this.#worker.keepLease();
      }
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#failed(error);
    }
  }

  #succeeded(result: FoldResult, startedMs: number): void {
    const { clock, metrics } = this.#deps;
    const { consumer } = this;
    const nowMs = clock.now();
    if (result.completeThroughUs !== null) {
      this.#lag = {
        seconds: (result.nowUs - result.completeThroughUs) / 1_000_000,
        atMs: startedMs,
      };
    }
    this.#failures = 0;
    this.#lastError = null;
    if (result.state === "folded") this.#enter("leading");
    else if (result.isLed) this.#enter("standby");
    if (result.state === "folded" && result.batches > 0) {
      this.#lastFoldMs = nowMs - startedMs;
      this.#eventsFolded += result.events;
      metrics.foldSeconds.observe({ consumer }, this.#lastFoldMs / 1000);
      metrics.events.inc({ consumer }, result.events);
    }
  }

  #failed(error: unknown): void {
    this.#failures++;
    this.#lastError = error instanceof Error ? error.message : String(error);
    // Who has it now, if anybody, the next attempt finds out: a re-rating only interrupts.
    if (error instanceof FoldLeaseLost) return;
    this.#enter(classifyError(error) === "retry" ? "retrying" : "stopped", error);
  }

  /** One line of log per change of state. */
  #enter(state: ConsumerState, error?: unknown): void {
    if (state === this.#state) return;
    this.#state = state;
    const { consumer } = this;
    const { logger } = this.#deps;
    if (state === "stopped") logger.error({ consumer, err: error }, "Folding stopped");
    else if (state === "retrying") logger.warn({ consumer, err: error }, "Folding is tried again");
    else if (state === "standby") logger.info({ consumer }, "Folding is done by another process");
    else logger.info({ consumer }, "Folding");
  }
}
