import { z } from "zod";
import type { ApiClient } from "./api-client.ts";
import { UsageError } from "./command.ts";

const PAGE_ITEMS_MAX = 500;

/** What a listing asks for: `limit` items at most, of those that the query selects. The path is already encoded. */
export type ListRequest = {
  path: string;
  limit: number;
  query?: Readonly<Record<string, string | undefined>>;
};

/** Items of a list that the API gives in pages, and whether there are more. */
export async function listItems<Item>(
  client: ApiClient,
  { path, limit, query = {} }: ListRequest,
  item: z.ZodType<Item>,
): Promise<{ items: Item[]; more: boolean }> {
  const page = z.object({ items: z.array(item), nextCursor: z.string().nullable() });
  const items: Item[] = [];
  let cursor: string | undefined;
  do {
    const asked = String(Math.min(PAGE_ITEMS_MAX, limit - items.length));
    const answer = await client.request(
      { method: "GET", path, query: { ...query, cursor, limit: asked } },
      page,
    );
    items.push(...answer.items);
    cursor = answer.nextCursor ?? undefined;
  } while (cursor !== undefined && items.length < limit);
  return { items, more: cursor !== undefined };
}

/** The value of --limit. Throws UsageError. */
export function parseLimit(text: string): number {
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1)
    throw new UsageError("--limit must be a whole number from 1.");
  return limit;
}

/** A body of JSON, for `ApiClient.request`. */
export const jsonBody = (value: unknown) => ({
  headers: { "content-type": "application/json" },
  body: Buffer.from(JSON.stringify(value)),
});
