/** SQLSTATE of a PostgreSQL error, or "" for anything else. */
export const sqlStateOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

const SOCKET_CODES = new Set([
  "ECONNRESET",
  "ECONNREFUSED",
  "EPIPE",
  "ETIMEDOUT",
  "ENOENT",
  "ENOTFOUND",
]);

/** Whether an error means that this connection is of no more use (and that its last outcome may be unknown). */
export function isConnectionLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = sqlStateOf(error);
  if (code.startsWith("08") || code.startsWith("57P") || SOCKET_CODES.has(code)) return true;
  return /Connection terminated|not queryable|timeout exceeded when trying to connect|Query read timeout|Client was closed|client has encountered/i.test(
    error.message,
  );
}

/**
 * What to do about a failed statement: `retry` (the same work may succeed: serialization, deadlock, lock or
 * statement time-out, resources, read-only standby, lost connection), `data` (a row in it will never succeed),
 * or `bug` (neither).
 */
export function classifyError(error: unknown): "retry" | "data" | "bug" {
  if (isConnectionLost(error)) return "retry";
  const state = sqlStateOf(error);
  if (/^(40001|40P01|55P03|57014|25006|25P03|53...|58...)$/.test(state)) return "retry";
  if (/^(22|23)...$/.test(state)) return "data";
  return "bug";
}

/** A unique key that another transaction took first: probing again will show it as a duplicate. */
export const isUniqueViolation = (error: unknown): boolean => sqlStateOf(error) === "23505";

/**
 * What keeps the database from taking anything at all, in words for who runs it; undefined for errors that concern one
 * statement only.
 */
export function findOutage(error: unknown): string | undefined {
  if (isConnectionLost(error)) return "the database cannot be reached";
  const state = sqlStateOf(error);
  if (state === "53100") return "the database's disk is full";
  if (state === "25006") return "the database is read-only";
  if (state.startsWith("53")) return "the database is short of resources";
  return state.startsWith("58") ? "the database cannot read or write its files" : undefined;
}

/** Errors whose message names tables, limits and files, and quotes nothing that is in a row or was asked for. */
const QUOTES_NOTHING = /^(?:08|23|25|40|42|53|54|55|57|58|XX)...$/;
const ERROR_CHARACTERS_MAX = 300;

/**
 * An error on one line, for people other than those who read the log: SQLSTATE (or the system's code) and message, but
 * without the message where that may quote data.
 */
export function formatError(error: unknown): string {
  const code = sqlStateOf(error);
  const isQuoting = /^[0-9A-Z]{5}$/.test(code)
    ? !QUOTES_NOTHING.test(code)
    : error instanceof SyntaxError;
  const message = error instanceof Error ? error.message : String(error);
  const text = findOutage(error) ?? (isQuoting ? "the log has the rest" : message);
  const line = `${code === "" ? "" : `${code}: `}${text}`.replaceAll(
    /[\p{Cc}\p{Cf}\u2028\u2029]+/gu,
    " ",
  );
  return line.slice(0, ERROR_CHARACTERS_MAX);
}

/** No partition takes the row: the raw partition of its day was dropped since it was last seen. */
export const isPartitionMissing = (error: unknown): boolean =>
  sqlStateOf(error) === "23514" &&
  error instanceof Error &&
  /no partition of relation/.test(error.message);
