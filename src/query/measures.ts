import { formatNano, packCurrency, unpackCurrency } from "#contract";
import type { UsageSums } from "#store";
import type { Change, Measures, Share } from "./answers.ts";
import type { Order } from "./questions.ts";

const COUNTS = [
  "requests",
  "errors",
  "inputTokens",
  "cacheReadTokens",
  "cacheWrite5mTokens",
  "cacheWrite1hTokens",
  "outputTokens",
  "reasoningTokens",
  "pricedRequests",
  "pricedTokens",
] as const;
type Count = (typeof COUNTS)[number];

/** Usage being added up: exact counts, and money per currency (packed) in billionths. */
export type Tally = Record<Count, number> & { costs: Map<number, bigint> };

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
  costs: new Map(),
});

/** Adds a row of sums, or takes it away. */
export function addSums(
  tally: Tally,
  sums: Omit<UsageSums, "bucketNo" | "key">,
  sign: 1 | -1 = 1,
): void {
  for (const count of COUNTS) tally[count] += sign * sums[count];
  addCost(tally, sums.currency, BigInt(sign) * BigInt(sums.costNano));
}

/** Whether nothing is counted, or all of it was taken away again. */
export const isNothing = (tally: Tally): boolean =>
  COUNTS.every((count) => tally[count] === 0) &&
  [...tally.costs.values()].every((nano) => nano === 0n);

/** Adds `more` to `tally`. */
export function addTally(tally: Tally, more: Tally): void {
  for (const count of COUNTS) tally[count] += more[count];
  for (const [currency, nano] of more.costs) addCost(tally, currency, nano);
}

/** The sum of tallies. */
export function totalOf(tallies: Iterable<Tally>): Tally {
  const total = createTally();
  for (const tally of tallies) addTally(total, tally);
  return total;
}

function addCost(tally: Tally, currency: number, nano: bigint): void {
  if (nano !== 0n) tally.costs.set(currency, (tally.costs.get(currency) ?? 0n) + nano);
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
  tally.costs.get(packCurrency(currency)) ?? 0n;

/** Sorts the largest first by a measure (cost: in one currency). */
export function compareTallies(order: Order, currency: string, a: Tally, b: Tally): number {
  if (order === "totalTokens") return totalTokensOf(b) - totalTokensOf(a);
  if (order !== "cost") return b[order] - a[order];
  const difference = costOf(b, currency) - costOf(a, currency);
  return difference > 0n ? 1 : difference < 0n ? -1 : 0;
}

/** A part of a whole, six digits; null when there is no whole. */
export const ratioOf = (part: number, whole: number): number | null =>
  whole === 0 ? null : Math.round((part / whole) * 1_000_000) / 1_000_000;

/** A tally in the words of answers, money first in the org's currency. Throws a RangeError beyond exact numbers (2^53). */
export function measuresOf(tally: Tally, currency: string): Measures {
  const totalTokens = totalTokensOf(tally);
  if (!Number.isSafeInteger(totalTokens) || !Number.isSafeInteger(tally.requests)) {
    throw new RangeError("usage adds up to more than a number holds exactly");
  }
  const otherCosts = [...tally.costs]
    .filter(([packed, nano]) => packed !== packCurrency(currency) && nano !== 0n)
    .map(([packed, nano]) => ({ amount: formatNano(nano), currency: unpackCurrency(packed) }))
    .toSorted((a, b) => (a.currency < b.currency ? -1 : 1));
  return {
    requests: tally.requests,
    errors: tally.errors,
    inputTokens: tally.inputTokens,
    cacheReadTokens: tally.cacheReadTokens,
    cacheWrite5mTokens: tally.cacheWrite5mTokens,
    cacheWrite1hTokens: tally.cacheWrite1hTokens,
    outputTokens: tally.outputTokens,
    reasoningTokens: tally.reasoningTokens,
    totalTokens,
    cost: { amount: formatNano(costOf(tally, currency)), currency },
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
