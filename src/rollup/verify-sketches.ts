import { binOf, type Dimension, LATENCY_BINS, LatencySketch, valueOfBin } from "#contract";
import {
  addBinParts,
  type BinPart,
  readRollupSketches,
  type SketchToCompare,
  type Span,
  type Tx,
} from "#store";

const LATENCY_MAX = 2 ** 31 - 1;

/** The first millisecond of latency bins 1, 2, …: what PostgreSQL's width_bucket needs to say the same bin as `binOf`. */
export const FIRST_OF_BIN: readonly number[] = (() => {
  const firsts: number[] = [];
  for (let bin = 1; bin < LATENCY_BINS; bin++) {
    let low = firsts.at(-1) ?? 0;
    let high = LATENCY_MAX;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (binOf(middle) >= bin) high = middle;
      else low = middle + 1;
    }
    firsts.push(low);
  }
  return firsts;
})();

/** Whether a stored sketch holds exactly the bins it should. Bytes that are no sketch do not. */
export function isSketchOf({ sketch, bins, counts }: SketchToCompare): boolean {
  const expected = new LatencySketch();
  bins?.forEach((bin, i) => expected.add(valueOfBin(bin), Number(counts?.[i])));
  return expected.encode().equals(sketch);
}

/** Takes the bins out of a day's finest rows, where raw is gone. Bytes that are no sketch count for none. */
export async function takeSketchParts(tx: Tx, dimension: Dimension, day: Span): Promise<void> {
  for await (const page of readRollupSketches(tx, dimension, day)) {
    const parts = page.flatMap(({ sketch, ...key }): BinPart[] => {
      try {
        return [...LatencySketch.decode(sketch).bins()].map(([bin, count]) => ({
          ...key,
          bin,
          count,
        }));
      } catch (error) {
        if (error instanceof RangeError) return [];
        throw error;
      }
    });
    await addBinParts(tx.sql, dimension, parts);
  }
}
