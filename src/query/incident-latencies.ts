import { LatencySketch, valueOfBin } from "#contract";
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
  readonly #quantiles = new Map<number, number | null>();

  /** `count` is how many latencies the sketches hold. */
  constructor(sketches: Buffer | null, count: number) {
    this.#sketches = sketches;
    this.count = count;
  }

  /** As LatencySketch.quantile. */
  quantile(q: number): number | null {
    let value = this.#quantiles.get(q);
    if (value === undefined) this.#quantiles.set(q, (value = this.#read().quantile(q)));
    return value;
  }

  /** How many are longer than so many ms, by the values that percentiles have. */
  countSlower(ms: number): number {
    let slower = 0;
    for (const [bin, count] of this.#read().bins()) if (valueOfBin(bin) > ms) slower += count;
    return slower;
  }

  #read(): LatencySketch {
    scratch.clear();
    return this.#sketches === null ? scratch : mergeSketches(scratch, this.#sketches);
  }
}

export const NO_LATENCIES = new StoredLatencies(null, 0);
