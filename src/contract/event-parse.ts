import { EventReader } from "./event-reader.ts";
import { JsonFault } from "./event-scanner.ts";
import { Failure } from "./failure.ts";
import type { ParsedItem } from "./outcomes.ts";

/** How events follow each other in a body: one event or an array of them, or an event on each line. */
export type EventFormat = "json" | "ndjson";

export type ParseLimits = { eventsMax: number };

const NEWLINE = 0x0a;

/** One for the process: parsing is synchronous, and what the reader knows of texts makes the next body cheaper. */
let sharedReader: EventReader | undefined;

/**
 * Parses the events of a body, in one pass over its bytes. Items come in the order sent; an event with something wrong
 * is a rejection and does not touch its neighbours. Items hold slices of `body`, which must not be written to again.
 *
 * Throws Failure when the body as a whole cannot be read, and then nothing of it counts: invalid_json (with the byte
 * position; in NDJSON a line that is not JSON is a rejection instead), invalid_encoding (UTF-16 and the like),
 * empty_batch, too_many_events.
 */
export function parseUsageEvents(
  body: Buffer,
  format: EventFormat,
  limits: ParseLimits,
): ParsedItem[] {
  sharedReader ??= new EventReader();
  const reader = sharedReader;
  reader.open(body, format === "ndjson");
  try {
    skipByteOrderMark(reader);
    const items = format === "ndjson" ? readLines(reader, limits) : readDocument(reader, limits);
    if (items.length === 0)
      throw new Failure("empty_batch", "The body holds no event; at least one is needed.");
    return items;
  } catch (error) {
    if (error instanceof JsonFault) throw toFailure(error);
    throw error;
  } finally {
    reader.open(null, false);
  }
}

function skipByteOrderMark(reader: EventReader): void {
  const { bytes } = reader.scanner;
  const first = bytes[0] ?? -1;
  const second = bytes[1] ?? -1;
  const isWide = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
  if (isWide || (first === 0 && second > 0) || (first > 0 && second === 0)) {
    throw new Failure(
      "invalid_encoding",
      "The body must be UTF-8; this looks like UTF-16 or UTF-32.",
    );
  }
  if (first === 0xef && second === 0xbb && bytes[2] === 0xbf) reader.scanner.at = 3;
}

function readDocument(reader: EventReader, limits: ParseLimits): ParsedItem[] {
  const scanner = reader.scanner;
  const items: ParsedItem[] = [];
  const first = scanner.next();
  if (scanner.at >= scanner.bytes.length) return items;
  if (first === 0x5b) {
    scanner.at++;
    if (scanner.next() === 0x5d) scanner.at++;
    else {
      do {
        readItem(reader, items, limits);
      } while (!isLastItem(reader));
    }
  } else readItem(reader, items, limits);

  scanner.next();
  if (scanner.at < scanner.bytes.length)
    scanner.fault("The end of the body (events on lines of their own are NDJSON)");
  return items;
}

function readItem(reader: EventReader, items: ParsedItem[], limits: ParseLimits): void {
  if (items.length >= limits.eventsMax) {
    throw new Failure(
      "too_many_events",
      `A body may hold at most ${limits.eventsMax} events; send the rest in another.`,
    );
  }
  items.push(reader.readItem());
}

function isLastItem({ scanner }: EventReader): boolean {
  const byte = scanner.next();
  if (byte !== 0x2c && byte !== 0x5d) scanner.fault('A comma or "]"');
  scanner.at++;
  return byte === 0x5d;
}

function readLines(reader: EventReader, limits: ParseLimits): ParsedItem[] {
  const scanner = reader.scanner;
  const items: ParsedItem[] = [];
  for (;;) {
    const byte = scanner.next();
    if (scanner.at >= scanner.bytes.length) return items;
    if (byte === NEWLINE) scanner.at++;
    else readLine(reader, items, limits);
  }
}

function readLine(reader: EventReader, items: ParsedItem[], limits: ParseLimits): void {
  const { scanner } = reader;
  const { bytes } = scanner;
  const start = scanner.at;
  const count = items.length;
  try {
    readItem(reader, items, limits);
    if (scanner.next() !== NEWLINE && scanner.at < bytes.length)
      scanner.fault("The end of the line");
  } catch (error) {
    if (!(error instanceof JsonFault)) throw error;
    // No token reaches over a newline, so the line's end is at or after the fault.
    const newline = bytes.indexOf(NEWLINE, error.position);
    const end = newline < 0 ? bytes.length : newline;
    const message = `The line is not valid JSON: ${error.message} at byte ${error.position - start} of the line.`;
    items.length = count;
    items.push({
      event: null,
      rejection: { ...reader.createRejection("invalid_json", message), pointer: "" },
      bytes: bytes.subarray(start, bytes[end - 1] === 0x0d ? end - 1 : end),
    });
    scanner.at = end;
  }
}

function toFailure(fault: JsonFault): Failure {
  const message = `${fault.message} at byte ${fault.position}.`;
  return new Failure(
    "invalid_json",
    `The body is not valid JSON, so nothing of it was read: ${message}`,
    {
      details: [{ pointer: "", code: "invalid_json", message }],
      cause: fault,
    },
  );
}
