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
  rating: number;
};

const RATINGS = 65_536;
/** Table and rating in one word, so that a row's key has as many as KeyIndex takes. */
const partOf = ({ table, rating }: SketchRow): number => table * RATINGS + rating;

/** Sketches lie in blocks of this size: one by one, each would be an allocation that fragments the process's memory. */
const BLOCK_BYTES = 1024 * 1024;
/** What the index needs for one sketch: its key, twice the slots, and where it lies; grown by doubling. */
const INDEX_BYTES = 80;

class Generation {
  readonly #rows = new KeyIndex();
  readonly #blocks: Buffer[] = [];
  /** By the row's number: block, beginning in it, length, and room from there on. */
  readonly #places: Place[] = [];
  #used = BLOCK_BYTES;

  get bytes(): number {
    return this.#blocks.length * BLOCK_BYTES + this.#places.length * INDEX_BYTES;
  }

  /** A view of it: true until the row is set again. */
  get(row: SketchRow): Buffer | undefined {
    const at = this.#rows.find(row.orgId, row.memberId, row.bucket, row.mark, partOf(row));
    const place = this.#places[at];
    if (!place) return undefined;
    return this.#blocks[place.block]?.subarray(place.from, place.from + place.length);
  }

  set(row: SketchRow, sketch: Buffer): void {
    const at = this.#rows.place(row.orgId, row.memberId, row.bucket, row.mark, partOf(row));
    let place = this.#places[at];
    if (!place || place.room < sketch.length) {
      place = this.#takeRoom(sketch.length);
      this.#places[at] = place;
    }
    place.length = sketch.length;
    const block = this.#blocks[place.block];
    if (block) sketch.copy(block, place.from);
  }

  /** Room for a sketch, and a quarter more: most grow a little with each fold. */
  #takeRoom(length: number): Place {
    const room = Math.min(BLOCK_BYTES, length + (length >>> 2));
    if (this.#used + room > BLOCK_BYTES) {
      this.#blocks.push(Buffer.allocUnsafeSlow(BLOCK_BYTES));
      this.#used = 0;
    }
    const from = this.#used;
    this.#used += room;
    return { block: this.#blocks.length - 1, from, length, room };
  }
}

type Place = { block: number; from: number; length: number; room: number };
