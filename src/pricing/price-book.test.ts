import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { StoredPrice } from "#store";
import {
  createPriceBook,
  findPrice,
  holdsAt,
  listPricesInForce,
  type ModelPrice,
} from "./price-book.ts";

const us = (text: string): number => Date.parse(text) * 1000;

let lastId = 0;
function aPrice(
  subject: string,
  rest: Partial<Omit<ModelPrice, "kind" | "terms">> & { input?: string } = {},
): ModelPrice {
  const { input = "1", ...fields } = rest;
  return {
    id: ++lastId,
    version: 1,
    kind: "model",
    layer: "own",
    orgId: null,
    from: null,
    to: null,
    source: "test.yaml",
    subject,
    terms: { currency: "USD", perMillion: { input } },
    ...fields,
  };
}

const inputOf = (found: ModelPrice | undefined): string | undefined =>
  found?.terms.perMillion.input;

test("a price change at noon moves only what occurred from noon on, to the microsecond", () => {
  const noon = new Date("2026-11-20T12:00:00Z");
  const book = createPriceBook(1, [
    aPrice("m", { to: noon, input: "1" }),
    aPrice("m", { from: noon, to: new Date("2026-11-21T00:00:00Z"), input: "2" }),
  ]);
  const at = (atUs: number) => inputOf(findPrice(book, { modelId: "m", orgId: "acme", atUs }));
  assert.equal(at(us("2026-11-20T11:00:00Z")), "1");
  assert.equal(at(us("2026-11-20T12:00:00Z") - 1), "1");
  assert.equal(at(us("2026-11-20T12:00:00Z")), "2");
  assert.equal(at(us("2026-11-20T13:00:00Z")), "2");
  assert.equal(at(us("2026-11-21T00:00:00Z") - 1), "2");
  assert.equal(at(us("2026-11-21T00:00:00Z")), undefined, "half-open: then there is none");
});

test("an override moves its org and no other, and only while it holds", () => {
  const from = new Date("2026-11-01T00:00:00Z");
  const to = new Date("2026-12-01T00:00:00Z");
  const book = createPriceBook(1, [
    aPrice("m"),
    aPrice("m", { orgId: "acme", from, to, input: "0.5" }),
  ]);
  const price = (orgId: string, at: string) =>
    inputOf(findPrice(book, { modelId: "m", orgId, atUs: us(at) }));
  assert.equal(price("acme", "2026-11-15T00:00:00Z"), "0.5");
  assert.equal(price("globex", "2026-11-15T00:00:00Z"), "1");
  assert.equal(price("acme", "2026-10-31T23:59:59Z"), "1");
  assert.equal(price("acme", "2026-12-01T00:00:00Z"), "1");
});

test("an org's price comes before the operator's for all, that before the catalogue's, and of one rank the longest wins", () => {
  const book = createPriceBook(1, [
    aPrice("gpt-4o-mini", { layer: "catalogue", input: "catalogue id" }),
    aPrice("gpt-*", { layer: "catalogue", input: "catalogue gpt" }),
    aPrice("gpt-4o*", { input: "own gpt-4o" }),
    aPrice("gpt-4o-mini-2*", { input: "own mini 2" }),
    aPrice("gpt-4o-audio", { input: "own audio" }),
    aPrice("*", { orgId: "acme", input: "acme any" }),
  ]);
  const price = (modelId: string, orgId = "globex") =>
    inputOf(findPrice(book, { modelId, orgId, atUs: 0 }));
  assert.equal(price("gpt-4o-mini"), "own gpt-4o", "own before the catalogue, however short");
  assert.equal(price("gpt-4o-mini-2024"), "own mini 2");
  assert.equal(price("gpt-4o-audio"), "own audio", "the id itself before a beginning");
  assert.equal(price("gpt-4o"), "own gpt-4o", "a beginning may be the whole");
  assert.equal(price("gpt-5"), "catalogue gpt");
  assert.equal(price("gpt"), undefined);
  assert.equal(price("gpt-4o-audio", "acme"), "acme any");
});

/** Few texts, so that they meet often. */
const text = fc
  .array(fc.constantFrom("a", "b"), { maxLength: 3 })
  .map((letters) => letters.join(""));
const subject = fc.oneof(
  text.filter((one) => one !== ""),
  text.map((one) => `${one}*`),
);
const hour = fc.integer({ min: 0, max: 6 });
const entries = fc
  .array(
    fc.record({
      subject,
      layer: fc.constantFrom("own" as const, "catalogue" as const),
      orgId: fc.constantFrom(null, null, "acme", "globex"),
      span: fc.tuple(fc.option(hour), fc.option(hour)),
    }),
    { maxLength: 25 },
  )
  .map((made) => {
    const kept: ModelPrice[] = [];
    for (const {
      span: [from, to],
      ...rest
    } of made) {
      if (from !== null && to !== null && from >= to) continue;
      const one = aPrice(rest.subject, {
        layer: rest.orgId === null ? rest.layer : "own",
        orgId: rest.orgId,
        from: from === null ? null : new Date(from),
        to: to === null ? null : new Date(to),
      });
      const isFree = [0, 1, 2, 3, 4, 5, 6].every(
        (ms) =>
          !holdsAt(one, ms * 1000) ||
          !kept.some((other) => isSameSubject(one, other) && holdsAt(other, ms * 1000)),
      );
      if (isFree) kept.push(one);
    }
    return kept;
  });

const isSameSubject = (a: ModelPrice, b: ModelPrice): boolean =>
  a.subject === b.subject && a.layer === b.layer && a.orgId === b.orgId;

const covers = (pattern: string, modelId: string): boolean =>
  pattern.endsWith("*") ? modelId.startsWith(pattern.slice(0, -1)) : pattern === modelId;

/** The rule as it reads, without an index. */
function findSlowly(
  all: readonly StoredPrice[],
  ask: { modelId: string; orgId: string; atUs: number },
): StoredPrice | undefined {
  const rankOf = (one: StoredPrice): number =>
    one.orgId !== null ? 0 : one.layer === "own" ? 1 : 2;
  const lengthOf = (one: StoredPrice): number =>
    one.subject.endsWith("*") ? one.subject.length - 1 : Number.MAX_SAFE_INTEGER;
  return all
    .filter((one) => one.orgId === null || one.orgId === ask.orgId)
    .filter((one) => covers(one.subject, ask.modelId) && holdsAt(one, ask.atUs))
    .toSorted((a, b) => rankOf(a) - rankOf(b) || lengthOf(b) - lengthOf(a))[0];
}

test("what is looked up is what the rule says, for any book", () => {
  const ask = fc.record({
    modelId: text,
    orgId: fc.constantFrom("acme", "globex", "initech"),
    atUs: fc.integer({ min: 0, max: 7000 }),
  });
  fc.assert(
    fc.property(entries, ask, (all, question) => {
      assert.equal(findPrice(createPriceBook(1, all), question)?.id, findSlowly(all, question)?.id);
    }),
    { numRuns: 3000 },
  );
});

test("the prices in force for an org are those that some model of it has, each once", () => {
  const models = ["", "a", "b"].flatMap((a) =>
    ["", "a", "b"].flatMap((b) =>
      ["", "a", "b"].flatMap((c) => ["", "z", "a"].map((d) => a + b + c + d)),
    ),
  );
  fc.assert(
    fc.property(entries, fc.constantFrom("acme", "initech"), hour, (all, orgId, ms) => {
      const book = createPriceBook(1, all);
      const at = { orgId, atUs: ms * 1000 };
      const listed = listPricesInForce(book, at).map(({ id }) => id);
      assert.equal(new Set(listed).size, listed.length);
      for (const modelId of models) {
        const found = findPrice(book, { ...at, modelId });
        if (found !== undefined)
          assert.ok(listed.includes(found.id), `${modelId} has a price that is not listed`);
      }
      for (const { subject: name, id } of listPricesInForce(book, at)) {
        // A name that nothing longer begins, so that only higher ranks could be in the way.
        const modelId = name.endsWith("*") ? `${name.slice(0, -1)}z` : name;
        assert.equal(findPrice(book, { ...at, modelId })?.id, id, `${name} is nobody's price`);
      }
    }),
    { numRuns: 1000 },
  );
});
