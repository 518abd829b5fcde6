import { z } from "zod";
import { formatTable } from "./table.ts";

const perMillion = z.record(z.string(), z.string());
// Fields that this version does not know stay, for --json.
const price = z.looseObject({
  currency: z.string(),
  perMillion,
  perRequest: z.string().optional(),
  perSecond: z.string().optional(),
  tiers: z.array(z.looseObject({ aboveInputTokens: z.int(), perMillion })).optional(),
  chargedOutcomes: z.array(z.string()).optional(),
});
const capacity = z.looseObject({
  currency: z.string(),
  perHour: z.string(),
  models: z.array(z.string()),
});
const time = { from: z.string().nullable(), to: z.string().nullable() };

/** An entry of the book as operators see it. */
export const bookEntry = z.looseObject({
  layer: z.string(),
  orgId: z.string().nullable(),
  model: z.string().nullable(),
  pool: z.string().nullable(),
  ...time,
  price: price.nullable(),
  capacity: capacity.nullable(),
  source: z.string(),
});
type Entry = z.output<typeof bookEntry>;
/** The same with the version it came in with. */
export const listedEntry = bookEntry.extend({ version: z.int() });

/** A price that holds for an org. */
export const orgEntry = z.looseObject({
  model: z.string(),
  isOwn: z.boolean(),
  ...time,
  price,
  version: z.int(),
});

/** What an apply answers. */
export const appliedPrices = z.looseObject({
  version: z.int(),
  isApplied: z.boolean(),
  counts: z.object({ added: z.int(), changed: z.int(), removed: z.int() }),
  changes: z.array(
    z.looseObject({
      what: z.string(),
      before: bookEntry.nullable(),
      after: bookEntry.nullable(),
    }),
  ),
});
/** Differences between what is wanted and what there is, or was. */
export type AppliedPrices = z.output<typeof appliedPrices>;

const titles = (...names: string[]) => names.map((title) => ({ title }));

/** A table of differences, and how many there are. */
export function formatChanges({ changes, counts, version, isApplied }: AppliedPrices): string {
  const total = counts.added + counts.changed + counts.removed;
  if (total === 0)
    return `Nothing to change: the price book of version ${version} says the same.\n`;
  const rows = changes.flatMap(({ what, before, after }) =>
    [
      { mark: what === "changed" ? "was" : "removed", entry: before },
      { mark: what, entry: after },
    ].flatMap(({ mark, entry }) => (entry === null ? [] : [[mark, ...cellsOf(entry)]])),
  );
  const more = total > changes.length ? `… and ${total - changes.length} more.\n` : "";
  const table = formatTable(titles("change", "for", "org", "from", "to", "price", "source"), rows);
  const sum = `${counts.added} added, ${counts.changed} changed, ${counts.removed} removed`;
  const end = isApplied ? `Version ${version}: ${sum}.` : `Would be version ${version}: ${sum}.`;
  return `${table}${more}${end}\n`;
}

const cellsOf = (one: Entry): string[] => [
  one.model ?? `pool ${one.pool ?? ""}`,
  one.orgId ?? "",
  one.from ?? "",
  one.to ?? "",
  one.price === null ? capacityOf(one.capacity) : priceOf(one.price),
  one.source,
];

/** A table of the book. */
export const formatBook = (entries: readonly z.output<typeof listedEntry>[]): string =>
  formatTable(
    titles("for", "org", "from", "to", "price", "source", "layer", "version"),
    entries.map((one) => [...cellsOf(one), one.layer, String(one.version)]),
  );

/** A table of what holds for an org. */
export const formatOrgPrices = (entries: readonly z.output<typeof orgEntry>[]): string =>
  formatTable(
    titles("model", "own", "from", "to", "price", "version"),
    entries.map((one) => [
      one.model,
      one.isOwn ? "yes" : "",
      one.from ?? "",
      one.to ?? "",
      priceOf(one.price),
      String(one.version),
    ]),
  );

const classesOf = (amounts: z.output<typeof perMillion>): string =>
  Object.entries(amounts)
    .map(([name, amount]) => `${name} ${amount}`)
    .join(", ");

function priceOf({
  currency,
  perMillion: amounts,
  perRequest,
  perSecond,
  tiers = [],
  chargedOutcomes,
}: z.output<typeof price>): string {
  const classes = classesOf(amounts);
  return [
    ...(classes === "" ? [] : [`${classes} ${currency}/M tokens`]),
    ...(perRequest === undefined ? [] : [`${perRequest} ${currency}/request`]),
    ...(perSecond === undefined ? [] : [`${perSecond} ${currency}/s`]),
    ...tiers.map((tier) => `above ${tier.aboveInputTokens}: ${classesOf(tier.perMillion)}`),
    ...(chargedOutcomes === undefined ? [] : [`charged: ${chargedOutcomes.join(", ")}`]),
  ].join("; ");
}

const capacityOf = (given: z.output<typeof capacity> | null): string =>
  given === null ? "" : `${given.perHour} ${given.currency}/hour for ${given.models.join(", ")}`;
