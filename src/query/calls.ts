import { LatencySketch, type Span } from "#contract";
import { type CallSums, listSketches, type SketchRow, sumCalls } from "#store";
import type { Latency, ReliabilityMeasures } from "./answers.ts";
import { ratioOf } from "./measures.ts";
import type { GroupKeys, Reading } from "./reading.ts";
import type { AskPart } from "./tallies.ts";

const COUNTS = [
  "requests",
  "cancelled",
  "client",
  "capacity",
  "upstream",
  "policy",
  "internal",
  "latencyCount",
  "latencySumMs",
] as const satisfies readonly (keyof CallSums)[];

/** How calls ended, being added up. */
export type CallTally = Record<(typeof COUNTS)[number], number>;

export const createCallTally = (): CallTally => ({
  requests: 0,
  cancelled: 0,
  client: 0,
  capacity: 0,
  upstream: 0,
  policy: 0,
  internal: 0,
  latencyCount: 0,
  latencySumMs: 0,
});

/** The sum of tallies. */
export function totalCallsOf(tallies: Iterable<CallTally>): CallTally {
  const total = createCallTally();
  for (const tally of tallies) for (const count of COUNTS) total[count] += tally[count];
  return total;
}

/** Per key, one tally a span. Keys without any call are left out. */
export async function readCalls(
  reading: Reading,
  { parts, spans, keys }: { parts: readonly AskPart[]; spans: readonly Span[]; keys: GroupKeys },
): Promise<Map<number, CallTally[]>> {
  const byKey = new Map<number, CallTally[]>();
  for (const part of parts) {
    for (const sums of await sumCalls(reading.tx.sql, part.ask, part.keys)) {
      const key = keys.groupOf(sums.key);
      let tallies = byKey.get(key);
      if (tallies === undefined) byKey.set(key, (tallies = spans.map(createCallTally)));
      const tally = tallies[sums.bucketNo];
      if (tally === undefined) throw new RangeError(`no bucket: ${sums.bucketNo}`);
      for (const count of COUNTS) tally[count] += part.sign * sums[count];
    }
  }
  const isNothing = (tally: CallTally) => COUNTS.every((count) => tally[count] === 0);
  if (parts.length > 1)
    for (const [key, tallies] of byKey) if (tallies.every(isNothing)) byKey.delete(key);
  return byKey;
}

/** Latency sketches, merged per key or per bucket as `groupOf` says. */
export async function readSketches(
  reading: Reading,
  {
    parts,
    withOthers,
    groupOf,
  }: {
    parts: readonly AskPart[];
    withOthers: boolean;
    groupOf: (row: SketchRow) => number;
  },
): Promise<Map<number, LatencySketch>> {
  const merged = new Map<number, LatencySketch>();
  for (const { ask, keys, sign } of parts) {
    for (const row of await listSketches(reading.tx.sql, ask, { ...keys, withOthers })) {
      const group = groupOf(row);
      let sketch = merged.get(group);
      if (sketch === undefined) merged.set(group, (sketch = new LatencySketch()));
      if (sign > 0) mergeRow(sketch, row);
      else sketch.merge(mergeRow(new LatencySketch(), row), -1);
    }
  }
  return merged;
}

function mergeRow(sketch: LatencySketch, { sketches }: SketchRow): LatencySketch {
  for (let at = 0; at < sketches.length;) {
    const end = at + 4 + sketches.readUInt32BE(at);
    sketch.mergeEncoded(sketches.subarray(at + 4, end));
    at = end;
  }
  return sketch;
}

/** A tally in the words of answers. */
export function callMeasuresOf(tally: CallTally): Omit<ReliabilityMeasures, "latency"> {
  const { client, capacity, upstream, policy, internal } = tally;
  const errors = client + capacity + upstream + policy + internal;
  return {
    requests: tally.requests,
    errors,
    cancelled: tally.cancelled,
    errorRate: ratioOf(errors, tally.requests),
    errorsByClass: { client, capacity, upstream, policy, internal },
  };
}

/**
 * Latencies in the words of answers. The count is the sketch's own: throws a RangeError when the rows it came with
 * say otherwise, for then the percentiles would be of something else.
 */
export function latencyOf(
  tally: CallTally,
  sketch: LatencySketch | undefined,
  percentiles: readonly number[],
): Latency {
  const count = sketch?.count ?? 0;
  if (count !== tally.latencyCount) {
    throw new RangeError(`sketches hold ${count} latencies where rows count ${tally.latencyCount}`);
  }
  return {
    count,
    meanMs: count === 0 ? null : Math.round((tally.latencySumMs / count) * 1000) / 1000,
    percentilesMs: Object.fromEntries(
      percentiles.map((one) => [`p${one}`, sketch?.quantile(shareOfPercent(one)) ?? null]),
    ),
  };
}

/** The number nearest to a decimal share: 99.9 / 100 is more than 0.999, and would be one rank too high. */
const shareOfPercent = (percent: number): number => Number(`${percent}e-2`);
