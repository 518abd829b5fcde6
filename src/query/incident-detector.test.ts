import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LatencySketch } from "#contract";
import { seededNumbers } from "#harness";
import { partsByModel, rankParts } from "./incident-attribution.ts";
import {
  binomialTailLog,
  findRuns,
  findSpikes,
  poissonTailLog,
  type QuarterRange,
  type SeriesMap,
  WHOLE_ORG,
} from "./incident-detector.ts";
import { NO_LATENCIES, StoredLatencies } from "./incident-latencies.ts";
import {
  type CallCell,
  CallSeries,
  type IncidentKind,
  QUARTERS_PER_HOUR,
} from "./incident-series.ts";

/** Four weeks to learn from, then a week to look at. */
const DAY = 96;
const FIRST = 7_000 * DAY;
const RANGE = { from: FIRST + 28 * DAY, until: FIRST + 35 * DAY };
const MODEL = 7;

type Calls = {
  /** Calls of a quarter of an hour. */
  requests: number;
  errorRate: number;
  /** Calls that fail together. */
  lump: number;
  /** Latencies of a quarter of an hour, around a median of so many ms. */
  latencies: number;
  medianMs: number;
};
const CALLS: Calls = { requests: 800, errorRate: 0.01, lump: 1, latencies: 30, medianMs: 900 };

/** A number around `mean` that independent rare things add up to. */
function poisson(next: () => number, mean: number): number {
  if (mean > 50) return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal(next)));
  const least = Math.exp(-mean);
  let count = 0;
  for (let product = next(); product > least; product *= next()) count++;
  return count;
}
const normal = (next: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());

/** Sketches as the store hands them out. */
function store(sketch: LatencySketch): StoredLatencies {
  const bytes = sketch.encode();
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return new StoredLatencies(Buffer.concat([length, bytes]), sketch.count);
}

function createCell(
  next: () => number,
  calls: Calls,
): Omit<CallCell, "latencies"> & { latencies: LatencySketch } {
  const requests = poisson(next, calls.requests);
  const lumps = poisson(next, (requests * calls.errorRate) / calls.lump);
  const errors = Math.min(requests, lumps * calls.lump);
  const latencies = new LatencySketch();
  for (let left = poisson(next, calls.latencies); left > 0; left--)
    latencies.add(Math.round(calls.medianMs * Math.exp(0.45 * normal(next))));
  return { requests, failed: [0, errors, 0, 0, 0], latencies };
}

/** A model's calls, and those of its org, which has no other; `callsAt` says what they are like. */
function createSeries(
  seed: number,
  callsAt: (quarter: number) => Partial<Calls> | null,
  { from, until }: QuarterRange = { from: FIRST, until: RANGE.until },
): SeriesMap {
  const next = seededNumbers(seed * 7919 + 13);
  for (let i = 0; i < 20; i++) next();
  const [model, org] = [new CallSeries(), new CallSeries()];
  for (let hour = from; hour < until; hour += QUARTERS_PER_HOUR) {
    const sum = { requests: 0, failed: [0, 0, 0, 0, 0], latencies: new LatencySketch() };
    for (let quarter = hour; quarter < hour + QUARTERS_PER_HOUR; quarter++) {
      const calls = callsAt(quarter);
      if (calls === null) continue;
      const cell = createCell(next, { ...CALLS, ...calls });
      model.quarters.set(quarter, { ...cell, latencies: store(cell.latencies) });
      org.quarters.set(quarter, { ...cell, latencies: NO_LATENCIES });
      sum.requests += cell.requests;
      sum.failed = sum.failed.map((count, i) => count + (cell.failed[i] ?? 0));
      sum.latencies.merge(cell.latencies);
    }
    if (sum.requests === 0) continue;
    model.addHour(hour / QUARTERS_PER_HOUR, { ...sum, latencies: store(sum.latencies) });
    org.addHour(hour / QUARTERS_PER_HOUR, { ...sum, latencies: NO_LATENCIES });
  }
  return new Map([
    [WHOLE_ORG, org],
    [MODEL, model],
  ]);
}

/** From and until of what is found, in quarters since the week to look at began. */
const found = (series: SeriesMap, kind: IncidentKind, range: QuarterRange = RANGE) =>
  findSpikes(series, kind, range).map((spike) => [
    spike.from - RANGE.from,
    spike.until - RANGE.from,
  ]);

/** Livelier by day than by night, and on weekdays. */
function rhythmOf(quarter: number): number {
  const hour = Math.floor(quarter / QUARTERS_PER_HOUR) % 24;
  const isWeekend = Math.floor(quarter / DAY) % 7 > 4;
  return (0.4 + 0.6 * Math.sin((Math.PI * hour) / 24)) * (isWeekend ? 0.5 : 1);
}

const seeds = fc.integer({ min: 1, max: 1_000_000 });

test("in stationary noise, whatever its size and rhythm, there is no incident", () => {
  const noise = fc.record({
    requests: fc.constantFrom(30, 100, 800, 6000),
    errorRate: fc.constantFrom(0, 0.001, 0.006, 0.03, 0.2),
    lump: fc.constantFrom(1, 1, 5, 30),
    latencies: fc.constantFrom(3, 8, 30),
    medianMs: fc.constantFrom(3, 60, 900, 9500),
  });
  fc.assert(
    fc.property(seeds, noise, (seed, calls) => {
      const series = createSeries(seed, (quarter) => ({
        ...calls,
        requests: calls.requests * rhythmOf(quarter),
        latencies: calls.latencies * rhythmOf(quarter),
      }));
      assert.deepEqual(found(series, "error_rate"), []);
      assert.deepEqual(found(series, "latency"), []);
    }),
    // Chance is bounded, not excluded: the same worlds in every run.
    { numRuns: 60, seed: 20_261_120 },
  );
});

/** Where a spike is planted: half an hour to half a day of the week looked at. */
const places = fc.record({
  from: fc.integer({ min: DAY, max: 5 * DAY }),
  length: fc.integer({ min: 2, max: 40 }),
});
const isIn = (quarter: number, { from, length }: { from: number; length: number }): boolean =>
  quarter - RANGE.from >= from && quarter - RANGE.from < from + length;

test("a planted spike of errors or latencies is found with its window, and nothing else", () => {
  fc.assert(
    fc.property(seeds, places, (seed, place) => {
      const spike = [place.from, place.from + place.length];
      const failing = createSeries(seed, (at) => (isIn(at, place) ? { errorRate: 0.2 } : {}));
      assert.deepEqual(found(failing, "error_rate"), [spike]);
      assert.deepEqual(found(failing, "latency"), []);
      const slow = createSeries(seed, (at) => (isIn(at, place) ? { medianMs: 5000 } : {}));
      assert.deepEqual(found(slow, "latency"), [spike]);
      assert.deepEqual(found(slow, "error_rate"), []);
    }),
    { numRuns: 25, seed: 20_261_120 },
  );
});

test("errors that come in lumps hide no spike", () => {
  const place = { from: 300, length: 8 };
  const calls = { requests: 3000, errorRate: 0.006, lump: 20 };
  const series = createSeries(3, (at) => ({
    ...calls,
    ...(isIn(at, place) && { errorRate: 0.2 }),
  }));
  assert.deepEqual(found(series, "error_rate"), [[300, 308]]);
});

test("what contains a spike that is over shows the same of it, whatever else it contains", () => {
  const place = { from: 300, length: 9 };
  const series = createSeries(5, (at) =>
    isIn(at, place) ? { errorRate: 0.3, medianMs: 6000 } : {},
  );
  const edges = fc.record({
    from: fc.integer({ min: 0, max: 300 }),
    until: fc.integer({ min: 313, max: 7 * DAY }),
  });
  for (const kind of ["error_rate", "latency"] as const) {
    const whole = findSpikes(series, kind, RANGE);
    assert.equal(whole.length, 1);
    fc.assert(
      fc.property(edges, ({ from, until }) => {
        const range = { from: RANGE.from + from, until: RANGE.from + until };
        assert.deepEqual(findSpikes(series, kind, range), whole);
      }),
    );
  }
});

test("a spike that reaches the last hour is open, and keeps its start when it goes on", () => {
  const place = { from: 300, length: 9 };
  const series = createSeries(5, (at) => (isIn(at, place) ? { errorRate: 0.3 } : {}));
  for (let length = 2; length < 16; length++) {
    const range = { from: RANGE.from, until: RANGE.from + 300 + length };
    const [spike] = findSpikes(series, "error_rate", range);
    assert.equal(spike?.from, RANGE.from + 300);
    assert.equal(spike?.until, RANGE.from + 300 + Math.min(length, 9));
    assert.equal(spike?.isOpen, length < 13);
  }
});

test("one quarter of an hour is no incident; a hole of one closes, a hole of two does not", () => {
  const runsOf = (sure: number[], likely: number[] = []) =>
    findRuns(
      new Map([
        ...likely.map((at) => [at, Math.log(1e-4)] as const),
        ...sure.map((at) => [at, Math.log(1e-7)] as const),
      ]),
    ).map(({ from, until }) => [from, until]);
  assert.deepEqual(runsOf([10]), []);
  assert.deepEqual(runsOf([11, 10]), [[10, 12]]);
  assert.deepEqual(runsOf([10, 12, 13, 20]), [[10, 14]]);
  assert.deepEqual(runsOf([10, 11, 14, 15]), [
    [10, 12],
    [14, 16],
  ]);
  // What is only likely counts beside what is sure, and by itself never.
  assert.deepEqual(runsOf([10, 11], [8, 9, 12, 13]), [[9, 13]]);
  assert.deepEqual(runsOf([10], [9, 11]), []);
  assert.deepEqual(runsOf([], [9, 10, 11, 12]), []);
});

test("what creeps up over weeks is a new level, no incident", () => {
  const grown = (at: number, factor: number) => factor ** ((at - FIRST) / (35 * DAY));
  const failing = createSeries(9, (at) => ({ errorRate: 0.005 * grown(at, 20) }));
  assert.deepEqual(found(failing, "error_rate"), []);
  const slow = createSeries(9, (at) => ({ medianMs: 500 * grown(at, 20) }));
  assert.deepEqual(found(slow, "latency"), []);
});

test("a level that stays ends its incident within a day, once it is usual", () => {
  const series = createSeries(2, (at) => (at >= RANGE.from + 200 ? { errorRate: 0.2 } : {}));
  const [spike, ...more] = found(series, "error_rate");
  assert.equal(spike?.[0], 200);
  assert.ok((spike?.[1] ?? Infinity) < 200 + DAY, String(spike));
  assert.deepEqual(more, []);
});

test("a bad hour that every week has is usual; so is one that every day has", () => {
  const isNight = (at: number) => Math.floor(at / QUARTERS_PER_HOUR) % 24 === 2;
  const nightly = createSeries(4, (at) => (isNight(at) ? { errorRate: 0.3, medianMs: 9000 } : {}));
  assert.deepEqual(found(nightly, "error_rate"), []);
  assert.deepEqual(found(nightly, "latency"), []);
  const isSunday = (at: number) => isNight(at) && Math.floor(at / DAY) % 7 === 3;
  const weekly = createSeries(4, (at) => (isSunday(at) ? { errorRate: 0.3, medianMs: 9000 } : {}));
  assert.deepEqual(found(weekly, "error_rate"), []);
  assert.deepEqual(found(weekly, "latency"), []);
});

test("where history is short the trailing week serves, and on the first day nothing is called unusual", () => {
  const young = { from: RANGE.from, until: RANGE.until };
  const callsAt = (at: number) =>
    isIn(at, { from: 40, length: 4 }) || isIn(at, { from: 250, length: 6 })
      ? { errorRate: 0.3, medianMs: 6000 }
      : {};
  const series = createSeries(6, callsAt, young);
  assert.deepEqual(found(series, "error_rate"), [[250, 256]]);
  assert.deepEqual(found(series, "latency"), [[250, 256]]);
});

test("a few bad calls are none, however large their share", () => {
  const place = { from: 300, length: 8 };
  const few = { requests: 30, latencies: 3 };
  const series = createSeries(8, (at) =>
    isIn(at, place) ? { requests: 8, latencies: 2, errorRate: 0.9, medianMs: 9000 } : few,
  );
  assert.deepEqual(found(series, "error_rate"), []);
  assert.deepEqual(found(series, "latency"), []);
});

test("the model that fails is the one with the excess, not the one with most calls", () => {
  const place = { from: 300, length: 8 };
  const bad = createSeries(1, (at) => (isIn(at, place) ? { errorRate: 0.4 } : {}));
  const good = createSeries(2, () => ({ requests: 6000 }));
  const [badModel, goodModel] = [bad.get(MODEL), good.get(MODEL)];
  assert.ok(badModel && goodModel);
  const series: SeriesMap = new Map([
    [MODEL, badModel],
    [8, goodModel],
  ]);
  const [spike] = findSpikes(series, "error_rate", RANGE);
  assert.ok(spike);
  assert.deepEqual(spike.keys, [MODEL]);
  const [first, second] = partsByModel(series, spike);
  assert.ok(first && second && second.requests > first.requests);
  assert.ok(first.observed - first.expected > 10 * Math.abs(second.observed - second.expected));
});

test("contributions are ranked by what was too much, and what was not is left out", () => {
  const parts = [
    { key: 1, requests: 90, observed: 30, expected: 28 },
    { key: 2, requests: 10, observed: 9, expected: 1 },
    { key: 3, requests: 99, observed: 1, expected: 2 },
  ];
  assert.deepEqual(
    rankParts(parts).map(({ key }) => key),
    [2, 1],
  );
});

test("the bounds on chance are bounds", () => {
  const tail = (from: number, mean: number): number => {
    let [term, sum] = [Math.exp(-mean), 0];
    for (let k = 0; k < 400; k++) {
      if (k >= from) sum += term;
      term *= mean / (k + 1);
    }
    return sum;
  };
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60 }), fc.double({ min: 0.01, max: 30 }), (k, mean) => {
      if (!Number.isNaN(mean))
        assert.ok(Math.exp(poissonTailLog(k, mean)) >= tail(k, mean) * 0.999);
    }),
  );
  assert.equal(binomialTailLog(1, 20, 0.05), 0);
  assert.ok(Math.abs(binomialTailLog(5, 5, 0.05) - 5 * Math.log(0.05)) < 1e-9);
  assert.ok(Math.exp(binomialTailLog(3, 10, 0.05)) > 0.0115);
});
