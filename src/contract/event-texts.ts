import { digestText } from "./event-digest.ts";
import type { EventScanner } from "./event-scanner.ts";

/** A text with the digest of its UTF-8. */
export type CachedText = { text: string; a: number; b: number; hash: number; length: number };

const TEXT_BYTES_MAX = 64;

/**
 * Remembers the texts that come again and again (orgs, models, clients), so that a known one is neither decoded nor
 * digested anew and the same string object comes back. Slots are overwritten: memory is fixed, and a
 * hostile choice of texts costs speed only, because a hit is compared byte by byte.
 */
export class EventTexts {
  readonly #slots: (CachedText | undefined)[];
  /** The bytes of slot i from i * TEXT_BYTES_MAX. */
  readonly #bytes: Buffer;
  readonly #mask: number;

  /** `slots` is a power of two. */
  constructor(slots: number) {
    this.#slots = Array.from({ length: slots });
    this.#bytes = Buffer.alloc(slots * TEXT_BYTES_MAX);
    this.#mask = slots - 1;
  }

  /** The scanner's last string, which must be valid text. */
  get(scanner: EventScanner): CachedText {
    if (scanner.end - scanner.start > TEXT_BYTES_MAX) return decode(scanner);
    const slot = (scanner.hash ^ (scanner.hash >>> 15)) & this.#mask;
    return this.#find(scanner, slot) ?? this.#find(scanner, slot ^ 1) ?? this.#add(scanner, slot);
  }

  #find({ source, start, end, hash }: EventScanner, slot: number): CachedText | undefined {
    const known = this.#slots[slot];
    if (known === undefined || known.hash !== hash || known.length !== end - start)
      return undefined;
    const bytes = this.#bytes;
    const base = slot * TEXT_BYTES_MAX - start;
    for (let p = start; p < end; p++) if (bytes[base + p] !== source[p]) return undefined;
    return known;
  }

  /** Takes the free one of two slots, else the first, whose text moves over: the one used longer ago goes. */
  #add(scanner: EventScanner, slot: number): CachedText {
    const { source, start, end } = scanner;
    const bytes = this.#bytes;
    const first = slot * TEXT_BYTES_MAX;
    const second = (slot ^ 1) * TEXT_BYTES_MAX;
    if (this.#slots[slot] !== undefined) {
      this.#slots[slot ^ 1] = this.#slots[slot];
      bytes.copyWithin(second, first, first + TEXT_BYTES_MAX);
    }
    const text = decode(scanner);
    source.copy(bytes, first, start, end);
    this.#slots[slot] = text;
    return text;
  }
}

function decode(scanner: EventScanner): CachedText {
  const text = {
    text: scanner.text(),
    a: 0,
    b: 0,
    hash: scanner.hash,
    length: scanner.end - scanner.start,
  };
  digestText(text, scanner.source, scanner.start, scanner.end);
  return text;
}

const WINDOW_BYTES = 16_384;

/**
 * Decodes ASCII ranges of a body as slices of larger decoded windows: a call into the runtime for each id costs more
 * than the rest of the id. A slice keeps its window in memory, so this is for texts that live as long as their batch.
 */
export class AsciiWindow {
  #text = "";
  #start = 0;
  #end = 0;

  /** Forgets the body. */
  clear(): void {
    this.#text = "";
    this.#start = 0;
    this.#end = 0;
  }

  /** The text of `body[start, end)`, which must be ASCII. Always the same body between two `clear`s. */
  slice(body: Buffer, start: number, end: number): string {
    if (end > this.#end || start < this.#start) {
      this.#start = start;
      this.#end = Math.min(body.length, Math.max(end, start + WINDOW_BYTES));
      this.#text = body.toString("latin1", start, this.#end);
    }
    return this.#text.substring(start - this.#start, end - this.#start);
  }
}
