import { Failure } from "#contract";

/** Start of a newest-first list: below this every id lies. */
export const FIRST_PAGE = Number.MAX_SAFE_INTEGER;

/** An opaque mark after the item `id` of the list `list` (a cursor of one list is of no use in another). */
export const formatCursor = (list: string, id: number): string =>
  Buffer.from(JSON.stringify([list, id]), "utf8").toString("base64url");

/** The id a cursor of `list` stands after; FIRST_PAGE without one. Throws Failure `invalid_request` for a broken or foreign one. */
export function parseCursor(list: string, cursor: string | undefined): number {
  if (cursor === undefined) return FIRST_PAGE;
  const id = /^[\w-]+$/.test(cursor) ? idIn(Buffer.from(cursor, "base64url").toString("utf8"), list) : undefined;
  if (id !== undefined) return id;
  throw new Failure("invalid_request", "The cursor is not one that this list gave out.", {
    details: [{ pointer: "/query/cursor", code: "invalid_cursor", message: "Start again without it." }],
  });
}

function idIn(text: string, list: string): number | undefined {
  const prefix = `[${JSON.stringify(list)},`;
  if (!text.startsWith(prefix) || !text.endsWith("]")) return undefined;
  const digits = text.slice(prefix.length, -1);
  const id = /^[1-9]\d{0,15}$/.test(digits) ? Number(digits) : Number.NaN;
  return Number.isSafeInteger(id) ? id : undefined;
}
