import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { binOf, LATENCY_BINS, LatencySketch, valueOfBin } from "./latency-sketch.ts";

const VALUE_MAX = 2 ** 31 - 1;
/** Latencies of all magnitudes, not only huge ones. */
const latency = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.integer({ min: 0, max: 60_000 }),
  fc.integer({ min: 0, max: VALUE_MAX }),
  fc.constant(VALUE_MAX),
);
const latencies = fc.array(latency, { maxLength: 400 });

function sketchOf(values: readonly number[]): LatencySketch {
  const sketch = new LatencySketch();
  for (const value of values) sketch.add(value);
  return sketch;
}

/** percentile_disc: the value at rank ceil(q × n). */
function nearestRank(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1] ?? Number.NaN;
}

const isWithinOnePercent = (answer: number, exact: number) =>
  Math.abs(answer - exact) * 100 <= exact;

test("a bin answers within 1 % of every value it holds, at both of its ends, up to 2^31-1", () => {
  let low = 0;
  for (let bin = 0; bin < LATENCY_BINS; bin++) {
    assert.equal(binOf(low), bin);
    let high = low;
    // The last value of the bin, by doubling steps and halving them back.
    for (let step = 2 ** 30; step >= 1; step /= 2) {
      if (high + step <= VALUE_MAX && binOf(high + step) === bin) high += step;
    }
    assert.ok(isWithinOnePercent(valueOfBin(bin), low), `bin ${bin} at ${low}`);
    assert.ok(isWithinOnePercent(valueOfBin(bin), high), `bin ${bin} at ${high}`);
    low = high + 1;
  }
  assert.equal(low, VALUE_MAX + 1, "the bins cover every value, each once");
});

test("the bins never change: stored sketches depend on them", () => {
  assert.equal(LATENCY_BINS, 942);
  assert.deepEqual(
    [0, 98, 99, 100, 101, 1_000, 60_000, VALUE_MAX].map(binOf),
    [0, 98, 99, 99, 100, 212, 417, 941],
  );
});

test("a quantile is within 1 % of the nearest-rank quantile of the values", () => {
  const share = fc.oneof(
    fc.constantFrom(0, 0.5, 0.9, 0.95, 0.99, 1),
    fc.double({ min: 0, max: 1, noNaN: true }),
  );
  fc.assert(
    fc.property(fc.array(latency, { minLength: 1, maxLength: 400 }), share, (values, q) => {
      const answer = sketchOf(values).quantile(q);
      assert.ok(answer !== null && isWithinOnePercent(answer, nearestRank(values, q)));
    }),
  );
});

test("the sketch of nothing has no quantile and no bytes", () => {
  assert.equal(new LatencySketch().quantile(0.5), null);
  assert.equal(new LatencySketch().encode().length, 0);
  assert.equal(LatencySketch.decode(Buffer.alloc(0)).count, 0);
});

test("sketches of parts add up to the sketch of the whole, in any order and grouping", () => {
  fc.assert(
    fc.property(latencies, latencies, latencies, (a, b, c) => {
      const whole = sketchOf([...a, ...b, ...c]).encode();
      const left = sketchOf(a);
      left.merge(sketchOf(b));
      left.merge(sketchOf(c));
      const right = sketchOf(c);
      right.mergeEncoded(sketchOf(b).encode());
      right.mergeEncoded(sketchOf(a).encode());
      assert.deepEqual(left.encode(), whole);
      assert.deepEqual(right.encode(), whole);
      assert.equal(right.count, a.length + b.length + c.length);
    }),
  );
});

test("encoding and decoding gives the same sketch, counts beyond 2^32 included", () => {
  const entries = fc.array(fc.tuple(latency, fc.integer({ min: 1, max: 2 ** 40 })), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(entries, (items) => {
      const sketch = new LatencySketch();
      for (const [ms, times] of items) sketch.add(ms, times);
      const decoded = LatencySketch.decode(sketch.encode());
      assert.deepEqual([...decoded.bins()], [...sketch.bins()]);
      assert.equal(decoded.count, sketch.count);
      assert.deepEqual(decoded.encode(), sketch.encode());
    }),
  );
});

test("bytes that no sketch has are refused, and never loop or crash", () => {
  for (const bytes of [
    [1],
    [0x80],
    [0x80, 0x80, 1],
    [0, 0],
    [0xff, 0x7f, 1],
    [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
  ]) {
    assert.throws(() => LatencySketch.decode(Uint8Array.from(bytes)), RangeError, String(bytes));
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        assert.ok(LatencySketch.decode(bytes).count > 0 || bytes.length === 0);
      } catch (error) {
        assert.ok(error instanceof RangeError);
      }
    }),
  );
});

test("what is taken from a sketch of very many bins leaves the rest", () => {
  const many = Array.from({ length: 5000 }, (_, i) => i * i);
  const sketch = sketchOf([...many, 7, 70_000]);
  sketch.merge(sketchOf(many), -1);
  assert.deepEqual(sketch.encode(), sketchOf([7, 70_000]).encode());
});

test("a sketch merged with itself counts everything twice", () => {
  const sketch = sketchOf([1, 1, 500, 70_000]);
  sketch.merge(sketch);
  assert.equal(sketch.count, 8);
  assert.deepEqual(
    [...sketch.bins()].map(([, count]) => count),
    [4, 2, 2],
  );
});

test("latencies taken away leave the sketch of the others, however the difference is put together", () => {
  fc.assert(
    fc.property(latencies, latencies, latencies, (kept, gone, added) => {
      const stored = sketchOf([...kept, ...gone]).encode();
      const less = new LatencySketch();
      for (const ms of gone) less.add(ms, -1);
      const difference = sketchOf(added);
      difference.merge(less);
      assert.equal(difference.count, added.length - gone.length);
      assert.deepEqual(difference.encodeWith(stored), sketchOf([...kept, ...added]).encode());
      difference.merge(sketchOf(gone));
      for (const ms of added) difference.add(ms, -1);
      assert.ok(difference.isEmpty);
      assert.deepEqual(difference.encodeWith(stored), stored);
      const left = sketchOf([...kept, ...gone]);
      left.merge(sketchOf(gone), -1);
      assert.deepEqual(left.encode(), sketchOf(kept).encode());
      assert.equal(left.quantile(0.9), sketchOf(kept).quantile(0.9));
    }),
  );
});

test("no sketch holds less than nothing: taking more than there is of a bin is refused", () => {
  const taken = new LatencySketch();
  taken.add(500, -2);
  taken.add(70, 2);
  assert.ok(!taken.isEmpty);
  assert.deepEqual(
    taken.encodeWith(sketchOf([500, 500, 3]).encode()),
    sketchOf([3, 70, 70]).encode(),
  );
  for (const stored of [sketchOf([500, 3, 3]), new LatencySketch()])
    assert.throws(() => taken.encodeWith(stored.encode()), RangeError);
  assert.throws(() => taken.encode(), RangeError);
});

test("what is no latency is refused", () => {
  for (const ms of [-1, 0.5, 2 ** 31, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => new LatencySketch().add(ms), RangeError);
  }
  assert.throws(() => sketchOf([1]).quantile(1.01), RangeError);
});

test("adding to an encoded sketch gives the bytes of the merged one", () => {
  fc.assert(
    fc.property(latencies, latencies, (some, others) => {
      const merged = sketchOf([...some, ...others]);
      assert.deepEqual(sketchOf(some).encodeWith(sketchOf(others).encode()), merged.encode());
    }),
  );
  assert.throws(() => sketchOf([1]).encodeWith(Buffer.from([0])), RangeError);
});
