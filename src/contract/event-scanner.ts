import { isUtf8 } from "node:buffer";
import type { RejectionCode } from "./outcomes.ts";

/** Thrown where the bytes stop being JSON; `position` counts from the start of the body. */
export class JsonFault extends Error {
  readonly position: number;

  constructor(position: number, message: string) {
    super(message);
    this.name = "JsonFault";
    this.position = position;
  }
}

/** Nesting of objects and arrays in one event, the event itself counted. */
export const DEPTH_MAX = 32;
const POINTER_CHARACTERS_MAX = 512;
const SCRATCH_BYTES_KEPT = 65_536;

/** 1 for the bytes that stand for themselves inside a JSON string and are ASCII. */
const PLAIN = new Uint8Array(256);
for (let byte = 0x20; byte < 0x80; byte++) PLAIN[byte] = byte === 0x22 || byte === 0x5c ? 0 : 1;

/** The short escapes: code of the letter after the backslash to the byte meant. */
const SHORT_ESCAPES = new Map<number, number>([
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x2f, 0x2f],
  [0x62, 8],
  [0x66, 12],
  [0x6e, 10],
  [0x72, 13],
  [0x74, 9],
]);

const hexDigit = (byte: number): number => {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const letter = byte | 0x20;
  return letter >= 97 && letter <= 102 ? letter - 87 : -1;
};

/**
 * Reads JSON tokens from bytes. Reading past the end gives 0, a byte that JSON has no use for, so no loop needs a
 * bound of its own. What is wrong with the syntax is thrown (JsonFault); what is wrong with a well-formed value
 * is noted with `reject`, the first time only, and reading goes on, because the next event starts after this one.
 */
export class EventScanner {
  bytes: Buffer = Buffer.alloc(0);
  /** Index of the next byte to read. */
  at = 0;
  /** The byte that ends an event's line and is no whitespace inside it (NDJSON); -1 when newlines are whitespace. */
  lineEnd = -1;

  /** Where the last string's decoded UTF-8, or the last number's digits, are: `source[start, end)`. */
  source: Buffer = this.bytes;
  start = 0;
  end = 0;
  /** Of the last string: 0 ASCII, 1 other UTF-8, 2 no valid text (and `reject` has been told). */
  form = 0;
  /** Set when a string held bytes beyond ASCII as they are; never cleared here. */
  hasHighBytes = false;
  /** FNV-1a of the last string read by `readString`; picks slots in caches and says nothing else. */
  hash = 0;
  /** Of the last number: neither fraction nor exponent. */
  isInteger = false;

  code: RejectionCode | null = null;
  pointer = "";
  detail = "";
  /** The way down to the value being read: raw key tokens, or -1 and an array index. */
  readonly pathStart = new Int32Array(DEPTH_MAX + 1);
  readonly pathEnd = new Int32Array(DEPTH_MAX + 1);
  pathLength = 0;

  #scratch: Buffer = Buffer.allocUnsafe(1024);

  /** Points the scanner at a body; with null it lets go of the last one. */
  open(body: Buffer | null, isLines: boolean): void {
    this.bytes = body ?? Buffer.alloc(0);
    this.source = this.bytes;
    this.at = 0;
    this.lineEnd = isLines ? 0x0a : -1;
    if (this.#scratch.length > SCRATCH_BYTES_KEPT) this.#scratch = Buffer.allocUnsafe(1024);
  }

  /** Notes why the event at hand cannot be counted; the first reason stays. The pointer is the current path. */
  reject(code: RejectionCode, detail: string): void {
    if (this.code !== null) return;
    this.code = code;
    this.detail = detail;
    this.pointer = this.#formatPointer();
  }

  /** As `reject`, with a pointer of its own. */
  rejectAt(code: RejectionCode, pointer: string, detail: string): void {
    if (this.code !== null) return;
    this.code = code;
    this.detail = detail;
    this.pointer = pointer;
  }

  /** Throws: the bytes at hand are not JSON. */
  fault(expected: string): never {
    const isEnd = this.at >= this.bytes.length || this.bytes[this.at] === this.lineEnd;
    throw new JsonFault(
      this.at,
      isEnd ? `${expected} expected, but the text ends` : `${expected} expected`,
    );
  }

  /** Moves to the next byte that is not whitespace and returns it. */
  next(): number {
    const byte = this.bytes[this.at] ?? 0;
    return byte > 0x20 ? byte : this.#skipSpace();
  }

  #skipSpace(): number {
    const bytes = this.bytes;
    let p = this.at;
    for (;;) {
      const byte = bytes[p] ?? 0;
      const isSpace = byte === 0x20 || byte === 0x09 || byte === 0x0d || byte === 0x0a;
      if (!isSpace || byte === this.lineEnd) {
        this.at = p;
        return byte;
      }
      p++;
    }
  }

  /** Reads the string whose opening quote is next into source, start, end, form and hash. */
  readString(): void {
    const bytes = this.bytes;
    const start = this.at + 1;
    let p = start;
    let hash = 0x811c9dc5;
    let byte = bytes[p] ?? 0;
    while (PLAIN[byte] === 1) {
      hash = Math.imul(hash ^ byte, 0x01000193);
      byte = bytes[++p] ?? 0;
    }
    this.at = p;
    if (byte === 0x22) {
      this.at = p + 1;
      this.source = bytes;
      this.start = start;
      this.end = p;
      this.form = 0;
      this.hash = hash;
    } else this.#readAwkwardString(start);
  }

  /** A string with escapes or bytes beyond ASCII; `at` is at the first of them. */
  #readAwkwardString(start: number): void {
    const bytes = this.bytes;
    let hasEscape = false;
    let hasHigh = false;
    for (;;) {
      const byte = bytes[this.at] ?? 0;
      if (byte === 0x22) break;
      if (byte < 0x20) this.fault("The end of the string (control characters must be escaped)");
      if (byte >= 0x80) hasHigh = true;
      if (byte === 0x5c) {
        hasEscape = true;
        this.#checkEscape();
      }
      this.at++;
    }
    this.source = bytes;
    this.start = start;
    this.end = this.at++;
    this.form = hasHigh ? 1 : 0;
    if (hasHigh) {
      this.hasHighBytes = true;
      if (!isUtf8(bytes.subarray(start, this.end)))
        this.#spoil("invalid_encoding", "Text must be valid UTF-8.");
    }
    if (hasEscape) this.#unescape();
    let hash = 0x811c9dc5;
    for (let p = this.start; p < this.end; p++)
      hash = Math.imul(hash ^ (this.source[p] ?? 0), 0x01000193);
    this.hash = hash;
  }

  /** At a backslash: checks the escape's form and moves to its last byte. */
  #checkEscape(): void {
    const letter = this.bytes[++this.at] ?? 0;
    if (letter !== 0x75) {
      if (!SHORT_ESCAPES.has(letter))
        this.fault('A letter that JSON escapes with (" \\ / b f n r t u)');
      return;
    }
    for (let digits = 0; digits < 4; digits++) {
      this.at++;
      if (hexDigit(this.bytes[this.at] ?? 0) < 0) this.fault("Four hexadecimal digits after \\u");
    }
  }

  /** Decodes the escapes of `[start, end)`, whose form is checked, into the scratch buffer. */
  #unescape(): void {
    const { bytes, start, end } = this;
    if (this.#scratch.length < end - start) this.#scratch = Buffer.allocUnsafe((end - start) * 2);
    const scratch = this.#scratch;
    let to = 0;
    for (let p = start; p < end; p++) {
      const byte = bytes[p] ?? 0;
      if (byte !== 0x5c) {
        scratch[to++] = byte;
        continue;
      }
      const letter = bytes[++p] ?? 0;
      if (letter !== 0x75) {
        scratch[to++] = SHORT_ESCAPES.get(letter) ?? 0;
        continue;
      }
      let point = this.#codeUnitAt(p + 1);
      p += 4;
      if (point >= 0xd800 && point <= 0xdbff && bytes[p + 1] === 0x5c && bytes[p + 2] === 0x75) {
        const low = this.#codeUnitAt(p + 3);
        if (low >= 0xdc00 && low <= 0xdfff) {
          point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
          p += 6;
        }
      }
      to = this.#appendPoint(point, to);
    }
    this.source = scratch;
    this.start = 0;
    this.end = to;
  }

  #codeUnitAt(p: number): number {
    let unit = 0;
    for (let digit = 0; digit < 4; digit++)
      unit = (unit << 4) | hexDigit(this.bytes[p + digit] ?? 0);
    return unit;
  }

  #appendPoint(point: number, to: number): number {
    const scratch = this.#scratch;
    if (point === 0) this.#spoil("invalid_character", "Text must not hold the character U+0000.");
    if (point >= 0xd800 && point <= 0xdfff) {
      this.#spoil("invalid_encoding", "Text must not hold half of a surrogate pair.");
    }
    if (point < 0x80) {
      scratch[to] = point;
      return to + 1;
    }
    if (this.form === 0) this.form = 1;
    let p = to;
    if (point < 0x800) scratch[p++] = 0xc0 | (point >> 6);
    else {
      if (point < 0x10000) scratch[p++] = 0xe0 | (point >> 12);
      else {
        scratch[p++] = 0xf0 | (point >> 18);
        scratch[p++] = 0x80 | ((point >> 12) & 0x3f);
      }
      scratch[p++] = 0x80 | ((point >> 6) & 0x3f);
    }
    scratch[p++] = 0x80 | (point & 0x3f);
    return p;
  }

  #spoil(code: RejectionCode, detail: string): void {
    this.form = 2;
    this.reject(code, detail);
  }

  /** The last string, decoded; or the last number's digits. */
  text(): string {
    return this.source.toString(this.form === 0 ? "latin1" : "utf8", this.start, this.end);
  }

  /** Reads a JSON number into source, start, end and isInteger. */
  readNumber(): void {
    const bytes = this.bytes;
    this.source = bytes;
    this.start = this.at;
    this.form = 0;
    this.isInteger = true;
    if (bytes[this.at] === 0x2d) this.at++;
    if (bytes[this.at] === 0x30) this.at++;
    else this.#readDigits();
    if (bytes[this.at] === 0x2e) {
      this.isInteger = false;
      this.at++;
      this.#readDigits();
    }
    if (((bytes[this.at] ?? 0) | 0x20) === 0x65) {
      this.isInteger = false;
      this.at++;
      if (bytes[this.at] === 0x2b || bytes[this.at] === 0x2d) this.at++;
      this.#readDigits();
    }
    this.end = this.at;
  }

  #readDigits(): void {
    const bytes = this.bytes;
    let p = this.at;
    while (((bytes[p] ?? 0) ^ 0x30) < 10) p++;
    const isEmpty = p === this.at;
    this.at = p;
    if (isEmpty) this.fault("A digit");
  }

  /** Reads `word` (true, false, null), or throws. */
  readWord(word: string): void {
    for (let i = 0; i < word.length; i++) {
      if (this.bytes[this.at] !== word.charCodeAt(i)) this.fault(`The word ${word}`);
      this.at++;
    }
  }

  /** Whether `token` is at `start`. */
  hasBytes(token: Uint8Array, start: number): boolean {
    const bytes = this.bytes;
    const length = token.length;
    for (let i = 0; i < length; i++) if (bytes[start + i] !== token[i]) return false;
    return true;
  }

  /** Whether `word` is next; then it is read. */
  hasWord(word: string): boolean {
    for (let i = 0; i < word.length; i++) {
      if (this.bytes[this.at + i] !== word.charCodeAt(i)) return false;
    }
    this.at += word.length;
    return true;
  }

  /** Sets the path's step at `level` to the key whose raw token is `[start, end)`. */
  stepInto(level: number, start: number, end: number): void {
    this.pathStart[level] = start;
    this.pathEnd[level] = end;
    this.pathLength = level + 1;
  }

  /** RFC 6901, cut at the last whole step that keeps it within 512 characters. */
  #formatPointer(): string {
    let pointer = "";
    for (let level = 0; level < this.pathLength; level++) {
      const start = this.pathStart[level] ?? 0;
      const end = this.pathEnd[level] ?? 0;
      const key = start < 0 ? String(end) : this.keyText(start, end);
      const step = `/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`;
      if (pointer.length + step.length > POINTER_CHARACTERS_MAX) break;
      pointer += step;
    }
    return pointer;
  }

  /** Decodes the key whose raw token, quotes included, is `[start, end)`; leaves the last string as it is. */
  keyText(start: number, end: number): string {
    const key: unknown = JSON.parse(this.bytes.toString("utf8", start, end));
    return String(key);
  }
}
