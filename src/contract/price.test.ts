import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import fc from "fast-check";
import { Failure } from "./failure.ts";
import {
  TOKEN_CLASSES,
  createUnitPrices,
  formatPriceText,
  isLinear,
  listPriceFaults,
  rateExactly,
  rateUsage,
} from "./price.ts";
import type { Price, RateableUsage, TokenClass, TokenPrices } from "./price.ts";

const NO_USAGE: RateableUsage = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWrite5mTokens: 0,
  cacheWrite1hTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  requests: 1,
  durationMs: null,
};
const using = (usage: Partial<RateableUsage>): RateableUsage => ({ ...NO_USAGE, ...usage });

const perMillion = (prices: TokenPrices): Price => ({ currency: "USD", perMillion: prices });
const rate = (price: Price, usage: Partial<RateableUsage>) =>
  rateUsage(createUnitPrices(price), using(usage));

/** A price text together with what it says, as the fraction digits / 10^decimals. */
type Amount = { text: string; digits: bigint; decimals: number };
const amounts = (decimalsMax: number): fc.Arbitrary<Amount> =>
  fc
    .record({
      whole: fc.bigInt({ min: 0n, max: 99_999n }),
      fraction: fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: decimalsMax }),
    })
    .map(({ whole, fraction }) => ({
      text: fraction.length === 0 ? `${whole}` : `${whole}.${fraction.join("")}`,
      digits: BigInt(`${whole}${fraction.join("")}`),
      decimals: fraction.length,
    }));

const tokenAmounts = (decimalsMax: number): fc.Arbitrary<Record<TokenClass, Amount>> =>
  fc.record({
    input: amounts(decimalsMax),
    cacheRead: amounts(decimalsMax),
    cacheWrite5m: amounts(decimalsMax),
    cacheWrite1h: amounts(decimalsMax),
    output: amounts(decimalsMax),
    reasoning: amounts(decimalsMax),
  });

const textsOf = (of: Record<TokenClass, Amount>): Record<TokenClass, string> => ({
  input: of.input.text,
  cacheRead: of.cacheRead.text,
  cacheWrite5m: of.cacheWrite5m.text,
  cacheWrite1h: of.cacheWrite1h.text,
  output: of.output.text,
  reasoning: of.reasoning.text,
});

const count = fc.oneof(fc.constant(0), fc.nat(2000), fc.nat(2 ** 31 - 1));
const usages = fc.record({
  inputTokens: count,
  cacheReadTokens: count,
  cacheWrite5mTokens: count,
  cacheWrite1hTokens: count,
  outputTokens: count,
  reasoningTokens: count,
  requests: fc.integer({ min: 1, max: 1000 }),
  durationMs: fc.nat(10_000_000),
});

const sumOf = (a: RateableUsage, b: RateableUsage): RateableUsage => ({
  inputTokens: BigInt(a.inputTokens) + BigInt(b.inputTokens),
  cacheReadTokens: BigInt(a.cacheReadTokens) + BigInt(b.cacheReadTokens),
  cacheWrite5mTokens: BigInt(a.cacheWrite5mTokens) + BigInt(b.cacheWrite5mTokens),
  cacheWrite1hTokens: BigInt(a.cacheWrite1hTokens) + BigInt(b.cacheWrite1hTokens),
  outputTokens: BigInt(a.outputTokens) + BigInt(b.outputTokens),
  reasoningTokens: BigInt(a.reasoningTokens) + BigInt(b.reasoningTokens),
  requests: BigInt(a.requests) + BigInt(b.requests),
  durationMs: BigInt(a.durationMs ?? 0) + BigInt(b.durationMs ?? 0),
});

/** The cost, which there must be. */
function nanoOf(price: Price, usage: RateableUsage): bigint {
  const rating = rateUsage(createUnitPrices(price), usage);
  assert.ok("nano" in rating, `unpriced: ${inspect(rating)}`);
  return rating.nano;
}

test("a cost is the sum of all counts times their prices, rounded half up once", () => {
  fc.assert(
    fc.property(
      tokenAmounts(30),
      amounts(30),
      amounts(30),
      usages,
      (tokens, perRequest, perSecond, usage) => {
        // Every product over one denominator that is far finer than any of them.
        const over = 10n ** 60n;
        const billionths = (amount: Amount, quantity: number, per: bigint): bigint =>
          (amount.digits * BigInt(quantity) * 10n ** 9n * over) /
          (10n ** BigInt(amount.decimals) * per);
        const exact =
          TOKEN_CLASSES.map((name) =>
            billionths(tokens[name], usage[`${name}Tokens`], 1_000_000n),
          ).reduce((a, b) => a + b) +
          billionths(perRequest, usage.requests, 1n) +
          billionths(perSecond, usage.durationMs, 1000n);
        const price = {
          currency: "USD",
          perMillion: textsOf(tokens),
          perRequest: perRequest.text,
          perSecond: perSecond.text,
        };
        assert.equal(nanoOf(price, usage), (exact + over / 2n) / over);
      },
    ),
  );
});

test("halves of a billionth are rounded up, and of a call only the sum is rounded", () => {
  const half = perMillion({ input: "0.0005", output: "0.0004" });
  assert.deepEqual(rate(half, { inputTokens: 1 }), { nano: 1n });
  assert.deepEqual(rate(half, { inputTokens: 5 }), { nano: 3n });
  assert.deepEqual(rate(half, { outputTokens: 1 }), { nano: 0n });
  assert.deepEqual(rate(half, { inputTokens: 1, outputTokens: 1 }), { nano: 1n });
  assert.deepEqual(rate(half, { outputTokens: 1, reasoningTokens: 1 }), { nano: 1n });
});

test("more usage never costs less", () => {
  fc.assert(
    fc.property(tokenAmounts(9), amounts(9), usages, usages, (tokens, other, usage, more) => {
      const price = { ...perMillion(textsOf(tokens)), perRequest: other.text };
      assert.ok(nanoOf(price, sumOf(usage, more)) >= nanoOf(price, usage));
    }),
  );
});

test("costs of classes and calls add up where nothing is rounded", () => {
  fc.assert(
    fc.property(tokenAmounts(3), usages, usages, (tokens, a, b) => {
      const price = perMillion(textsOf(tokens));
      assert.equal(nanoOf(price, sumOf(a, b)), nanoOf(price, a) + nanoOf(price, b));
      const byClass = TOKEN_CLASSES.map((name) =>
        nanoOf(price, using({ [`${name}Tokens`]: a[`${name}Tokens`] })),
      );
      assert.equal(
        nanoOf(price, a),
        byClass.reduce((sum, part) => sum + part),
      );
    }),
  );
});

test("without tiers the exact cost of calls together is that of their sum", () => {
  fc.assert(
    fc.property(tokenAmounts(30), amounts(30), usages, usages, (tokens, other, a, b) => {
      const price = {
        ...perMillion(textsOf(tokens)),
        perRequest: other.text,
        perSecond: other.text,
      };
      assert.equal(isLinear(price), true);
      const prices = createUnitPrices(price);
      const [first, second, both] = [a, b, sumOf(a, b)].map((usage) => {
        const cost = rateExactly(prices, usage);
        assert.ok("numerator" in cost);
        return cost;
      });
      assert.ok(first !== undefined && second !== undefined);
      assert.deepEqual(both, {
        numerator: first.numerator + second.numerator,
        denominator: first.denominator,
      });
    }),
  );
  const tier = { aboveInputTokens: 1, perMillion: { input: "2" } };
  assert.equal(isLinear({ ...perMillion({ input: "1" }), tiers: [tier] }), false);
  assert.equal(isLinear({ ...perMillion({ input: "1" }), tiers: [] }), true);
});

test("usage of a class without a price is unpriced and never 0, and the answer says which", () => {
  const priced = fc.subarray([...TOKEN_CLASSES], { minLength: 1 });
  fc.assert(
    fc.property(priced, usages, (names, usage) => {
      const price = perMillion(Object.fromEntries(names.map((name) => [name, "1.5"])));
      const hasPrice = (name: TokenClass): boolean =>
        names.includes(name) || (name === "reasoning" && names.includes("output"));
      const expected = TOKEN_CLASSES.filter(
        (name) => usage[`${name}Tokens`] > 0 && !hasPrice(name),
      );
      const rating = rateUsage(createUnitPrices(price), usage);
      if (expected.length > 0) assert.deepEqual(rating, { unpricedClasses: expected });
      else assert.ok("nano" in rating);
    }),
  );
  assert.deepEqual(rate(perMillion({ input: "1" }), {}), { nano: 0n }, "nothing used");
  assert.deepEqual(rate(perMillion({ input: "0" }), { inputTokens: 7 }), { nano: 0n }, "free");
  assert.deepEqual(rate(perMillion({ output: "1", reasoning: "0" }), { reasoningTokens: 9 }), {
    nano: 0n,
  });
});

test("reasoning costs what output costs, unless it has a price of its own", () => {
  const tiers = [{ aboveInputTokens: 10, perMillion: { output: "3" } }];
  const shared = { ...perMillion({ input: "0", output: "2" }), tiers };
  assert.deepEqual(rate(shared, { reasoningTokens: 1 }), { nano: 2000n });
  assert.deepEqual(rate(shared, { inputTokens: 11, reasoningTokens: 1 }), { nano: 3000n });
  const own = { ...perMillion({ input: "0", output: "2", reasoning: "5" }), tiers };
  assert.deepEqual(rate(own, { reasoningTokens: 1 }), { nano: 5000n });
  assert.deepEqual(rate(own, { inputTokens: 11, reasoningTokens: 1 }), { nano: 5000n });
});

const TIERED: Price = {
  currency: "USD",
  perMillion: { input: "1.25", cacheRead: "0.125", cacheWrite5m: "1.25", output: "10" },
  tiers: [
    { aboveInputTokens: 200_000, perMillion: { input: "2.50", output: "15" } },
    { aboveInputTokens: 500_000, perMillion: { output: "20", cacheRead: "0.5" } },
  ],
};

test("a tier holds for the whole call, from one input token above its bound", () => {
  assert.deepEqual(rate(TIERED, { inputTokens: 200_000, outputTokens: 1000 }), {
    nano: 200_000n * 1250n + 1000n * 10_000n,
  });
  assert.deepEqual(rate(TIERED, { inputTokens: 200_001, outputTokens: 1000 }), {
    nano: 200_001n * 2500n + 1000n * 15_000n,
  });
  assert.deepEqual(rate(TIERED, { inputTokens: 1, outputTokens: 900_000 }), {
    nano: 1250n + 900_000n * 10_000n,
  });
});

test("cache reads and writes count towards a tier's bound", () => {
  const below = { inputTokens: 1, cacheReadTokens: 100_000, cacheWrite5mTokens: 99_999 };
  assert.deepEqual(rate(TIERED, below), {
    nano: 1250n + 100_000n * 125n + 99_999n * 1250n,
  });
  assert.deepEqual(rate(TIERED, { ...below, cacheReadTokens: 100_001 }), {
    nano: 2500n + 100_001n * 125n + 99_999n * 1250n,
  });
});

test("a class that the highest tier does not name keeps the price of the one below", () => {
  const usage = { inputTokens: 400_000, cacheReadTokens: 100_001, outputTokens: 1 };
  assert.deepEqual(rate(TIERED, usage), {
    nano: 400_000n * 2500n + 100_001n * 500n + 20_000n,
  });
});

test("of a batch record the average call decides on the tier", () => {
  const [inputTokens, requests] = [600_000, 3];
  assert.deepEqual(rate(TIERED, { inputTokens, requests }), { nano: 600_000n * 1250n });
  assert.deepEqual(rate(TIERED, { inputTokens: inputTokens + 1, requests }), {
    nano: 600_001n * 2500n,
  });
});

test("requests and seconds are charged beside tokens; seconds that are unknown leave a call unpriced", () => {
  const price = { ...perMillion({ input: "1" }), perRequest: "0.002", perSecond: "0.0003" };
  const usage = { inputTokens: 10, requests: 4, durationMs: 1234 };
  assert.deepEqual(rate(price, usage), { nano: 10_000n + 8_000_000n + 370_200n });
  assert.deepEqual(rate(price, { ...usage, durationMs: null, outputTokens: 1 }), {
    unpricedClasses: ["output", "duration"],
  });
  assert.deepEqual(rate({ currency: "EUR", perMillion: {}, perRequest: "1" }, { requests: 2 }), {
    nano: 2_000_000_000n,
  });
});

test("a price that cannot be rated with is refused with every fault and where it is", () => {
  const broken: Price = {
    currency: "usd",
    perMillion: { input: "1e-7", output: "-1", reasoning: "" },
    perSecond: ".5",
    tiers: [
      { aboveInputTokens: 0, perMillion: {} },
      { aboveInputTokens: 5, perMillion: { input: "1,5" } },
      { aboveInputTokens: 5, perMillion: { input: "1.0" } },
    ],
  };
  const pointers = listPriceFaults(broken).map(({ pointer }) => pointer);
  assert.deepEqual(pointers.toSorted(), [
    "/currency",
    "/perMillion/input",
    "/perMillion/output",
    "/perMillion/reasoning",
    "/perSecond",
    "/tiers/0/aboveInputTokens",
    "/tiers/0/perMillion",
    "/tiers/1/perMillion/input",
    "/tiers/2/aboveInputTokens",
  ]);
  assert.throws(
    () => createUnitPrices(broken),
    (error) => error instanceof Failure && error.details.length === pointers.length,
  );
  assert.deepEqual(
    listPriceFaults(perMillion({})).map(({ pointer }) => pointer),
    ["/perMillion"],
  );
  assert.deepEqual(listPriceFaults({ ...perMillion({ input: "1" }), currency: "QQQ" }).length, 1);
  assert.deepEqual(
    listPriceFaults({ ...perMillion({ input: "1" }), chargedOutcomes: ["client", "client"] }).map(
      ({ pointer }) => pointer,
    ),
    ["/chargedOutcomes"],
  );
  assert.deepEqual(listPriceFaults(TIERED), []);
});

test("a decimal per token becomes the exact price text per million", () => {
  const perToken: [string, string][] = [
    ["7.5e-8", "0.075"],
    ["0.000003", "3"],
    ["1.25E-6", "1.25"],
    ["3e-06", "3"],
    ["0.0000000000001", "0.0000001"],
    ["12", "12000000"],
    ["0", "0"],
    ["0.0e5", "0"],
  ];
  for (const [decimal, text] of perToken) assert.equal(formatPriceText(decimal, 6), text);
  for (const decimal of ["-1", "", ".5", "1.", "01", "NaN", "1e7", "1e-37", "1e9999", "0x1"])
    assert.equal(formatPriceText(decimal, 6), null, decimal);
});

test("price text says the same number however the decimal was written", () => {
  const shifts = fc.integer({ min: -8, max: 3 });
  fc.assert(
    fc.property(amounts(12), shifts, shifts, ({ text, digits, decimals }, exponent, places) => {
      const shifted = formatPriceText(`${text}e${exponent}`, places);
      assert.ok(shifted !== null);
      const [whole = "", fraction = ""] = shifted.split(".");
      // Both sides in 10^-40 units.
      assert.equal(
        BigInt(`${whole}${fraction}`) * 10n ** BigInt(40 - fraction.length),
        digits * 10n ** BigInt(40 - decimals + exponent + places),
      );
      assert.doesNotMatch(shifted, /\.(.*0)?$/);
    }),
  );
});
