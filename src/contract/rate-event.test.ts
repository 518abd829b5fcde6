import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  createUnitPrices,
  type Price,
  rateUsage,
  TOKEN_CLASSES,
  type TokenClass,
} from "./price.ts";
import { createEventRater, type RateableEvent } from "./rate-event.ts";
import { OUTCOMES, packCurrency, USAGE_SOURCE_SHIFT } from "./usage-event.ts";

const NOTHING: RateableEvent = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWrite5mTokens: 0,
  cacheWrite1hTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  requests: 1,
  latencyMs: null,
  outcome: 0,
  flags: 0,
};
const rate = (price: Price, event: Partial<RateableEvent>): number | null =>
  createEventRater(price).rate({ ...NOTHING, ...event });

const PRICE: Price = { currency: "EUR", perMillion: { input: "2.50", output: "10" } };

const INT4_MAX = 2 ** 31 - 1;
const amount = fc
  .tuple(fc.integer({ min: 0, max: 99_999 }), fc.stringMatching(/^\d{0,12}$/))
  .map(([whole, fraction]) => (fraction === "" ? `${whole}` : `${whole}.${fraction}`));
const tokenPrices = fc.record(
  Object.fromEntries(TOKEN_CLASSES.map((name) => [name, amount])) as Record<
    TokenClass,
    fc.Arbitrary<string>
  >,
  { requiredKeys: ["input"] },
);
const prices = fc.record(
  {
    currency: fc.constant("USD"),
    perMillion: tokenPrices,
    perRequest: amount,
    perSecond: amount,
    tiers: fc
      .tuple(fc.integer({ min: 1, max: 300_000 }), tokenPrices)
      .map(([aboveInputTokens, perMillion]) => [{ aboveInputTokens, perMillion }]),
  },
  { requiredKeys: ["currency", "perMillion"] },
);
const count = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 500_000 }) },
  fc.integer({ min: 0, max: INT4_MAX }),
);
const events = fc.record({
  inputTokens: count,
  cacheReadTokens: count,
  cacheWrite5mTokens: count,
  cacheWrite1hTokens: count,
  outputTokens: count,
  reasoningTokens: count,
  requests: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: INT4_MAX })),
  latencyMs: fc.option(fc.integer({ min: 0, max: INT4_MAX })),
});

test("an event's rating is that of exact arithmetic, to the last unit, or nothing beyond 2^53", () => {
  fc.assert(
    fc.property(prices, events, (price, event) => {
      const durationMs =
        event.latencyMs === null ? null : BigInt(event.latencyMs) * BigInt(event.requests);
      const exact = rateUsage(createUnitPrices(price), { ...event, durationMs });
      const wanted = "nano" in exact && exact.nano < 2n ** 53n ? Number(exact.nano) : null;
      assert.equal(rate(price, event), wanted);
    }),
    { numRuns: 2000 },
  );
});

test("halves of a billionth are rounded up, what is less is rounded down", () => {
  const finest = (input: string): Price => ({ currency: "USD", perMillion: { input } });
  assert.equal(rate(finest("0.0005"), { inputTokens: 1 }), 1);
  assert.equal(rate(finest("0.0004999999"), { inputTokens: 1 }), 0);
  assert.equal(rate(finest("0.0005"), { inputTokens: 3 }), 2);
});

test("errors cost nothing and cancelled calls what they used, unless the price says otherwise", () => {
  const costs = (price: Price) =>
    OUTCOMES.map((_, outcome) => rate(price, { outcome, inputTokens: 1_000_000 }));
  const full = 2_500_000_000;
  assert.deepEqual(costs(PRICE), [full, full, 0, 0, 0, 0, 0]);
  assert.deepEqual(costs({ ...PRICE, chargedOutcomes: ["success", "upstream"] }), [
    full,
    0,
    0,
    0,
    full,
    0,
    0,
  ]);
  assert.equal(createEventRater(PRICE).currency, packCurrency("EUR"));
});

test("what has no price, and what nobody counted, is unpriced and not free", () => {
  assert.equal(rate(PRICE, { cacheReadTokens: 1 }), null);
  assert.equal(rate({ ...PRICE, perSecond: "1" }, { inputTokens: 1 }), null, "no duration");
  const absent = 2 << USAGE_SOURCE_SHIFT;
  assert.equal(rate(PRICE, { flags: absent }), null);
  assert.equal(rate(PRICE, { flags: absent, outcome: 6 }), 0, "an error is not charged at all");
  const perCall: Price = { currency: "USD", perMillion: {}, perRequest: "0.01" };
  assert.equal(rate(perCall, { flags: absent }), 10_000_000, "a call is a call");
});
