import { isUtf8 } from "node:buffer";
import { eventMember, type EventDefaults } from "./event-text.ts";

/**
 * One line of NDJSON with the fields it leaves out filled in: the defaults, and an id from `rowId`. What the line says
 * is kept byte for byte, so numbers keep their digits; a line that is no JSON object is returned as it is, for the
 * service to name what is wrong with it.
 */
export function fillEventLine(line: Buffer, defaults: EventDefaults, rowId: () => string): Buffer {
  if (!isUtf8(line)) return line;
  const text = line.toString().trim();
  const keys = objectKeys(text);
  if (keys === null) return line;
  // The contract's older name for the same field.
  if (keys.has("timestamp")) keys.add("occurred_at");

  let members = "";
  for (const [field, value] of defaults)
    if (!keys.has(field)) members += `,${eventMember(field, value)}`;
  if (!keys.has("event_id") && !defaults.has("event_id")) members += `,"event_id":"${rowId()}"`;
  if (members === "") return line;
  const open = text.slice(0, -1);
  return Buffer.from(`${open}${keys.size === 0 ? members.slice(1) : members}}`);
}

function objectKeys(text: string): Set<string> | null {
  if (!text.startsWith("{")) return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? new Set(Object.keys(value)) : null;
  } catch {
    return null;
  }
}
