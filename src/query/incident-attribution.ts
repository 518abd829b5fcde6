import { figureOf, hourOf, type SeriesMap, type Spike, WHOLE_ORG } from "./incident-detector.ts";
import {
  type CallCell,
  type CallSeries,
  errorsOf,
  type IncidentKind,
  SLOW_SHARE,
} from "./incident-series.ts";
import { ERROR_CLASSES } from "./questions.ts";

/** What one model, client or error class has to do with an incident: failed (or slow) calls, and how many are usual. */
export type Part<Key> = { key: Key; requests: number; observed: number; expected: number };

export const excessOf = ({ observed, expected }: Part<unknown>): number => observed - expected;

/** Largest excess first, equal ones by key; those without any are left out. */
export const rankParts = <Key extends number | string>(parts: readonly Part<Key>[]): Part<Key>[] =>
  parts
    .filter((part) => excessOf(part) > 0)
    .toSorted((a, b) => excessOf(b) - excessOf(a) || (a.key < b.key ? -1 : 1));

/** The buckets of a series in which an incident ran, in order. */
function listCells(series: CallSeries, { from, until }: Spike): [quarter: number, CallCell][] {
  const cells: [number, CallCell][] = [];
  for (let quarter = from; quarter < until; quarter++) {
    const cell = series.quarters.get(quarter);
    if (cell !== undefined) cells.push([quarter, cell]);
  }
  return cells;
}

/** What each model contributed. A model too new to have a baseline is held to its org's. */
export function partsByModel(series: SeriesMap, spike: Spike): Part<number>[] {
  const whole = series.get(WHOLE_ORG);
  return [...series].flatMap(([key, one]) => {
    if (key === WHOLE_ORG) return [];
    const part = { key, requests: 0, observed: 0, expected: 0 };
    for (const [quarter, cell] of listCells(one, spike)) {
      const usual = usualAt(spike.kind, hourOf(quarter), [one, whole]);
      const { observed, expected } = countExcess(spike.kind, cell, usual);
      part.requests += cell.requests;
      part.observed += observed;
      part.expected += expected;
    }
    return part.requests === 0 ? [] : [part];
  });
}

/** What is usual by the first of some series that knows. Latencies of other models say nothing. */
function usualAt(
  kind: IncidentKind,
  hour: number,
  [own, whole]: readonly [CallSeries, CallSeries | undefined],
): number | null {
  const found = own.baselineAt(kind, hour);
  if (found !== null || kind === "latency") return found?.usual ?? null;
  return whole?.baselineAt(kind, hour)?.usual ?? 0;
}

function countExcess(
  kind: IncidentKind,
  cell: CallCell,
  usual: number | null,
): { observed: number; expected: number } {
  if (usual === null) return { observed: 0, expected: 0 };
  if (kind === "error_rate") return { observed: errorsOf(cell), expected: cell.requests * usual };
  return {
    observed: cell.latencies.countSlower(usual),
    expected: cell.latencies.count * SLOW_SHARE,
  };
}

/** What each error class contributed, over all models. */
export function partsByClass(series: SeriesMap, spike: Spike): Part<number>[] {
  const whole = series.get(WHOLE_ORG);
  const cells = whole === undefined ? [] : listCells(whole, spike);
  return ERROR_CLASSES.map((_, i) => {
    const part = { key: i, requests: 0, observed: 0, expected: 0 };
    for (const [quarter, cell] of cells) {
      part.requests += cell.requests;
      part.observed += cell.failed[i] ?? 0;
      part.expected += cell.requests * (whole?.classRatesAt(hourOf(quarter))[i] ?? 0);
    }
    return part;
  });
}

/** Where an incident was worst: the highest figure of its leading model, or of the org when no model stands out. */
type Peak = {
  quarter: number;
  key: number | typeof WHOLE_ORG;
  value: number;
  baseline: number;
};

/** The worst quarter of an hour; `ranked` are the models, the largest contribution first. */
export function findPeak(series: SeriesMap, spike: Spike, ranked: readonly Part<number>[]): Peak {
  const leading = ranked.find(({ key }) => spike.keys.includes(key))?.key ?? WHOLE_ORG;
  const one = series.get(leading);
  let peak: Peak = { quarter: spike.from, key: leading, value: 0, baseline: 0 };
  for (const [quarter, cell] of one === undefined ? [] : listCells(one, spike)) {
    const value = figureOf(spike.kind, cell);
    if (value === null || value <= peak.value) continue;
    const baseline = one?.baselineAt(spike.kind, hourOf(quarter))?.usual ?? 0;
    peak = { quarter, key: leading, value, baseline };
  }
  return peak;
}
