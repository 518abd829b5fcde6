import { isUtf8 } from "node:buffer";

/** One record of a CSV file: its fields, or what is wrong with it. */
export type CsvRecord = {
  /** Line on which the record starts; the first line of the file is 1. */
  line: number;
  fields: readonly string[];
  /** Null, or why the record cannot be read; `fields` is then empty. */
  fault: string | null;
};

export type CsvReaderOptions = {
  /** A record beyond this is a fault, so that one lost quote does not swallow the file. */
  recordBytesMax: number;
};

const QUOTE = 0x22;
const COMMA = 0x2c;
const LF = 0x0a;
const CR = 0x0d;
const EMPTY = Buffer.alloc(0);

/**
 * Reads CSV (RFC 4180) as it arrives: quoted fields with commas, doubled quotes and line breaks, LF or CRLF, with or
 * without a byte order mark or a last line end. Empty lines are passed over. A quote inside an unquoted field is text.
 * Fields are given exactly as they stand: nothing is trimmed or converted. After a faulty record reading goes on
 * with the line below the one it started on. Memory: one record and one chunk.
 */
export class CsvReader {
  readonly #recordBytesMax: number;
  #bytes: Buffer = EMPTY;
  #at = 0;
  #line = 1;
  #isStart = true;

  constructor(options: CsvReaderOptions) {
    this.#recordBytesMax = options.recordBytesMax;
  }

  /** Takes the next piece of the file; returns the records that it completes. */
  push(chunk: Buffer): CsvRecord[] {
    const rest = this.#bytes.subarray(this.#at);
    this.#bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    this.#at = 0;
    return this.#drain(false);
  }

  /** Says that the file has ended; returns what was still open. */
  end(): CsvRecord[] {
    return this.#drain(true);
  }

  #drain(isEnd: boolean): CsvRecord[] {
    const records: CsvRecord[] = [];
    if (!this.#passByteOrderMark(isEnd)) return records;
    while (this.#at < this.#bytes.length) {
      const record = this.#next(isEnd);
      if (record === null) break;
      if (record.fault !== null || record.fields.length > 0) records.push(record);
    }
    return records;
  }

  /** False while too little has arrived to tell. */
  #passByteOrderMark(isEnd: boolean): boolean {
    if (!this.#isStart) return true;
    if (this.#bytes.length < 3 && !isEnd) return false;
    this.#isStart = false;
    if (this.#bytes[0] === 0xef && this.#bytes[1] === 0xbb && this.#bytes[2] === 0xbf) this.#at = 3;
    return true;
  }

  /** The record at the position, which moves behind it; null when it is not complete. No fields: an empty line. */
  #next(isEnd: boolean): CsvRecord | null {
    const line = this.#line;
    const parsed = parseRecord(this.#bytes, this.#at, isEnd);
    if (parsed === null) {
      if (this.#bytes.length - this.#at <= this.#recordBytesMax) return null;
      return this.#passLine(
        `longer than ${this.#recordBytesMax} bytes: is a closing quote missing?`,
      );
    }
    if (typeof parsed === "string") return this.#passLine(parsed);
    this.#at = parsed.end;
    this.#line += parsed.lines;
    return { line, fields: parsed.fields, fault: null };
  }

  /** Gives the record at the position up, and goes on below its first line. */
  #passLine(fault: string): CsvRecord {
    const lineEnd = this.#bytes.indexOf(LF, this.#at);
    this.#at = lineEnd < 0 ? this.#bytes.length : lineEnd + 1;
    return { line: this.#line++, fields: [], fault };
  }
}

/** The record that starts at `start`; what is wrong with it; or null when its end has not arrived. */
function parseRecord(
  bytes: Buffer,
  start: number,
  isEnd: boolean,
): { fields: string[]; end: number; lines: number } | string | null {
  const fields: string[] = [];
  let lines = 0;
  for (let at = start; ;) {
    const isQuoted = bytes[at] === QUOTE;
    const stop = isQuoted ? closingQuote(bytes, at) : fieldEnd(bytes, at, isEnd);
    if (stop < 0) return isEnd ? "a quoted field is not closed" : null;
    const field = isQuoted ? unquote(bytes, at, stop) : plain(bytes, at, stop);
    if (isQuoted) lines += field.split("\n").length - 1;
    fields.push(field);

    const after = isQuoted ? stop + 1 : stop;
    if (bytes[after] === COMMA) {
      at = after + 1;
      continue;
    }
    const end = recordEnd(bytes, after, isEnd);
    if (end === null) return null;
    if (end < 0) return "text after a closing quote";
    if (!isUtf8(bytes.subarray(start, end))) return "not UTF-8";
    const isEmptyLine = fields.length === 1 && field === "" && !isQuoted;
    return { fields: isEmptyLine ? [] : fields, end, lines: lines + 1 };
  }
}

/** Position behind the line end at `at`; -1 when something else is there; null when more must arrive to tell. */
function recordEnd(bytes: Buffer, at: number, isEnd: boolean): number | null {
  if (at >= bytes.length) return isEnd ? at : null;
  if (bytes[at] === LF) return at + 1;
  if (bytes[at] !== CR) return -1;
  if (at + 1 >= bytes.length) return isEnd ? at + 1 : null;
  return bytes[at + 1] === LF ? at + 2 : -1;
}

/** Position of the comma or line feed that ends the unquoted field at `at`, or -1 while it has not arrived. */
function fieldEnd(bytes: Buffer, at: number, isEnd: boolean): number {
  for (; at < bytes.length; at++) {
    if (bytes[at] === COMMA || bytes[at] === LF) return at;
  }
  return isEnd ? at : -1;
}

/**
 * Position of the quote that closes the one at `open`, or -1. One at the very end may yet turn out to be doubled:
 * `recordEnd` waits for what follows.
 */
function closingQuote(bytes: Buffer, open: number): number {
  for (let at = bytes.indexOf(QUOTE, open + 1); at >= 0; at = bytes.indexOf(QUOTE, at + 2)) {
    if (bytes[at + 1] !== QUOTE) return at;
  }
  return -1;
}

function unquote(bytes: Buffer, open: number, close: number): string {
  const text = bytes.toString("utf8", open + 1, close);
  return text.includes('"') ? text.replaceAll('""', '"') : text;
}

/** An unquoted field, without the carriage return of a CRLF line end. */
function plain(bytes: Buffer, start: number, stop: number): string {
  const isLast = bytes[stop] !== COMMA;
  return bytes.toString(
    "utf8",
    start,
    isLast && bytes[stop - 1] === CR && stop > start ? stop - 1 : stop,
  );
}
