import type { RejectionCode } from "#contract";

/** Fields that a flat row can give, and how their text is written into the event's JSON. */
const FIELD_KINDS = {
  event_id: "text",
  occurred_at: "text",
  timestamp: "text",
  org_id: "text",
  model_id: "text",
  actor_id: "text",
  client_id: "text",
  requests: "number",
  input_tokens: "number",
  cache_read_tokens: "number",
  cache_write_5m_tokens: "number",
  cache_write_1h_tokens: "number",
  output_tokens: "number",
  reasoning_tokens: "number",
  total_tokens: "number",
  usage_source: "text",
  latency_ms: "number",
  ttft_ms: "number",
  status: "text",
  error_code: "text",
  error_class: "text",
  // Text, so that no decimal passes through a float on its way.
  cost_estimate: "text",
  currency: "text",
  metadata: "json",
  schema_version: "text",
} as const satisfies Record<string, "text" | "number" | "json">;

/** A field of the event contract that a flat row can give. */
export type RowField = keyof typeof FIELD_KINDS;

/** All of them, in the contract's order. */
export const ROW_FIELDS = Object.keys(FIELD_KINDS) as readonly RowField[];

export const isRowField = (name: string): name is RowField => Object.hasOwn(FIELD_KINDS, name);

/** Values for fields that the rows of a file leave out. */
export type EventDefaults = ReadonlyMap<RowField, string>;

/** Why a row could not be made into an event, before any server saw it. */
export type RowFault = { code: RejectionCode; pointer: string; detail: string };

/** One row of a file: the event's JSON text, or what is wrong with the row. */
export type AdaptedRow = { json: string; fault: null } | { json: null; fault: RowFault };

/** Turns the fields of one record into an event; `rowId` makes the id of a row that has none. */
export type RecordAdapter = (fields: readonly string[], rowId: () => string) => AdaptedRow;

const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/**
 * One member of the event's JSON object. A number keeps its digits exactly as they stand; what is no number where one
 * belongs is sent as text, so that the service names it and keeps it in quarantine like any other bad value.
 */
export function eventMember(field: RowField, text: string): string {
  const kind = FIELD_KINDS[field];
  if (kind === "number") {
    const digits = text.trim();
    if (JSON_NUMBER.test(digits)) return `"${field}":${digits}`;
  }
  if (kind === "json" && isJson(text)) return `"${field}":${text}`;
  return `"${field}":${JSON.stringify(text)}`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    // A raw line break inside the JSON would cut the NDJSON line in two.
    return !/[\r\n]/.test(text);
  } catch {
    return false;
  }
}
