import { LatencySketch } from "#contract";
import type { RollupDelta, RollupKey } from "#store";
import { KeyIndex } from "./key-index.ts";
import type { SketchRow } from "./sketch-cache.ts";

/** Seconds in the unit buckets are numbered by: the finest grain. */
export const QUARTER_SECONDS = 900;

/** Where each measure of a cell is. The first are ROLLUP_MEASURES; both costs are kept as two sums of 32-bit words. */
export const REQUESTS = 0;
export const PRICED_REQUESTS = 1;
export const FIRST_TOKENS = 2;
export const PRICED_TOKENS = 8;
export const COST_HIGH = 9;
export const LATENCY_COUNT = 10;
export const LATENCY_SUM = 11;
export const RATED_HIGH = 12;
export const COST_LOW = 13;
export const RATED_LOW = 14;
/** How many of them add up; what follows does not. */
const SUMS = 15;
/** Newest occurrence and newest commit of the cell's events, µs since the Unix epoch. */
export const LAST_OCCURRED = 15;
export const LAST_INGESTED = 16;
const WIDTH = 17;

const MARK_CURRENCY = 32_768;
/** Outcome and currency in one word: neither is ever asked for alone while adding up. */
export const packMark = (outcome: number, currency: number): number =>
  outcome * MARK_CURRENCY + currency;

/** How a coarser table of cells is made from a finer one. */
export type Coarser = {
  /** Buckets of the coarser grain, in quarters of an hour. */
  quarters: number;
  orgId: (orgId: number) => number;
  memberId: (memberId: number) => number;
};

/**
 * What one fold adds to rollup rows, or a move takes from them: sums per (org, member, bucket, outcome, currency,
 * rating). Sums are exact: a fold's events are bounded so that no measure passes 2^53, and costs are added as high and low
 * 32-bit words apart.
 */
export class Cells {
  readonly #keys = new KeyIndex();
  #values = new Float64Array(512 * WIDTH);
  readonly #sketches: (LatencySketch | undefined)[] = [];

  get size(): number {
    return this.#keys.size;
  }

  /** The sums; those of cell i begin at i × width. Replaced when it grows: read again after `place`. */
  get values(): Float64Array {
    return this.#values;
  }

  /** Where the cell's sums begin in `values`. `bucket` counts quarters of an hour since the Unix epoch. */
  place(orgId: number, memberId: number, bucket: number, mark: number, rating: number): number {
    const cell = this.#keys.place(orgId, memberId, bucket, mark, rating);
    const at = cell * WIDTH;
    if (at + WIDTH > this.#values.length) {
      const grown = new Float64Array(this.#values.length * 2);
      grown.set(this.#values);
      this.#values = grown;
    }
    return at;
  }

  /** Adds one latency (ms) to the cell whose sums begin at `at`, or takes it away. */
  addLatency(at: number, ms: number, sign: 1 | -1): void {
    const values = this.#values;
    values[at + LATENCY_COUNT] = (values[at + LATENCY_COUNT] ?? 0) + sign;
    values[at + LATENCY_SUM] = (values[at + LATENCY_SUM] ?? 0) + sign * ms;
    this.#sketchOf(at / WIDTH).add(ms, sign);
  }

  /** Adds the cells of a finer table, each to the one it falls into. */
  addFrom(finer: Cells, coarser: Coarser, from: number, to: number): void {
    for (let cell = from; cell < to; cell++) {
      const keys = finer.#keys;
      const at = this.place(
        coarser.orgId(keys.word(cell, 0)),
        coarser.memberId(keys.word(cell, 1)),
        Math.floor(keys.word(cell, 2) / coarser.quarters) * coarser.quarters,
        keys.word(cell, 3),
        keys.word(cell, 4),
      );
      const sums = this.#values;
      const base = cell * WIDTH;
      for (let i = 0; i < SUMS; i++)
        sums[at + i] = (sums[at + i] ?? 0) + (finer.#values[base + i] ?? 0);
      const sketch = finer.#sketches[cell];
      if (sketch) this.#sketchOf(at / WIDTH).merge(sketch);
    }
  }

  /** The rollup row a cell adds to. */
  keyOf(cell: number): RollupKey {
    const mark = this.#keys.word(cell, 3);
    return {
      orgId: this.#keys.word(cell, 0),
      memberId: this.#keys.word(cell, 1),
      bucketSeconds: this.#keys.word(cell, 2) * QUARTER_SECONDS,
      outcome: Math.floor(mark / MARK_CURRENCY),
      currency: mark % MARK_CURRENCY,
      rating: this.#keys.word(cell, 4),
    };
  }

  /** The same row, in the words it is kept by; `table` is the caller's number of it. */
  rowOf(cell: number, table: number): SketchRow {
    const keys = this.#keys;
    return {
      table,
      orgId: keys.word(cell, 0),
      memberId: keys.word(cell, 1),
      bucket: keys.word(cell, 2),
      mark: keys.word(cell, 3),
      rating: keys.word(cell, 4),
    };
  }

  /** What a cell adds. */
  deltaOf(cell: number): RollupDelta {
    const at = cell * WIDTH;
    return {
      measures: this.#values,
      at,
      costHigh: this.#values[at + COST_HIGH] ?? 0,
      costLow: this.#values[at + COST_LOW] ?? 0,
      ratedHigh: this.#values[at + RATED_HIGH] ?? 0,
      ratedLow: this.#values[at + RATED_LOW] ?? 0,
    };
  }

  /** The latencies a cell adds; undefined when there are none, or as many of each taken away. */
  sketchOf(cell: number): LatencySketch | undefined {
    const sketch = this.#sketches[cell];
    return sketch === undefined || sketch.isEmpty ? undefined : sketch;
  }

  /** Whether a cell adds nothing: all of it was taken away again. */
  isNothing(cell: number): boolean {
    const at = cell * WIDTH;
    for (let i = 0; i < SUMS; i++) if (this.#values[at + i] !== 0) return false;
    return this.sketchOf(cell) === undefined;
  }

  /** One of a cell's sums. */
  valueOf(cell: number, measure: number): number {
    return this.#values[cell * WIDTH + measure] ?? 0;
  }

  #sketchOf(cell: number): LatencySketch {
    return (this.#sketches[cell] ??= new LatencySketch());
  }
}
