import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createPriceBook, findPrice, type ModelPrice } from "./price-book.ts";
import { PriceRater } from "./price-rater.ts";

const DAY_US = 86_400_000_000;
const dayOf = (day: number | null): Date | null =>
  day === null ? null : new Date((day * DAY_US) / 1000);

const MODELS = ["gpt-4o", "gpt-4o-mini", "gpt-5", "house"];
const ORGS = ["acme", "globex"];
const entries = fc
  .array(
    fc.record({
      subject: fc.constantFrom(...MODELS, "gpt-*", "gpt-4o*", "*"),
      orgId: fc.constantFrom(null, ...ORGS),
      layer: fc.constantFrom("own" as const, "catalogue" as const),
      days: fc.tuple(
        fc.option(fc.integer({ min: 1, max: 10 })),
        fc.option(fc.integer({ min: 11, max: 20 })),
      ),
    }),
    { maxLength: 12 },
  )
  .map((made) =>
    made.map(({ days: [from, to], ...rest }, index): ModelPrice => ({
      ...rest,
      id: index + 1,
      version: 1,
      kind: "model",
      from: dayOf(from),
      to: dayOf(to),
      source: "test",
      terms: { currency: "USD", perMillion: { input: "1" } },
    })),
  );

test("a rater finds the price that the book has, for every org, model and instant", () => {
  const calls = fc.array(
    fc.record({
      orgId: fc.constantFrom(...ORGS, "initech"),
      modelId: fc.constantFrom(...MODELS, "other"),
      occurredAtUs: fc
        .tuple(fc.integer({ min: 0, max: 22 }), fc.integer({ min: -1, max: 1 }))
        .map(([day, us]) => Math.max(0, day * DAY_US + us)),
    }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(entries, calls, (made, asked) => {
      const book = createPriceBook(1, made);
      const rater = new PriceRater(book);
      for (const call of asked) {
        const { orgId, modelId, occurredAtUs: atUs } = call;
        assert.equal(rater.find(call)?.priceId, findPrice(book, { orgId, modelId, atUs })?.id);
      }
    }),
    { numRuns: 500 },
  );
});
