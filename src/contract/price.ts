import { Failure, type FailureDetail } from "./failure.ts";
import { isKnownCurrency } from "./money.ts";
import { type OutcomeName, OUTCOMES, packCurrency, type TokenClasses } from "./usage-event.ts";

/** The token classes of an event by the names that prices use; each is a field of `TokenClasses` with "Tokens" behind. */
export const TOKEN_CLASSES = [
  "input",
  "cacheRead",
  "cacheWrite5m",
  "cacheWrite1h",
  "output",
  "reasoning",
] as const;
export type TokenClass = (typeof TOKEN_CLASSES)[number];

/** Units of currency per million tokens of a class, as plain decimal text ("2.50"). "0" is free; absent is no price. */
export type TokenPrices = { readonly [C in TokenClass]?: string | undefined };

/** Prices of calls with a long input. `aboveInputTokens` is the largest input side that still has the prices below. */
export type PriceTier = { readonly aboveInputTokens: number; readonly perMillion: TokenPrices };

/**
 * What a model's calls cost, as stored and shown: every amount is plain decimal text, in units of `currency`.
 *
 * A tier holds for the whole call, not for the tokens above its bound, when the call's input side (input + cache read +
 * cache writes) is above `aboveInputTokens`. Of the tiers that hold, the highest that names a class gives its price; a
 * class that none names keeps the price of `perMillion`.
 *
 * A class is never priced by a guess: used without a price of its own, it leaves the whole call unpriced. The one
 * exception is reasoning, which without a price of its own costs what output costs, as providers bill it.
 */
export type Price = {
  /** ISO 4217, upper case. */
  readonly currency: string;
  readonly perMillion: TokenPrices;
  /** Per call, whatever it used. */
  readonly perRequest?: string | undefined;
  /** Per second between request and end of answer. */
  readonly perSecond?: string | undefined;
  /** In rising order of `aboveInputTokens`. */
  readonly tiers?: readonly PriceTier[] | undefined;
  /** Outcomes of calls that are charged; all others cost nothing, which is a price. Left out: CHARGED_OUTCOMES. */
  readonly chargedOutcomes?: readonly OutcomeName[] | undefined;
};

/** What is charged where a price does not say: answers, and what a cancelled call used until then. Errors are not. */
export const CHARGED_OUTCOMES: readonly OutcomeName[] = ["success", "cancelled"];

/** What is to be paid for: one call, a batch record, or (where the price is linear) a sum of any calls. */
export type RateableUsage = { readonly [K in keyof TokenClasses]: number | bigint } & {
  /** Calls the counts stand for, ≥ 1. */
  readonly requests: number | bigint;
  /** Milliseconds of all these calls together; null when unknown, which is not 0. */
  readonly durationMs: number | bigint | null;
};

/** What a call used that has no price: token classes, or `duration` where seconds are priced but unknown. */
export type UnpricedPart = TokenClass | "duration";

/** A cost in billionths of the price's currency, or why there is none. Unpriced is never 0. */
export type Rating = { readonly nano: bigint } | Unpriced;
export type Unpriced = { readonly unpricedClasses: readonly [UnpricedPart, ...UnpricedPart[]] };

const PRICE_TEXT = /^(0|[1-9]\d{0,11})(?:\.(\d{1,30}))?$/;
/** Whether `text` is an amount as prices write it: 0 or more, no exponent, below 10^12, at most 30 fraction digits. */
export const isPriceText = (text: string): boolean => PRICE_TEXT.test(text);

const DECIMAL = /^(0|[1-9]\d*)(?:\.(\d+))?(?:[eE]([+-]?\d{1,3}))?$/;

/**
 * Writes a decimal as JSON writes numbers ("7.5e-8"), times 10^`places`, as price text ("0.075" for places 6), exactly.
 * Null when it is no such decimal, negative, or more than price text can hold.
 */
export function formatPriceText(decimal: string, places = 0): string | null {
  const match = DECIMAL.exec(decimal);
  if (match === null) return null;
  const [, whole = "", fraction = "", exponent = "0"] = match;
  const point = whole.length + Number(exponent) + places;
  const digits = `${"0".repeat(Math.max(0, 1 - point))}${whole}${fraction}`.padEnd(point, "0");
  const head = digits.slice(0, Math.max(1, point)).replace(/^0+(?=\d)/, "");
  const tail = digits.slice(Math.max(1, point)).replace(/0+$/, "");
  const text = tail === "" ? head : `${head}.${tail}`;
  return isPriceText(text) ? text : null;
}

/** What is wrong with a price, each with a pointer into it; empty when it can be rated with. */
export function listPriceFaults(price: Price): FailureDetail[] {
  const faults: FailureDetail[] = [];
  const fault = (pointer: string, message: string): number =>
    faults.push({ pointer, code: "invalid_value", message });

  if (!/^[A-Z]{3}$/.test(price.currency) || !isKnownCurrency(packCurrency(price.currency)))
    fault("/currency", "must be an ISO 4217 code in upper case");
  for (const [pointer, text] of listAmounts(price))
    if (!isPriceText(text))
      fault(pointer, 'must be a decimal of 0 or more as text, such as "0.15"; "0" is free');

  const { perRequest, perSecond, tiers = [], chargedOutcomes = CHARGED_OUTCOMES } = price;
  const isCharging = perRequest !== undefined || perSecond !== undefined;
  if (!isCharging && !namesClass(price.perMillion))
    fault("/perMillion", 'must price something; a model that costs nothing has the price "0"');
  for (const [index, { aboveInputTokens, perMillion }] of tiers.entries()) {
    const below = tiers[index - 1]?.aboveInputTokens ?? 0;
    if (!Number.isSafeInteger(aboveInputTokens) || aboveInputTokens <= below)
      fault(`/tiers/${index}/aboveInputTokens`, `must be a whole number above ${below}`);
    if (!namesClass(perMillion))
      fault(`/tiers/${index}/perMillion`, "must price at least one token class");
  }
  if (new Set(chargedOutcomes).size < chargedOutcomes.length)
    fault("/chargedOutcomes", "names an outcome twice");
  for (const [index, outcome] of chargedOutcomes.entries())
    if (!OUTCOMES.includes(outcome))
      fault(`/chargedOutcomes/${index}`, `must be one of ${OUTCOMES.join(", ")}`);
  return faults;
}

const namesClass = (prices: TokenPrices): boolean =>
  TOKEN_CLASSES.some((name) => prices[name] !== undefined);

/** Every amount of a price, with its pointer. */
function listAmounts(price: Price): [pointer: string, text: string][] {
  const amounts: [string, string | undefined][] = [
    ["/perRequest", price.perRequest],
    ["/perSecond", price.perSecond],
  ];
  const tables: [string, TokenPrices][] = [["/perMillion", price.perMillion]];
  for (const [index, tier] of (price.tiers ?? []).entries())
    tables.push([`/tiers/${index}/perMillion`, tier.perMillion]);
  for (const [pointer, table] of tables)
    for (const name of TOKEN_CLASSES) amounts.push([`${pointer}/${name}`, table[name]]);
  return amounts.flatMap(([pointer, text]) => (text === undefined ? [] : [[pointer, text]]));
}

/** Whether the exact cost of any calls together is that of their summed usage: so, unless there are tiers. */
export const isLinear = (price: Price): boolean => (price.tiers ?? []).length === 0;

type Amounts = ReadonlyMap<TokenClass, bigint>;

/** A price read once, to rate many calls with: see `createUnitPrices`. */
export type UnitPrices = {
  readonly currency: string;
  /** Amounts per million tokens are counted in 10^-scale units of the currency; at least 3. */
  readonly scale: number;
  /** By rising bound; each holds for input sides above its bound and names all classes that have a price there. */
  readonly steps: readonly { readonly above: bigint; readonly amounts: Amounts }[];
  /** Per call, and per millisecond, in 10^-(scale + 6) units; null where there is no such price. */
  readonly perRequest: bigint | null;
  readonly perMillisecond: bigint | null;
};

/** Reads a price, to be kept and used for many calls. Throws `invalid_request` with what `listPriceFaults` finds. */
export function createUnitPrices(price: Price): UnitPrices {
  const details = listPriceFaults(price);
  if (details.length > 0)
    throw new Failure("invalid_request", "The price is not valid.", { details });

  const scale = Math.max(3, ...listAmounts(price).map(([, text]) => countDecimals(text)));
  const tiers = [{ aboveInputTokens: -1, perMillion: price.perMillion }, ...(price.tiers ?? [])];
  let named = new Map<TokenClass, bigint>();
  const steps = tiers.map(({ aboveInputTokens, perMillion }) => {
    named = new Map(named);
    for (const name of TOKEN_CLASSES) {
      const text = perMillion[name];
      if (text !== undefined) named.set(name, scaleAmount(text, scale));
    }
    return { above: BigInt(aboveInputTokens), amounts: withReasoning(named) };
  });
  return {
    currency: price.currency,
    scale,
    steps,
    perRequest: price.perRequest === undefined ? null : scaleAmount(price.perRequest, scale + 6),
    perMillisecond: price.perSecond === undefined ? null : scaleAmount(price.perSecond, scale + 3),
  };
}

/** Reasoning costs what output costs where it has no price of its own. */
function withReasoning(named: Amounts): Amounts {
  const output = named.get("output");
  if (named.has("reasoning") || output === undefined) return named;
  return new Map(named).set("reasoning", output);
}

const countDecimals = (text: string): number => PRICE_TEXT.exec(text)?.[2]?.length ?? 0;

/** The amount in 10^-scale units; `scale` is not below its decimals. */
const scaleAmount = (text: string, scale: number): bigint =>
  BigInt(text.replace(".", "")) * 10n ** BigInt(scale - countDecimals(text));

/** A cost before it is rounded: numerator / denominator billionths of the currency's unit. */
export type ExactCost = { readonly numerator: bigint; readonly denominator: bigint };

/**
 * The exact cost of usage: the sum of counts times unit prices, not rounded. Whether the counts are known at all is for
 * the caller to say: usage that nobody counted has zeros here and must not be rated.
 */
export function rateExactly(prices: UnitPrices, usage: RateableUsage): ExactCost | Unpriced {
  const amounts = findAmounts(prices, usage);
  const unpriced: UnpricedPart[] = [];
  let sum = BigInt(usage.requests) * (prices.perRequest ?? 0n);
  for (const name of TOKEN_CLASSES) {
    const count = BigInt(usage[`${name}Tokens`]);
    const amount = amounts.get(name);
    if (amount !== undefined) sum += count * amount;
    else if (count > 0n) unpriced.push(name);
  }
  if (prices.perMillisecond !== null) {
    if (usage.durationMs === null) unpriced.push("duration");
    else sum += BigInt(usage.durationMs) * prices.perMillisecond;
  }
  const [first, ...rest] = unpriced;
  if (first !== undefined) return { unpricedClasses: [first, ...rest] };
  return { numerator: sum, denominator: 10n ** BigInt(prices.scale - 3) };
}

/** Of a batch record the average call decides, exactly: its calls are equal ones by contract. */
function findAmounts(prices: UnitPrices, usage: RateableUsage): Amounts {
  const inputSide =
    BigInt(usage.inputTokens) +
    BigInt(usage.cacheReadTokens) +
    BigInt(usage.cacheWrite5mTokens) +
    BigInt(usage.cacheWrite1hTokens);
  const requests = BigInt(usage.requests);
  const step = prices.steps.findLast(({ above }) => inputSide > above * requests);
  return step?.amounts ?? new Map();
}

/**
 * What usage costs, in billionths of the price's currency, or which parts of it have no price. The exact products are
 * added up first and their sum is rounded once, half up; so a call's cost is within half a billionth of exact, and no
 * class of it is rounded alone. Not bounded: whether an event can hold the amount is for the caller to see.
 */
export function rateUsage(prices: UnitPrices, usage: RateableUsage): Rating {
  const cost = rateExactly(prices, usage);
  return "unpricedClasses" in cost ? cost : { nano: roundCost(cost) };
}

/** Billionths, rounded half up; costs are never negative. */
export const roundCost = ({ numerator, denominator }: ExactCost): bigint =>
  (2n * numerator + denominator) / (2n * denominator);
