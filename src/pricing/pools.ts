import { roundCost } from "#contract";
import { holdsAt, type PoolPrice, type PriceQuestion } from "./price-book.ts";

/**
 * The one pool that a model's calls take their share of, for an org, at an instant; undefined: none serves it. As with
 * prices, the org's own pool comes before those for all, the operator's before a catalogue's, and among equals the one
 * that says most of the model's id; then the pool whose name is first.
 */
export function findPool(
  pools: readonly PoolPrice[],
  { modelId, orgId, atUs }: PriceQuestion,
): PoolPrice | undefined {
  let found: { pool: PoolPrice; rank: Rank } | undefined;
  for (const pool of pools) {
    if (pool.orgId !== null && pool.orgId !== orgId) continue;
    if (!holdsAt(pool, atUs)) continue;
    const length = matchLength(pool.terms.models, modelId);
    if (length < 0) continue;
    const rank: Rank = [pool.orgId === null ? 1 : 0, pool.layer === "own" ? 0 : 1, -length];
    if (found === undefined || isBefore({ pool, rank }, found)) found = { pool, rank };
  }
  return found?.pool;
}

type Rank = readonly [ofAll: number, ofCatalogue: number, shortness: number];

function isBefore(a: { pool: PoolPrice; rank: Rank }, b: { pool: PoolPrice; rank: Rank }): boolean {
  for (const [i, step] of a.rank.entries()) {
    const other = b.rank[i] ?? 0;
    if (step !== other) return step < other;
  }
  return a.pool.subject < b.pool.subject;
}

/** Characters of the id that the best of the models says, one more when it is the id itself; below 0: none is meant. */
function matchLength(models: readonly string[], modelId: string): number {
  let longest = -1;
  for (const model of models) {
    if (model === modelId) return model.length + 1;
    const prefix = model.endsWith("*") ? model.slice(0, -1) : null;
    if (prefix !== null && modelId.startsWith(prefix)) longest = Math.max(longest, prefix.length);
  }
  return longest;
}

const HOUR_MS = 3_600_000n;

/** What a pool costs in so many milliseconds, in billionths of its currency, rounded half up once. */
export function ratePoolTime({ terms }: Pick<PoolPrice, "terms">, ms: number): bigint {
  const [whole = "", fraction = ""] = terms.perHour.split(".");
  return roundCost({
    numerator: BigInt(whole + fraction) * 1_000_000_000n * BigInt(ms),
    denominator: 10n ** BigInt(fraction.length) * HOUR_MS,
  });
}
