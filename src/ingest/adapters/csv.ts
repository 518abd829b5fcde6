import {
  eventMember,
  isRowField,
  type EventDefaults,
  type RowField,
  type RecordAdapter,
} from "./event-text.ts";

/** Where each event field comes from. */
export type CsvMapping = {
  /** Event field → name of the column that holds it. */
  columns: ReadonlyMap<RowField, string>;
  /** Event field → value for rows whose cell is empty or that have no such column. */
  defaults: EventDefaults;
};

/** The adapter for a file with this header, or why the mapping does not fit it. */
export type CsvAdapter =
  | { adapt: RecordAdapter; ignored: readonly string[]; problem: null }
  | { adapt: null; ignored: readonly string[]; problem: string };

/** Must come from a column or a default, else no row of the file could be an event. */
const NEEDED = ["org_id", "model_id", "status"] as const satisfies readonly RowField[];

/**
 * Maps the columns of a CSV file onto the event: those named in the mapping, and those called like an event field.
 * An empty cell means that the field is not given. Columns that are neither are listed in `ignored`.
 */
export function createCsvAdapter(header: readonly string[], mapping: CsvMapping): CsvAdapter {
  const refuse = (problem: string): CsvAdapter => ({ adapt: null, ignored: [], problem });
  const repeated = header.find((name, i) => header.indexOf(name) !== i);
  if (repeated !== undefined) return refuse(`The header names column "${repeated}" twice.`);

  const fieldOf = new Map<number, RowField>();
  for (const [field, column] of mapping.columns) {
    const at = header.indexOf(column);
    if (at < 0)
      return refuse(`There is no column "${column}". The file has: ${header.join(", ")}.`);
    if (fieldOf.has(at)) return refuse(`Column "${column}" is mapped to two fields.`);
    fieldOf.set(at, field);
  }
  for (const [at, name] of header.entries()) {
    if (!fieldOf.has(at) && isRowField(name) && !mapping.columns.has(name)) fieldOf.set(at, name);
  }

  const given = new Set<RowField>([...fieldOf.values(), ...mapping.defaults.keys()]);
  const missing: RowField[] = NEEDED.filter((field) => !given.has(field));
  if (!given.has("occurred_at") && !given.has("timestamp")) missing.push("occurred_at");
  if (missing.length > 0) {
    return refuse(
      `Nothing says what ${missing.join(", ")} should be. The file has: ${header.join(", ")}. ` +
        "Map a column with --column FIELD=COLUMN, or give one value for all rows with --set FIELD=VALUE.",
    );
  }
  const ignored = header.filter((_, at) => !fieldOf.has(at));
  return { adapt: adapterOf(header.length, fieldOf, mapping.defaults), ignored, problem: null };
}

function adapterOf(
  columns: number,
  fieldOf: ReadonlyMap<number, RowField>,
  defaults: EventDefaults,
): RecordAdapter {
  const mapped = [...fieldOf];
  const constants = [...defaults].map(
    ([field, text]) => [field, eventMember(field, text)] as const,
  );
  return (fields, rowId) => {
    if (fields.length !== columns) {
      const detail = `The row has ${fields.length} fields where the header has ${columns}.`;
      return { json: null, fault: { code: "invalid_value", pointer: "", detail } };
    }
    const given = new Set<RowField>();
    let members = "";
    for (const [at, field] of mapped) {
      const text = fields[at] ?? "";
      if (text === "") continue;
      given.add(field);
      members += `,${eventMember(field, text)}`;
    }
    for (const [field, member] of constants) if (!given.has(field)) members += `,${member}`;
    if (!given.has("event_id")) members += `,"event_id":"${rowId()}"`;
    return { json: `{${members.slice(1)}}`, fault: null };
  };
}
