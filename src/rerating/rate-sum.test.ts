import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  createEventRater,
  OUTCOMES,
  packCurrency,
  type Price,
  type RateableEvent,
  USAGE_SOURCE_SHIFT,
} from "#contract";
import { createSumPrice, type PricesOfSum, rateSum, type SummedCalls } from "./rate-sum.ts";

const USD = packCurrency("USD");
const amount = fc.option(fc.constantFrom("0", "1", "2.5", "0.075", "0.0375"), { nil: undefined });
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 });
const amounts = fc.record({
  input: fc.constantFrom("3", "0.25", "0.0375"),
  cacheRead: amount,
  output: amount,
  reasoning: amount,
});
const anyPrice: fc.Arbitrary<Price> = fc
  .record({
    currency: fc.constantFrom("USD", "USD", "USD", "EUR"),
    perMillion: fc.oneof({ weight: 5, arbitrary: amounts }, fc.constant<Price["perMillion"]>({})),
    perRequest: fc.constantFrom(undefined, "0", "0.000000001", "0.0000000001"),
    perSecond: fc.constantFrom(undefined, undefined, undefined, "0.001"),
    tiers: optional(fc.constant([{ aboveInputTokens: 500, perMillion: { input: "6" } }])),
    chargedOutcomes: fc.constantFrom(undefined, undefined, ["success" as const]),
  })
  .map((price) =>
    price.perMillion.input || price.perSecond
      ? price
      : { ...price, perRequest: price.perRequest ?? "1" },
  );
const count = fc.nat(1000);
const anyEvent: fc.Arbitrary<RateableEvent> = fc
  .record({
    inputTokens: count,
    cacheReadTokens: fc.constantFrom(0, 0, 7),
    cacheWrite5mTokens: fc.constant(0),
    cacheWrite1hTokens: fc.constantFrom(0, 0, 0, 5),
    outputTokens: fc.constantFrom(0, 3),
    reasoningTokens: fc.constantFrom(0, 0, 2),
    requests: fc.constantFrom(1, 1, 4),
    latencyMs: fc.option(count),
    outcome: fc.constant(0),
    flags: fc.constant(0),
  })
  .chain((event) =>
    fc.constantFrom(event, event, event, {
      ...event,
      inputTokens: 0,
      cacheReadTokens: 0,
      cacheWrite1hTokens: 0,
      outputTokens: 0,
      reasoningTokens: 0,
      flags: 2 << USAGE_SOURCE_SHIFT,
    }),
  );

/** A row of calls that have cost what these amounts say. */
function sumOf(events: readonly RateableEvent[], nanos: readonly number[]): SummedCalls {
  const total = (of: (event: RateableEvent) => number) =>
    events.reduce((sum, event) => sum + of(event), 0);
  return {
    outcome: events[0]?.outcome ?? 0,
    rating: USD,
    requests: total((one) => one.requests),
    inputTokens: total((one) => one.inputTokens),
    cacheReadTokens: total((one) => one.cacheReadTokens),
    cacheWrite5mTokens: total((one) => one.cacheWrite5mTokens),
    cacheWrite1hTokens: total((one) => one.cacheWrite1hTokens),
    outputTokens: total((one) => one.outputTokens),
    reasoningTokens: total((one) => one.reasoningTokens),
    nanoBefore: BigInt(nanos.reduce((sum, nano) => sum + nano, 0)),
  };
}

const entry = (id: number, version: number, terms: Price) =>
  createSumPrice({
    id,
    version,
    terms,
    kind: "model",
    subject: "m",
    layer: "own",
    orgId: null,
    from: null,
    to: null,
    source: "test",
  });
/** The second price in place of the first. */
const changed = (former: Price, terms: Price): PricesOfSum => {
  const price = entry(2, 2, terms);
  return {
    holding: [price],
    inForce: [price],
    ever: [entry(1, 1, former), price],
    isPooled: false,
    isCut: false,
  };
};

test("whatever the prices and the calls, what is said of their sum is what each of them comes to, added up", () => {
  const seen = new Map<string, number>();
  const outcome = fc.constantFrom(0, 0, 0, 1, 3);
  fc.assert(
    fc.property(
      anyPrice,
      anyPrice,
      fc.array(anyEvent, { minLength: 1, maxLength: 6 }),
      outcome,
      (former, terms, some, which) => {
        const events = some.map((event) => ({ ...event, outcome: which }));
        const before = createEventRater({ ...former, currency: "USD" });
        const rated = events.filter((event) => before.rate(event) !== null);
        fc.pre(rated.length > 0);
        const sum = sumOf(
          rated,
          rated.map((event) => before.rate(event) ?? 0),
        );
        const rating = rateSum(sum, changed({ ...former, currency: "USD" }, terms));
        assert.ok(rating);
        seen.set("nano" in rating ? "rated" : rating.left, 1);
        if ("left" in rating) return;
        const after = createEventRater(terms);
        const nanos = rated.map((event) => after.rate(event));
        assert.equal(after.currency, USD);
        assert.ok(
          nanos.every((nano) => nano !== null),
          "none would be unpriced",
        );
        assert.equal(
          rating.nano,
          nanos.reduce((total, nano) => total + BigInt(nano ?? 0), 0n),
        );
      },
    ),
    { numRuns: 3000 },
  );
  assert.deepEqual([...seen.keys()].toSorted(), [
    "class_unpriced",
    "currency",
    "fraction",
    "not_counted",
    "not_linear",
    "rated",
  ]);
});

const plain: Price = { currency: "USD", perMillion: { input: "1", output: "2" } };
const dearer: Price = { currency: "USD", perMillion: { input: "3", output: "4" } };
const event: RateableEvent = {
  inputTokens: 100,
  cacheReadTokens: 0,
  cacheWrite5mTokens: 0,
  cacheWrite1hTokens: 0,
  outputTokens: 10,
  reasoningTokens: 5,
  requests: 2,
  latencyMs: null,
  outcome: 0,
  flags: 0,
};
const row = sumOf([event], [130_000]);
const usual = changed(plain, dearer);
const dear = usual.inForce[0];

for (const [name, calls, prices, expected] of [
  ["rated by the price that holds, reasoning as output", row, usual, { nano: 360_000n }],
  [
    "rated by a price that came beside the one there was, and before it",
    row,
    { ...usual, inForce: usual.ever },
    { nano: 360_000n },
  ],
  [
    "rated at nothing where the outcome is not charged",
    { ...row, outcome: OUTCOMES.indexOf("upstream") },
    usual,
    { nano: 0n },
  ],
  [
    "right already under prices that were never others",
    row,
    { ...usual, ever: usual.inForce },
    undefined,
  ],
  [
    "right already where nothing was priced and nothing is",
    { ...row, rating: 0 },
    { ...usual, holding: [undefined] },
    undefined,
  ],
  [
    "right already where there only ever was a pool",
    row,
    { ...usual, holding: [undefined], inForce: [], ever: [], isPooled: true },
    undefined,
  ],
  [
    "left: unpriced, for which calls have a price now is not known",
    { ...row, rating: 0 },
    usual,
    { left: "unpriced" },
  ],
  ["left: a pool may have shared its cost", row, { ...usual, isPooled: true }, { left: "pool" }],
  ["left: the order ends within", row, { ...usual, isCut: true }, { left: "cut" }],
  [
    "left: no price any more",
    row,
    { ...usual, holding: [undefined], inForce: [], ever: usual.inForce },
    { left: "no_price" },
  ],
  ["left: the price turns within", row, { ...usual, holding: [dear, undefined] }, { left: "turn" }],
  ["left: another currency", { ...row, rating: -packCurrency("EUR") }, usual, { left: "currency" }],
  [
    "left: a class that has no price",
    { ...row, cacheReadTokens: 1 },
    usual,
    { left: "class_unpriced" },
  ],
  [
    "left: more than an event may cost",
    { ...row, inputTokens: 2 ** 52 },
    usual,
    { left: "too_large" },
  ],
] as const satisfies readonly [string, SummedCalls, PricesOfSum, ReturnType<typeof rateSum>][])
  test(`calls of which only a sum is known are ${name}`, () => {
    assert.deepEqual(rateSum(calls, prices), expected);
  });
