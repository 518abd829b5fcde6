import { z } from "zod";

const PAGE_ITEMS_MAX = 500;

/** Query parameters of a list that comes in pages. */
export const pageParameters = {
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(PAGE_ITEMS_MAX)
    .default(100)
    .describe("Items of a page."),
  cursor: z
    .string()
    .min(1)
    .max(2048)
    .regex(/^[^\0\p{Cs}]*$/u, "must be the nextCursor of a page")
    .optional()
    .describe("`nextCursor` of the page before."),
};

/** A page of a list, described under a name. */
export const pageOf = <Item extends z.ZodType>(item: Item, id: string) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable() }).meta({ id });

/**
 * A page out of one item more than it may have: the extra one says that there is a page after. `cursorOf` names an
 * item's place in the list.
 */
export function cutPage<Item, Shown>(
  found: readonly Item[],
  limit: number,
  { cursorOf, show }: { cursorOf: (item: Item) => string; show: (item: Item) => Shown },
): { items: Shown[]; nextCursor: string | null } {
  const items = found.slice(0, limit);
  const last = items.at(-1);
  const hasMore = found.length > limit && last !== undefined;
  return { items: items.map(show), nextCursor: hasMore ? cursorOf(last) : null };
}
