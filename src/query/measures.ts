import { formatNano, packCurrency, unpackCurrency } from "#contract";
import type { UsageSums } from "#store";
import type { Amount, Change, Measures, Share } from "./answers.ts";
import type { Order } from "./questions.ts";

/**
 * Usage being added up: exact counts, and money in billionths: in the first currency (packed; 0: none yet) that came,
 * and, as hardly ever happens, in others.
 */
export type Tally = Counts & {
  currency: number;
  nano: bigint;
  otherNano: Map<number, bigint> | null;
};

type Counts = {
  requests: number;
  errors: number;
  inputTokens: number;
  cacheReadTokens: number;
  cacheWrite5mTokens: number;
  cacheWrite1hTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  pricedRequests: number;
  pricedTokens: number;
};

export const createTally = (): Tally => ({
  requests: 0,
  errors: 0,
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWrite5mTokens: 0,
  cacheWrite1hTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  pricedRequests: 0,
  pricedTokens: 0,
  currency: 0,
  nano: 0n,
  otherNano: null,
});

/** Adds a row of sums, or takes it away. */
export function addSums(
  tally: Tally,
  sums: Omit<UsageSums, "bucketNo" | "key">,
  sign: 1 | -1 = 1,
): void {
  addCounts(tally, sums, sign);
  const nano = BigInt(sums.costNano);
  addCost(tally, sums.currency, sign > 0 ? nano : -nano);
}

/** Whether nothing is counted, or all of it was taken away again. */
export const isNothing = ({ currency: _currency, nano, otherNano, ...counts }: Tally): boolean =>
  Object.values(counts).every((count) => count === 0) &&
  nano === 0n &&
  [...(otherNano?.values() ?? [])].every((other) => other === 0n);

/** Adds `more` to `tally`. */
export function addTally(tally: Tally, more: Tally): void {
  addCounts(tally, more, 1);
  addCost(tally, more.currency, more.nano);
  if (more.otherNano !== null)
    for (const [currency, nano] of more.otherNano) addCost(tally, currency, nano);
}

/** Adds to each tally the one at its place. */
export function addTallies(sums: readonly Tally[], more: readonly Tally[]): void {
  for (const [i, tally] of more.entries()) {
    const sum = sums[i];
    if (sum === undefined) throw new RangeError("tallies are not of the same spans");
    addTally(sum, tally);
  }
}

/** The sum of tallies. */
export function totalOf(tallies: Iterable<Tally>): Tally {
  const total = createTally();
  for (const tally of tallies) addTally(total, tally);
  return total;
}

/** Written out: an answer adds tens of thousands of them. */
function addCounts(tally: Tally, more: Counts, sign: 1 | -1): void {
  tally.requests += sign * more.requests;
  tally.errors += sign * more.errors;
  tally.inputTokens += sign * more.inputTokens;
  tally.cacheReadTokens += sign * more.cacheReadTokens;
  tally.cacheWrite5mTokens += sign * more.cacheWrite5mTokens;
  tally.cacheWrite1hTokens += sign * more.cacheWrite1hTokens;
  tally.outputTokens += sign * more.outputTokens;
  tally.reasoningTokens += sign * more.reasoningTokens;
  tally.pricedRequests += sign * more.pricedRequests;
  tally.pricedTokens += sign * more.pricedTokens;
}

function addCost(tally: Tally, currency: number, nano: bigint): void {
  if (nano === 0n) return;
  if (tally.currency === 0) tally.currency = currency;
  if (tally.currency === currency) {
    tally.nano += nano;
    return;
  }
  tally.otherNano ??= new Map();
  tally.otherNano.set(currency, (tally.otherNano.get(currency) ?? 0n) + nano);
}

export const totalTokensOf = (tally: Tally): number =>
  tally.inputTokens +
  tally.cacheReadTokens +
  tally.cacheWrite5mTokens +
  tally.cacheWrite1hTokens +
  tally.outputTokens +
  tally.reasoningTokens;

/** What was spent in one currency, in billionths. */
export const costOf = (tally: Tally, currency: string): bigint =>
  nanoOf(tally, packCurrency(currency));

const nanoOf = (tally: Tally, packed: number): bigint =>
  (tally.currency === packed ? tally.nano : tally.otherNano?.get(packed)) ?? 0n;

/** A place among groups: how large one is by a measure (cost: in one currency, billionths), and its key. */
export type Rank = { size: bigint; key: number };

const sizeOf = (order: Order, currency: string, tally: Tally): bigint => {
  if (order === "cost") return costOf(tally, currency);
  return BigInt(order === "totalTokens" ? totalTokensOf(tally) : tally[order]);
};

/** The largest first by a measure, equal ones by key. */
export const rankTallies = (
  order: Order,
  currency: string,
  tallies: Iterable<readonly [key: number, tally: Tally]>,
): Rank[] =>
  [...tallies]
    .map(([key, tally]) => ({ key, size: sizeOf(order, currency, tally) }))
    .toSorted((a, b) => (a.size === b.size ? a.key - b.key : a.size > b.size ? -1 : 1));

/** The ranks that come after one; all of them, after null. */
export const ranksAfter = (ranks: readonly Rank[], after: Rank | null): readonly Rank[] =>
  after === null
    ? ranks
    : ranks.filter(
        ({ size, key }) => size < after.size || (size === after.size && key > after.key),
      );

/** A part of a whole, six digits; null when there is no whole. */
export const ratioOf = (part: number, whole: number): number | null =>
  whole === 0 ? null : Math.round((part / whole) * 1_000_000) / 1_000_000;

function listOtherCosts({ currency, nano, otherNano }: Tally, own: number): Amount[] {
  if (otherNano === null && (currency === own || currency === 0)) return [];
  return [[currency, nano] as const, ...(otherNano ?? [])]
    .filter(([packed, amount]) => packed !== own && amount !== 0n)
    .map(([packed, amount]) => ({ amount: formatNano(amount), currency: unpackCurrency(packed) }))
    .toSorted((a, b) => (a.currency < b.currency ? -1 : 1));
}

/** A tally in the words of answers, money first in the org's currency. Throws a RangeError beyond exact numbers (2^53). */
export const measuresOf = (tally: Tally, currency: string): Measures =>
  withMeasures({}, tally, currency);

/** As `measuresOf`, behind what is said of the tally otherwise; made in one piece, for there are thousands. */
export function withMeasures<Head extends object>(
  head: Head,
  tally: Tally,
  currency: string,
): Head & Measures {
  const totalTokens = totalTokensOf(tally);
  if (!Number.isSafeInteger(totalTokens) || !Number.isSafeInteger(tally.requests)) {
    throw new RangeError("usage adds up to more than a number holds exactly");
  }
  const own = packCurrency(currency);
  const otherCosts = listOtherCosts(tally, own);
  return {
    ...head,
    requests: tally.requests,
    errors: tally.errors,
    inputTokens: tally.inputTokens,
    cacheReadTokens: tally.cacheReadTokens,
    cacheWrite5mTokens: tally.cacheWrite5mTokens,
    cacheWrite1hTokens: tally.cacheWrite1hTokens,
    outputTokens: tally.outputTokens,
    reasoningTokens: tally.reasoningTokens,
    totalTokens,
    cost: { amount: formatNano(nanoOf(tally, own)), currency },
    otherCosts,
    pricedShare: {
      requests: ratioOf(tally.pricedRequests, tally.requests),
      tokens: ratioOf(tally.pricedTokens, totalTokens),
    },
  };
}

/** How `now` differs from `before`, as a share of it. */
export function changeOf(now: Tally, before: Tally, currency: string): Change {
  const change = (a: number, b: number) => ratioOf(a - b, b);
  return {
    requests: change(now.requests, before.requests),
    errors: change(now.errors, before.errors),
    totalTokens: change(totalTokensOf(now), totalTokensOf(before)),
    cost: change(Number(costOf(now, currency)), Number(costOf(before, currency))),
  };
}

/** A group's part of the totals. */
export const shareOf = (part: Tally, whole: Tally, currency: string): Share => ({
  requests: ratioOf(part.requests, whole.requests),
  totalTokens: ratioOf(totalTokensOf(part), totalTokensOf(whole)),
  cost: ratioOf(Number(costOf(part, currency)), Number(costOf(whole, currency))),
});
