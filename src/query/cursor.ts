import { Failure } from "#contract";
import type { Rank } from "./measures.ts";

/** Start of a newest-first list: below this every id lies. */
export const FIRST_PAGE = Number.MAX_SAFE_INTEGER;

/** An opaque mark after the item `id` of the list `list` (a cursor of one list is of no use in another). */
export const formatCursor = (list: string, id: number): string =>
  Buffer.from(JSON.stringify([list, id]), "utf8").toString("base64url");

/** The id a cursor of `list` stands after; FIRST_PAGE without one. Throws Failure `invalid_request` for a broken or foreign one. */
export function parseCursor(list: string, cursor: string | undefined): number {
  if (cursor === undefined) return FIRST_PAGE;
  const id = idIn(Buffer.from(cursor, "base64url").toString("utf8"));
  // Only what was given out is taken back: the same bytes, for the same list.
  if (id !== undefined && cursor === formatCursor(list, id)) return id;
  throw foreignCursor();
}

const foreignCursor = (): Failure =>
  new Failure("invalid_request", "The cursor is not one that this list gave out.", {
    details: [
      { pointer: "/query/cursor", code: "invalid_cursor", message: "Start again without it." },
    ],
  });

/** An opaque mark after a place in a ranking; as `formatCursor`. */
export const formatRankCursor = (list: string, { size, key }: Rank): string =>
  Buffer.from(JSON.stringify([list, String(size), key]), "utf8").toString("base64url");

/** The place a cursor of a ranking stands after; null without one. Throws as `parseCursor`. */
export function parseRankCursor(list: string, cursor: string | undefined): Rank | null {
  if (cursor === undefined) return null;
  const text = Buffer.from(cursor, "base64url").toString("utf8");
  const [, size, key] = /,"(-?\d{1,40})",(\d{1,10})\]$/.exec(text) ?? [];
  if (size !== undefined && key !== undefined) {
    const rank = { size: BigInt(size), key: Number(key) };
    if (cursor === formatRankCursor(list, rank)) return rank;
  }
  throw foreignCursor();
}

function idIn(text: string): number | undefined {
  const [, digits] = /,([1-9]\d{0,15})\]$/.exec(text) ?? [];
  const id = Number(digits);
  return Number.isSafeInteger(id) ? id : undefined;
}
