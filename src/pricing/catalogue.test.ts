import assert from "node:assert/strict";
import test from "node:test";
import { z } from "zod";
import { calcPrice, type ModelPrice, waitForUpdate } from "@pydantic/genai-prices";
import type { Price } from "#contract";
import type { StoredPrice } from "#store";
import { convertCatalogue, listProviders } from "./catalogue.ts";
import { createPriceBook, findPrice } from "./price-book.ts";
import { entriesOf, listEntryFaults, priceList } from "./price-order.ts";

const SOURCE = "catalogue 1";
const published: unknown = await waitForUpdate();

const bookOf = (data: unknown) => {
  const { list, notes } = convertCatalogue(data, { source: SOURCE });
  const entries = entriesOf(list, "catalogue").map(({ entry }, id): StoredPrice => ({
    ...entry,
    id: id + 1,
    version: 1,
  }));
  return { list, notes, book: createPriceBook(1, entries) };
};

const provider = (models: object[], rest: object = {}) => ({
  id: "p",
  name: "P",
  api_pattern: "x",
  models,
  ...rest,
});

/** The prices of one model, as they are in the file, and what was noted. */
function convert(models: object[], rest?: object) {
  const { list, notes } = convertCatalogue([provider(models, rest)], { source: SOURCE });
  return {
    prices: list.prices.map(({ source: _source, currency: _currency, ...price }) => price),
    notes: notes.map(({ model, what, reason }) => `${model} ${what}: ${reason}`),
  };
}

test("the whole published catalogue makes a book that is valid, and every model of it has a price or a note", () => {
  const { list, notes } = bookOf(published);
  assert.ok(list.prices.length > 1000);
  assert.deepEqual(listEntryFaults(entriesOf(list, "catalogue")), []);
  // What is sent and stored is what was converted.
  assert.deepEqual(priceList.parse(JSON.parse(JSON.stringify(list))), list);
  const shape = z.array(z.looseObject({ id: z.string(), models: z.array(z.unknown()) }));
  for (const { models, ...rest } of shape.parse(published)) {
    for (const model of models) {
      const alone = convertCatalogue([{ ...rest, models: [model] }], { source: SOURCE });
      assert.ok(alone.list.prices.length + alone.notes.length > 0, JSON.stringify(model));
    }
  }
  assert.ok(notes.some(({ what }) => what === "left_out"));
});

/** Instants around the days on which published prices changed. */
const INSTANTS = ["2024-01-01", "2025-06-09T23:59:59.999Z", "2025-06-10", "2026-11-20"].map(
  (text) => new Date(text),
);

const NOTHING_USED = { input_tokens: 0, output_tokens: 0 };
const COMPARED = [
  ["input_mtok", "input"],
  ["cache_read_mtok", "cacheRead"],
  ["cache_write_1h_mtok", "cacheWrite1h"],
  ["output_mtok", "output"],
] as const;

function compareAmounts(ours: Price, theirs: ModelPrice, where: string): void {
  for (const [unit, name] of COMPARED) {
    const price = theirs[unit];
    const amount = ours.perMillion[name];
    const base = typeof price === "object" ? price.base : price;
    assert.equal(amount === undefined ? undefined : Number(amount), base, `${where}: ${unit}`);
    for (const { start, price: above } of typeof price === "object" ? price.tiers : []) {
      const tier = ours.tiers?.find(({ aboveInputTokens }) => aboveInputTokens === start);
      assert.equal(Number(tier?.perMillion[name]), above, `${where}: ${unit} above ${start}`);
    }
  }
}

test("under every name it gives, and names that begin so, a price is the one that the catalogue's own library finds, digit by digit", () => {
  const { list, book } = bookOf(published);
  const providers = new Set(listProviders(published));
  const names = new Set([
    ...list.prices.flatMap(({ model }) =>
      model.endsWith("*") ? [model.slice(0, -1), model.replace("*", "-20991231")] : [model],
    ),
    // Names of models that were left out, too: no other model's price may be theirs.
    ...[...JSON.stringify(published).matchAll(/"(?:equals|starts_with|id)":"([^"]+)"/g)].flatMap(
      ([, name = ""]) => [name, ...[...providers].map((id) => `${id}/${name}`)],
    ),
  ]);
  let compared = 0;
  for (const name of names) {
    const [, providerId = "", modelId = ""] = /^([^/]+)\/(.+)$/.exec(name) ?? [];
    for (const timestamp of INSTANTS) {
      const atUs = timestamp.getTime() * 1000;
      const ours = findPrice(book, { modelId: name, orgId: "acme", atUs });
      if (ours === undefined) continue;
      const ofProvider = providers.has(providerId)
        ? calcPrice(NOTHING_USED, modelId, { providerId, timestamp })
        : null;
      const theirs = ofProvider ?? calcPrice(NOTHING_USED, name, { timestamp });
      assert.ok(theirs, `${name} is priced there`);
      const where = `${name}, at ${timestamp.toISOString()}`;
      compareAmounts(ours.terms, theirs.model_price, where);
      compared += COMPARED.length;
    }
  }
  assert.ok(compared > 20_000, `${compared} amounts compared`);
});

test("amounts keep the digits they were written with, per request too, and cache writes their length", () => {
  const { prices } = convert([
    {
      id: "m",
      match: { equals: "m" },
      prices: {
        input_mtok: 0.1,
        output_mtok: 1e-7,
        cache_write_mtok: 3.75,
        cache_write_1h_mtok: 6,
        cache_read_mtok: 0.30000000000000004,
        output_reasoning_mtok: 60,
        requests_kcount: 5,
      },
    },
  ]);
  assert.deepEqual(prices, [
    {
      model: "p/m",
      perMillion: {
        input: "0.1",
        cacheRead: "0.30000000000000004",
        cacheWrite5m: "3.75",
        cacheWrite1h: "6",
        output: "0.0000001",
        reasoning: "60",
      },
      perRequest: "0.005",
    },
  ]);
});

test("tiers say each class's price at every bound", () => {
  const { prices } = convert([
    {
      id: "m",
      match: { equals: "m" },
      prices: {
        input_mtok: {
          base: 1,
          tiers: [
            { start: 500, price: 3 },
            { start: 100, price: 2 },
          ],
        },
        output_mtok: { base: 4, tiers: [{ start: 200, price: 8 }] },
        cache_read_mtok: 0.5,
      },
    },
  ]);
  assert.deepEqual(prices[0]?.tiers, [
    { aboveInputTokens: 100, perMillion: { input: "2", cacheRead: "0.5", output: "4" } },
    { aboveInputTokens: 200, perMillion: { input: "2", cacheRead: "0.5", output: "8" } },
    { aboveInputTokens: 500, perMillion: { input: "3", cacheRead: "0.5", output: "8" } },
  ]);
});

test("a price that begins on a day ends the one before; one by the time of day is left out and told", () => {
  const { prices, notes } = convert([
    {
      id: "m",
      match: { equals: "m" },
      prices: [
        { prices: { input_mtok: 10 } },
        { constraint: { start_date: "2025-06-10" }, prices: { input_mtok: 2 } },
      ],
    },
    {
      id: "night",
      match: { equals: "night" },
      prices: [
        { prices: { input_mtok: 2 } },
        {
          constraint: { start_time: "16:30:00Z", end_time: "00:30:00Z" },
          prices: { input_mtok: 1 },
        },
      ],
    },
  ]);
  const day = new Date("2025-06-10T00:00:00Z");
  assert.deepEqual(prices, [
    { model: "p/m", to: day, perMillion: { input: "10" } },
    { model: "p/m", from: day, perMillion: { input: "2" } },
  ]);
  assert.deepEqual(notes, [
    "p/night left_out: its price depends on more than the day, such as the time of day",
  ]);
});

test("names by equality and by their beginning are taken; others are told, and never put in place by a guess", () => {
  const price = { input_mtok: 1 };
  const { prices, notes } = convert(
    [
      {
        id: "chat-2",
        match: { or: [{ equals: "chat-2" }, { equals: "chat-two" }, { regex: "^chat-2-\\d+$" }] },
        prices: price,
      },
      { id: "tts", match: { contains: "tts" }, prices: { input_mtok: 1, input_audio_mtok: 9 } },
      { id: "chat-3", match: { starts_with: "chat-3" }, prices: price },
      { id: "chat-3-mini", match: { starts_with: "chat-3-mini" }, prices: { input_mtok: 0.1 } },
      { id: "chat-4", match: { starts_with: "chat-4" }, prices: {} },
    ],
    { model_match: { starts_with: "chat" } },
  );
  assert.deepEqual(
    prices.map(({ model }) => model),
    // Not "chat-3*", for such a name may hold tts; nor chat-3-mini, which the catalogue takes for chat-3.
    ["chat-2", "p/chat-2", "chat-two", "p/chat-two", "p/tts", "chat-3", "p/chat-3"],
  );
  assert.deepEqual(notes, [
    "p/chat-2 fewer_names: also meant, and not priced: a name that regex ^chat-2-\\d+$",
    "p/tts other_charges: not taken: input_audio_mtok",
    "p/tts fewer_names: also meant, and not priced: a name that contains tts",
    "p/chat-3 fewer_names: names that begin with chat-3 are in part of tts by the catalogue's order",
    "p/chat-3-mini fewer_names: names that begin with chat-3-mini are of another model by the catalogue's order",
    "p/chat-3-mini left_out: it has no name that the price book could say",
    "p/chat-4 left_out: it has no price per token or request",
  ]);
});

test("where two models have a name, it is the first's, as in the catalogue", () => {
  const models = [
    { id: "chat-3", match: { starts_with: "chat-3" }, prices: { input_mtok: 1 } },
    { id: "chat-3-mini", match: { starts_with: "chat-3-mini" }, prices: { input_mtok: 0.1 } },
  ];
  const namesOf = (given: object[]) => convert(given).prices.map(({ model }) => model);
  assert.deepEqual(namesOf(models), ["p/chat-3*"]);
  assert.deepEqual(namesOf(models.toReversed()), ["p/chat-3-mini*", "p/chat-3*"]);
});

test("the price of a model is not given to names of one that was left out, however they begin", () => {
  const { prices, notes } = convert([
    { id: "chat-free", match: { starts_with: "chat-free" }, prices: {} },
    { id: "chat", match: { starts_with: "chat" }, prices: { input_mtok: 1 } },
  ]);
  assert.deepEqual(
    prices.map(({ model }) => model),
    ["p/chat"],
  );
  assert.equal(
    notes[1],
    "p/chat fewer_names: names that begin with chat are in part of chat-free by the catalogue's order",
  );
});

test("what is no catalogue is refused, and one model that is not like the others is left out alone", () => {
  assert.throws(() => convertCatalogue({ providers: [] }, { source: SOURCE }));
  const { prices, notes } = convert([
    { id: "m", match: { equals: "m" }, prices: { input_mtok: 1 } },
    { id: "odd", match: { sounds_like: "m" }, prices: { input_mtok: 1 } },
    { id: "minus", match: { equals: "minus" }, prices: { input_mtok: -1 } },
  ]);
  assert.deepEqual(
    prices.map(({ model }) => model),
    ["p/m"],
  );
  assert.deepEqual(notes, [
    "p/models[1] left_out: it is not described as the others are",
    "p/minus left_out: a price is negative, or in tiers where there are none here",
  ]);
});
