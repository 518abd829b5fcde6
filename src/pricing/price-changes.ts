import type { PriceEntry, StoredPrice } from "#store";
import { keyOf } from "./price-order.ts";

/** One difference between two states of the book. */
export type PriceChange =
  | { what: "added"; before: null; after: PriceEntry }
  | { what: "changed"; before: StoredPrice; after: PriceEntry }
  | { what: "removed"; before: StoredPrice; after: null };

/**
 * What has to happen to the entries in force for them to be those that are wanted, by subject; nothing when they say the
 * same. An entry is the same when subject, org, times and terms are, and changed when it begins as before and ends or
 * costs otherwise; who said it makes no difference.
 */
export function comparePrices(
  current: readonly StoredPrice[],
  wanted: readonly PriceEntry[],
): PriceChange[] {
  const known = new Map(current.map((entry) => [placeOf(entry), entry]));
  const changes: PriceChange[] = [];
  for (const after of wanted) {
    const before = known.get(placeOf(after));
    if (before === undefined) changes.push({ what: "added", before: null, after });
    else if (!isSame(before, after)) changes.push({ what: "changed", before, after });
    known.delete(placeOf(after));
  }
  for (const before of known.values()) changes.push({ what: "removed", before, after: null });
  return changes.toSorted((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
}

/** What an entry is of and when it begins: no two in force are alike in that. */
const placeOf = (entry: PriceEntry): string =>
  `${entry.from?.toISOString() ?? "ever"} ${keyOf(entry)}`;

const isSame = (a: PriceEntry, b: PriceEntry): boolean =>
  a.to?.getTime() === b.to?.getTime() && canonicalJson(a.terms) === canonicalJson(b.terms);

const orderOf = ({ before, after }: PriceChange): string => {
  const entry = after ?? before;
  return JSON.stringify([entry.subject, entry.orgId ?? "", entry.from?.toISOString() ?? ""]);
};

/** JSON that does not depend on the order in which keys were written. */
const canonicalJson = (value: unknown): string =>
  JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
