import { CONSUMER_NAMES, packCurrency } from "#contract";
import { type Clock, type Crash, type Logger, startRepeating } from "#kernel";
import { findPool, type PoolPrice, ratePoolTime, readPriceBook } from "#pricing";
import { moveRows, SystemMembers } from "#rollup";
import {
  choosePoolRows,
  createPoolTables,
  createRerateTables,
  type Database,
  getPriceVersion,
  insertStretches,
  interruptFolds,
  listPoolHourNotes,
  listRatedPairs,
  lockRatingWork,
  notePoolHour,
  type PairStretch,
  planToMove,
  planToShare,
  prepareFoldSession,
  type RatedPair,
  readChosenRaw,
  type Session,
  sharePoolCost,
  type Sql,
  sumPoolRows,
  sumPoolShares,
  type Tx,
  writePoolShares,
} from "#store";
import { findOpenHours, HOUR_MS, type OpenHour, type Span } from "./pool-hours.ts";

export type PoolRatingDeps = {
  database: Database;
  clock: Clock;
  logger: Logger;
  crash: Crash;
  /** How often it looks for hours, ms; every minute by itself. The first time so long after the start. */
  intervalMs?: number;
  /** Rows that get their share in one transaction, for so long folds wait; 200,000 by itself. */
  rowsMax?: number;
};

/** The worker. Disposing lets the hour finish that has begun. */
export type PoolRating = AsyncDisposable & {
  /** One turn, now: shares every hour that is open, and tells how many. Throws what the database throws. */
  run(): Promise<number>;
};

const INTERVAL_MS = 60_000;
const ROWS_MAX = 200_000;
const STEP_MS_MAX = 120_000;
/** An hour that cannot be shared does not stop those behind it; so many do. */
const FAILURES_MAX = 3;
/** No event may cost as much: an hour of it is not shared. */
const NANO_BELOW = 2n ** 53n;

/**
 * Shares what capacity costs an hour by the tokens of the calls that it served then: hour by hour, some time after each,
 * and anew when something of it comes late or is rated again. Each step is one transaction that changes raw, rollups and
 * the note of the hour together, so a process may end anywhere. Any number of processes may run it; one at a time works.
 */
export function startPoolRating(deps: PoolRatingDeps): PoolRating {
  const sharer = new Sharer(deps);
  const intervalMs = deps.intervalMs ?? INTERVAL_MS;
  return startRepeating({
    work: (signal) => sharer.shareAll(signal),
    intervalMs,
    firstAfterMs: intervalMs,
    onError: (error) => deps.logger.warn({ err: error }, "Pools are shared later"),
  });
}

class Sharer {
  readonly #deps: PoolRatingDeps;
  readonly #rowsMax: number;
  readonly #members = new SystemMembers();
  #book: { version: number; pools: readonly PoolPrice[] } | undefined;

  constructor(deps: PoolRatingDeps) {
    this.#deps = deps;
    this.#rowsMax = deps.rowsMax ?? ROWS_MAX;
  }

  async shareAll(signal: AbortSignal): Promise<number> {
    const { database } = this.#deps;
    const pools = await database.transaction((tx) => this.#readPools(tx));
    const hours = await findOpenHours(database, pools);
    if (hours.length === 0) return 0;
    // Read after the hours: what is folded in between changes their requests, and they are open again.
    const pairs = await listRatedPairs(database.sql, { orgId: 0, model: null });
    await using session = await this.#openSession();
    let count = 0;
    const failures: unknown[] = [];
    for (const hour of hours) {
      if (signal.aborted || failures.length === FAILURES_MAX) break;
      try {
        if (await this.#shareHour(session, hour, pairs)) count++;
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
    return count;
  }

  async #readPools(tx: Tx): Promise<readonly PoolPrice[]> {
    const version = await getPriceVersion(tx.sql);
    if (this.#book?.version !== version) {
      const { pools, version: read } = await readPriceBook(tx);
      this.#book = { version: read, pools };
    }
    return this.#book.pools;
  }

  #openSession(): Promise<Session> {
    return this.#deps.database.openSession(async (session) => {
      for (const consumer of CONSUMER_NAMES)
        await session.transaction((tx) => prepareFoldSession(tx, consumer));
    });
  }

  /**
   * In parts, where it has very many rows: until the last of them the hour is noted as not finished. What comes meanwhile
   * changes all shares; an hour for which that does not end is gone on with in the next turn.
   */
  async #shareHour(
    session: Session,
    hour: OpenHour,
    pairs: readonly RatedPair[],
  ): Promise<boolean> {
    const stretches = listStretches(hour, pairs);
    let partsMax = 1;
    for (let part = 0; part < partsMax; part++) {
      const result = await session.transaction((tx) => this.#sharePart(tx, hour, stretches));
      if (result === "known") return part > 0;
      this.#deps.crash("rerate_after_commit");
      partsMax = result.isWhole ? 0 : Math.ceil(result.events / this.#rowsMax) + 1;
    }
    return true;
  }

  async #sharePart(
    tx: Tx,
    { pool, span, hourMs, requests, hasRaw }: OpenHour,
    stretches: readonly PairStretch[],
  ): Promise<"known" | { isWhole: boolean; events: number }> {
    await planToShare(tx, STEP_MS_MAX);
    await lockRatingWork(tx.sql);
    if (await isShared(tx.sql, { priceId: pool.id, hourMs, requests })) return "known";
    const day = new Date(hourMs).toISOString().slice(0, 10);
    const nano = ratePoolTime(pool, span.toMs - span.fromMs);
    const currency = packCurrency(pool.terms.currency);
    let [waiting, changed, shared] = [0, 0, "0"];
    let sums = { events: 0, tokens: 0 };
    if (hasRaw) {
      await createRerateTables(tx);
      await createPoolTables(tx);
      await insertStretches(tx.sql, stretches);
      ({ waiting } = await choosePoolRows(tx, { priceId: pool.id, day, ...span }));
      sums = await sumPoolRows(tx);
      const cost = { priceId: pool.id, nano, tokens: sums.tokens, currency };
      const isShareable = sums.events > 0 && nano < NANO_BELOW;
      changed = isShareable ? await sharePoolCost(tx, cost, this.#rowsMax) : 0;
      shared = await sumPoolShares(tx);
      if (changed > 0) await this.#write(tx, day, changed);
    }
    const isWhole = changed < this.#rowsMax;
    await notePoolHour(tx.sql, {
      priceId: pool.id,
      hourMs,
      currency,
      costNano: nano,
      sharedNano: shared,
      ...sums,
      requestsSeen: requests,
      isStale: waiting > 0 || !isWhole,
      ratedAt: new Date(this.#deps.clock.now()),
    });
    this.#deps.crash("rerate_before_commit");
    return { isWhole, events: sums.events };
  }

  async #write(tx: Tx, day: string, changed: number): Promise<void> {
    await interruptFolds(tx.sql);
    await planToMove(tx);
    await moveRows(tx, {
      read: (consumer) => readChosenRaw(tx, consumer, day, "pool_share"),
      change: async () => {
        if ((await writePoolShares(tx, day)) !== changed)
          throw new Error("rows changed differ from rows chosen");
      },
      members: this.#members,
    });
  }
}

/** Whether the hour has been shared since it was found open, by another process. */
async function isShared(
  sql: Sql,
  { priceId, hourMs, requests }: { priceId: number; hourMs: number; requests: number },
): Promise<boolean> {
  const asked = { priceId, fromMs: hourMs, untilMs: hourMs + HOUR_MS };
  const [note] = await listPoolHourNotes(sql, asked);
  return note !== undefined && !note.isStale && note.requestsSeen === requests;
}

/** When in the hour the calls of an org and a model belong to the pool, and not to one of the others. */
function listStretches(
  { pool, span, rivals }: OpenHour,
  pairs: readonly RatedPair[],
): PairStretch[] {
  const turns = turnsIn(span, rivals);
  return pairs.flatMap(({ orgId, org, modelId, model }) =>
    turns.flatMap((fromMs, i): PairStretch[] => {
      const found = findPool(rivals, { orgId: org, modelId: model, atUs: fromMs * 1000 });
      if (found?.id !== pool.id) return [];
      const toUs = (turns[i + 1] ?? span.toMs) * 1000;
      return [{ orgId, modelId, fromUs: fromMs * 1000, toUs, priceId: pool.id }];
    }),
  );
}

/** The beginning of a span, and every instant in it at which a pool begins or ends. */
const turnsIn = ({ fromMs, toMs }: Span, pools: readonly PoolPrice[]): number[] =>
  [...new Set([fromMs, ...pools.flatMap(({ from, to }) => [from, to]).map(Number)])]
    .filter((ms) => ms >= fromMs && ms < toMs)
    .toSorted((a, b) => a - b);
