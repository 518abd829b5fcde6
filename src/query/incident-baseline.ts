/** Hours since the Unix epoch count up to this and begin again: an hour of the week (UTC). */
const WEEK_HOURS = 168;
const WEEKS = [1, 2, 3, 4] as const;
/** The same hour of fewer weeks says nothing: then the trailing week does. */
const WEEKS_MIN = 2;
const TRAILING_HOURS_MIN = 24;
/** What was usual lately: so many hours that had calls, if there are at least so many. */
const RECENT_HOURS = 24;
const RECENT_HOURS_MIN = 6;
/** Deviations, in the unit of a standard deviation, that other weeks show by themselves. */
const DEVIATIONS = 4;
/** The median absolute deviation of a normal distribution times this is its standard deviation. */
const NORMAL_MAD = 1.4826;
/** Median of the chi-squared distribution with one degree of freedom. */
const CHI_SQUARED_MEDIAN = 0.4549;
/** Hours left out when noise is measured: those of an incident are not noise. */
const TRIMMED_SHARE = 0.05;
const RATE_MIN = 0.0001;
/** Hours with errors, among hours without, that make a habit. */
const LUMPS_MIN = 3;

/**
 * What is usual of a figure. `usual`: the median of the same hour of the week in up to four weeks before, or that of
 * the hours of the last day if it is more, so that a level that crept up is usual too. `limit`: what the weeks differ
 * by themselves does not reach it.
 */
export type Baseline = { usual: number; limit: number };

/** Requests and errors of an hour. */
export type HourErrors = { requests: number; errors: number };

/** The value of an hour (since the Unix epoch), or null when it had too few calls to have one. */
export type ValueAt = (hour: number) => number | null;

/**
 * What is usual at an hour, from hours before it alone, so that it is the same whenever it is asked. The same hour of
 * the week counts; where fewer than two weeks have one, the trailing week does. Null where that is short as well.
 */
export function findBaseline(valueAt: ValueAt, hour: number): Baseline | null {
  const weeks = listWeeks(valueAt, hour);
  const isWeekly = weeks.length >= WEEKS_MIN;
  const trailing = listTrailing(valueAt, hour, isWeekly ? RECENT_HOURS : WEEK_HOURS);
  if (!isWeekly && trailing.length < TRAILING_HOURS_MIN) return null;
  const reference = isWeekly ? weeks : trailing;
  const center = medianOf(reference);
  const spread = NORMAL_MAD * medianOf(reference.map((value) => Math.abs(value - center)));
  const recent =
    trailing.length < RECENT_HOURS_MIN ? 0 : upperMedianOf(trailing.slice(0, RECENT_HOURS));
  return { usual: Math.max(center, recent), limit: center + DEVIATIONS * spread };
}

/** `usual` of `findBaseline` is at least this, if there is one. */
export function findLeastUsual(valueAt: ValueAt, hour: number): number {
  const weeks = listWeeks(valueAt, hour);
  return weeks.length < WEEKS_MIN ? 0 : medianOf(weeks);
}

const listWeeks = (valueAt: ValueAt, hour: number): number[] =>
  WEEKS.flatMap((week) => valueAt(hour - week * WEEK_HOURS) ?? []);

/** Hours that a baseline of an hour is made from: the same of the week, else those of the trailing week. */
export function listBaselineHours(hasCalls: (hour: number) => boolean, hour: number): number[] {
  const weeks = WEEKS.map((week) => hour - week * WEEK_HOURS).filter(hasCalls);
  return weeks.length >= WEEKS_MIN
    ? weeks
    : listTrailing((at) => (hasCalls(at) ? at : null), hour, WEEK_HOURS);
}

/**
 * The error rate of a week, and by how much counts of errors vary more than independent calls would (1: not more):
 * senders that report many calls in one event fail many at once. The week ends a day before, so that a spike does not
 * pass for noise when it has lasted for hours; its highest hours are left out, for they may be another's.
 */
export function findErrorNoise(
  errorsAt: (hour: number) => HourErrors | null,
  hour: number,
): { rate: number; dispersion: number } {
  const listHours = (before: number) => listTrailing(errorsAt, before, WEEK_HOURS);
  const earlier = listHours(hour - RECENT_HOURS);
  const hours = earlier.length < TRAILING_HOURS_MIN ? listHours(hour) : earlier;
  const keptHours = Math.ceil(hours.length * (1 - TRIMMED_SHARE));
  const quiet = hours
    .toSorted((a, b) => a.errors * b.requests - b.errors * a.requests)
    .slice(0, keptHours);
  const requests = sumOf(quiet.map((one) => one.requests));
  const errors = sumOf(quiet.map((one) => one.errors));
  const rate = Math.max(RATE_MIN, requests === 0 ? 0 : errors / requests);
  const squares = hours
    .map((one) => (one.errors - one.requests * rate) ** 2 / (one.requests * rate))
    .toSorted((a, b) => a - b);
  const mean = sumOf(squares.slice(0, keptHours)) / Math.max(1, keptHours);
  const median = medianOf(squares) / CHI_SQUARED_MEDIAN;
  return { rate, dispersion: Math.max(1, mean, median, sizeOfLumps(hours)) };
}

/** How many errors come at once where most hours have none: the median of those that stand alone; 0 of too few. */
function sizeOfLumps(hours: readonly HourErrors[]): number {
  const hasErrors = (i: number) => (hours[i]?.errors ?? 0) > 0;
  const lone = hours.filter((_, i) => hasErrors(i) && !hasErrors(i - 1) && !hasErrors(i + 1));
  return lone.length < LUMPS_MIN ? 0 : medianOf(lone.map((one) => one.errors));
}

/** What there is of the hours of the week before an hour, the last one first; so many at most. */
function listTrailing<T>(valueAt: (hour: number) => T | null, hour: number, most: number): T[] {
  const values: T[] = [];
  for (let at = hour - 1; at >= hour - WEEK_HOURS && values.length < most; at--) {
    const value = valueAt(at);
    if (value !== null) values.push(value);
  }
  return values;
}

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/** The middle value, or the mean of the middle two; 0 of none. */
export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >>> 1;
  const high = sorted[half] ?? 0;
  return sorted.length % 2 === 1 ? high : ((sorted[half - 1] ?? 0) + high) / 2;
}

/** The middle value, of the middle two the larger: once half of some values are high, so is this. */
const upperMedianOf = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >>> 1] ?? 0;
