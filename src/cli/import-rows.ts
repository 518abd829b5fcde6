import {
  createAzureTraceAdapter,
  createCsvAdapter,
  type EventDefaults,
  type RowField,
  fillEventLine,
  type RecordAdapter,
  type RowFault,
} from "#app";
import { CsvReader, type CsvRecord, type Line, LineReader } from "#kernel";
import { UsageError } from "./command.ts";
import { rowIdOf } from "./import-file.ts";

export const FORMATS = ["ndjson", "csv", "azure-llm-trace"] as const;
export type Format = (typeof FORMATS)[number];

/** How the rows of a file become events. */
export type RowMapping = {
  format: Format;
  /** Event field → column (CSV only). */
  columns: ReadonlyMap<RowField, string>;
  defaults: EventDefaults;
  /** SHA-256 of the file: the ids of rows that have none come from it. */
  digest: Buffer;
};

/** One row: the line to send, or why there is none. `row` is the line of the file on which it starts, from 1. */
export type FileRow =
  | { row: number; json: Buffer; fault: null }
  | { row: number; json: null; fault: RowFault };

/** Far above what one event may hold, and well below what a request may. */
const ROW_BYTES_MAX = 1024 * 1024;

/** Reads rows as their bytes arrive. */
export type RowReader = {
  push(chunk: Buffer): FileRow[];
  end(): FileRow[];
  /** Columns that no field takes, once the header was read. */
  readonly ignored: readonly string[];
};

/** A reader for one file. It throws UsageError as soon as the header shows that the mapping does not fit. */
export const createRowReader = (mapping: RowMapping): RowReader =>
  mapping.format === "ndjson" ? ndjsonReader(mapping) : csvReader(mapping);

function ndjsonReader({ defaults, digest }: RowMapping): RowReader {
  const reader = new LineReader({ lineBytesMax: ROW_BYTES_MAX });
  const rowOf = ({ line, bytes }: Line): FileRow => {
    if (bytes === null)
      return { row: line, json: null, fault: tooLarge(`longer than ${ROW_BYTES_MAX} bytes.`) };
    const isMarked = line === 1 && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
    const json = fillEventLine(isMarked ? bytes.subarray(3) : bytes, defaults, () =>
      rowIdOf(digest, line),
    );
    return { row: line, json, fault: null };
  };
  return {
    ignored: [],
    push: (chunk) => reader.push(chunk).map(rowOf),
    end: () => reader.end().map(rowOf),
  };
}

const tooLarge = (what: string): RowFault => ({
  code: "too_large",
  pointer: "",
  detail: `The row is ${what}`,
});

function csvReader(mapping: RowMapping): RowReader {
  const reader = new CsvReader({ recordBytesMax: ROW_BYTES_MAX });
  let adapt: RecordAdapter | null = null;
  let ignored: readonly string[] = [];
  const rowsOf = (records: readonly CsvRecord[]): FileRow[] => {
    const rows: FileRow[] = [];
    for (const record of records) {
      if (adapt === null) ({ adapt, ignored } = adapterFor(record, mapping));
      else rows.push(rowOf(record, adapt, mapping.digest));
    }
    return rows;
  };
  return {
    get ignored() {
      return ignored;
    },
    push: (chunk) => rowsOf(reader.push(chunk)),
    end: () => {
      const rows = rowsOf(reader.end());
      if (adapt === null) throw new UsageError("The file is empty: not even a header.");
      return rows;
    },
  };
}

function adapterFor(
  header: CsvRecord,
  mapping: RowMapping,
): { adapt: RecordAdapter; ignored: readonly string[] } {
  if (header.fault !== null) throw new UsageError(`The header cannot be read: ${header.fault}.`);
  const made =
    mapping.format === "csv"
      ? createCsvAdapter(header.fields, mapping)
      : { ignored: [], ...createAzureTraceAdapter(header.fields, mapping.defaults) };
  if (made.adapt === null) throw new UsageError(made.problem);
  return made;
}

function rowOf({ line, fields, fault }: CsvRecord, adapt: RecordAdapter, digest: Buffer): FileRow {
  if (fault !== null)
    return {
      row: line,
      json: null,
      fault: { code: "invalid_value", pointer: "", detail: `The row is broken: ${fault}.` },
    };
  const adapted = adapt(fields, () => rowIdOf(digest, line));
  return adapted.fault === null
    ? { row: line, json: Buffer.from(adapted.json), fault: null }
    : { row: line, json: null, fault: adapted.fault };
}

/** Rows to send in one request, in the limits of the service. */
export type RowBatch = { text: Buffer; rows: readonly number[] };

const BATCH_EVENTS_MAX = 5000;
const BATCH_BYTES_MAX = 4 * 1024 * 1024;

/** Gathers rows into batches of at most 5,000 events and 4 MiB (one row never exceeds that). */
export class RowBatcher {
  #lines: Buffer[] = [];
  #rows: number[] = [];
  #bytes = 0;

  /** Takes a row; returns the batch before it when that is full. */
  add(row: number, json: Buffer): RowBatch | null {
    const isFull =
      this.#rows.length >= BATCH_EVENTS_MAX || this.#bytes + json.length + 1 > BATCH_BYTES_MAX;
    const full = isFull ? this.take() : null;
    this.#lines.push(json, LINE_END);
    this.#rows.push(row);
    this.#bytes += json.length + 1;
    return full;
  }

  /** What is gathered, or null when nothing is. */
  take(): RowBatch | null {
    if (this.#rows.length === 0) return null;
    const batch = { text: Buffer.concat(this.#lines), rows: this.#rows };
    this.#lines = [];
    this.#rows = [];
    this.#bytes = 0;
    return batch;
  }
}

const LINE_END = Buffer.from("\n");
