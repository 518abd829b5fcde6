import {
  CHARGED_OUTCOMES,
  createUnitPrices,
  OUTCOMES,
  packCurrency,
  rateExactly,
  type TokenClasses,
  TOKEN_CLASSES,
  type UnitPrices,
} from "#contract";
import type { ModelPrice } from "#pricing";
import type { Tallied } from "#store";

/** An entry of the price book, read once, to rate sums of calls with. */
export type SumPrice = {
  readonly id: number;
  /** The version of the book in which it came. */
  readonly version: number;
  /** Packed. */
  readonly currency: number;
  readonly unit: UnitPrices;
  readonly isCharged: readonly boolean[];
  readonly namesTokens: boolean;
};

export function createSumPrice({ id, version, terms }: ModelPrice): SumPrice {
  const unit = createUnitPrices(terms);
  const { chargedOutcomes = CHARGED_OUTCOMES } = terms;
  return {
    id,
    version,
    currency: packCurrency(unit.currency),
    unit,
    isCharged: OUTCOMES.map((outcome) => chargedOutcomes.includes(outcome)),
    namesTokens: unit.steps.some(({ amounts }) => amounts.size > 0),
  };
}

/** Calls of a rollup row: of one org and model, outcome and rating. */
export type SummedCalls = TokenClasses & {
  readonly outcome: number;
  /** See `ratingOf`; 0: unpriced. */
  readonly rating: number;
  readonly requests: number;
  readonly nanoBefore: bigint;
};

/** Which prices there are for the calls of a row, of its org and model and in its time. */
export type PricesOfSum = {
  /** Which of them come first and hold, one after another; undefined: none does. */
  readonly holding: readonly (SumPrice | undefined)[];
  /** All entries in force, whichever comes first. */
  readonly inForce: readonly SumPrice[];
  /** All that ever were in force. */
  readonly ever: readonly SumPrice[];
  /** Whether a pool may ever have shared its cost with them. */
  readonly isPooled: boolean;
  /** Whether only some of the time is asked for. */
  readonly isCut: boolean;
};

/** What a row's calls cost together, or why nobody can tell. Undefined: each has what it should have already. */
export type SumRating = { readonly nano: bigint } | { readonly left: Exclude<Tallied, "rated"> };

/** Amounts below this are what one event may hold. */
const EVENT_NANO_MAX = 2n ** 53n;

/**
 * What the price book makes of calls of which only sums are known: what it would make of each, added up, to the billionth;
 * or nothing, where that is not certain.
 */
export function rateSum(calls: SummedCalls, prices: PricesOfSum): SumRating | undefined {
  const { holding, ever, isCut, isPooled } = prices;
  const [price] = holding;
  const areNone = holding.every((one) => one === undefined);
  if (calls.rating === 0) return areNone ? undefined : { left: "unpriced" };
  // Where no price of a model ever was, a pool's share is all there can be; an order leaves it alone.
  if (isPooled) return ever.length === 0 ? undefined : { left: "pool" };
  if (isUnchanged(prices)) return undefined;
  if (isCut) return { left: "cut" };
  if (areNone) return { left: "no_price" };
  if (price === undefined || holding.some((one) => one?.id !== price.id)) return { left: "turn" };
  if (price.currency !== Math.abs(calls.rating)) return { left: "currency" };
  if (!price.isCharged[calls.outcome]) return { nano: 0n };
  return rateCharged(calls, price, ever);
}

/** Whether the entries that any of the calls can have been rated by have been the same ones since there were any. */
const isUnchanged = ({ inForce, ever }: PricesOfSum): boolean =>
  ever.length > 0 &&
  ever.length === inForce.length &&
  ever.every(({ version }) => version === ever[0]?.version);

function rateCharged(calls: SummedCalls, price: SumPrice, ever: readonly SumPrice[]): SumRating {
  const { unit } = price;
  if (unit.steps.length > 1 || unit.perMillisecond !== null) return { left: "not_linear" };
  // Calls whose usage nobody counted have a cost where only tokens have a price that is not asked for, or none has.
  const countsAll = ever.every((one) => one.namesTokens && one.isCharged[calls.outcome]);
  if (price.namesTokens && !countsAll) return { left: "not_counted" };
  const cost = rateExactly(unit, { ...calls, durationMs: null });
  if ("unpricedClasses" in cost) return { left: "class_unpriced" };
  // With whole billionths for each token and call no event's cost was rounded, and their sum is that of the tokens.
  const amounts = TOKEN_CLASSES.filter((name) => calls[`${name}Tokens`] > 0).map(
    (name) => unit.steps[0]?.amounts.get(name) ?? 0n,
  );
  if ([...amounts, unit.perRequest ?? 0n].some((amount) => amount % cost.denominator !== 0n))
    return { left: "fraction" };
  const nano = cost.numerator / cost.denominator;
  return nano < EVENT_NANO_MAX ? { nano } : { left: "too_large" };
}
