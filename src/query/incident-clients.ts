import { coverSpan, packCurrency, type Span } from "#contract";
import { arrangePieces, listTopMembers, type RollupAsk, type RollupKeys, sumCalls } from "#store";
import type { Part } from "./incident-attribution.ts";
import { StoredLatencies } from "./incident-latencies.ts";
import type { IncidentKind } from "./incident-series.ts";
import type { Reading } from "./reading.ts";

const HOUR_MS = 3_600_000;
const WEEK_MS = 168 * HOUR_MS;
const WEEKS = [1, 2, 3, 4] as const;
const WEEKS_MIN = 2;
/** The clients an incident is laid to are among those with most errors (or calls, when it is slowness) in it. */
const CLIENTS_MAX = 100;

/** Calls of a client in one stretch: `observed` failed, or took longer than a latency. */
type Counted = { requests: number; judged: number; observed: number };
const nothing = (): Counted => ({ requests: 0, judged: 0, observed: 0 });

/**
 * What each client contributed to an incident. Calls are not kept per client and model, so a client is measured
 * against itself: the share of its calls that failed (or took longer than `slowMs`) in the same hours of up to four
 * weeks before, or in the trailing week where fewer than two of them had calls.
 */
export async function partsByClient(
  reading: Reading,
  incident: { kind: IncidentKind; span: Span; slowMs: number },
): Promise<Part<number>[]> {
  const { kind, span } = incident;
  const top = await listTopMembers(reading.tx.sql, askOf(reading, [span], null), {
    by: kind === "error_rate" ? "errors" : "requests",
    currency: packCurrency(reading.org.currency),
    after: null,
    limit: CLIENTS_MAX,
  });
  const shown = top.map((row) => row.memberId);
  const spans = [span, ...listBaselineSpans(span)];
  const ask = askOf(reading, spans, shown);
  const counted = await countCalls(reading, { ask, shown, incident });
  return shown.map((key) => {
    const at = (bucketNo: number) => counted.get(placeOf(key, bucketNo)) ?? nothing();
    const { requests, judged, observed } = at(0);
    return { key, requests, observed, expected: judged * usualShareOf(spans.map((_, i) => at(i))) };
  });
}

/** The same whole hours of the four weeks before, and, last, the week before. */
function listBaselineSpans(span: Span): Span[] {
  const startMs = Math.floor(span.startMs / HOUR_MS) * HOUR_MS;
  const endMs = Math.ceil(span.endMs / HOUR_MS) * HOUR_MS;
  const weeks = WEEKS.map((week) => ({
    startMs: startMs - week * WEEK_MS,
    endMs: endMs - week * WEEK_MS,
  }));
  return [...weeks, { startMs: startMs - WEEK_MS, endMs: startMs }];
}

/** `counted`: the incident, then its baseline spans. */
function usualShareOf(counted: readonly Counted[]): number {
  const weeks = counted.slice(1, 1 + WEEKS.length).filter(({ judged }) => judged > 0);
  const used = weeks.length >= WEEKS_MIN ? weeks : counted.slice(1 + WEEKS.length);
  const judged = used.reduce((sum, one) => sum + one.judged, 0);
  return judged === 0 ? 0 : used.reduce((sum, one) => sum + one.observed, 0) / judged;
}

const askOf = (
  { org }: Reading,
  spans: readonly Span[],
  memberIds: readonly number[] | null,
): RollupAsk => ({
  orgId: org.id,
  dimension: "client",
  pieces: arrangePieces(spans.map(coverSpan)),
  memberIds,
  outcomes: null,
  costBasis: org.costBasis,
});

const placeOf = (key: number, bucketNo: number): string => `${key}/${bucketNo}`;

async function countCalls(
  reading: Reading,
  {
    ask,
    shown,
    incident,
  }: {
    ask: RollupAsk;
    shown: readonly number[];
    incident: { kind: IncidentKind; slowMs: number };
  },
): Promise<Map<string, Counted>> {
  const { kind, slowMs } = incident;
  const keys: RollupKeys = { by: "member", shown };
  const counted = new Map<string, Counted>();
  const sketchesOf = kind === "error_rate" ? null : "all";
  for (const row of await sumCalls(reading.tx.sql, ask, keys, sketchesOf)) {
    const { requests, latencyCount } = row;
    const one = counted.get(placeOf(row.key, row.bucketNo)) ?? nothing();
    counted.set(placeOf(row.key, row.bucketNo), one);
    one.requests += requests;
    if (kind === "error_rate") {
      one.judged += requests;
      one.observed += row.client + row.capacity + row.upstream + row.policy + row.internal;
    } else {
      one.judged += latencyCount;
      one.observed += new StoredLatencies(row.sketches, latencyCount).countSlower(slowMs);
    }
  }
  return counted;
}
