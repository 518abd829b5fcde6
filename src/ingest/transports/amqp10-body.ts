import { BodyFault } from "./body-fault.ts";

/** Where the body is among the sections of an AMQP 1.0 message (OASIS AMQP 1.0, part 3, §3.2). */
const DATA = 0x75;
const SEQUENCE = 0x76;
const VALUE = 0x77;

/** By descriptor code from 0x70 on: a sender may name a section instead of numbering it. */
const SECTION_NAMES = [
  "amqp:header:list",
  "amqp:delivery-annotations:map",
  "amqp:message-annotations:map",
  "amqp:properties:list",
  "amqp:application-properties:map",
  "amqp:data:binary",
  "amqp:amqp-sequence:list",
  "amqp:amqp-value:*",
  "amqp:footer:map",
];
const FIRST_SECTION = 0x70;

/** Constructors of values (part 1, §1.6). */
const DESCRIBED = 0x00;
const SMALL_ULONG = 0x53;
const ULONG = 0x80;
const BINARY_8 = 0xa0;
const STRING_8 = 0xa1;
const SYMBOL_8 = 0xa3;
const BINARY_32 = 0xb0;
const STRING_32 = 0xb1;
const SYMBOL_32 = 0xb3;

const FIXED_WIDTHS = [0, 1, 2, 4, 8, 16] as const;

/**
 * How many bytes a value takes, by the high half of its constructor: of fixed width from 4 on, behind a size of one
 * byte (even) or four (odd) from 10 on. Undefined below 4, where no plain value is.
 */
const widthOf = (half: number): number | "byte" | "word" | undefined =>
  half < 10 ? FIXED_WIDTHS[half - 4] : half % 2 === 0 ? "byte" : "word";

/**
 * The body's bytes: of its data sections joined, or of one text or binary value. `backwards` is the same with several
 * data sections joined the other way round, null when there are fewer than two.
 */
export type Amqp10Body = { bytes: Buffer; backwards: Buffer | null };

/** Whether bytes begin as an AMQP 1.0 section does. No JSON in UTF-8 and nothing compressed begins so. */
export function isAmqp10(bytes: Buffer): boolean {
  if (bytes[0] !== DESCRIBED) return false;
  const next = bytes[1];
  return next === SMALL_ULONG || next === ULONG || next === SYMBOL_8 || next === SYMBOL_32;
}

/**
 * Reads the sections of an AMQP 1.0 message, or those of its body alone. One pass, no recursion, at most two copies.
 * Throws BodyFault: `invalid_encoding` when the sections break off or are malformed, `unsupported_body` when the body
 * is structured data instead of bytes or text.
 */
export function readAmqp10Body(payload: Buffer): Amqp10Body {
  const reader = new SectionReader(payload);
  const data = new DataSections(payload);
  let value: Buffer | undefined;
  while (reader.at < payload.length) {
    const section = reader.readDescriptor();
    if (section === SEQUENCE)
      throw unsupported("An amqp-sequence body is not read; send the events as a data section.");
    if (value !== undefined && (section === DATA || section === VALUE))
      throw unsupported("The body holds an amqp-value and further sections, which is not read.");
    const constructor = reader.readByte();
    if (section === VALUE) {
      if (data.count > 0)
        throw unsupported("The body holds both data and an amqp-value, which is not read.");
      value = readText(reader, constructor);
    } else if (section === DATA) {
      if (constructor !== BINARY_8 && constructor !== BINARY_32) throw reader.fault();
      reader.skipValue(constructor);
      data.add(reader.start, reader.at);
    } else reader.skipValue(constructor);
  }
  return value === undefined ? data.join() : { bytes: value, backwards: null };
}

function readText(reader: SectionReader, constructor: number): Buffer {
  const isText = constructor === STRING_8 || constructor === STRING_32;
  if (!isText && constructor !== BINARY_8 && constructor !== BINARY_32)
    throw unsupported(
      "An amqp-value body that is neither text nor binary is not read; send the events as a data section.",
    );
  reader.skipValue(constructor);
  return reader.bytes.subarray(reader.start, reader.at);
}

const unsupported = (detail: string): BodyFault => new BodyFault("unsupported_body", detail);

/** Walks over encoded values; every read is checked against the end. */
class SectionReader {
  readonly bytes: Buffer;
  /** Index of the next byte to read. */
  at = 0;
  /** Where the contents of the value last skipped begin; they end at `at`. */
  start = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  fault(): BodyFault {
    return new BodyFault(
      "invalid_encoding",
      `The body begins as an AMQP 1.0 message, but is none from byte ${Math.min(this.at, this.bytes.length)} on.`,
    );
  }

  readByte(): number {
    const byte = this.bytes[this.at];
    if (byte === undefined) throw this.fault();
    this.at++;
    return byte;
  }

  #readWord(): number {
    if (this.bytes.length - this.at < 4) throw this.fault();
    const word = this.bytes.readUInt32BE(this.at);
    this.at += 4;
    return word;
  }

  /** The code of the section that begins here. */
  readDescriptor(): number {
    if (this.readByte() !== DESCRIBED) throw this.fault();
    const section = this.#readSectionCode(this.readByte());
    if (section < FIRST_SECTION || section >= FIRST_SECTION + SECTION_NAMES.length)
      throw this.fault();
    return section;
  }

  #readSectionCode(constructor: number): number {
    if (constructor === SMALL_ULONG) return this.readByte();
    if (constructor === ULONG) return this.#readWord() === 0 ? this.#readWord() : -1;
    if (constructor !== SYMBOL_8 && constructor !== SYMBOL_32) throw this.fault();
    this.skipValue(constructor);
    if (this.at - this.start > 64) return -1;
    const name = this.bytes.toString("latin1", this.start, this.at);
    const index = SECTION_NAMES.indexOf(name);
    return index < 0 ? -1 : FIRST_SECTION + index;
  }

  /** Moves behind a value whose constructor has just been read. */
  skipValue(constructor: number): void {
    let width = widthOf(constructor >> 4);
    if (width === undefined) throw this.fault();
    if (width === "byte") width = this.readByte();
    else if (width === "word") width = this.#readWord();
    if (width > this.bytes.length - this.at) throw this.fault();
    this.start = this.at;
    this.at += width;
  }
}

/** Joins sections without an object for each: a payload may hold millions of empty ones. */
class DataSections {
  readonly #payload: Buffer;
  count = 0;
  #only: Buffer = Buffer.alloc(0);
  #forwards: Buffer | null = null;
  #backwards: Buffer | null = null;
  #length = 0;

  constructor(payload: Buffer) {
    this.#payload = payload;
  }

  add(start: number, end: number): void {
    if (this.count++ === 0) this.#only = this.#payload.subarray(start, end);
    else {
      if (this.count === 2) this.#copy(this.#only);
      this.#copy(this.#payload.subarray(start, end));
    }
  }

  #copy(section: Buffer): void {
    const size = this.#payload.length;
    this.#forwards ??= Buffer.allocUnsafe(size);
    this.#backwards ??= Buffer.allocUnsafe(size);
    section.copy(this.#forwards, this.#length);
    this.#length += section.length;
    section.copy(this.#backwards, size - this.#length);
  }

  join(): Amqp10Body {
    if (this.#forwards === null || this.#backwards === null)
      return { bytes: this.#only, backwards: null };
    return {
      bytes: this.#forwards.subarray(0, this.#length),
      backwards: this.#backwards.subarray(this.#backwards.length - this.#length),
    };
  }
}
