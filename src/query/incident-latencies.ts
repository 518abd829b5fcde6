import { LatencySketch } from "#contract";
import { mergeSketches } from "./calls.ts";

/** One is read at a time. */
const scratch = new LatencySketch();

/**
 * The latencies of some calls as the store has them: sketches end to end, each after its length. Most of the thousands
 * that are looked at are asked for one percentile or for nothing, so they are read when asked, and not kept.
 */
export class StoredLatencies {
  readonly count: number;
  readonly #sketches: Buffer | null;
  /** The last one that was asked for. */
  #q = -1;
  #quantile: number | null = null;

  /** `count` is how many latencies the sketches hold. */
  constructor(sketches: Buffer | null, count: number) {
    this.#sketches = sketches;
    this.count = count;
  }

  /** As LatencySketch.quantile. */
  quantile(q: number): number | null {
    if (q === this.#q) return this.#quantile;
    this.#quantile = this.#read().quantile(q);
    this.#q = q;
    return this.#quantile;
  }

  /** How many are longer than so many ms, by the values that percentiles have. */
  countSlower(ms: number): number {
    return this.#read().countAbove(ms);
  }

  #read(): LatencySketch {
    scratch.clear();
    return this.#sketches === null ? scratch : mergeSketches(scratch, this.#sketches);
  }
}

export const NO_LATENCIES = new StoredLatencies(null, 0);
