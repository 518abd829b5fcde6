import { type Clock, type Logger, sleepMs } from "#kernel";
import {
  type Database,
  getReconcileClaim,
  listRawGoneDays,
  listUncheckedHours,
  reconcileHours,
  type Sql,
  tryReconcileLock,
} from "#store";

const HOUR_SECONDS = 3600;
const DAY_SECONDS = 86_400;
/** One step checks the hours of one day; such a check may read a day of raw. */
const STEP_MS_MAX = 120_000;

/** Times in milliseconds. */
export type ReconcilerSettings = {
  /** How often it looks for hours that closed or changed. */
  tickMs: number;
  /** How long an hour that was checked is left alone, however often it changes. */
  recheckMs: number;
  /** While there is more to check, it rests this many times as long as it worked. */
  restFactor: number;
};

export const RECONCILER_DEFAULTS: ReconcilerSettings = {
  tickMs: 5000,
  recheckMs: 300_000,
  restFactor: 3,
};

export type ReconcilerDeps = {
  database: Database;
  clock: Clock;
  logger: Logger;
  settings?: Partial<ReconcilerSettings>;
};

/** What one look did. */
export type ReconcilerStep = {
  hours: number;
  checked: number;
  differing: number;
  hasMore: boolean;
};

/** The running reconciler. Disposing it lets the running check finish. */
export type Reconciler = AsyncDisposable & {
  /** Looks once, now: checks at most one day's hours. */
  step(): Promise<ReconcilerStep>;
};

const NOTHING: ReconcilerStep = { hours: 0, checked: 0, differing: 0, hasMore: false };

/**
 * Starts checking by itself every hour that is closed (its end lies before what both consumers claim), and again each
 * hour whose ledger changed since, one process at a time and with rests in between. Results are in `reconciliation`.
 */
export function startReconciler(deps: ReconcilerDeps): Reconciler {
  const settings = { ...RECONCILER_DEFAULTS, ...deps.settings };
  const walk = new ReconcilerWalk(deps, settings);
  const stop = new AbortController();
  const running = run(walk, { ...deps, settings, signal: stop.signal });
  return {
    step: () => walk.step(),
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await running;
    },
  };
}

async function run(
  walk: ReconcilerWalk,
  {
    clock,
    logger,
    settings,
    signal,
  }: ReconcilerDeps & { settings: ReconcilerSettings; signal: AbortSignal },
): Promise<void> {
  let isFailing = false;
  while (!signal.aborted) {
    const startedMs = clock.now();
    let waitMs = settings.tickMs;
    try {
      const step = await walk.step();
      if (step.hasMore)
        waitMs = Math.min(
          settings.tickMs,
          Math.max(20, (clock.now() - startedMs) * settings.restFactor),
        );
      if (isFailing) logger.info({}, "Reconciling works again");
      isFailing = false;
    } catch (error) {
      if (!isFailing) logger.warn({ err: error }, "Reconciling is tried again");
      isFailing = true;
    }
    await sleepMs(waitMs, signal).catch(() => undefined);
  }
}

/** Knows which hours are still to be checked, and checks them. */
class ReconcilerWalk {
  readonly #deps: ReconcilerDeps;
  readonly #settings: ReconcilerSettings;
  /** Hours (start, s) to check, with the fold's time (µs) at which their change was seen. */
  readonly #pending = new Map<number, number>();
  readonly #checkedAtMs = new Map<number, number>();
  #seenUs: number | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(deps: ReconcilerDeps, settings: ReconcilerSettings) {
    this.#deps = deps;
    this.#settings = settings;
  }

  step(): Promise<ReconcilerStep> {
    const result = this.#turn.then(() => this.#step());
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #step(): Promise<ReconcilerStep> {
    const { database, clock, logger } = this.#deps;
    const done = await database.transaction(async (tx) => {
      if (!(await tryReconcileLock(tx))) return undefined;
      await tx.exec(
        `set local statement_timeout = ${STEP_MS_MAX}; set local idle_in_transaction_session_timeout = ${STEP_MS_MAX}`,
      );
      const claim = await getReconcileClaim(tx.sql);
      await this.#notice(tx.sql, claim.foldedAtUs);
      const due = this.#dueHours(claim);
      const day = due[0] === undefined ? undefined : dayOf(due[0]);
      if (day === undefined) return undefined;
      const hours = due.filter((hour) => dayOf(hour) === day);
      const isRawGone = (await listRawGoneDays(tx.sql, [day])).length > 0;
      const result = await reconcileHours(tx, { hourSeconds: hours, isRawGone });
      return { ...result, hours, hasMore: due.length > hours.length };
    });
    if (!done) return NOTHING;
    for (const hour of done.hours) {
      this.#pending.delete(hour);
      this.#checkedAtMs.set(hour, clock.now());
    }
    this.#forgetOldChecks();
    const { checked, differing, hours, hasMore } = done;
    if (differing > 0)
      logger.error(
        { hours: hours.map(isoOf), differing },
        "Totals of closed hours do not reconcile",
      );
    return { hours: hours.length, checked, differing, hasMore };
  }

  /** Learns which hours changed. All changes up to the fold's time are seen by the statement after the one that told it. */
  async #notice(sql: Sql, foldedAtUs: number): Promise<void> {
    for (const { hourSeconds } of await listUncheckedHours(sql, this.#seenUs))
      this.#pending.set(hourSeconds, foldedAtUs);
    this.#seenUs = foldedAtUs;
  }

  /** Hours that both consumers have closed, as far as their last change, newest first: those are looked at most. */
  #dueHours(claim: {
    completeThroughUs: number | null;
    peopleCompleteThroughUs: number | null;
  }): number[] {
    const { completeThroughUs, peopleCompleteThroughUs } = claim;
    if (completeThroughUs === null || peopleCompleteThroughUs === null) return [];
    const nowMs = this.#deps.clock.now();
    const isDue = ([hour, changedUs]: [number, number]) => {
      const checkedAtMs = this.#checkedAtMs.get(hour);
      return (
        (hour + HOUR_SECONDS) * 1_000_000 <= completeThroughUs &&
        changedUs <= peopleCompleteThroughUs &&
        (checkedAtMs === undefined || Math.abs(nowMs - checkedAtMs) >= this.#settings.recheckMs)
      );
    };
    return [...this.#pending]
      .filter(isDue)
      .map(([hour]) => hour)
      .toSorted((a, b) => b - a);
  }

  #forgetOldChecks(): void {
    const nowMs = this.#deps.clock.now();
    for (const [hour, atMs] of this.#checkedAtMs) {
      if (Math.abs(nowMs - atMs) >= this.#settings.recheckMs) this.#checkedAtMs.delete(hour);
    }
  }
}

const isoOf = (seconds: number): string => new Date(seconds * 1000).toISOString();

const dayOf = (hourSeconds: number): number => Math.floor(hourSeconds / DAY_SECONDS) * DAY_SECONDS;
