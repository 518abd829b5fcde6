import { z } from "zod";
import { formatPriceText, listPriceFaults, type Price, type TokenClass } from "#contract";
import { entriesOf, listEntryFaults, type PriceList } from "./price-order.ts";
import {
  matchesName,
  goesOn,
  type NameMatch,
  nameMatch,
  patternsOf,
  shadows,
} from "./name-match.ts";

/** A line about what a catalogue says and the price book cannot. */
export type CatalogueNote = {
  /** "provider/model". */
  model: string;
  /** left_out: it has no price; fewer_names: only under some of its names; other_charges: what is named costs more. */
  what: "left_out" | "fewer_names" | "other_charges";
  reason: string;
};

/** A catalogue as prices of the book, and all that could not be said in them. */
export type ConvertedCatalogue = { list: PriceList; notes: CatalogueNote[] };

/** What is taken of a catalogue, and under which name. */
export type CatalogueOptions = {
  /** The catalogue's name and version, kept with each price. */
  source: string;
  /** Ids of the providers wanted; absent: all. */
  providers?: readonly string[] | undefined;
};

const amount = z.union([
  z.number(),
  z.object({ base: z.number(), tiers: z.array(z.object({ start: z.int(), price: z.number() })) }),
]);
type Amount = z.output<typeof amount>;
const amounts = z.record(z.string(), amount);
type Amounts = z.output<typeof amounts>;
const since = z.object({ start_date: z.iso.date() });
const conditional = z
  .array(z.object({ constraint: z.unknown().optional(), prices: amounts }))
  .min(1);

const modelOutline = z.object({ id: z.string().min(1), match: nameMatch, prices: z.unknown() });
type CatalogueModel = z.output<typeof modelOutline>;
const providerOutline = z.object({
  id: z.string().min(1),
  model_match: nameMatch.optional(),
  models: z.array(z.unknown()),
});
type Provider = { id: string; modelMatch: NameMatch | undefined; models: CatalogueModel[] };

/** The catalogue's units that are token classes here. A cache write of no stated length is one of five minutes. */
const CLASS_OF_UNIT = new Map<string, TokenClass>([
  ["input_mtok", "input"],
  ["cache_read_mtok", "cacheRead"],
  ["cache_write_mtok", "cacheWrite5m"],
  ["cache_write_5m_mtok", "cacheWrite5m"],
  ["cache_write_1h_mtok", "cacheWrite1h"],
  ["output_mtok", "output"],
  ["output_reasoning_mtok", "reasoning"],
]);
const REQUEST_UNIT = "requests_kcount";

/**
 * Turns the data of `@pydantic/genai-prices` into prices. Each model is priced as "provider/name" under its id and under
 * the names that the catalogue gives by equality or by their beginning; and under the bare name as well where the
 * catalogue tells the provider by that name alone. Amounts keep their digits: a number is read as the decimal that it was
 * written as. What the book cannot say is in the notes, and nothing is put in its place: prices by the time of day leave a
 * model out, names by other rules are left to their id, charges of other units (audio, searches) are not taken.
 * Throws what zod says when the data is no such catalogue.
 */
export function convertCatalogue(data: unknown, options: CatalogueOptions): ConvertedCatalogue {
  const notes: CatalogueNote[] = [];
  const all = z
    .array(providerOutline)
    .parse(data)
    .map((raw) => readProvider(raw, notes));
  const prices: PriceList["prices"] = [];
  for (const provider of all) {
    if (options.providers !== undefined && !options.providers.includes(provider.id)) continue;
    const before: PricedModel[] = [];
    for (const model of provider.models) {
      const note = (what: CatalogueNote["what"], reason: string): number =>
        notes.push({ model: `${provider.id}/${model.id}`, what, reason });
      const spans = listSpans(model.prices, note);
      if (spans !== null) {
        const names = listNames(model, { provider, before, note }).flatMap((name) => [
          ...(isToldByName(all, provider, name) ? [name] : []),
          `${provider.id}/${name}`,
        ]);
        for (const name of new Set(names))
          prices.push(...spans.map((span) => orderOf(name, span, options.source)));
      }
      before.push({ model, isPriced: spans !== null });
    }
  }
  const list = dropDoubles({ prices, pools: [] }, notes);
  const wanted = options.providers;
  return {
    list,
    notes: notes.filter(
      ({ model }) => wanted === undefined || wanted.some((id) => model.startsWith(`${id}/`)),
    ),
  };
}

const orderOf = (
  model: string,
  { price: { tiers, ...price }, time }: PriceSpan,
  source: string,
): PriceList["prices"][number] => ({
  model,
  source,
  ...price,
  ...time,
  ...(tiers !== undefined && { tiers: tiers.map((tier) => ({ ...tier })) }),
});

/** The ids of a catalogue's providers. */
export const listProviders = (data: unknown): string[] =>
  z
    .array(providerOutline)
    .parse(data)
    .map(({ id }) => id);

function readProvider(
  { id, model_match: modelMatch, models }: z.output<typeof providerOutline>,
  notes: CatalogueNote[],
): Provider {
  const read = models.flatMap((raw, i) => {
    const parsed = modelOutline.safeParse(raw);
    if (parsed.success) return [parsed.data];
    notes.push({
      model: `${id}/models[${i}]`,
      what: "left_out",
      reason: "it is not described as the others are",
    });
    return [];
  });
  return { id, modelMatch, models: read };
}

type Note = (what: CatalogueNote["what"], reason: string) => number;

/** A model that comes before another in the catalogue's order. */
type PricedModel = { model: CatalogueModel; isPriced: boolean };

/** Names by which a model is priced: ids, and beginnings of ids with `*` behind. */
function listNames(
  model: CatalogueModel,
  { provider, before, note }: { provider: Provider; before: readonly PricedModel[]; note: Note },
): string[] {
  const { exact, prefixes, rest } = patternsOf(model.match);
  const isOwn = (name: string): boolean =>
    provider.models.find(({ match }) => matchesName(match, name)) === model;
  const kept = [...new Set(prefixes)].filter((prefix) => {
    const shadow = before.find(
      ({ model: { match }, isPriced }) =>
        shadows(match, prefix) || (!isPriced && goesOn(match, prefix)),
    )?.model;
    if (isOwn(prefix) && shadow === undefined) return true;
    const whose = isOwn(prefix) && shadow ? `in part of ${shadow.id}` : "of another model";
    note("fewer_names", `names that begin with ${prefix} are ${whose} by the catalogue's order`);
    return false;
  });
  const isSaid = (name: string): boolean => kept.some((prefix) => name.startsWith(prefix));
  const ids = new Set([...exact, ...(model.id.includes("*") ? [] : [model.id])]);
  const own = [...ids].filter((name) => !isSaid(name) && isOwn(name));
  if (rest.length > 0)
    note("fewer_names", `also meant, and not priced: a name that ${rest.join(", or ")}`);
  const names = [...own, ...kept.map((prefix) => `${prefix}*`)];
  if (names.length === 0) note("left_out", "it has no name that the price book could say");
  return names;
}

/** Whether the catalogue knows by a bare name that it is this provider's. */
const isToldByName = (all: readonly Provider[], provider: Provider, name: string): boolean => {
  const bare = name.replace(/\*$/, "");
  return (
    all.find(({ modelMatch }) => modelMatch !== undefined && matchesName(modelMatch, bare)) ===
    provider
  );
};

type PriceSpan = { price: Price; time: { from?: Date; to?: Date } };

/** A model's prices one after the other; null, with a note, where they are none that the book can hold. */
function listSpans(raw: unknown, note: Note): PriceSpan[] | null {
  const leaveOut = (reason: string): null => (note("left_out", reason), null);
  const flat = amounts.safeParse(raw);
  const steps = flat.success
    ? [{ prices: flat.data, constraint: undefined }]
    : conditional.safeParse(raw).data;
  if (steps === undefined) return leaveOut("its prices are not written as the others' are");
  const spans: PriceSpan[] = [];
  const others = new Set<string>();
  for (const [i, { constraint, prices }] of steps.entries()) {
    const start = since.safeParse(constraint);
    if (constraint !== undefined && constraint !== null && !start.success)
      return leaveOut("its price depends on more than the day, such as the time of day");
    if (!start.success && i > 0) return leaveOut("two of its prices hold at the same time");
    const price = convertAmounts(prices, others);
    if (price === null)
      return leaveOut("a price is negative, or in tiers where there are none here");
    if (listPriceFaults(price).length > 0) return leaveOut("it has no price per token or request");
    const from = start.success ? new Date(start.data.start_date) : undefined;
    const last = spans.at(-1);
    if (last !== undefined && from !== undefined) {
      if (last.time.from !== undefined && last.time.from >= from)
        return leaveOut("its prices are not in the order of their days");
      last.time.to = from;
    }
    spans.push({ price, time: from === undefined ? {} : { from } });
  }
  if (others.size > 0) note("other_charges", `not taken: ${[...others].toSorted().join(", ")}`);
  return spans;
}

/** Null for amounts that cannot be; units that are no token class here are put among the others. */
function convertAmounts(given: Amounts, others: Set<string>): Price | null {
  const classes = new Map<TokenClass, Amount>();
  let perRequest: string | null | undefined;
  for (const [unit, value] of Object.entries(given)) {
    const name = CLASS_OF_UNIT.get(unit);
    if (unit === REQUEST_UNIT) {
      if (typeof value !== "number") return null;
      perRequest = formatPriceText(String(value), -3);
    } else if (name === undefined) others.add(unit);
    else if (unit !== "cache_write_mtok" || given["cache_write_5m_mtok"] === undefined)
      classes.set(name, value);
  }
  const bounds = new Set<number>();
  for (const value of classes.values())
    if (typeof value === "object") for (const { start } of value.tiers) bounds.add(start);
  const perMillion = amountsAt(classes, null);
  const tiers = [...bounds]
    .toSorted((a, b) => a - b)
    .map((aboveInputTokens) => ({
      aboveInputTokens,
      perMillion: amountsAt(classes, aboveInputTokens),
    }));
  if (perRequest === null || [perMillion, ...tiers.map((tier) => tier.perMillion)].some(hasNoText))
    return null;
  return {
    currency: "USD",
    perMillion: textsOf(perMillion),
    ...(perRequest !== undefined && { perRequest }),
    ...(tiers.length > 0 && {
      tiers: tiers.map((tier) => ({ ...tier, perMillion: textsOf(tier.perMillion) })),
    }),
  };
}

type Texts = { [C in TokenClass]?: string | null };
type KnownTexts = { [C in TokenClass]?: string };

/** What each class costs when the input is longer than a bound; null: when it is above none. */
function amountsAt(classes: ReadonlyMap<TokenClass, Amount>, bound: number | null): Texts {
  const texts: Texts = {};
  for (const [name, value] of classes) {
    const number = typeof value === "number" ? value : atBound(value, bound);
    // The shortest decimal that reads back as the same number is the one that was written.
    texts[name] = formatPriceText(String(number));
  }
  return texts;
}

const atBound = (value: Exclude<Amount, number>, bound: number | null): number =>
  value.tiers
    .filter(({ start }) => bound !== null && start <= bound)
    .toSorted((a, b) => a.start - b.start)
    .at(-1)?.price ?? value.base;

const hasNoText = (texts: Texts): boolean => Object.values(texts).includes(null);

function textsOf(texts: Texts): KnownTexts {
  const known: KnownTexts = {};
  for (const name of CLASS_OF_UNIT.values()) {
    const text = texts[name];
    if (typeof text === "string") known[name] = text;
  }
  return known;
}

/** Leaves out, with a note, what says a second time what another model said first. */
function dropDoubles(list: PriceList, notes: CatalogueNote[]): PriceList {
  const double = new Set(
    listEntryFaults(entriesOf(list, "catalogue")).map(({ pointer }) =>
      Number(pointer.split("/")[2]),
    ),
  );
  const prices = list.prices.filter((order, i) => {
    if (double.has(i))
      notes.push({
        model: order.model,
        what: "fewer_names",
        reason: "another model has this name as well",
      });
    return !double.has(i);
  });
  return { ...list, prices };
}
