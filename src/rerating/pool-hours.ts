import type { PoolPrice } from "#pricing";
import {
  type Database,
  getFoldedThrough,
  listHourRequests,
  listPoolHourNotes,
  listRawPartitionDays,
  listRawPurgedDays,
  listRetiredPools,
  listPoolHours as selectPoolHours,
  type PoolHour,
  type PoolHourNote,
} from "#store";

export type { PoolHour } from "#store";

export const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** So long after an hour most of what comes late has come. */
const LATE_MS = 900_000;

/** Half-open, ms since the Unix epoch. */
export type Span = { fromMs: number; toMs: number };

/** An hour of a pool that is to be shared, or shared anew. */
export type OpenHour = {
  pool: PoolPrice;
  hourMs: number;
  /** The part of the hour in which the pool's price holds. */
  span: Span;
  /** Folded requests of the pool's org, or of all, in the hour. */
  requests: number;
  /** Without single events, all of them, the hour is shared when it was idle: nothing is counted in it. */
  hasRaw: boolean;
  /** All pools of the hour, this one too: a call belongs to one of them. */
  rivals: readonly PoolPrice[];
};

/**
 * The hours whose pools are to be shared, oldest first: those that are over and folded, and not shared yet; and shared ones
 * for which something came late or was rated again. An hour stays with the entry that shared it, when the book has another
 * by now. Goes back as far as there are single events.
 */
export async function findOpenHours(
  database: Database,
  pools: readonly PoolPrice[],
): Promise<OpenHour[]> {
  const foldedMs = await getFoldedThrough(database.sql);
  const partitions = await listRawPartitionDays(database);
  if (foldedMs === null || partitions.length === 0) return [];
  const firstDay = Math.min(...partitions);
  const fromMs = firstDay * DAY_MS;
  const purged = new Set(await listRawPurgedDays(database.sql, firstDay));
  const days = new Set(partitions.filter((day) => !purged.has(day)));
  const untilMs = Math.floor((foldedMs - LATE_MS) / HOUR_MS) * HOUR_MS;
  const retired = (await listRetiredPools(database.sql, fromMs)).filter(isPool);
  if ((pools.length === 0 && retired.length === 0) || untilMs <= fromMs) return [];

  const window = { fromMs, untilMs };
  const orgIds = [...new Set([...pools, ...retired].flatMap(({ orgId }) => orgId ?? []))];
  const requests = await listHourRequests(database.sql, { orgIds, ...window });
  const notes = await listPoolHourNotes(database.sql, { ...window, priceId: null });
  const look = new Look(requests, notes, days);
  const open: OpenHour[] = [];
  for (let hourMs = fromMs; hourMs < untilMs; hourMs += HOUR_MS)
    open.push(...look.listOpen(hourMs, { pools, retired }));
  return open;
}

const isPool = (entry: { kind: string }): entry is PoolPrice => entry.kind === "pool";

/** What is known of the hours, read at once. */
class Look {
  readonly #requests = new Map<string, number>();
  readonly #firstHours = new Map<string, number>();
  readonly #notes: ReadonlyMap<string, PoolHourNote>;
  readonly #days: ReadonlySet<number>;

  constructor(
    requests: Awaited<ReturnType<typeof listHourRequests>>,
    notes: readonly PoolHourNote[],
    days: ReadonlySet<number>,
  ) {
    for (const { orgId, hourMs, requests: count } of requests) {
      const whose = JSON.stringify(orgId);
      this.#requests.set(`${whose} ${hourMs}`, count);
      this.#firstHours.set(whose, Math.min(hourMs, this.#firstHours.get(whose) ?? hourMs));
    }
    this.#notes = new Map(notes.map((note) => [`${note.priceId} ${note.hourMs}`, note]));
    this.#days = days;
  }

  listOpen(
    hourMs: number,
    { pools, retired }: { pools: readonly PoolPrice[]; retired: readonly PoolPrice[] },
  ): OpenHour[] {
    const keepers = retired.filter(({ id }) => this.#notes.has(`${id} ${hourMs}`));
    const heirs = pools.filter((pool) => {
      const span = spanOf(pool, hourMs);
      return (
        span !== undefined &&
        !keepers.some((keeper) => isSamePool(keeper, pool) && meets(spanOf(keeper, hourMs), span))
      );
    });
    const rivals = [...keepers, ...heirs];
    const hasRaw = this.#days.has(Math.floor(hourMs / DAY_MS));
    return rivals.flatMap((pool) => {
      const span = spanOf(pool, hourMs);
      const requests = this.#requests.get(`${JSON.stringify(pool.orgId)} ${hourMs}`) ?? 0;
      if (span === undefined || !this.#isOpen(pool, hourMs, { requests, hasRaw })) return [];
      return [{ pool, hourMs, span, requests, hasRaw, rivals }];
    });
  }

  #isOpen(
    pool: PoolPrice,
    hourMs: number,
    { requests, hasRaw }: { requests: number; hasRaw: boolean },
  ): boolean {
    const note = this.#notes.get(`${pool.id} ${hourMs}`);
    if (note !== undefined) return hasRaw && (note.isStale || note.requestsSeen !== requests);
    // Nobody says since when capacity of all times is paid for: its hours begin with usage.
    const firstMs = this.#firstHours.get(JSON.stringify(pool.orgId)) ?? Number.POSITIVE_INFINITY;
    if (pool.from === null && hourMs < firstMs) return false;
    return hasRaw || requests === 0;
  }
}

/** The part of an hour in which an entry holds; undefined: none. */
function spanOf({ from, to }: PoolPrice, hourMs: number): Span | undefined {
  const fromMs = Math.max(from?.getTime() ?? hourMs, hourMs);
  const toMs = Math.min(to?.getTime() ?? Number.POSITIVE_INFINITY, hourMs + HOUR_MS);
  return fromMs < toMs ? { fromMs, toMs } : undefined;
}

const meets = (a: Span | undefined, b: Span): boolean =>
  a !== undefined && a.fromMs < b.toMs && b.fromMs < a.toMs;

/** Two entries of one pool: its price at different times, or before and after it was corrected. */
const isSamePool = (a: PoolPrice, b: PoolPrice): boolean =>
  a.subject === b.subject && a.layer === b.layer && a.orgId === b.orgId;

/** What pools came to in the hours that begin in [start, end), by hour and pool, after the first `offset`. */
export const listPoolHourPage = (
  database: Database,
  page: { start: Date; end: Date; offset: number; limit: number },
): Promise<PoolHour[]> => database.withSystem(({ sql }) => selectPoolHours(sql, page));
