import { KeyIndex } from "./key-index.ts";

/**
 * The newest sketches written, encoded, by rollup row. What it holds is true only while nobody else folds: it is
 * dropped with the lease, and after any error. Two generations instead of a list by age: when the younger is full, the
 * older is dropped whole, and what is asked for again moves to the younger one. (A Map of joined texts that loses its
 * first entry over and over costs more than the sketches do.)
 */
export class SketchCache {
  readonly #generationBytesMax: number;
  #younger = new Generation();
  #older = new Generation();

  /** Holds at most about `bytesMax`, what the index needs included. */
  constructor(bytesMax: number) {
    this.#generationBytesMax = bytesMax / 2;
  }

  /** A row's sketch; undefined when it is not known here. */
  get(row: SketchRow): Buffer | undefined {
    const sketch = this.#younger.get(row);
    if (sketch) return sketch;
    const older = this.#older.get(row);
    if (older) this.set(row, older);
    return older;
  }

  /** Remembers a row's sketch, and forgets others when there is no room. */
  set(row: SketchRow, sketch: Buffer): void {
    this.#younger.set(row, sketch);
    if (this.#younger.bytes <= this.#generationBytesMax) return;
    this.#older = this.#younger;
    this.#younger = new Generation();
  }

  clear(): void {
    this.#younger = new Generation();
    this.#older = new Generation();
  }
}

/** A row of a rollup table (its number among the consumer's tables), as packed by Cells. */
export type SketchRow = {
  table: number;
  orgId: number;
  memberId: number;
  bucket: number;
  mark: number;
};

/**
 * A copy with memory of its own. A small Buffer is a slice of a shared one, and one sketch that is remembered would keep
 * all of that.
 */
function copyAlone(sketch: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(sketch.length);
  sketch.copy(copy);
  return copy;
}

/** What the index and the garbage collector need for one sketch, about. */
const OVERHEAD_BYTES = 160;

class Generation {
  readonly #rows = new KeyIndex();
  readonly #sketches: Buffer[] = [];
  bytes = 0;

  get(row: SketchRow): Buffer | undefined {
    return this.#sketches[
      this.#rows.find(row.orgId, row.memberId, row.bucket, row.mark, row.table)
    ];
  }

  set(row: SketchRow, sketch: Buffer): void {
    const place = this.#rows.place(row.orgId, row.memberId, row.bucket, row.mark, row.table);
    const before = this.#sketches[place];
    this.bytes += before ? sketch.length - before.length : sketch.length + OVERHEAD_BYTES;
    this.#sketches[place] = copyAlone(sketch);
  }
}
