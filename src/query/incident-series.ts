import {
  type Baseline,
  findBaseline,
  findErrorNoise,
  findLeastUsual,
  type HourErrors,
  listBaselineHours,
  medianOf,
  type ValueAt,
} from "./incident-baseline.ts";
import type { StoredLatencies } from "./incident-latencies.ts";
import { ERROR_CLASSES } from "./questions.ts";

/** What goes wrong: more calls than usual fail, or more are slower than all but a twentieth usually are. */
export const INCIDENT_KINDS = ["error_rate", "latency"] as const;
export type IncidentKind = (typeof INCIDENT_KINDS)[number];

/** The share of calls slower than the usual p95, when all is as usual. */
export const SLOW_SHARE = 0.05;
export const SLOW_QUANTILE = 0.95;
export const QUARTERS_PER_HOUR = 4;
/** Fewer calls in an hour have no rate or percentile to compare with. */
const HOUR_REQUESTS_MIN = 20;
const HOUR_LATENCIES_MIN = 10;

/** Calls of one bucket; `failed` per class, in ERROR_CLASSES' order. */
export type CallCell = {
  requests: number;
  failed: readonly number[];
  latencies: StoredLatencies;
};
type HourCell = CallCell & HourErrors;

export const errorsOf = ({ failed }: Pick<CallCell, "failed">): number =>
  failed.reduce((sum, count) => sum + count, 0);

/**
 * One model's calls (or an org's) over time: by the quarter of an hour where incidents are sought, by the hour where
 * baselines come from. Numbers of quarters and hours count from the Unix epoch.
 */
export class CallSeries {
  readonly quarters = new Map<number, CallCell>();
  readonly #hours = new Map<number, HourCell>();
  readonly #leasts: Record<IncidentKind, Map<number, number>> = {
    error_rate: new Map(),
    latency: new Map(),
  };
  readonly #baselines: Record<IncidentKind, Map<number, Baseline | null>> = {
    error_rate: new Map(),
    latency: new Map(),
  };

  addHour(hour: number, cell: CallCell): void {
    this.#hours.set(hour, { ...cell, errors: errorsOf(cell) });
  }

  /** What is usual at an hour: the error rate, or the p95 in ms. Null: nothing to tell it from. */
  baselineAt(kind: IncidentKind, hour: number): Baseline | null {
    const known = this.#baselines[kind];
    let baseline = known.get(hour);
    if (baseline === undefined)
      known.set(hour, (baseline = findBaseline(this.#valueAt(kind), hour)));
    return baseline;
  }

  /** What is usual at an hour is at least this: quick to tell, for most hours are as usual. */
  leastUsualAt(kind: IncidentKind, hour: number): number {
    const known = this.#leasts[kind];
    let least = known.get(hour);
    if (least === undefined) known.set(hour, (least = findLeastUsual(this.#valueAt(kind), hour)));
    return least;
  }

  noiseAt(hour: number): ReturnType<typeof findErrorNoise> {
    return findErrorNoise((at) => this.#errorsAt(at), hour);
  }

  /** The usual rate of each error class at an hour, in ERROR_CLASSES' order. */
  classRatesAt(hour: number): number[] {
    const hours = listBaselineHours((at) => this.#errorsAt(at) !== null, hour);
    return ERROR_CLASSES.map((_, i) =>
      medianOf(
        hours.map((at) => {
          const cell = this.#hours.get(at);
          return cell === undefined ? 0 : (cell.failed[i] ?? 0) / cell.requests;
        }),
      ),
    );
  }

  #errorsAt(hour: number): HourErrors | null {
    const cell = this.#hours.get(hour);
    return cell !== undefined && cell.requests >= HOUR_REQUESTS_MIN ? cell : null;
  }

  #errorRateAt(hour: number): number | null {
    const cell = this.#errorsAt(hour);
    return cell === null ? null : cell.errors / cell.requests;
  }

  #p95At(hour: number): number | null {
    const latencies = this.#hours.get(hour)?.latencies;
    const isEnough = latencies !== undefined && latencies.count >= HOUR_LATENCIES_MIN;
    return isEnough ? latencies.quantile(SLOW_QUANTILE) : null;
  }

  #valueAt(kind: IncidentKind): ValueAt {
    return kind === "latency" ? (hour) => this.#p95At(hour) : (hour) => this.#errorRateAt(hour);
  }
}
