import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  type ModelChange,
  noParts,
  noSpend,
  PARTS,
  type Parts,
  type Spend,
  type SpendPair,
  splitChanges,
  totalPartsOf,
} from "./spend-parts.ts";

const spend = (requests: bigint, tokens: bigint, nano: bigint): Spend => ({
  requests,
  tokens,
  nano,
});
const split = (models: Record<string, SpendPair>): Map<string, ModelChange> =>
  splitChanges(new Map(Object.entries(models)));
const totalOf = (models: Record<string, SpendPair>): Parts =>
  totalPartsOf([...split(models).values()].map(({ parts }) => parts));
const sumOf = (parts: Parts): bigint => PARTS.reduce((sum, part) => sum + parts[part], 0n);
const only = (parts: Partial<Parts>): Parts => ({ ...noParts(), ...parts });

const counts = (max: bigint) => fc.bigInt({ min: 1n, max });
/** Priced usage, or none; some of it without tokens, some of it a credit. */
const anySpend = fc.oneof(
  { weight: 1, arbitrary: fc.constant(noSpend()) },
  {
    weight: 6,
    arbitrary: fc.record({
      requests: counts(10n ** 9n),
      tokens: fc.oneof(
        { weight: 1, arbitrary: fc.constant(0n) },
        { weight: 5, arbitrary: counts(10n ** 13n) },
      ),
      nano: fc.oneof(
        fc.bigInt({ min: -(10n ** 12n), max: 10n ** 12n }),
        fc.bigInt({ min: 0n, max: 10n ** 22n }),
        fc.constant(0n),
      ),
    }),
  },
);
const books = fc
  .array(fc.tuple(anySpend, anySpend), { maxLength: 12 })
  .map((pairs) =>
    Object.fromEntries(
      pairs.map(([previous, current], i) => [`model-${i}`, { previous, current }]),
    ),
  );

test("the parts add up to the change to the last billionth, of each model and of all together", () => {
  fc.assert(
    fc.property(books, (models) => {
      let change = 0n;
      for (const [key, { previous, current, nano, parts }] of split(models)) {
        assert.deepEqual([previous, current], [models[key]?.previous, models[key]?.current]);
        assert.equal(nano, current.nano - previous.nano);
        assert.equal(sumOf(parts), nano);
        change += nano;
      }
      assert.equal(sumOf(totalOf(models)), change);
    }),
    { numRuns: 1000 },
  );
});

/** What a model would have cost after each factor was put to its new value, as fractions over one divisor. */
function stepsOf(pair: SpendPair, all: readonly SpendPair[], counted: "tokens" | "requests") {
  const sum = (side: "previous" | "current", of: "tokens" | "requests") =>
    all.reduce((total, one) => total + one[side][of], 0n);
  const [r0, r1] = [sum("previous", "requests"), sum("current", "requests")];
  const [n0, n1] = [sum("previous", counted), sum("current", counted)];
  const [own0, own1] = [pair.previous[counted], pair.current[counted]];
  const cost = pair.previous.nano;
  return {
    divisor: r0 * n0 * own0,
    steps: [
      cost * r0 * n0 * own0,
      cost * r1 * n0 * own0,
      cost * r0 * n1 * own0,
      cost * r0 * n0 * own1,
      pair.current.nano * r0 * n0 * own0,
    ],
  };
}

test("each part is what its step changes, within what rounding may move", () => {
  fc.assert(
    fc.property(books, (models) => {
      const changes = [...split(models).values()];
      for (const { basis, parts, ...pair } of changes) {
        if (basis !== "tokens" && basis !== "requests") {
          const part = basis === "came" ? "modelsCame" : "modelsWent";
          assert.deepEqual(parts, only({ [part]: pair.current.nano - pair.previous.nano }));
          continue;
        }
        const peers = changes.filter((change) => change.basis === basis);
        const { divisor, steps } = stepsOf(pair, peers, basis);
        const names = ["requests", "tokensPerRequest", "modelMix", "price"] as const;
        names.forEach((name, i) => {
          const exact = (steps[i + 1] ?? 0n) - (steps[i] ?? 0n);
          const off = 2n * (parts[name] * divisor - exact);
          assert.ok(off <= 5n * divisor && off >= -5n * divisor, `${name}: ${parts[name]}`);
        });
        assert.deepEqual([parts.modelsCame, parts.modelsWent], [0n, 0n]);
      }
    }),
    { numRuns: 1000 },
  );
});

test("the rounding leaves at most two billionths, and the largest part takes them", () => {
  const thirds = totalOf({ a: { previous: spend(3n, 6n, 100n), current: spend(4n, 10n, 200n) } });
  // Each is 33 1/3; of equal ones the first.
  assert.deepEqual(thirds, only({ requests: 34n, tokensPerRequest: 33n, price: 33n }));
  const uneven = totalOf({ a: { previous: spend(3n, 6n, 100n), current: spend(4n, 10n, 300n) } });
  assert.deepEqual(uneven, only({ requests: 33n, tokensPerRequest: 33n, price: 134n }));
  // 33 1/3 + 33 1/3 − 166 2/3
  const loss = totalOf({ a: { previous: spend(3n, 6n, 100n), current: spend(4n, 10n, 0n) } });
  assert.deepEqual(loss, only({ requests: 33n, tokensPerRequest: 33n, price: -166n }));
});

test("calls doubled, each half as long again, at prices a fifth higher: 10 + 10 + 6", () => {
  const model = { previous: spend(100n, 10_000n, 10n), current: spend(200n, 30_000n, 36n) };
  assert.deepEqual(totalOf({ model }), only({ requests: 10n, tokensPerRequest: 10n, price: 6n }));
});

/** Books of models with tokens and the same price now as before: per model requests, tokens per request and price. */
const steadyBooks = fc.array(
  fc.record({
    requests: counts(10n ** 6n),
    length: counts(10n ** 6n),
    price: fc.bigInt({ min: 0n, max: 10n ** 6n }),
  }),
  { minLength: 1, maxLength: 8 },
);
const atPrice = (requests: bigint, tokens: bigint, price: bigint): Spend =>
  spend(requests, tokens, tokens * price);

test("where one factor alone moved, all of the change is its part", () => {
  fc.assert(
    fc.property(steadyBooks, counts(1000n), (models, times) => {
      const partsWhere = (current: (model: (typeof models)[number]) => Spend) =>
        totalPartsOf(
          [
            ...splitChanges(
              new Map(
                models.map((model, key) => {
                  const { requests, length, price } = model;
                  const previous = atPrice(requests, requests * length, price);
                  return [key, { previous, current: current(model) }];
                }),
              ),
            ).values(),
          ].map(({ parts }) => parts),
        );
      const total = models.reduce((sum, one) => sum + one.requests * one.length * one.price, 0n);
      const grown = total * (times - 1n);
      const { price: _, ...rest } = partsWhere(({ requests, length, price }) =>
        atPrice(requests, requests * length, price + times),
      );
      assert.deepEqual({ price: 0n, ...rest }, noParts());
      assert.deepEqual(
        partsWhere(({ requests, length, price }) =>
          atPrice(requests * times, requests * times * length, price),
        ),
        only({ requests: grown }),
      );
      assert.deepEqual(
        partsWhere(({ requests, length, price }) =>
          atPrice(requests, requests * length * times, price),
        ),
        only({ tokensPerRequest: grown }),
      );
    }),
  );
});

test("tokens that move from a cheap model to a dear one are mix, and neither growth nor price", () => {
  const parts = totalOf({
    cheap: { previous: atPrice(10n, 900n, 1n), current: atPrice(5n, 400n, 1n) },
    dear: { previous: atPrice(10n, 100n, 20n), current: atPrice(15n, 600n, 20n) },
  });
  assert.deepEqual(parts, only({ modelMix: 500n * 19n }));
});

test("a model that came beside another moves no part of the other", () => {
  const steady = spend(50n, 5000n, 700n);
  const found = split({
    steady: { previous: steady, current: steady },
    came: { previous: noSpend(), current: spend(10n, 10n, 90n) },
    went: { previous: spend(1n, 0n, 40n), current: noSpend() },
  });
  assert.deepEqual(found.get("steady")?.parts, noParts());
  assert.deepEqual(found.get("came")?.parts, only({ modelsCame: 90n }));
  assert.deepEqual(found.get("went")?.parts, only({ modelsWent: -40n }));
});

test("a model that is paid by the call is split by calls, among its like only", () => {
  const found = split({
    images: { previous: spend(10n, 0n, 1000n), current: spend(20n, 0n, 3000n) },
    chat: { previous: spend(1n, 100n, 500n), current: spend(1n, 100n, 500n) },
  });
  assert.equal(found.get("images")?.basis, "requests");
  assert.deepEqual(found.get("images")?.parts, only({ requests: 1000n, price: 1000n }));
  assert.deepEqual(found.get("chat")?.parts, noParts());
});
