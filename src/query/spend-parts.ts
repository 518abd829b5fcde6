/** Priced usage of a model in a window, in one currency: calls, tokens, and money in billionths. */
export type Spend = { requests: bigint; tokens: bigint; nano: bigint };
export type SpendPair = { previous: Spend; current: Spend };

/** What a change of spend is made of. */
export const PARTS = [
  "requests",
  "tokensPerRequest",
  "modelMix",
  "price",
  "modelsCame",
  "modelsWent",
] as const;
export type Part = (typeof PARTS)[number];
/** Billionths of the currency's unit. */
export type Parts = Record<Part, bigint>;

/** By what a model's change is split: its tokens, its calls where it has no tokens to go by, or not at all. */
export const BASES = ["tokens", "requests", "came", "went"] as const;
export type Basis = (typeof BASES)[number];

/** How one model's spend changed. The parts add up to `nano`, to the last billionth. */
export type ModelChange = SpendPair & { basis: Basis; nano: bigint; parts: Parts };

export const noSpend = (): Spend => ({ requests: 0n, tokens: 0n, nano: 0n });
export const noParts = (): Parts => ({
  requests: 0n,
  tokensPerRequest: 0n,
  modelMix: 0n,
  price: 0n,
  modelsCame: 0n,
  modelsWent: 0n,
});

/** The sum of spends. */
export function totalSpendOf(spends: Iterable<Spend>): Spend {
  const total = noSpend();
  for (const spend of spends) {
    total.requests += spend.requests;
    total.tokens += spend.tokens;
    total.nano += spend.nano;
  }
  return total;
}

/** The sum of parts. */
export function totalPartsOf(all: Iterable<Parts>): Parts {
  const total = noParts();
  for (const parts of all) for (const part of PARTS) total[part] += parts[part];
  return total;
}

/**
 * Splits the change of each model's spend exactly. Spend of a model is requests × tokens per request (both of all
 * models that are compared) × the model's share of tokens × its cost per token; the factors are put to their new value
 * one after the other in this order, and each part is what its step changes. So `price` is what the current tokens cost
 * more than at the previous cost per token of their model, and a model's mix of token classes is in its price.
 *
 * A model with priced calls in one window only came or went, and is in no factor of the others: one that replaces
 * another is seen as both. Models without priced tokens in a window (paid by the call or second) are split likewise
 * among themselves, by requests × share of requests × cost per request.
 *
 * Parts are exact fractions, rounded half up to billionths per model; the largest of them takes what the rounding
 * left, at most two billionths, so that parts and models add up both ways.
 */
export function splitChanges<Key>(models: ReadonlyMap<Key, SpendPair>): Map<Key, ModelChange> {
  const totals = { tokens: totalsOf(models, "tokens"), requests: totalsOf(models, "requests") };
  return new Map(
    [...models].map(([key, pair]) => {
      const basis = basisOf(pair);
      const nano = pair.current.nano - pair.previous.nano;
      const parts = { ...noParts(), ...partsOf(pair, basis, totals) };
      return [key, { ...pair, basis, nano, parts }];
    }),
  );
}

function basisOf({ previous, current }: SpendPair): Basis {
  if (previous.requests === 0n) return "came";
  if (current.requests === 0n) return "went";
  return previous.tokens > 0n && current.tokens > 0n ? "tokens" : "requests";
}

function totalsOf(models: ReadonlyMap<unknown, SpendPair>, basis: Basis): SpendPair {
  const pairs = [...models.values()].filter((pair) => basisOf(pair) === basis);
  return {
    previous: totalSpendOf(pairs.map(({ previous }) => previous)),
    current: totalSpendOf(pairs.map(({ current }) => current)),
  };
}

type Totals = Record<"tokens" | "requests", SpendPair>;

function partsOf(pair: SpendPair, basis: Basis, totals: Totals): Partial<Parts> {
  const change = pair.current.nano - pair.previous.nano;
  if (basis === "came") return { modelsCame: change };
  if (basis === "went") return { modelsWent: change };
  const { previous: all0, current: all1 } = totals[basis];
  const [was, is] = [pair.previous[basis], pair.current[basis]];
  const cost = pair.previous.nano;
  const moreRequests = {
    part: "requests",
    top: cost * (all1.requests - all0.requests),
    bottom: all0.requests,
  } as const;
  const longerRequests = {
    part: "tokensPerRequest",
    top: cost * (all1.tokens * all0.requests - all1.requests * all0.tokens),
    bottom: all0.tokens * all0.requests,
  } as const;
  const otherShare = {
    part: "modelMix",
    top: cost * (is * all0[basis] - all1[basis] * was),
    bottom: was * all0[basis],
  } as const;
  const otherPrice = {
    part: "price",
    top: pair.current.nano * was - cost * is,
    bottom: was,
  } as const;
  return basis === "tokens"
    ? apportion(change, [moreRequests, longerRequests, otherShare, otherPrice])
    : apportion(change, [moreRequests, otherShare, otherPrice]);
}

/** A part as a fraction of billionths; `bottom` is above 0. */
type Fraction = { part: Part; top: bigint; bottom: bigint };

/** Fractions that add up to `whole`, rounded so that they still do. */
function apportion(whole: bigint, fractions: readonly Fraction[]): Partial<Parts> {
  const parts: Partial<Parts> = {};
  let left = whole;
  let largest: Fraction | undefined;
  for (const fraction of fractions) {
    const rounded = divideHalfUp(fraction.top, fraction.bottom);
    parts[fraction.part] = rounded;
    left -= rounded;
    if (largest === undefined || isLarger(fraction, largest)) largest = fraction;
  }
  if (largest !== undefined) parts[largest.part] = (parts[largest.part] ?? 0n) + left;
  return parts;
}

const magnitude = (n: bigint): bigint => (n < 0n ? -n : n);
const isLarger = (a: Fraction, b: Fraction): boolean =>
  magnitude(a.top) * b.bottom > magnitude(b.top) * a.bottom;

/** The whole number nearest to a fraction, the greater of two; `bottom` is above 0. */
function divideHalfUp(top: bigint, bottom: bigint): bigint {
  const doubled = 2n * top + bottom;
  const quotient = doubled / (2n * bottom);
  // Division of bigints cuts towards 0.
  return doubled < 0n && doubled % (2n * bottom) !== 0n ? quotient - 1n : quotient;
}
