import { z } from "zod";
import {
  CHARGED_OUTCOMES,
  type FailureDetail,
  formatPriceText,
  isKnownCurrency,
  listPriceFaults,
  OUTCOMES,
  packCurrency,
  type Price,
  type TokenClass,
} from "#contract";
import type { PriceEntry, PriceLayer } from "#store";

/** Most entries of one layer: far more than there are models, and still one transaction. */
export const PRICES_MAX = 20_000;
const TIERS_MAX = 10;
const POOL_MODELS_MAX = 1000;

const amount = z
  .string()
  .max(50)
  .transform((text, context) => {
    const exact = formatPriceText(text);
    if (exact !== null) return exact;
    context.addIssue({
      code: "custom",
      message: 'must be a decimal of 0 or more as text, such as "0.15"',
    });
    return z.NEVER;
  });

const perMillion = z.strictObject({
  input: amount.optional(),
  cacheRead: amount.optional(),
  cacheWrite5m: amount.optional(),
  cacheWrite1h: amount.optional(),
  output: amount.optional(),
  reasoning: amount.optional(),
} satisfies Record<TokenClass, z.ZodType>);

const wholeNumber = z.union([z.int(), z.string().regex(/^\d{1,12}$/)], {
  error: "must be a whole number",
});

const currency = z
  .string()
  .regex(/^[A-Z]{3}$/, "three capital letters of ISO 4217")
  .refine((code) => isKnownCurrency(packCurrency(code)), "must be an ISO 4217 code");

const model = z
  .string()
  .max(512)
  .regex(
    /^(?=.)[^\0\p{Cs}*]*\*?$/u,
    "must be a model's id, or the beginning of ids with * behind it",
  )
  .describe("A model's id; with * at the end, all ids that begin so.");

const instant = z
  .union([z.iso.date(), z.iso.datetime({ offset: true })], {
    error:
      "must be a date (2026-11-20: midnight UTC) or a time with its zone (2026-11-20T10:00:00Z)",
  })
  .transform((text) => new Date(text))
  .refine((at) => at.getTime() >= 0, "must not lie before 1970");

const place = {
  orgId: z
    .string()
    .min(1)
    .max(512)
    .regex(/^(?!\*$)[^\0\p{Cs}]*$/u, "must be an org's id; leave it out for all orgs")
    .optional()
    .describe("The org it is for; all orgs when left out."),
  from: instant.optional().describe("First instant at which it holds; since ever when left out."),
  to: instant.optional().describe("The instant after its last; for ever when left out."),
  source: z
    .string()
    .min(1)
    .max(200)
    .regex(/^[^\p{Cc}\p{Cs}]*$/u, "must be text of one line")
    .default("api")
    .describe("Where it was said, such as a file's name."),
};

const isForwards = ({ from, to }: { from?: Date | undefined; to?: Date | undefined }): boolean =>
  from === undefined || to === undefined || from < to;
const FORWARDS = {
  path: ["to"],
  message: "must be later than from; the time is half-open [from, to)",
};

const priceFields = {
  // What is no currency is told with the price's other faults.
  currency: z.string().max(100).default("USD").describe("ISO 4217."),
  perMillion: perMillion.default({}).describe("Per million tokens of a class."),
  perRequest: amount.optional().describe("Per call."),
  perSecond: amount.optional().describe("Per second of a call."),
  tiers: z
    .array(
      z.strictObject({
        aboveInputTokens: wholeNumber
          .transform(Number)
          .describe(
            "Holds for calls whose input, with what was read from and written to a cache, is more than this.",
          ),
        perMillion,
      }),
    )
    .max(TIERS_MAX)
    .optional()
    .describe("Prices of calls with a long input."),
  chargedOutcomes: z
    .array(z.enum(OUTCOMES, { error: `must be one of ${OUTCOMES.join(", ")}` }))
    .max(OUTCOMES.length)
    .readonly()
    .optional()
    .describe(
      `Outcomes of calls that are charged; the others cost nothing. ${CHARGED_OUTCOMES.join(" and ")} when left out.`,
    ),
};

/** What the calls of a model cost, as it is said in a file or a request. */
export const modelPriceOrder = z
  .strictObject({ model, ...place, ...priceFields })
  .refine(isForwards, FORWARDS)
  .superRefine((order, context) => {
    for (const { pointer, message } of listPriceFaults(priceOf(order)))
      context.addIssue({ code: "custom", path: pathOf(pointer), message });
  });

/** What a pool of capacity costs. */
export const poolPriceOrder = z
  .strictObject({
    pool: z
      .string()
      .min(1)
      .max(200)
      .regex(/^[^\p{Cc}\p{Cs}]*$/u, "must be a name of one line")
      .describe("The pool's name."),
    ...place,
    currency: currency.default("USD").describe("ISO 4217."),
    perHour: amount.describe("Of the whole pool."),
    models: z.array(model).min(1).max(POOL_MODELS_MAX).describe("The models that share it."),
  })
  .refine(isForwards, FORWARDS);

/** All prices of a layer: what is not in it is no longer in the book. */
export const priceListFields = {
  prices: z.array(modelPriceOrder).max(PRICES_MAX).default([]),
  pools: z.array(poolPriceOrder).max(PRICES_MAX).default([]),
};
/** The same as one object. */
export const priceList = z.strictObject(priceListFields);
/** Prices that were found valid. Written as JSON they are what the API takes. */
export type PriceList = z.output<typeof priceList>;

/** Texts are left out of a price that has none of them, so that equal prices are equal. */
function priceOf(order: {
  currency: string;
  perMillion: Price["perMillion"];
  perRequest?: string | undefined;
  perSecond?: string | undefined;
  tiers?: Price["tiers"];
  chargedOutcomes?: Price["chargedOutcomes"];
}): Price {
  const { currency: code, perMillion: amounts, perRequest, perSecond, tiers } = order;
  const { chargedOutcomes } = order;
  return {
    currency: code,
    perMillion: amounts,
    ...(perRequest !== undefined && { perRequest }),
    ...(perSecond !== undefined && { perSecond }),
    ...(tiers !== undefined && tiers.length > 0 && { tiers }),
    ...(chargedOutcomes !== undefined && { chargedOutcomes }),
  };
}

/** The steps of a JSON pointer; digits are places in a list. */
export const pathOf = (pointer: string): (string | number)[] =>
  pointer
    .slice(1)
    .split("/")
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part));

/** Where an entry was said: "/prices/3" or "/pools/0". */
export type PlacedEntry = { entry: PriceEntry; pointer: string };

/** The entries that a list of prices stands for, each with its place in the list. */
export function entriesOf(list: PriceList, layer: PriceLayer): PlacedEntry[] {
  const prices = list.prices.map((order, i) => ({
    entry: { ...spanOf(order, layer), kind: "model", subject: order.model, terms: priceOf(order) },
    pointer: `/prices/${i}`,
  })) satisfies PlacedEntry[];
  const pools = list.pools.map((order, i) => {
    const { pool, currency: code, perHour, models } = order;
    const terms = { currency: code, perHour, models: [...new Set(models)].toSorted() };
    return {
      entry: { ...spanOf(order, layer), kind: "pool", subject: pool, terms },
      pointer: `/pools/${i}`,
    };
  }) satisfies PlacedEntry[];
  return [...prices, ...pools];
}

type Span = {
  orgId?: string | undefined;
  from?: Date | undefined;
  to?: Date | undefined;
  source: string;
};

const spanOf = ({ orgId, from, to, source }: Span, layer: PriceLayer) => ({
  layer,
  orgId: orgId ?? null,
  from: from ?? null,
  to: to ?? null,
  source,
});

/** What an entry is of: entries of one key may not hold at the same time. */
export const keyOf = ({ layer, kind, subject, orgId }: PriceEntry): string =>
  JSON.stringify([layer, kind, orgId, subject]);

/** Entries that hold at the same time as another of the same subject and org, and catalogue prices of single orgs. */
export function listEntryFaults(placed: readonly PlacedEntry[]): FailureDetail[] {
  const faults: FailureDetail[] = [];
  const byKey = Map.groupBy(placed, ({ entry }) => keyOf(entry));
  for (const same of byKey.values()) {
    const inOrder = same.toSorted((a, b) => startMsOf(a.entry) - startMsOf(b.entry));
    for (const [i, { entry, pointer }] of inOrder.entries()) {
      const before = inOrder[i - 1];
      if (before === undefined || endMsOf(before.entry) <= startMsOf(entry)) continue;
      faults.push({
        pointer: `${pointer}/from`,
        code: "overlap",
        message: `begins before ${before.pointer} ends, which prices the same (${describe(before.entry)})`,
      });
    }
  }
  for (const { entry, pointer } of placed)
    if (entry.layer === "catalogue" && entry.orgId !== null)
      faults.push({
        pointer: `${pointer}/orgId`,
        code: "unsupported",
        message: "a catalogue is for all orgs; what one org pays is an own price",
      });
  return faults;
}

const startMsOf = ({ from }: PriceEntry): number => from?.getTime() ?? Number.NEGATIVE_INFINITY;
const endMsOf = ({ to }: PriceEntry): number => to?.getTime() ?? Number.POSITIVE_INFINITY;

const describe = ({ subject, source, from }: PriceEntry): string =>
  `${subject}, in ${source}, from ${from === null ? "ever" : from.toISOString()}`;
