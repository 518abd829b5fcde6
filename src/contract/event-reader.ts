import { digestText, finishA, finishB, mixA, mixB } from "./event-digest.ts";
import { EventDraft, STATUS_SUCCESS } from "./event-draft.ts";
import { EventFieldReader } from "./event-field-reader.ts";
import { FIELD, KEY_TOKENS, findField } from "./event-fields.ts";
import { EventScanner } from "./event-scanner.ts";
import { EventValues } from "./event-values.ts";
import type { ParsedItem, Rejection, RejectionCode } from "./outcomes.ts";

/** Unknown fields of one event together, as the JSON object they are kept as. */
export const EXTRA_BYTES_MAX = 8192;

const REQUIRED = [
  FIELD.eventId,
  FIELD.occurredAt,
  FIELD.orgId,
  FIELD.modelId,
  FIELD.status,
] as const;
const REQUIRED_BITS = REQUIRED.reduce<number>((bits, field) => bits | (1 << field), 0);

/** Reads one event after another out of a body. What it learns of texts and of the order of keys outlives bodies. */
export class EventReader {
  readonly scanner = new EventScanner();
  readonly #values = new EventValues(this.scanner);
  readonly #draft = new EventDraft();
  readonly #fields = new EventFieldReader(this.scanner, this.#values, this.#draft);
  /** The field that last followed each field: producers repeat their order. */
  readonly #following = Uint8Array.from(
    KEY_TOKENS.keys(),
    (field) => (field + 1) % KEY_TOKENS.length,
  );

  /** Starts on a body; with null it lets go of the last one. Lines are for NDJSON. */
  open(body: Buffer | null, isLines: boolean): void {
    this.scanner.open(body, isLines);
    this.#fields.forgetBody();
    this.#reset();
  }

  #reset(): void {
    this.scanner.code = null;
    this.scanner.pathLength = 0;
    this.#values.keys.clear();
    this.#draft.reset();
  }

  /** Reads the value at hand as an event. Throws JsonFault when it is not JSON. */
  readItem(): ParsedItem {
    const scanner = this.scanner;
    this.#reset();
    const isObject = scanner.next() === 0x7b;
    const start = scanner.at;
    if (isObject) {
      this.#readMembers();
      this.#checkWhole();
    } else {
      this.#values.bytesEnd = start;
      this.#values.read(0);
      scanner.reject("invalid_type", "An event must be a JSON object.");
    }
    const bytes = scanner.bytes.subarray(start, scanner.at);
    if (scanner.code !== null)
      return { event: null, rejection: this.createRejection(scanner.code, scanner.detail), bytes };
    const event = this.#draft.createEvent();
    if (event !== null) return { event, rejection: null, bytes };
    throw new Error("an event without required fields passed the check");
  }

  /** A rejection with what could be read of the event at hand. */
  createRejection(code: RejectionCode, detail: string): Rejection {
    const draft = this.#draft;
    return {
      code,
      pointer: this.scanner.code === code ? this.scanner.pointer : "",
      detail,
      eventId: draft.eventId,
      orgId: draft.org === null ? null : draft.org.text,
      occurredAtUs: Number.isNaN(draft.occurredAtUs) ? null : draft.occurredAtUs,
    };
  }

  #readMembers(): void {
    const scanner = this.scanner;
    const values = this.#values;
    const draft = this.#draft;
    let last: number = FIELD.schemaVersion;
    scanner.at++;
    if (scanner.next() === 0x7d) {
      scanner.at++;
      return;
    }
    do {
      const field = this.#readKey(last);
      if (field === FIELD.unknown) this.#readUnknown();
      else {
        const bit = 1 << field;
        if ((draft.seen & bit) !== 0)
          scanner.reject("duplicate_key", "A key must not occur twice in one object.");
        draft.seen |= bit;
        values.readColon();
        this.#fields.read(field);
        last = field;
      }
      scanner.pathLength = 0;
    } while (!values.isLastMember(0x7d));
  }

  /** Reads a key, first trying the one that followed `last` the last time. */
  #readKey(last: number): number {
    const scanner = this.scanner;
    if (scanner.next() !== 0x22) scanner.fault("A key in double quotes");
    const start = scanner.at;
    const guess = this.#following[last] ?? 0;
    const token = KEY_TOKENS[guess];
    if (token !== undefined && scanner.hasBytes(token, start + 1)) {
      scanner.at = start + 1 + token.length;
      scanner.stepInto(0, start, scanner.at);
      return guess;
    }
    scanner.hasHighBytes = false;
    this.#values.readKey(0);
    const field = findField(scanner.source, scanner.start, scanner.end);
    if (field !== FIELD.unknown) this.#following[last] = field;
    return field;
  }

  /** A field the contract does not know, its key just read: kept as sent, unless it is null, which is absent. */
  #readUnknown(): void {
    const scanner = this.scanner;
    const values = this.#values;
    const draft = this.#draft;
    const start = scanner.pathStart[0] ?? 0;
    values.bytesEnd = start + EXTRA_BYTES_MAX - draft.extraBytes;
    values.checkKey(0, start);
    digestText(values.digest, scanner.source, scanner.start, scanner.end);
    const keyA = values.digest.a;
    const keyB = values.digest.b;
    values.readColon();
    const isNull = scanner.next() === 0x6e;
    values.read(1);
    // With the comma; the braces around all take two more bytes, less the one comma too many.
    draft.extraBytes += scanner.at - start + 1;
    if (draft.extraBytes >= EXTRA_BYTES_MAX) {
      scanner.reject(
        "too_large",
        `Fields that the contract does not know must fit into ${EXTRA_BYTES_MAX} bytes together.`,
      );
    } else if (!isNull) {
      draft.extra += `${draft.extra === "" ? "{" : ","}${this.#fields.textSince(start)}`;
      draft.extraDigest.a = (draft.extraDigest.a + finishA(mixA(keyA, values.digest.a))) | 0;
      draft.extraDigest.b = (draft.extraDigest.b + finishB(mixB(keyB, values.digest.b))) | 0;
    }
  }

  /** What can be said only once all fields are read. */
  #checkWhole(): void {
    const draft = this.#draft;
    const timestampBit = 1 << FIELD.timestamp;
    const seen =
      (draft.seen & timestampBit) === 0 ? draft.seen : draft.seen | (1 << FIELD.occurredAt);
    if ((seen & REQUIRED_BITS) !== REQUIRED_BITS) {
      for (const field of REQUIRED)
        if ((seen & (1 << field)) === 0) this.#fields.rejectMissing(field);
    }
    if (draft.status === STATUS_SUCCESS && draft.errorClass >= 0)
      this.#fields.rejectAt("invalid_value", FIELD.errorClass);
  }
}
