import {
  eventMember,
  type EventDefaults,
  type RowField,
  type RecordAdapter,
} from "./event-text.ts";

/** Columns of the Azure LLM inference traces of 2023 and 2024 (Patel et al., Splitwise, ISCA 2024). */
const COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"] as const;

/** UTC without saying so (2023), or with +00:00 (2024); up to seven digits of a second. */
const TIMESTAMP = /^(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:\+00:00)?$/;

/** The adapter for a trace with this header, or why it is none. */
export type AzureTraceAdapter =
  | { adapt: RecordAdapter; problem: null }
  | { adapt: null; problem: string };

/**
 * A trace row is one successful call with reported token counts and no latency. Times are UTC; digits below the
 * microsecond are cut off, as the event keeps microseconds.
 */
export function createAzureTraceAdapter(
  header: readonly string[],
  defaults: EventDefaults,
): AzureTraceAdapter {
  const at = COLUMNS.map((name) => header.indexOf(name));
  if (at.includes(-1) || header.length !== COLUMNS.length) {
    const problem = `An Azure LLM trace has the columns ${COLUMNS.join(", ")}; this file has: ${header.join(", ")}.`;
    return { adapt: null, problem };
  }
  const [timeAt = 0, contextAt = 0, generatedAt = 0] = at;
  const constants = new Map<RowField, string>([
    ["status", "success"],
    ["usage_source", "reported"],
    ...defaults,
  ]);
  const tail = [...constants].map(([field, text]) => `,${eventMember(field, text)}`).join("");
  const adapt: RecordAdapter = (fields, rowId) => {
    if (fields.length !== COLUMNS.length) {
      const detail = `The row has ${fields.length} fields where a trace has ${COLUMNS.length}.`;
      return { json: null, fault: { code: "invalid_value", pointer: "", detail } };
    }
    const time = utcTime(fields[timeAt] ?? "");
    if (time === null) {
      const detail = "TIMESTAMP is not of the form YYYY-MM-DD HH:MM:SS.fffffff.";
      return { json: null, fault: { code: "invalid_timestamp", pointer: "/occurred_at", detail } };
    }
    const tokens = `${eventMember("input_tokens", fields[contextAt] ?? "")},${eventMember("output_tokens", fields[generatedAt] ?? "")}`;
    return {
      json: `{"event_id":"${rowId()}","occurred_at":"${time}",${tokens}${tail}}`,
      fault: null,
    };
  };
  return { adapt, problem: null };
}

function utcTime(text: string): string | null {
  const match = TIMESTAMP.exec(text);
  if (match === null) return null;
  const [, day, time, fraction] = match;
  return `${day}T${time}${fraction === undefined ? "" : `.${fraction.slice(0, 6)}`}Z`;
}
