import type { EventScanner } from "./event-scanner.ts";

/** Objects with more members than this are looked up in a set: comparing pairwise would be quadratic. */
const COMPARED_MAX = 16;

/** Keys that reach into JavaScript's object model; no field may have such a name. */
const FORBIDDEN_KEYS: readonly Buffer[] = ["__proto__", "constructor", "prototype"].map((key) =>
  Buffer.from(key),
);

/**
 * The keys of the objects being read, innermost last, so that a key met twice in one object is seen. Keys are
 * compared as decoded: "a" and "\u0061" are one key.
 */
export class EventKeys {
  readonly #scanner: EventScanner;
  #starts = new Int32Array(64);
  #ends = new Int32Array(64);
  #hashes = new Int32Array(64);
  #sets: (Set<string> | undefined)[] = [];
  #count = 0;

  constructor(scanner: EventScanner) {
    this.#scanner = scanner;
  }

  /** Begins an object; hand the returned mark to `add` and `close`. */
  open(): number {
    return this.#count;
  }

  /** Ends the object that began at `mark`. */
  close(mark: number): void {
    if (this.#count - mark > COMPARED_MAX) this.#sets[mark] = undefined;
    this.#count = mark;
  }

  /** Forgets all: for the next event, whatever became of the last. */
  clear(): void {
    this.#count = 0;
    if (this.#sets.length > 0) this.#sets.length = 0;
  }

  /**
   * Adds the key just read by the scanner, whose raw token is `[start, end)`. Says whether the object that began at
   * `mark` has it already.
   */
  add(mark: number, start: number, end: number): boolean {
    const hash = this.#scanner.hash;
    const count = this.#count;
    if (count === this.#starts.length) this.#grow();
    this.#starts[count] = start;
    this.#ends[count] = end;
    this.#hashes[count] = hash;
    this.#count = count + 1;
    if (count - mark >= COMPARED_MAX) return this.#isInSet(mark);
    for (let i = mark; i < count; i++) {
      if (this.#hashes[i] === hash && this.#keyAt(i) === this.#keyAt(count)) return true;
    }
    return false;
  }

  #isInSet(mark: number): boolean {
    const last = this.#count - 1;
    let set = this.#sets[mark];
    if (set === undefined) {
      set = new Set();
      for (let i = mark; i < last; i++) set.add(this.#keyAt(i));
      this.#sets[mark] = set;
    }
    const key = this.#keyAt(last);
    if (set.has(key)) return true;
    set.add(key);
    return false;
  }

  #keyAt(index: number): string {
    return this.#scanner.keyText(this.#starts[index] ?? 0, this.#ends[index] ?? 0);
  }

  #grow(): void {
    const grow = (from: Int32Array): Int32Array<ArrayBuffer> => {
      const to = new Int32Array(from.length * 2);
      to.set(from);
      return to;
    };
    this.#starts = grow(this.#starts);
    this.#ends = grow(this.#ends);
    this.#hashes = grow(this.#hashes);
  }
}

/** Whether the key just read by the scanner is one that no field may have. */
export function isForbiddenKey(scanner: EventScanner): boolean {
  const length = scanner.end - scanner.start;
  if (length !== 9 && length !== 11) return false;
  return FORBIDDEN_KEYS.some(
    (key) => key.length === length && key.compare(scanner.source, scanner.start, scanner.end) === 0,
  );
}
