import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LatencySketch, valueOfBin } from "#contract";
import { NO_LATENCIES, StoredLatencies } from "./incident-latencies.ts";

/** Few latencies and many, alike and not: sketches that are kept as lists and as tables. */
const latencies = fc.array(fc.integer({ min: 0, max: 60_000 }), { maxLength: 150, size: "max" });

function storeOf(parts: readonly (readonly number[])[]): StoredLatencies {
  const pieces = parts.flatMap((part) => {
    const sketch = new LatencySketch();
    for (const ms of part) sketch.add(ms);
    const bytes = sketch.encode();
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return [length, bytes];
  });
  return new StoredLatencies(Buffer.concat(pieces), parts.flat().length);
}

test("stored latencies, read in any order, say what one sketch of all of them says", () => {
  const cells = fc.array(fc.array(latencies, { maxLength: 3 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(cells, fc.integer({ min: 0, max: 60_000 }), (all, ms) => {
      const stored = all.map(storeOf);
      for (const q of [0.95, 0.5, 0.95]) {
        for (const [i, parts] of all.entries()) {
          const whole = new LatencySketch();
          for (const one of parts.flat()) whole.add(one);
          assert.equal(stored[i]?.quantile(q), whole.quantile(q));
          const slower = [...whole.bins()].filter(([bin]) => valueOfBin(bin) > ms);
          assert.equal(
            stored[i]?.countSlower(ms),
            slower.reduce((sum, [, count]) => sum + count, 0),
          );
        }
      }
    }),
  );
  assert.deepEqual([NO_LATENCIES.quantile(0.95), NO_LATENCIES.countSlower(0)], [null, 0]);
});
