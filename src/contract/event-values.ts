import {
  digestNumber,
  digestText,
  finishA,
  finishB,
  mixA,
  mixB,
  SEED_A,
  SEED_B,
} from "./event-digest.ts";
import type { Digest } from "./event-digest.ts";
import { EventKeys, isForbiddenKey } from "./event-keys.ts";
import { DEPTH_MAX } from "./event-scanner.ts";
import type { EventScanner } from "./event-scanner.ts";

/** Begins the digest of each kind of value, so that "1", 1 and [1] differ. */
const KIND = { object: 1, array: 2, string: 3, number: 4, true: 5, false: 6, null: 7 } as const;

/**
 * Reads free-form values (metadata, unknown fields, and whatever stands where something else should): checks their
 * syntax, keys and depth, and digests their content so that member order, whitespace, escapes and the spelling of
 * numbers do not matter. Work is linear in the bytes and the recursion is at most DEPTH_MAX deep.
 */
export class EventValues {
  /** Of the last value read. */
  readonly digest: Digest = { a: 0, b: 0 };
  readonly keys: EventKeys;
  /** Where values become too large to be kept: from here on they are only skipped. */
  bytesEnd = 0;

  readonly #scanner: EventScanner;
  /** Kinds of the containers open below DEPTH_MAX: 1 object, 0 array. Grows with hostile depth. */
  #containers = new Uint8Array(64);

  constructor(scanner: EventScanner) {
    this.#scanner = scanner;
    this.keys = new EventKeys(scanner);
  }

  /** Reads the value at hand, which `depth` containers enclose: 0 for an item of the body, 1 for a field of an event. */
  read(depth: number): void {
    const scanner = this.#scanner;
    const digest = this.digest;
    const byte = scanner.next();
    if (byte === 0x22) {
      scanner.readString();
      digestText(digest, scanner.source, scanner.start, scanner.end);
      this.#tag(KIND.string);
    } else if (byte === 0x7b || byte === 0x5b) this.#readContainer(byte, depth);
    else if (byte === 0x74) this.#readWord("true", KIND.true);
    else if (byte === 0x66) this.#readWord("false", KIND.false);
    else if (byte === 0x6e) this.#readWord("null", KIND.null);
    else if (this.skipNonNumber()) this.#tag(KIND.number);
    else if (byte === 0x2d || (byte ^ 0x30) < 10) {
      scanner.readNumber();
      digestNumber(digest, scanner.source, scanner.start, scanner.end);
      this.#tag(KIND.number);
    } else scanner.fault("A value");
  }

  /**
   * Reads NaN, Infinity and -Infinity, which are no JSON but which some encoders write: the event they are in is
   * rejected, its neighbours are not.
   */
  skipNonNumber(): boolean {
    const scanner = this.#scanner;
    const first = scanner.bytes[scanner.at];
    if (first !== 0x4e && first !== 0x49 && first !== 0x2d) return false;
    if (!scanner.hasWord("NaN") && !scanner.hasWord("Infinity") && !scanner.hasWord("-Infinity"))
      return false;
    scanner.reject("invalid_number", "NaN and Infinity are no JSON numbers.");
    return true;
  }

  #tag(kind: number): void {
    const digest = this.digest;
    digest.a = mixA(digest.a, kind);
    digest.b = mixB(digest.b, kind);
  }

  #readWord(word: string, kind: number): void {
    this.#scanner.readWord(word);
    this.digest.a = SEED_A;
    this.digest.b = SEED_B;
    this.#tag(kind);
  }

  #readContainer(byte: number, depth: number): void {
    if (depth >= DEPTH_MAX) {
      this.#scanner.reject(
        "too_deep",
        `Objects and arrays must not be nested more than ${DEPTH_MAX} deep.`,
      );
      this.#skipContainer();
    } else if (byte === 0x7b) this.#readObject(depth);
    else this.#readArray(depth);
  }

  /** Members are added up, so their order does not matter. */
  #readObject(depth: number): void {
    const scanner = this.#scanner;
    const digest = this.digest;
    const mark = this.keys.open();
    let a = 0;
    let b = 0;
    let members = 0;
    scanner.at++;
    if (scanner.next() === 0x7d) scanner.at++;
    else {
      for (;;) {
        const start = this.readKey(depth);
        this.checkKey(mark, start);
        digestText(digest, scanner.source, scanner.start, scanner.end);
        const keyA = digest.a;
        const keyB = digest.b;
        this.readColon();
        this.read(depth + 1);
        a = (a + finishA(mixA(keyA, digest.a))) | 0;
        b = (b + finishB(mixB(keyB, digest.b))) | 0;
        members++;
        scanner.pathLength = depth;
        if (this.isLastMember(0x7d)) break;
      }
    }
    this.keys.close(mark);
    digest.a = mixA(a, members);
    digest.b = mixB(b, members);
    this.#tag(KIND.object);
  }

  #readArray(depth: number): void {
    const scanner = this.#scanner;
    let a = SEED_A;
    let b = SEED_B;
    let items = 0;
    scanner.at++;
    if (scanner.next() === 0x5d) scanner.at++;
    else {
      for (;;) {
        scanner.stepInto(depth, -1, items);
        this.read(depth + 1);
        a = mixA(a, this.digest.a);
        b = mixB(b, this.digest.b);
        items++;
        scanner.pathLength = depth;
        if (this.isLastMember(0x5d)) break;
      }
    }
    this.digest.a = finishA(mixA(a, items));
    this.digest.b = finishB(mixB(b, items));
    this.#tag(KIND.array);
  }

  /** Reads a key of an object at `depth` and steps into it; it stays the scanner's last string. Returns its start. */
  readKey(depth: number): number {
    const scanner = this.#scanner;
    if (scanner.next() !== 0x22) scanner.fault("A key in double quotes");
    const start = scanner.at;
    // A key that is no valid text is refused under its parent's pointer, which is readable.
    scanner.readString();
    scanner.stepInto(depth, start, scanner.at);
    return start;
  }

  /** Refuses the key just read when it is forbidden or in its object already. */
  checkKey(mark: number, start: number): void {
    const scanner = this.#scanner;
    if (isForbiddenKey(scanner)) scanner.reject("forbidden_key", "No field may have this name.");
    if (scanner.at < this.bytesEnd && this.keys.add(mark, start, scanner.at)) {
      scanner.reject("duplicate_key", "A key must not occur twice in one object.");
    }
  }

  readColon(): void {
    if (this.#scanner.next() !== 0x3a) this.#scanner.fault("A colon");
    this.#scanner.at++;
  }

  /** Reads the comma after a member, or the closing bracket `close`; says whether it was the latter. */
  isLastMember(close: number): boolean {
    const byte = this.#scanner.next();
    if (byte !== 0x2c && byte !== close) {
      this.#scanner.fault(close === 0x7d ? 'A comma or "}"' : 'A comma or "]"');
    }
    this.#scanner.at++;
    return byte === close;
  }

  /** Skips the container at hand however deep it goes, checking its syntax, without recursion. */
  #skipContainer(): void {
    const scanner = this.#scanner;
    let open = 0;
    do {
      // Here a value is next, unless the container just opened is empty.
      const byte = scanner.next();
      if (byte === 0x7b || byte === 0x5b) {
        if (open === this.#containers.length) this.#growContainers();
        this.#containers[open++] = byte === 0x7b ? 1 : 0;
        scanner.at++;
        if (scanner.next() !== (byte === 0x7b ? 0x7d : 0x5d)) {
          if (byte === 0x7b) this.#skipKey();
          continue;
        }
        scanner.at++;
        open--;
      } else this.#skipScalar(byte);
      while (open > 0 && this.isLastMember(this.#containers[open - 1] === 1 ? 0x7d : 0x5d)) open--;
      if (open > 0 && this.#containers[open - 1] === 1) this.#skipKey();
    } while (open > 0);
    if (this.#containers.length > 4096) this.#containers = new Uint8Array(64);
  }

  #growContainers(): void {
    const larger = new Uint8Array(this.#containers.length * 2);
    larger.set(this.#containers);
    this.#containers = larger;
  }

  #skipKey(): void {
    if (this.#scanner.next() !== 0x22) this.#scanner.fault("A key in double quotes");
    this.#scanner.readString();
    this.readColon();
  }

  #skipScalar(byte: number): void {
    const scanner = this.#scanner;
    if (byte === 0x22) scanner.readString();
    else if (byte === 0x74) scanner.readWord("true");
    else if (byte === 0x66) scanner.readWord("false");
    else if (byte === 0x6e) scanner.readWord("null");
    else if (this.skipNonNumber()) return;
    else if (byte === 0x2d || (byte ^ 0x30) < 10) scanner.readNumber();
    else scanner.fault("A value");
  }
}
