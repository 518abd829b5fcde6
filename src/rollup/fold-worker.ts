import type { Consumer } from "#contract";
import type { Clock, Crash } from "#kernel";
import {
  type Database,
  fenceFold,
  type FoldLease,
  getFoldClaim,
  listPurged15m,
  listUnfoldedBatches,
  moveWatermarks,
  prepareFoldSession,
  releaseFoldLease,
  renewFoldLease,
  type Session,
  takeFoldLease,
} from "#store";
import { type FoldPlan, planFold } from "./fold-plan.ts";
import { type FoldInput, readFold } from "./read-fold.ts";
import { SketchCache } from "./sketch-cache.ts";
import { SystemMembers } from "./system-members.ts";
import { daysOf, membersOf, writeFold, type WrittenSketches } from "./write-fold.ts";

/** Limits of the rollup. Times in milliseconds. */
export type RollupSettings = {
  /** How long to wait when nothing is left to fold. */
  foldIntervalMs: number;
  peopleFoldIntervalMs: number;
  /** How long a silent process keeps the right to fold. */
  leaseMs: number;
  /** Events of one fold; no more than 400,000, which keeps every sum of a fold exact. */
  foldEventsMax: number;
  /** Rollup rows of the finest grain after which a fold is written, whatever is left: bounds its memory. */
  foldCellsMax: number;
  sketchCacheBytesMax: number;
};

export const ROLLUP_DEFAULTS: RollupSettings = {
  foldIntervalMs: 1500,
  peopleFoldIntervalMs: 10_000,
  leaseMs: 5_000,
  foldEventsMax: 400_000,
  foldCellsMax: 40_000,
  sketchCacheBytesMax: 24 * 2 ** 20,
};

const FOLD_BATCHES_MAX = 2000;
/** Sketches of older buckets are read anew each time: they seldom change, and retention may delete their rows. */
const REMEMBERED_SECONDS = 2 * 86_400;

/** What one attempt to fold did. Instants in µs since the Unix epoch. */
export type FoldResult =
  | {
      state: "standby";
      completeThroughUs: number | null;
      nowUs: number;
      /** Whether another process folds; else folds are kept out for a moment, or nobody has taken over yet. */
      isLed: boolean;
    }
  | {
      state: "folded";
      batches: number;
      events: number;
      hasMore: boolean;
      /** Every event answered before this instant is counted. */
      completeThroughUs: number;
      /** The database's time when the fold began. */
      nowUs: number;
    };

/** This process's epoch is over: another folds now, or rollup rows were changed under it. Nothing of the fold was written. */
export class FoldLeaseLost extends Error {
  constructor(consumer: Consumer) {
    super(`the lease of ${consumer} was lost`);
    this.name = "FoldLeaseLost";
  }
}

export type FoldWorkerDeps = {
  database: Database;
  clock: Clock;
  crash: Crash;
  settings: RollupSettings;
  /** Names this process in fold_state; no two running processes share one. */
  owner: string;
};

/**
 * Folds one consumer's batches, one fold at a time, while it holds the consumer's lease. After any error it keeps
 * nothing: session, lease and remembered sketches are taken anew, so the database alone says what is counted.
 */
export class FoldWorker implements AsyncDisposable {
  readonly #consumer: Consumer;
  readonly #deps: FoldWorkerDeps;
  readonly #cache: SketchCache;
  readonly #members = new SystemMembers();
  #session: Session | undefined;
  #lease: FoldLease | undefined;
  #renewedAtMs = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(consumer: Consumer, deps: FoldWorkerDeps) {
    this.#consumer = consumer;
    this.#deps = deps;
    this.#cache = new SketchCache(deps.settings.sketchCacheBytesMax);
  }

  /**
   * Folds once, or says that another process leads. Calls queue up. Throws FoldLeaseLost, RawRowsMissing,
   * BatchMissing, or what PostgreSQL said; then nothing was written, or, when the answer to COMMIT was lost, all of it.
   */
  foldOnce(): Promise<FoldResult> {
    return this.#alone(async () => {
      try {
        return await this.#fold();
      } catch (error) {
        await this.#drop();
        throw error;
      }
    });
  }

  /** Keeps the lease while there is nothing to do; no effect without one, or while a third of it has not passed. */
  keepLease(): Promise<void> {
    return this.#alone(async () => {
      if (!this.#session || !this.#lease) return;
      try {
        await this.#renew(this.#session, this.#lease);
      } catch (error) {
        await this.#drop();
        throw error;
      }
    });
  }

  /** Waits for the running fold, then gives the lease back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#alone(async () => {
      const [session, lease] = [this.#session, this.#lease];
      if (session && lease) {
        // The lease ends by itself when the database is away.
        await releaseFoldLease(session.sql, { consumer: this.#consumer, epoch: lease.epoch }).catch(
          () => undefined,
        );
      }
      await this.#drop();
    });
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #fold(): Promise<FoldResult> {
    const session = (this.#session ??= await this.#openSession());
    const lease = (this.#lease ??= await this.#takeLease(session));
    const { nowUs, ...claim } = await getFoldClaim(session.sql, this.#consumer);
    if (!lease) return { state: "standby", nowUs, ...claim };
    const { settings, crash } = this.#deps;
    const listed = await listUnfoldedBatches(session.sql, this.#consumer, FOLD_BATCHES_MAX);
    const limits = { eventsMax: settings.foldEventsMax, batchesMax: FOLD_BATCHES_MAX };
    const from = {
      session,
      consumer: this.#consumer,
      cellsMax: settings.foldCellsMax,
      onGroup: () => this.#renew(session, lease),
    };
    const input = await readFold(from, planFold(listed, nowUs, limits));
    crash("fold_after_read");
    const { plan } = input;
    if (plan.batches.length === 0) await this.#claim(session, lease, plan);
    else await this.#write(session, lease, { input, nowUs });
    const { completeThroughUs, hasMore } = plan;
    return {
      state: "folded",
      batches: plan.batches.length,
      events: input.sums.events,
      hasMore,
      completeThroughUs,
      nowUs,
    };
  }

  /** Nothing to write but how far everything is counted. */
  async #claim(session: Session, lease: FoldLease, plan: FoldPlan): Promise<void> {
    const foldedAtUs = await fenceFold(session.sql, this.#held(lease, plan));
    if (foldedAtUs === undefined) throw new FoldLeaseLost(this.#consumer);
    this.#renewedAtMs = this.#deps.clock.now();
  }

  async #write(
    session: Session,
    lease: FoldLease,
    fold: { input: FoldInput; nowUs: number },
  ): Promise<void> {
    const { input, nowUs } = fold;
    const { plan } = input;
    if (this.#consumer === "usage") await this.#members.resolve(session.sql, membersOf(input.sums));
    const startedMs = this.#deps.clock.now();
    const written = await session.transaction(async (tx): Promise<WrittenSketches> => {
      // A process that stops in here holds the fence: the server ends it when the lease would have ended.
      await tx.exec(
        `set local idle_in_transaction_session_timeout = ${this.#deps.settings.leaseMs}`,
      );
      const foldedAtUs = await fenceFold(tx.sql, this.#held(lease, plan));
      if (foldedAtUs === undefined) throw new FoldLeaseLost(this.#consumer);
      const moved = await moveWatermarks(tx.sql, this.#consumer, plan.moves);
      if (moved !== plan.moves.length) throw new FoldLeaseLost(this.#consumer);
      // Behind the fence, so retention waits: what it has deleted by now is all it deletes before this commits.
      const purged = await listPurged15m(tx.sql, daysOf(input.sums));
      const sketches = await writeFold(
        {
          tx,
          consumer: this.#consumer,
          cache: this.#cache,
          members: this.#members,
          foldedAtUs,
          rememberFromSeconds: nowUs / 1_000_000 - REMEMBERED_SECONDS,
          purged15m: new Set(purged.map(({ orgId, daySeconds }) => `${orgId}/${daySeconds}`)),
        },
        input,
      );
      this.#deps.crash("fold_before_commit");
      return sketches;
    });
    this.#deps.crash("fold_after_commit");
    for (const [row, sketch] of written) this.#cache.set(row, sketch);
    // The fence renewed the lease when the transaction began.
    this.#renewedAtMs = startedMs;
  }

  #held(lease: FoldLease, plan: FoldPlan) {
    return {
      consumer: this.#consumer,
      epoch: lease.epoch,
      leaseSeconds: this.#deps.settings.leaseMs / 1000,
      completeThroughUs: plan.completeThroughUs,
    };
  }

  #openSession(): Promise<Session> {
    return this.#deps.database.openSession((session) =>
      session.transaction((tx) => prepareFoldSession(tx, this.#consumer)),
    );
  }

  async #takeLease(session: Session): Promise<FoldLease | undefined> {
    this.#cache.clear();
    const lease = await takeFoldLease(session.sql, {
      consumer: this.#consumer,
      owner: this.#deps.owner,
      leaseSeconds: this.#deps.settings.leaseMs / 1000,
    });
    this.#renewedAtMs = this.#deps.clock.now();
    return lease;
  }

  async #renew(session: Session, lease: FoldLease): Promise<void> {
    const nowMs = this.#deps.clock.now();
    const leaseMs = this.#deps.settings.leaseMs;
    if (Math.abs(nowMs - this.#renewedAtMs) < leaseMs / 3) return;
    const held = { consumer: this.#consumer, epoch: lease.epoch, leaseSeconds: leaseMs / 1000 };
    if (!(await renewFoldLease(session.sql, held))) throw new FoldLeaseLost(this.#consumer);
    this.#renewedAtMs = nowMs;
  }

  async #drop(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    this.#lease = undefined;
    this.#cache.clear();
    await session?.[Symbol.asyncDispose]();
  }
}
