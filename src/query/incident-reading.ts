import { coverSpan, type Grain, GRAIN_SECONDS, type Span } from "#contract";
import { arrangePieces, type CallCellRow, listCallCells, NO_KEYS, sumUsage } from "#store";
import type { Measures } from "./answers.ts";
import { type SeriesMap, WHOLE_ORG } from "./incident-detector.ts";
import { NO_LATENCIES, StoredLatencies } from "./incident-latencies.ts";
import { type CallCell, CallSeries } from "./incident-series.ts";
import { addSums, createTally, measuresOf } from "./measures.ts";
import type { Reading } from "./reading.ts";

/** How long before a quarter of an hour its baseline reaches back. */
export const BASELINE_MS = 28 * 86_400_000;

/**
 * The calls of each model, and of the org (without latencies), in quarters of an hour of a span, and in the hours that
 * their baselines come from. Reads two ranges of rollups.
 */
export async function readSeries({ tx, org }: Reading, span: Span): Promise<SeriesMap> {
  const read = (grain: Grain, startMs: number): Promise<CallCellRow[]> => {
    const stepMs = GRAIN_SECONDS[grain] * 1000;
    const start = new Date(Math.floor(startMs / stepMs) * stepMs);
    return listCallCells(tx.sql, { orgId: org.id, grain, start, end: new Date(span.endMs) });
  };
  const series = new Map<number | typeof WHOLE_ORG, CallSeries>([[WHOLE_ORG, new CallSeries()]]);
  addCells(series, await read("hour", span.startMs - BASELINE_MS), (one, bucket, cell) =>
    one.addHour(bucket / GRAIN_SECONDS.hour, cell),
  );
  addCells(series, await read("15m", span.startMs), (one, bucket, cell) =>
    one.quarters.set(bucket / GRAIN_SECONDS["15m"], cell),
  );
  return series;
}

/** Adds rows to the series of their models, and their sums to the org's. */
function addCells(
  series: Map<number | typeof WHOLE_ORG, CallSeries>,
  rows: readonly CallCellRow[],
  add: (one: CallSeries, bucketSeconds: number, cell: CallCell) => void,
): void {
  const whole = new Map<number, CallCell>();
  for (const row of rows) {
    const { requests, bucketSeconds } = row;
    const failed = [row.client, row.capacity, row.upstream, row.policy, row.internal];
    let one = series.get(row.memberId);
    if (one === undefined) series.set(row.memberId, (one = new CallSeries()));
    add(one, bucketSeconds, {
      requests,
      failed,
      latencies: new StoredLatencies(row.sketches, row.latencyCount),
    });
    const sum = whole.get(bucketSeconds);
    whole.set(bucketSeconds, {
      requests: requests + (sum?.requests ?? 0),
      failed: failed.map((count, i) => count + (sum?.failed[i] ?? 0)),
      latencies: NO_LATENCIES,
    });
  }
  const org = series.get(WHOLE_ORG);
  if (org !== undefined) for (const [bucket, cell] of whole) add(org, bucket, cell);
}

/** What was called in a span through some models (none named: all), and what it cost. */
export async function readAffected(
  { tx, org }: Reading,
  span: Span,
  modelIds: readonly number[],
): Promise<Pick<Measures, "requests" | "errors" | "cost" | "otherCosts">> {
  const tally = createTally();
  const ask = {
    orgId: org.id,
    dimension: "model",
    pieces: arrangePieces([coverSpan(span)]),
    memberIds: modelIds.length === 0 ? null : modelIds,
    outcomes: null,
    costBasis: org.costBasis,
  } as const;
  for (const sums of await sumUsage(tx.sql, ask, NO_KEYS)) addSums(tally, sums);
  const { requests, errors, cost, otherCosts } = measuresOf(tally, org.currency);
  return { requests, errors, cost, otherCosts };
}
