import { ERROR_CLASSES, outcomeOfError } from "./error-class.ts";
import { COST_NANO_MAX, readPlainNano } from "./event-decimal.ts";
import { digestNumber } from "./event-digest.ts";
import { STATUSES, USAGE_SOURCES } from "./event-draft.ts";
import type { EventDraft } from "./event-draft.ts";
import { EVENT_FIELDS, FIELD } from "./event-fields.ts";
import type { EventScanner } from "./event-scanner.ts";
import { AsciiWindow, EventTexts } from "./event-texts.ts";
import type { CachedText } from "./event-texts.ts";
import { readTimestampUs } from "./event-time.ts";
import type { EventValues } from "./event-values.ts";
import { isDecimal, isKnownCurrency, parseNano } from "./money.ts";
import type { RejectionCode } from "./outcomes.ts";
import { packCurrency } from "./usage-event.ts";

export const EVENT_ID_BYTES_MAX = 128;
export /** Stands for all orgs together in system answers, so no org can have it. */
const ALL_ORGS_NAME = "*";
const TEXT_CHARACTERS_MAX = 256;
/** As sent, whitespace included. */
export const METADATA_BYTES_MAX = 8192;
export const COUNT_MAX = 2 ** 31 - 1;
export const REQUESTS_MAX = 1_000_000;

const MINOR_OF_VERSION_1 = /^1(\.\d+)?$/;
const COMMON_CURRENCY = packCurrency("USD");

/** Reads the value of each field of the contract into the draft, or notes at the scanner what is wrong with it. */
export class EventFieldReader {
  readonly #scanner: EventScanner;
  readonly #values: EventValues;
  readonly #draft: EventDraft;
  readonly #window = new AsciiWindow();
  readonly #orgs = new EventTexts(4096);
  readonly #models = new EventTexts(4096);
  readonly #clients = new EventTexts(4096);
  readonly #actors = new EventTexts(16_384);
  readonly #errorCodes = new EventTexts(1024);

  constructor(scanner: EventScanner, values: EventValues, draft: EventDraft) {
    this.#scanner = scanner;
    this.#values = values;
    this.#draft = draft;
  }

  /** To be called between two bodies. */
  forgetBody(): void {
    this.#window.clear();
  }

  /** Reads the value at hand as that of `field` (an index into EVENT_FIELDS). */
  read(field: number): void {
    if (field >= FIELD.requests && field <= FIELD.ttftMs) this.#readCount(field);
    else if (field === FIELD.metadata) this.#readMetadata();
    else if (field === FIELD.costEstimate) this.#readCost();
    else if (field === FIELD.schemaVersion) this.#readSchemaVersion();
    else this.#readTextField(field);
  }

  /** Notes what is wrong with `field`, in the field's own words. */
  reject(code: RejectionCode, field: number): void {
    const spec = EVENT_FIELDS[field];
    if (spec !== undefined) this.#scanner.reject(code, `${spec.name} ${spec.expects}`);
  }

  /** Notes at `field` itself, whatever is being read. */
  rejectAt(code: RejectionCode, field: number): void {
    const spec = EVENT_FIELDS[field];
    if (spec !== undefined)
      this.#scanner.rejectAt(code, `/${spec.name}`, `${spec.name} ${spec.expects}`);
  }

  /** Notes that a required field is not there. */
  rejectMissing(field: number): void {
    const name = EVENT_FIELDS[field]?.name ?? "";
    this.#scanner.rejectAt("missing_field", `/${name}`, `${name} is required.`);
  }

  /** The body from `start` to where the scanner is. */
  textSince(start: number): string {
    const { bytes, at, hasHighBytes } = this.#scanner;
    return hasHighBytes ? bytes.toString("utf8", start, at) : this.#window.slice(bytes, start, at);
  }

  /** A whole number in plain digits; the usual case without a second look, the rest in #readOddCount. */
  #readCount(field: number): void {
    const scanner = this.#scanner;
    const first = scanner.next();
    const bytes = scanner.bytes;
    let p = scanner.at;
    let value = 0;
    let digit = first - 48;
    while (digit >= 0 && digit <= 9 && value <= COUNT_MAX) {
      value = value * 10 + digit;
      digit = (bytes[++p] ?? 0) - 48;
    }
    const isPlain =
      p > scanner.at && // there are digits,
      (first !== 0x30 || p === scanner.at + 1) && // without leading zeros,
      (digit < 0 || digit > 9) && // all of them read,
      digit !== -2 && // no point,
      ((digit + 48) | 0x20) !== 0x65; // and no exponent
    if (
      !isPlain ||
      value > COUNT_MAX ||
      (field === FIELD.requests && (value < 1 || value > REQUESTS_MAX))
    ) {
      this.#readOddCount(field);
      return;
    }
    scanner.at = p;
    if (field === FIELD.totalTokens) this.#draft.wireTotal = value;
    else this.#draft.counts[field] = value;
  }

  #readOddCount(field: number): void {
    const scanner = this.#scanner;
    const isTime = field === FIELD.latencyMs || field === FIELD.ttftMs;
    const byte = scanner.next();
    if (isTime && byte === 0x6e) return scanner.readWord("null");
    if (this.#values.skipNonNumber()) return;
    if (byte !== 0x2d && (byte ^ 0x30) > 9) {
      this.#skip();
      return this.reject(byte === 0x7b || byte === 0x5b ? "invalid_type" : "invalid_number", field);
    }
    scanner.readNumber();
    if (!scanner.isInteger) return this.reject("invalid_number", field);
    const value = Number(scanner.text());
    if (Object.is(value, -0) || (value < 0 && !isTime)) return this.reject("invalid_number", field);
    if (isTime) {
      if (value < 0 || value > COUNT_MAX) return this.reject("invalid_range", field);
    } else if (field === FIELD.totalTokens) {
      if (!Number.isSafeInteger(value)) return this.reject("out_of_range", field);
      this.#draft.wireTotal = value;
      return;
    } else if (field === FIELD.requests ? value < 1 || value > REQUESTS_MAX : value > COUNT_MAX) {
      return this.reject("out_of_range", field);
    }
    this.#draft.counts[field] = value;
  }

  #readTextField(field: number): void {
    const scanner = this.#scanner;
    const draft = this.#draft;
    if (scanner.next() !== 0x22) return this.#readOddText(field);
    scanner.readString();
    if (scanner.form === 2) return;
    if (scanner.start === scanner.end) return this.reject(emptyCode(field), field);
    if (field === FIELD.eventId) this.#takeEventId();
    else if (field === FIELD.occurredAt || field === FIELD.timestamp) this.#takeTimestamp(field);
    else if (field === FIELD.orgId) this.#takeOrg();
    else if (field === FIELD.modelId) draft.model = this.#takeText(this.#models, field);
    else if (field === FIELD.clientId) draft.client = this.#takeText(this.#clients, field);
    else if (field === FIELD.actorId) draft.actor = this.#takeText(this.#actors, field);
    else if (field === FIELD.errorCode) draft.errorCode = this.#takeText(this.#errorCodes, field);
    else if (field === FIELD.currency) this.#takeCurrency();
    else this.#takeWord(field);
  }

  /** What is no string: null, which stands for absent where the field may be absent, or a mistake. */
  #readOddText(field: number): void {
    const isOptional = field > FIELD.modelId && field !== FIELD.status;
    if (isOptional && this.#scanner.next() === 0x6e) return this.#scanner.readWord("null");
    this.#skip();
    this.reject("invalid_type", field);
  }

  /** Reads a value that is not kept; what is wrong inside it is the first thing to be told. */
  #skip(): void {
    this.#values.bytesEnd = this.#scanner.at + METADATA_BYTES_MAX;
    this.#values.read(1);
  }

  #takeEventId(): void {
    const { bytes, source, start, end, form } = this.#scanner;
    if (end - start > EVENT_ID_BYTES_MAX) return this.reject("too_long", FIELD.eventId);
    const isSlice = form === 0 && source === bytes;
    this.#draft.eventId = isSlice ? this.#window.slice(bytes, start, end) : this.#scanner.text();
    this.#draft.key.set(source, start, end);
  }

  #takeOrg(): void {
    const org = this.#takeText(this.#orgs, FIELD.orgId);
    if (org?.text === ALL_ORGS_NAME) this.reject("invalid_value", FIELD.orgId);
    else this.#draft.org = org;
  }

  #takeTimestamp(field: number): void {
    const both = (1 << FIELD.occurredAt) | (1 << FIELD.timestamp);
    if ((this.#draft.seen & both) === both) return this.reject("duplicate_key", field);
    const us = readTimestampUs(this.#scanner.source, this.#scanner.start, this.#scanner.end);
    if (Number.isNaN(us)) this.reject("invalid_timestamp", field);
    else this.#draft.occurredAtUs = us;
  }

  #takeText(texts: EventTexts, field: number): CachedText | null {
    const scanner = this.#scanner;
    const bytes = scanner.end - scanner.start;
    // A character takes up to 4 bytes, so most texts need no counting.
    if (bytes > TEXT_CHARACTERS_MAX) {
      if (
        bytes > TEXT_CHARACTERS_MAX * 4 ||
        Array.from(scanner.text()).length > TEXT_CHARACTERS_MAX
      ) {
        this.reject("too_long", field);
        return null;
      }
    }
    return texts.get(scanner);
  }

  #takeCurrency(): void {
    const { source, start, end } = this.#scanner;
    const a = (source[start] ?? 0) - 65;
    const b = (source[start + 1] ?? 0) - 65;
    const c = (source[start + 2] ?? 0) - 65;
    const isShaped = end - start === 3 && a >= 0 && a < 26 && b >= 0 && b < 26 && c >= 0 && c < 26;
    const packed = (a * 26 + b) * 26 + c;
    if (isShaped && (packed === COMMON_CURRENCY || isKnownCurrency(packed)))
      this.#draft.currency = packed;
    else this.reject("invalid_currency", FIELD.currency);
  }

  /** One of a few words: status, error_class or usage_source. */
  #takeWord(field: number): void {
    const draft = this.#draft;
    if (field === FIELD.status) draft.status = this.#indexAmong(STATUSES, field);
    else if (field === FIELD.usageSource)
      draft.usageSource = this.#indexAmong(USAGE_SOURCES, field);
    else {
      const errorClass = ERROR_CLASSES[this.#indexAmong(ERROR_CLASSES, field)];
      if (errorClass !== undefined) draft.errorClass = outcomeOfError(errorClass);
    }
  }

  /** The index of the word that is the last string, or -1 and a rejection. */
  #indexAmong(words: readonly string[], field: number): number {
    const { source, start, end } = this.#scanner;
    for (let index = 0; index < words.length; index++) {
      const word = words[index] ?? "";
      if (word.length !== end - start) continue;
      let i = 0;
      while (i < word.length && word.charCodeAt(i) === source[start + i]) i++;
      if (i === word.length) return index;
    }
    this.reject("invalid_value", field);
    return -1;
  }

  #readCost(): void {
    const scanner = this.#scanner;
    const byte = scanner.next();
    if (byte === 0x6e) return scanner.readWord("null");
    if (byte === 0x22) scanner.readString();
    else if (this.#values.skipNonNumber()) return;
    else if (byte === 0x2d || (byte ^ 0x30) < 10) scanner.readNumber();
    else {
      this.#skip();
      return this.reject("invalid_type", FIELD.costEstimate);
    }
    const { source, start, end } = scanner;
    const nano = readPlainNano(source, start, end);
    if (Number.isNaN(nano)) this.#takeOddCost();
    else this.#draft.costNano = nano;
  }

  /** A cost with an exponent or many digits, or none at all. */
  #takeOddCost(): void {
    const scanner = this.#scanner;
    if (scanner.form !== 0) return this.reject("invalid_number", FIELD.costEstimate);
    const text = scanner.text();
    if (!isDecimal(text)) return this.reject("invalid_number", FIELD.costEstimate);
    const amount = parseNano(text);
    if (amount === null) return this.reject("out_of_range", FIELD.costEstimate);
    const nano = Number(amount.nano);
    if (Math.abs(nano) > COST_NANO_MAX) return this.reject("out_of_range", FIELD.costEstimate);
    this.#draft.costNano = nano;
    this.#draft.isCostRounded = amount.rounded;
    if (amount.rounded)
      digestNumber(this.#draft.costDigest, scanner.source, scanner.start, scanner.end);
  }

  #readMetadata(): void {
    const scanner = this.#scanner;
    const values = this.#values;
    const byte = scanner.next();
    if (byte === 0x6e) return scanner.readWord("null");
    if (byte !== 0x7b) {
      this.#skip();
      return this.reject("invalid_type", FIELD.metadata);
    }
    const start = scanner.at;
    values.bytesEnd = start + METADATA_BYTES_MAX;
    scanner.hasHighBytes = false;
    values.read(1);
    if (scanner.at - start > METADATA_BYTES_MAX) this.reject("too_large", FIELD.metadata);
    else if (scanner.code === null) {
      this.#draft.metadata = this.textSince(start);
      this.#draft.metadataDigest.a = values.digest.a;
      this.#draft.metadataDigest.b = values.digest.b;
    }
  }

  /** Any minor version of 1 is read; what it adds is kept as unknown fields. */
  #readSchemaVersion(): void {
    const scanner = this.#scanner;
    const byte = scanner.next();
    if (byte === 0x6e) return scanner.readWord("null");
    let isKnown = false;
    if (byte === 0x22) {
      scanner.readString();
      isKnown = scanner.form === 0 && MINOR_OF_VERSION_1.test(scanner.text());
    } else if (this.#values.skipNonNumber()) return;
    else if (byte === 0x2d || (byte ^ 0x30) < 10) {
      scanner.readNumber();
      isKnown = Math.floor(Number(scanner.text())) === 1;
    } else {
      this.#skip();
      return this.reject("invalid_type", FIELD.schemaVersion);
    }
    if (!isKnown) this.reject("unknown_schema", FIELD.schemaVersion);
  }
}

const emptyCode = (field: number): RejectionCode => {
  if (field === FIELD.currency) return "invalid_currency";
  return field === FIELD.occurredAt || field === FIELD.timestamp
    ? "invalid_timestamp"
    : "invalid_value";
};
