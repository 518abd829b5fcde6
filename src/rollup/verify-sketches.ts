import { binOf, type Dimension, LATENCY_BINS, LatencySketch } from "#contract";
import { BinRows, copyBinParts, readRollupSketches, type Span, type Tx } from "#store";

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

/** Takes the bins out of a day's finest rows, where raw is gone. Bytes that are no sketch count for none. */
export async function takeSketchParts(tx: Tx, dimension: Dimension, day: Span): Promise<void> {
  for await (const page of readRollupSketches(tx, dimension, day)) {
    const rows = new BinRows(0);
    for (const row of page) {
      const sketch = decode(row.sketch);
      if (sketch) for (const [bin, count] of sketch.bins()) rows.add(row, bin, count);
    }
    await copyBinParts(tx, dimension, rows);
  }
}

/** What two sketches, in hexadecimal digits, hold, for a reader to tell them apart. */
export function describeSketches(expected: string, found: string): [string, string] {
  const texts = [expected, found].map((hex) => {
    const sketch = decode(Buffer.from(hex, "hex"));
    return sketch ? `${sketch.count} latencies in ${[...sketch.bins()].length} bins` : "no sketch";
  });
  const [first = "", second = ""] = texts;
  return [first, second === first ? `${second}, others` : second];
}

function decode(bytes: Buffer): LatencySketch | undefined {
  try {
    return LatencySketch.decode(bytes);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
