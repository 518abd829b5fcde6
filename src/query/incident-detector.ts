import {
  type CallCell,
  type CallSeries,
  errorsOf,
  type IncidentKind,
  QUARTERS_PER_HOUR,
  SLOW_QUANTILE,
  SLOW_SHARE,
} from "./incident-series.ts";

/** Fewer calls in a quarter of an hour say nothing. */
const REQUESTS_MIN = 50;
const ERRORS_MIN = 10;
/** Errors that come in lumps count once a lump; so many lumps at least. */
const LUMPS_MIN = 5;
const LATENCIES_MIN = 5;
/** A spike is at least twice what is usual, and more by two calls in a hundred, or by 50 ms. */
const RATIO_MIN = 2;
const RATE_EXCESS_MIN = 0.02;
const LATENCY_EXCESS_MS_MIN = 50;
/** Natural logarithms of how likely chance alone does the same in a quarter of an hour: in a spike, and beside one. */
const CHANCE_LOG_MAX = Math.log(1e-6);
const EDGE_CHANCE_LOG_MAX = Math.log(1e-3);
/** Quarters of an hour that a spike fills at least, and those without one that it bridges. */
const SPIKES_MIN = 2;
const HOLE_QUARTERS_MAX = 1;
/** After so many quarters a spike is over: a hole and a quarter at its other edge would have been seen. */
const SETTLED_QUARTERS = 4;

/**
 * Key, in a map of series, of all calls of an org together, which has no latencies: of several models together they
 * also change with what is called. Other keys are members of the model dimension.
 */
export const WHOLE_ORG = null;
export type SeriesMap = ReadonlyMap<number | typeof WHOLE_ORG, CallSeries>;

/** Quarters of an hour since the Unix epoch, half-open. */
export type QuarterRange = { from: number; until: number };

/** A stretch in which something was not as usual, and the series that show it. */
export type Spike = QuarterRange & {
  kind: IncidentKind;
  keys: readonly (number | typeof WHOLE_ORG)[];
  /** It reaches the last hour looked at: it may go on. */
  isOpen: boolean;
};

/**
 * The spikes of one kind in a range. Whether a quarter of an hour belongs to one follows from it and the four weeks
 * before it alone, so what is found is the same in every range that holds it with an hour to spare.
 */
export function findSpikes(series: SeriesMap, kind: IncidentKind, range: QuarterRange): Spike[] {
  const chanceLogOf = kind === "error_rate" ? errorChanceLog : latencyChanceLog;
  const runs: Spike[] = [];
  for (const [key, one] of series) {
    const chances = new Map<number, number>();
    for (const [quarter, cell] of one.quarters) {
      if (quarter >= range.from && quarter < range.until)
        chances.set(quarter, chanceLogOf(one, quarter, cell));
    }
    for (const run of findRuns(chances))
      runs.push({ ...run, kind, keys: [key], isOpen: isAtEnd(run, range) });
  }
  return joinRuns(runs, range);
}

/** Whether what follows a run could still lengthen it. */
const isAtEnd = (run: QuarterRange, range: QuarterRange): boolean =>
  range.until - run.until < SETTLED_QUARTERS;

/**
 * Quarters in a row that chance does not explain, holes bridged; too short ones are left out. A quarter beside such a
 * one belongs to it on weaker evidence: where a spike begins and ends, part of the quarter may be as usual. `chances`:
 * per quarter, as a logarithm.
 */
export function findRuns(chances: ReadonlyMap<number, number>): QuarterRange[] {
  const isWithin = (quarter: number, max: number) => (chances.get(quarter) ?? 0) <= max;
  const isSpike = (quarter: number) => isWithin(quarter, CHANCE_LOG_MAX);
  const isEdge = (quarter: number) =>
    isWithin(quarter, EDGE_CHANCE_LOG_MAX) && (isSpike(quarter - 1) || isSpike(quarter + 1));
  const quarters = [...chances.keys()].filter((quarter) => isSpike(quarter) || isEdge(quarter));
  const runs: (QuarterRange & { spikes: number })[] = [];
  for (const quarter of quarters.toSorted((a, b) => a - b)) {
    const spikes = isSpike(quarter) ? 1 : 0;
    const last = runs.at(-1);
    if (last !== undefined && quarter - last.until <= HOLE_QUARTERS_MAX) {
      last.until = quarter + 1;
      last.spikes += spikes;
    } else runs.push({ from: quarter, until: quarter + 1, spikes });
  }
  return runs
    .filter(({ spikes }) => spikes >= SPIKES_MIN)
    .map(({ from, until }) => ({ from, until }));
}

/** Runs of several series at the same time, or one after the other, are one. */
function joinRuns(runs: readonly Spike[], range: QuarterRange): Spike[] {
  const joined: Spike[] = [];
  for (const run of runs.toSorted((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last === undefined || run.from - last.until > HOLE_QUARTERS_MAX) {
      joined.push({ ...run });
      continue;
    }
    last.until = Math.max(last.until, run.until);
    last.keys = [...new Set([...last.keys, ...run.keys])];
    last.isOpen = isAtEnd(last, range);
  }
  return joined;
}

export const hourOf = (quarter: number): number => Math.floor(quarter / QUARTERS_PER_HOUR);

/** The error rate or the p95 in ms of a quarter of an hour; null when it had too few calls to have one. */
export function figureOf(kind: IncidentKind, cell: CallCell): number | null {
  if (kind === "error_rate")
    return cell.requests < REQUESTS_MIN ? null : errorsOf(cell) / cell.requests;
  return cell.latencies.count < LATENCIES_MIN ? null : cell.latencies.quantile(SLOW_QUANTILE);
}

/** How likely, as a logarithm, chance alone makes so many errors; 0 where they are too few to be a spike. */
function errorChanceLog(series: CallSeries, quarter: number, cell: CallCell): number {
  const rate = figureOf("error_rate", cell);
  const errors = errorsOf(cell);
  if (rate === null || errors < ERRORS_MIN || rate < RATE_EXCESS_MIN) return 0;
  const hour = hourOf(quarter);
  if (rate < RATIO_MIN * series.leastUsualAt("error_rate", hour)) return 0;
  const baseline = series.baselineAt("error_rate", hour);
  if (baseline === null || rate < baseline.limit) return 0;
  if (rate < RATIO_MIN * baseline.usual || rate - baseline.usual < RATE_EXCESS_MIN) return 0;
  const noise = series.noiseAt(hour);
  const lumps = errors / noise.dispersion;
  const expected = (cell.requests * Math.max(baseline.usual, noise.rate)) / noise.dispersion;
  return lumps < LUMPS_MIN ? 0 : poissonTailLog(lumps, expected);
}

/** As `errorChanceLog`, for so many slow calls. */
function latencyChanceLog(series: CallSeries, quarter: number, cell: CallCell): number {
  const p95Ms = figureOf("latency", cell);
  if (p95Ms === null) return 0;
  const hour = hourOf(quarter);
  if (p95Ms < RATIO_MIN * series.leastUsualAt("latency", hour)) return 0;
  const baseline = series.baselineAt("latency", hour);
  if (baseline === null || p95Ms < baseline.limit) return 0;
  if (p95Ms < RATIO_MIN * baseline.usual || p95Ms - baseline.usual < LATENCY_EXCESS_MS_MIN)
    return 0;
  const { latencies } = cell;
  return binomialTailLog(latencies.countSlower(baseline.usual), latencies.count, SLOW_SHARE);
}

/** Logarithm of a bound (Chernoff's) on the probability of `seen` or more where `expected` are, at random. */
export function poissonTailLog(seen: number, expected: number): number {
  return seen <= expected ? 0 : seen - expected - seen * Math.log(seen / expected);
}

/** Logarithm of a bound (Chernoff's) on the probability of `seen` or more of `count` when each is one with `share`. */
export function binomialTailLog(seen: number, count: number, share: number): number {
  const part = seen / count;
  if (part <= share) return 0;
  const rest = part === 1 ? 0 : (1 - part) * Math.log((1 - part) / (1 - share));
  return -count * (part * Math.log(part / share) + rest);
}
