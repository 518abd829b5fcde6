import { Failure } from "#contract";

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
  throw new Failure("invalid_request", "The cursor is not one that this list gave out.", {
    details: [
      { pointer: "/query/cursor", code: "invalid_cursor", message: "Start again without it." },
    ],
  });
}

function idIn(text: string): number | undefined {
  const [, digits] = /,([1-9]\d{0,15})\]$/.exec(text) ?? [];
  const id = Number(digits);
  return Number.isSafeInteger(id) ? id : undefined;
}
