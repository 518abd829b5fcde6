import { hash } from "node:crypto";
import { finishA, finishB, mixA, mixB, SEED_A, SEED_B } from "./event-digest.ts";
import type { Digest } from "./event-digest.ts";

const UUID_LENGTH = 36;

/** Value of the lower-case hexadecimal digits; other bytes are negative. */
const HEX = new Int8Array(256).fill(-1);
for (const [value, digit] of Array.from("0123456789abcdef").entries())
  HEX[digit.charCodeAt(0)] = value;

/** Four hexadecimal digits, negative when one of them is none. */
const hex4 = (source: Uint8Array, at: number): number =>
  ((HEX[source[at] ?? 0] ?? -1) << 12) |
  ((HEX[source[at + 1] ?? 0] ?? -1) << 8) |
  ((HEX[source[at + 2] ?? 0] ?? -1) << 4) |
  (HEX[source[at + 3] ?? 0] ?? -1);

/** An event's identity as four 32-bit words. One object is used again for every event. */
export class EventKey {
  word0 = 0;
  word1 = 0;
  word2 = 0;
  word3 = 0;
  /** The id is itself a canonical lower-case UUID. */
  isUuid = false;

  /** Takes the id whose UTF-8 is `source[start, end)`. */
  set(source: Buffer, start: number, end: number): void {
    this.isUuid = end - start === UUID_LENGTH && this.#setUuid(source, start);
    if (!this.isUuid) this.#setHash(source.subarray(start, end));
  }

  #setUuid(source: Uint8Array, start: number): boolean {
    const a = hex4(source, start);
    const b = hex4(source, start + 4);
    const c = hex4(source, start + 9);
    const d = hex4(source, start + 14);
    const e = hex4(source, start + 19);
    const f = hex4(source, start + 24);
    const g = hex4(source, start + 28);
    const h = hex4(source, start + 32);
    if ((a | b | c | d | e | f | g | h) < 0) return false;
    for (let dash = start + 8; dash < start + 24; dash += 5)
      if (source[dash] !== 0x2d) return false;
    this.word0 = (a << 16) | b;
    this.word1 = (c << 16) | d;
    this.word2 = (e << 16) | f;
    this.word3 = (g << 16) | h;
    return true;
  }

  #setHash(id: Buffer): void {
    // As a string: asking for a Buffer takes three times as long.
    const digest = hash("sha256", id, "binary");
    this.word0 = wordAt(digest, 0);
    this.word1 = wordAt(digest, 4);
    this.word2 = wordAt(digest, 8);
    this.word3 = wordAt(digest, 12);
  }

  /** The words as `UsageEvent.key`. */
  toTuple(): readonly [number, number, number, number] {
    return [this.word0 >>> 0, this.word1 >>> 0, this.word2 >>> 0, this.word3 >>> 0];
  }
}

const wordAt = (text: string, at: number): number =>
  (text.charCodeAt(at) << 24) |
  (text.charCodeAt(at + 1) << 16) |
  (text.charCodeAt(at + 2) << 8) |
  text.charCodeAt(at + 3);

/**
 * The identity of an event id: the UUID's own 16 bytes when the id is a canonical lower-case UUID, else the first 16
 * bytes of SHA-256 over its UTF-8. Exact bytes are the identity: case and whitespace count.
 */
export function createEventKey(eventId: string): {
  key: readonly [number, number, number, number];
  isUuidKey: boolean;
} {
  const key = new EventKey();
  const id = Buffer.from(eventId);
  key.set(id, 0, id.length);
  return { key: key.toTuple(), isUuidKey: key.isUuid };
}

/** Adds an event's content up, field by field in a fixed order, so that the order on the wire does not matter. */
export class ContentHash {
  #a = SEED_A;
  #b = SEED_B;

  start(): void {
    this.#a = SEED_A;
    this.#b = SEED_B;
  }

  /** Adds an integer of at most 32 bits. */
  addWord(word: number): void {
    this.#a = mixA(this.#a, word);
    this.#b = mixB(this.#b, word);
  }

  /** Adds a safe integer or null. */
  addInteger(value: number | null): void {
    if (value === null) {
      this.addWord(0);
      this.addWord(0x40000000);
    } else {
      this.addWord(value | 0);
      this.addWord(Math.floor(value / 4_294_967_296));
    }
  }

  /** Adds a text, or anything else digested; null is no text. */
  addDigest(digest: Digest | null): void {
    this.#a = mixA(this.#a, digest === null ? 0 : digest.a);
    this.#b = mixB(this.#b, digest === null ? 0 : digest.b);
  }

  /** [high, low] unsigned words. */
  toTuple(): readonly [number, number] {
    return [finishA(this.#a) >>> 0, finishB(this.#b) >>> 0];
  }
}
