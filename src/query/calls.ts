import { LatencySketch, type Span } from "#contract";
import { type CallSums, sumCalls } from "#store";
import type { Latency, ReliabilityMeasures } from "./answers.ts";
import { ratioOf } from "./measures.ts";
import type { Reading, ReadKeys } from "./reading.ts";
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

/** How calls ended and how long they took, being added up; `sketches` as in CallSums, of what is taken away (-1), too. */
export type CallTally = Record<(typeof COUNTS)[number], number> & {
  sketches: { bytes: Buffer; sign: 1 | -1 }[];
};

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
  sketches: [],
});

/** The sum of tallies. */
export function totalCallsOf(tallies: Iterable<CallTally>): CallTally {
  const total = createCallTally();
  for (const tally of tallies) addCalls(total, tally);
  return total;
}

/** Adds `more` to `tally`. */
export function addCalls(tally: CallTally, more: CallTally): void {
  for (const count of COUNTS) tally[count] += more[count];
  tally.sketches.push(...more.sketches);
}

/** Per key, one tally a span; with the latencies of all members, or of those shown. Keys without any call are left out. */
export async function readCalls(
  reading: Reading,
  {
    parts,
    spans,
    keys,
    sketchesOf,
  }: {
    parts: readonly AskPart[];
    spans: readonly Span[];
    keys: ReadKeys;
    sketchesOf: "all" | "shown";
  },
): Promise<Map<number, CallTally[]>> {
  const byKey = new Map<number, CallTally[]>();
  for (const part of parts) {
    for (const sums of await sumCalls(reading.tx.sql, part.ask, part.keys, sketchesOf)) {
      const key = keys.groupOf(sums.key);
      let tallies = byKey.get(key);
      if (tallies === undefined) byKey.set(key, (tallies = spans.map(createCallTally)));
      const tally = tallies[sums.bucketNo];
      if (tally === undefined) throw new RangeError(`no bucket: ${sums.bucketNo}`);
      for (const count of COUNTS) tally[count] += part.sign * sums[count];
      if (sums.sketches !== null) tally.sketches.push({ bytes: sums.sketches, sign: part.sign });
    }
  }
  const isNothing = (tally: CallTally) => COUNTS.every((count) => tally[count] === 0);
  if (parts.length > 1)
    for (const [key, tallies] of byKey) if (tallies.every(isNothing)) byKey.delete(key);
  return byKey;
}

/** The latencies of a tally, as one sketch: the same one each time, so that hundreds need no memory of their own. */
export function sketchOf({ sketches }: CallTally): LatencySketch {
  whole.clear();
  for (const { bytes, sign } of sketches) {
    if (sign > 0) mergeSketches(whole, bytes);
    else whole.merge(mergeSketches(new LatencySketch(), bytes), -1);
  }
  return whole;
}
const whole = new LatencySketch();

/** Adds sketches laid end to end, each after its length, as in CallSums. */
export function mergeSketches(sketch: LatencySketch, bytes: Buffer): LatencySketch {
  for (let at = 0; at < bytes.length;) {
    const end = at + 4 + bytes.readUInt32BE(at);
    sketch.mergeEncoded(bytes, at + 4, end);
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
  sketch: LatencySketch,
  percentiles: readonly number[],
): Latency {
  const { latencyCount: count } = tally;
  if (count !== sketch.count) {
    throw new RangeError(`sketches hold ${sketch.count} latencies where rows count ${count}`);
  }
  return {
    count,
    meanMs: count === 0 ? null : Math.round((tally.latencySumMs / count) * 1000) / 1000,
    percentilesMs: Object.fromEntries(
      percentiles.map((one) => [`p${one}`, sketch.quantile(shareOfPercent(one))]),
    ),
  };
}

/** The number nearest to a decimal share: 99.9 / 100 is more than 0.999, and would be one rank too high. */
const shareOfPercent = (percent: number): number => Number(`${percent}e-2`);
