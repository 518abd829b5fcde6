import { hostname } from "node:os";
import type { Registry } from "prom-client";
import { Failure, type IngestOutcome, type ParsedItem, type Rejection } from "#contract";
import { type Clock, type Crash, type Logger, retry } from "#kernel";
import { PriceRaters } from "#pricing";
import { classifyError, type Database, findOutage, isPartitionMissing, type Lane } from "#store";
import { LaneLost } from "./commit-batch.ts";
import { createIngestMetrics, type IngestMetrics } from "./ingest-metrics.ts";
import type { WritableOrgs } from "./judge-org.ts";
import { KeyLedger, type KeyLedgerSettings } from "./key-ledger.ts";
import { LaneWorker, type LaneWorkerDeps } from "./lane-worker.ts";
import type { MemberLimits } from "./members.ts";
import { BatchPreparer } from "./prepare-batch.ts";
import type { BatchItem, PreparedBatch } from "./prepared-batch.ts";
import { RawPartitions } from "./raw-partitions.ts";
import { type Work, WorkQueue } from "./work-queue.ts";

/** What a transport says about the items it hands over. */
export type IngestContext = {
  /** Name in the source table: "http", "import/<digest>", "replay". */
  source: string;
  /** Accept events older than the raw retention (history loaded on purpose). */
  backfill: boolean;
  /** What whoever sent the items may write for; events of other orgs are refused as org_forbidden. */
  writesFor: WritableOrgs;
  correlationId: string;
  /** Number of the source's partition, for the ledger; 0 when left out. */
  partition?: number;
  /** Where each item stood in its source (delivery tags), in order. */
  places?: readonly string[];
  /** Wait for room and for the commit until this is aborted, instead of a limited time: for consumers that hold back more. */
  until?: AbortSignal;
};

/** The one lane of a stream's partition, held under an epoch: its position moves with what is committed. */
export type PositionedLane = AsyncDisposable & {
  /** As last committed; undefined once it is lost. */
  readonly lane: Lane | undefined;
  /**
   * Commits items in the order of their positions, and the last one's `positionAfter` with them. Outages are waited for
   * until `until` is aborted. Throws LaneLost when another process holds the lane or an operator moved it; after any
   * error but that, `lane` says what is committed.
   */
  commit(
    items: readonly BatchItem[],
    how: { correlationId: string; until: AbortSignal },
  ): Promise<IngestOutcome[]>;
};

/** Takes items in, answers for each, in order. When a call resolves, everything it answers for is durable. */
export type Ingestor = AsyncDisposable & {
  /** Throws Failure overloaded, shutting_down, database_unavailable; then nothing is promised and a retry is safe. */
  ingest(items: readonly ParsedItem[], context: IngestContext): Promise<IngestOutcome[]>;
  /** What `ingest` would answer, duplicates and conflicts aside. Stores nothing. Throws what the database throws. */
  judge(
    items: readonly ParsedItem[],
    context: Pick<IngestContext, "backfill" | "writesFor">,
  ): Promise<IngestOutcome[]>;
  /** Heeds at once that orgs were suspended, deleted or made active, or have declared tags; otherwise that takes seconds. */
  refreshOrgs(): Promise<void>;
  /** Commits under a lane that was claimed, and renews its lease with each batch. Disposing gives the lane back, so that others need not wait for its lease. */
  openLane(lane: Lane, leaseSeconds: number): PositionedLane;
  /** Events taken in and not answered yet. */
  readonly pendingEvents: number;
  /** Why what waits is not committed, in words; undefined when it is only a matter of its turn. */
  readonly trouble: string | undefined;
  /** Resolves when every closed key partition has its filter: until then duplicates are found more slowly. */
  readonly filtersBuilt: Promise<void>;
};

export type IngestSettings = {
  /** Connections that commit at the same time, each with a lane of its own. */
  lanes: number;
  batchEventsMax: number;
  pendingEventsMax: number;
  pendingBytesMax: number;
  /** How long a caller waits for its answer, ms. */
  waitMsMax: number;
  rawRetentionDays: number;
  futureToleranceSeconds: number;
  leaseSeconds: number;
  members: MemberLimits;
  keys: Pick<KeyLedgerSettings, "partitionKeysMax" | "windowHours">;
};

export type IngestDeps = {
  database: Database;
  clock: Clock;
  logger: Logger;
  registry: Registry;
  crash: Crash;
  random: () => number;
  settings: IngestSettings;
};

const MAINTENANCE_MS = 5000;

/**
 * Opens the path from parsed items to committed events. Callers are grouped: whatever waits when a lane is free
 * becomes one batch. Disposing finishes what was taken in, then gives the lanes back.
 */
export async function openIngestor(deps: IngestDeps): Promise<Ingestor> {
  const { database, clock, logger, settings } = deps;
  const keySettings = {
    ...settings.keys,
    futureToleranceMs: settings.futureToleranceSeconds * 1000,
  };
  const keyLedger = await KeyLedger.open(database, keySettings, { clock, logger });
  const partitions = new RawPartitions(database, clock);
  await partitions.refresh();
  const preparer = new BatchPreparer(database, partitions, settings);
  await preparer.refreshOrgs();
  return new GroupCommit(deps, keyLedger, { partitions, preparer });
}

class GroupCommit implements Ingestor {
  readonly #deps: IngestDeps;
  readonly #keyLedger: KeyLedger;
  readonly #prices = new PriceRaters();
  readonly #partitions: RawPartitions;
  readonly #preparer: BatchPreparer;
  readonly #queue: WorkQueue;
  readonly #inFlight = new Map<PreparedBatch, Promise<void>>();
  readonly #lanes: Promise<void>[];
  readonly #maintenance: NodeJS.Timeout;
  readonly #metrics: IngestMetrics;
  #isStopping = false;
  #positionedEvents = 0;
  #lastError: unknown;

  constructor(
    deps: IngestDeps,
    keyLedger: KeyLedger,
    { partitions, preparer }: { partitions: RawPartitions; preparer: BatchPreparer },
  ) {
    const { settings } = deps;
    this.#deps = deps;
    this.#keyLedger = keyLedger;
    this.#partitions = partitions;
    this.#preparer = preparer;
    this.#queue = new WorkQueue({
      eventsMax: settings.pendingEventsMax,
      bytesMax: settings.pendingBytesMax,
    });
    this.#metrics = createIngestMetrics(deps.registry, {
      pending: () => this.pendingEvents,
      unfiltered: () => keyLedger.unfiltered,
    });
    this.#lanes = Array.from({ length: settings.lanes }, () => this.#runLane());
    this.#maintenance = setInterval(() => void this.#maintain(), MAINTENANCE_MS);
    this.#maintenance.unref();
  }

  get pendingEvents(): number {
    return this.#queue.pendingEvents + this.#positionedEvents;
  }

  get trouble(): string | undefined {
    return this.pendingEvents > 0 ? findOutage(this.#lastError) : undefined;
  }

  get filtersBuilt(): Promise<void> {
    return this.#keyLedger.filtersBuilt;
  }

  async ingest(items: readonly ParsedItem[], context: IngestContext): Promise<IngestOutcome[]> {
    if (items.length === 0) return [];
    if (this.#isStopping) {
      throw new Failure("shutting_down", "The service is stopping; send the batch again shortly.", {
        retryAfterSeconds: 2,
      });
    }
    const bytes = items.reduce((sum, { bytes: own }) => sum + own.length, 0);
    if (context.until) await this.#queue.waitForRoom(items.length, bytes, context.until);
    else if (!this.#queue.hasRoomFor(items.length, bytes)) throw this.#overload();
    this.#deps.crash("after_decode");
    const receivedAtMs = this.#deps.clock.now();
    const { source, partition = 0, writesFor, correlationId, places } = context;
    const outcomes = await new Promise<IngestOutcome[]>((resolve, reject) => {
      const work: Work = {
        items: items.map((item, i) => ({
          item,
          source,
          partition,
          place: places?.[i] ?? null,
          positionAfter: null,
          isBackfill: context.backfill,
          writesFor,
          receivedAtMs,
        })),
        bytes,
        correlationId,
        isAbandoned: false,
        resolve: (value) => (stopWaiting(), resolve(value)),
        reject: (error) => (stopWaiting(), reject(error)),
      };
      const abandon = (): void => {
        work.isAbandoned = true;
        reject(this.#overload());
      };
      const timer = context.until ? undefined : setTimeout(abandon, this.#deps.settings.waitMsMax);
      context.until?.addEventListener("abort", abandon, { once: true });
      const stopWaiting = (): void => {
        clearTimeout(timer);
        context.until?.removeEventListener("abort", abandon);
      };
      this.#queue.push(work);
    });
    if (!context.until) this.#deps.crash("after_ack");
    return outcomes;
  }

  judge(
    items: readonly ParsedItem[],
    context: Pick<IngestContext, "backfill" | "writesFor">,
  ): Promise<IngestOutcome[]> {
    const { backfill: isBackfill, writesFor } = context;
    const received = { isBackfill, writesFor, receivedAtMs: this.#deps.clock.now() };
    return this.#preparer.judge(items.map((item) => ({ item, ...received })));
  }

  refreshOrgs(): Promise<void> {
    return this.#preparer.refreshOrgs();
  }

  openLane(claimed: Lane, leaseSeconds: number): PositionedLane {
    const worker = new LaneWorker({ ...this.#workerDeps(), lane: claimed, leaseSeconds });
    return {
      get lane() {
        return worker.lane;
      },
      commit: async (items, { correlationId, until }) => {
        this.#positionedEvents += items.length;
        try {
          this.#deps.crash("after_decode");
          const isWanted = () => !until.aborted;
          return await this.#measured(items.length, () =>
            this.#commitItems(worker, items, { correlationId, isWanted }),
          );
        } catch (error) {
          if (!(error instanceof LaneLost)) this.#lastError = error;
          throw error;
        } finally {
          this.#positionedEvents -= items.length;
        }
      },
      [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose](),
    };
  }

  /** Why a caller has to come back: the database, if that is what is wrong, else the load. */
  #overload(): Failure {
    const isOutage = this.#lastError !== undefined;
    return new Failure(
      isOutage ? "database_unavailable" : "overloaded",
      isOutage
        ? "The database does not take events at the moment. Nothing is lost: send the same events again."
        : "More events are waiting than can be committed in time. Send the same events again a little later.",
      { retryAfterSeconds: isOutage ? 5 : 1, cause: this.#lastError },
    );
  }

  /** An outage is told to callers who run out of time meanwhile; what concerns one batch is not. */
  #noteRetry(error: unknown): void {
    this.#metrics.retries.inc();
    if (findOutage(error) !== undefined) this.#lastError = error;
  }

  #workerDeps(): LaneWorkerDeps {
    const { database, clock, logger, crash, random, settings } = this.#deps;
    return {
      database,
      keyLedger: this.#keyLedger,
      prices: this.#prices,
      clock,
      logger,
      crash,
      random,
      owner: `${hostname()}/${process.pid}`,
      leaseSeconds: settings.leaseSeconds,
      onRetry: (error) => this.#noteRetry(error),
    };
  }

  async #runLane(): Promise<void> {
    await using worker = new LaneWorker(this.#workerDeps());
    for (;;) {
      const taken = await this.#queue.take(this.#deps.settings.batchEventsMax);
      if (taken.length === 0) return;
      await this.#settle(worker, taken);
    }
  }

  /** Commits what callers brought and answers each of them. Never throws: a failure is the callers' answer. */
  async #settle(worker: LaneWorker, taken: readonly Work[]): Promise<void> {
    const items = taken.flatMap((work) => work.items);
    const isWanted = () => taken.some((work) => !work.isAbandoned);
    const correlationId = taken[0]?.correlationId ?? "";
    try {
      const outcomes = await this.#measured(items.length, () =>
        this.#commitItems(worker, items, { correlationId, isWanted }),
      );
      let at = 0;
      for (const work of taken) work.resolve(outcomes.slice(at, (at += work.items.length)));
    } catch (error) {
      this.#lastError = error;
      this.#deps.logger.error(
        { err: error, correlationId, events: items.length },
        "batch given up",
      );
      for (const work of taken) work.reject(this.#overload());
    } finally {
      for (const work of taken) this.#queue.release(work);
    }
  }

  /** Counts and times a batch that is committed; what was wrong with the database before is over then. */
  async #measured(
    events: number,
    commit: () => Promise<IngestOutcome[]>,
  ): Promise<IngestOutcome[]> {
    const endTimer = this.#metrics.duration.startTimer();
    const outcomes = await commit();
    endTimer();
    this.#lastError = undefined;
    for (const { status } of outcomes) this.#metrics.events.inc({ status });
    this.#metrics.batchEvents.observe(events);
    return outcomes;
  }

  /**
   * Commits items as one batch. When one of them cannot be stored, halves the batch until it stands alone, and
   * quarantines it: its neighbours are counted.
   */
  async #commitItems(
    worker: LaneWorker,
    items: readonly BatchItem[],
    how: { correlationId: string; isWanted: () => boolean; poison?: Rejection },
  ): Promise<IngestOutcome[]> {
    try {
      return await this.#commitOnce(worker, items, how);
    } catch (error) {
      if (isPartitionMissing(error)) {
        await this.#partitions.refresh();
        return await this.#commitItems(worker, items, how);
      }
      if (error instanceof LaneLost || classifyError(error) === "retry" || how.poison) throw error;
      if (items.length > 1) {
        const half = Math.ceil(items.length / 2);
        const first = await this.#commitItems(worker, items.slice(0, half), how);
        return [...first, ...(await this.#commitItems(worker, items.slice(half), how))];
      }
      this.#deps.logger.error(
        { err: error, correlationId: how.correlationId },
        "event cannot be stored",
      );
      const about = items[0]?.item.event ?? items[0]?.item.rejection;
      const poison: Rejection = {
        code: "internal_error",
        pointer: "",
        detail: `This event could not be stored (correlation id ${how.correlationId}); it can be replayed.`,
        eventId: about?.eventId ?? null,
        orgId: about?.orgId ?? null,
        occurredAtUs: about?.occurredAtUs ?? null,
      };
      return await this.#commitItems(worker, items, { ...how, poison });
    }
  }

  async #commitOnce(
    worker: LaneWorker,
    items: readonly BatchItem[],
    how: { correlationId: string; isWanted: () => boolean; poison?: Rejection },
  ): Promise<IngestOutcome[]> {
    const request = await retry(() => this.#preparer.prepare(items, how), {
      attemptsMax: Number.POSITIVE_INFINITY,
      waitMs: 20,
      waitMsMax: 2000,
      isRetryable: (error) => how.isWanted() && classifyError(error) === "retry",
      random: this.#deps.random,
      onRetry: (error) => this.#noteRetry(error),
    });
    const { batch } = request;
    // An item that an earlier batch of this process may be about to count waits for that batch: without this, two
    // transactions would claim the same keys and one would fail or block the other.
    const earlier = [...this.#inFlight]
      .filter(([other]) => batch.overlaps(other))
      .map(([, settled]) => settled);
    const settled = Promise.withResolvers<void>();
    this.#inFlight.set(batch, settled.promise);
    try {
      await Promise.all(earlier);
      return await worker.commit(request, how.isWanted);
    } finally {
      this.#inFlight.delete(batch);
      settled.resolve();
    }
  }

  async #maintain(): Promise<void> {
    await this.refreshOrgs().catch((error: unknown) => {
      this.#deps.logger.warn({ err: error }, "statuses of orgs not read; tried again in a moment");
    });
    try {
      await this.#keyLedger.maintain();
      await this.#partitions.refresh();
    } catch (error) {
      this.#deps.logger.warn(
        { err: error },
        "key and partition upkeep failed; tried again in a moment",
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopping = true;
    clearInterval(this.#maintenance);
    this.#queue.close();
    this.#deps.crash("shutdown_mid_drain");
    await Promise.all(this.#lanes);
    await this.#keyLedger[Symbol.asyncDispose]();
  }
}
