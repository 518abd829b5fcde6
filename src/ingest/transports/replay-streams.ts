import type { BrokerConnection } from "#broker";
import { readStreamEnds } from "#broker";
import type { IngestOutcome, ParsedItem } from "#contract";
import type { Clock } from "#kernel";
import { type Database, dayOfUs, listPurgedRawDays } from "#store";
import type { Ingestor } from "../ingestor.ts";
import type { WritableOrgs } from "../judge-org.ts";
import type { StreamBatch } from "./stream-batch.ts";
import { type RangeDeps, readStreamRange } from "./stream-range.ts";
import { offsetOf, type StreamStart } from "./stream-subscription.ts";

/** What to take in once more. */
export type ReplayRequest = {
  streams: readonly { stream: string; partition: number }[];
  /** Name in the source table under which the ledger has it. */
  source: string;
  /** In every stream; a time begins with the messages that were stored together with the first one after it. */
  from: StreamStart;
  /** Last offset, in every stream; left out: the last there is when the replay begins. */
  toOffset: number | undefined;
  /** Count events older than the raw retention, too, but for days whose events were deleted: those may be counted. */
  backfill: boolean;
};

/** How far one stream was replayed. Offsets are included; null: there was nothing to read. */
export type StreamReplay = {
  stream: string;
  /** Of the first message read. */
  fromOffset: number | null;
  /** Of the last message whose events are all taken in. */
  throughOffset: number | null;
  /** Up to which it was to be read. */
  toOffset: number | null;
};

/** What became of the events: events = accepted + duplicate + conflict + rejected. */
export type ReplayReport = Record<IngestOutcome["status"], number> & {
  source: string;
  events: number;
  /** Of the rejected, those that were only too old. */
  tooOld: number;
  streams: StreamReplay[];
  /** What was asked for and is no longer in the stream; offsets are included. */
  gaps: { stream: string; fromOffset: number; toOffset: number }[];
  isInterrupted: boolean;
  /** What ended it early, or null. */
  failure: unknown;
};

/** Offsets are counted, not messages: a few of them are records of the broker's own. */
export type ReplayProgress = {
  events: number;
  offsetsDone: number;
  offsets: number;
  /** The last one done. */
  lastOffset: number;
};

export type ReplayDeps = {
  connection: BrokerConnection;
  database: Database;
  ingestor: Ingestor;
  clock: Clock;
  createId: () => string;
  settings: RangeDeps["settings"] & {
    /** Streams that are read at the same time. */
    streamsMax: number;
    /** Whose events are taken from the streams. */
    writesFor: WritableOrgs;
    /** Time for batches under way when stopped, ms. */
    graceMs: number;
  };
  onProgress: (progress: ReplayProgress) => void;
  /** Told in words of what keeps it waiting. */
  onTrouble: (trouble: string) => void;
};

/**
 * Takes streams in once more, beside whoever consumes them, whose position does not move: what was counted is a
 * duplicate, what was missing is counted. Safe to repeat. Resolves also when `signal` was aborted or something ended it
 * early: the report says how far it came. Throws when a stream is not there to begin with.
 */
export async function replayStreams(
  deps: ReplayDeps,
  request: ReplayRequest,
  signal: AbortSignal,
): Promise<ReplayReport> {
  const plans = await listPlans(deps.connection, request, signal);
  const purgedDays = request.backfill ? await listPurgedRawDays(deps.database.sql) : [];
  const giveUp = new AbortController();
  const failed = new AbortController();
  const replay = new Replay(deps, request, {
    plans,
    purgedDays: new Set(purgedDays.map(({ day }) => day)),
    stop: AbortSignal.any([signal, failed.signal]),
    until: giveUp.signal,
  });
  let overdue: NodeJS.Timeout | undefined;
  const onStop = (): void => {
    overdue = setTimeout(() => giveUp.abort(), deps.settings.graceMs);
  };
  signal.addEventListener("abort", onStop, { once: true });
  const queue = plans.values();
  const workers = Array.from({ length: deps.settings.streamsMax }, async () => {
    for (const plan of queue) await replay.run(plan);
  });
  const results = await Promise.allSettled(
    workers.map((worker) =>
      worker.catch((error: unknown) => {
        failed.abort(error);
        throw error;
      }),
    ),
  );
  signal.removeEventListener("abort", onStop);
  clearTimeout(overdue);
  const isInterrupted = signal.aborted;
  const first = results.find((result) => result.status === "rejected");
  return { ...replay.report(), isInterrupted, failure: isInterrupted ? null : failureOf(first) };
}

const failureOf = (result: PromiseRejectedResult | undefined): unknown => result?.reason ?? null;

/** One stream's part; `ends` are the first and last offset when the replay began. */
type Plan = StreamReplay & { partition: number; firstOffset: number };

async function listPlans(
  connection: BrokerConnection,
  { streams, from, toOffset = Number.POSITIVE_INFINITY }: ReplayRequest,
  signal: AbortSignal,
): Promise<Plan[]> {
  const plans: Plan[] = [];
  for (const { stream, partition } of streams) {
    const ends = await readStreamEnds(connection, stream, signal);
    const last = Math.min(toOffset, ends?.last ?? -1);
    const firstOffset = Math.max(ends?.first ?? 0, typeof from === "number" ? from : 0);
    const plan = { stream, partition, firstOffset, fromOffset: null, throughOffset: null };
    plans.push({ ...plan, toOffset: last < firstOffset ? null : last });
  }
  return plans;
}

type Counts = Record<IngestOutcome["status"] | "events" | "tooOld", number>;

class Replay {
  readonly #deps: ReplayDeps;
  readonly #request: ReplayRequest;
  readonly #plans: readonly Plan[];
  readonly #purgedDays: ReadonlySet<number>;
  readonly #stop: AbortSignal;
  readonly #until: AbortSignal;
  readonly #correlationId: string;
  readonly #counts: Counts = {
    events: 0,
    accepted: 0,
    duplicate: 0,
    conflict: 0,
    rejected: 0,
    tooOld: 0,
  };
  readonly #gaps: ReplayReport["gaps"] = [];

  constructor(
    deps: ReplayDeps,
    request: ReplayRequest,
    how: {
      plans: readonly Plan[];
      purgedDays: ReadonlySet<number>;
      /** Aborted: read nothing more. */
      stop: AbortSignal;
      /** Aborted: give up what is being committed, too. */
      until: AbortSignal;
    },
  ) {
    this.#deps = deps;
    this.#request = request;
    this.#plans = how.plans;
    this.#purgedDays = how.purgedDays;
    this.#stop = how.stop;
    this.#until = how.until;
    this.#correlationId = deps.createId();
  }

  report(): Omit<ReplayReport, "isInterrupted" | "failure"> {
    const { source } = this.#request;
    const streams = this.#plans.map(({ stream, fromOffset, throughOffset, toOffset }) => ({
      stream,
      fromOffset,
      throughOffset,
      toOffset,
    }));
    return { source, ...this.#counts, streams, gaps: this.#gaps };
  }

  /** Replays one stream, reading the next batch while the one before is being committed. */
  async run(plan: Plan): Promise<void> {
    const { stream, partition, toOffset } = plan;
    if (toOffset === null) return;
    const { source, from: start } = this.#request;
    const deps = {
      ...this.#deps,
      onGap: (gap: { fromOffset: number; toOffset: number }) => {
        this.#gaps.push({ stream, ...gap });
      },
    };
    const range = { stream, source, partition, start, toOffset };
    let committed: Promise<void> = Promise.resolve();
    try {
      for await (const batch of readStreamRange(deps, range, this.#stop)) {
        await committed;
        committed = this.#take(plan, batch);
        // Heard when the next batch is there; until then it is not unhandled.
        committed.catch(() => undefined);
      }
    } finally {
      await committed;
    }
  }

  async #take(plan: Plan, { items, first, completed }: StreamBatch): Promise<void> {
    plan.fromOffset ??= offsetOf(first);
    const ofPurgedDays = items.filter(({ item }) => this.#isPurged(item));
    const others =
      ofPurgedDays.length === 0 ? items : items.filter(({ item }) => !this.#isPurged(item));
    await this.#ingest(plan, others, this.#request.backfill);
    await this.#ingest(plan, ofPurgedDays, false);
    if (completed) plan.throughOffset = offsetOf(completed);
    this.#deps.onProgress(this.#progress(offsetOf(completed ?? first)));
  }

  /** Whether raw, which knows what was counted once the keys are gone, no longer has the event's day. */
  #isPurged({ event }: ParsedItem): boolean {
    return (
      this.#purgedDays.size > 0 && !!event && this.#purgedDays.has(dayOfUs(event.occurredAtUs))
    );
  }

  async #ingest(
    { partition }: Plan,
    items: StreamBatch["items"],
    isBackfill: boolean,
  ): Promise<void> {
    const outcomes = await this.#deps.ingestor.ingest(
      items.map(({ item }) => item),
      {
        source: this.#request.source,
        partition,
        backfill: isBackfill,
        writesFor: this.#deps.settings.writesFor,
        correlationId: this.#correlationId,
        places: items.map(({ place }) => place ?? ""),
        until: this.#until,
      },
    );
    this.#counts.events += outcomes.length;
    for (const outcome of outcomes) {
      this.#counts[outcome.status]++;
      if (outcome.status === "rejected" && outcome.code === "too_old") this.#counts.tooOld++;
    }
  }

  #progress(lastOffset: number): ReplayProgress {
    const sum = { events: this.#counts.events, offsetsDone: 0, offsets: 0, lastOffset };
    for (const { firstOffset, fromOffset, throughOffset, toOffset } of this.#plans) {
      if (toOffset === null) continue;
      const from = fromOffset ?? firstOffset;
      sum.offsets += toOffset - from + 1;
      if (throughOffset !== null) sum.offsetsDone += throughOffset - from + 1;
    }
    return sum;
  }
}
