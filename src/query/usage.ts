import { previousOf, type Span } from "#contract";
import type { Clock } from "#kernel";
import type { Database } from "#store";
import type { Comparison, SystemUsageAnswer, UsageAnswer, UsageGroup } from "./answers.ts";
import { readGroups } from "./group-keys.ts";
import {
  addTallies,
  changeOf,
  createTally,
  measuresOf,
  type Tally,
  totalOf,
  withMeasures,
} from "./measures.ts";
import { planOf } from "./plan.ts";
import { SERIES_POINTS_MAX, type SystemUsageQuestion, type UsageQuestion } from "./questions.ts";
import {
  bucketOf,
  EVERY_ORG,
  type GroupKeys,
  moneyFrameOf,
  nameGroups,
  NO_GROUPS,
  orderKeys,
  type Reading,
  withReading,
} from "./reading.ts";
import { refuseTooManyPoints } from "./points.ts";
import { readTallies } from "./tallies.ts";

/**
 * What an org used over a window: totals, a series of local buckets, and (groupBy) the same per group. Groups add up
 * to the series, the series to the totals, exactly. Throws Failure `not_found`, `unsupported_combination`,
 * `unsupported_granularity`, `range_too_large`, `not_complete`, `invalid_request` or `unknown_zone`.
 */
export async function getUsage(
  database: Database,
  clock: Clock,
  question: UsageQuestion & { orgId: string },
): Promise<UsageAnswer> {
  const plan = planOf(question, "org");
  const answer = await withReading({ database, clock }, { ...question, plan }, (reading) =>
    answerUsage(reading, question),
  );
  return { orgId: question.orgId, ...answer };
}

/** As `getUsage`, over all orgs together. */
export async function getSystemUsage(
  database: Database,
  clock: Clock,
  question: SystemUsageQuestion,
): Promise<SystemUsageAnswer> {
  const plan = planOf(question, "system");
  const ask = { ...question, orgId: EVERY_ORG, plan };
  const answer = await withReading({ database, clock }, ask, (reading) =>
    answerUsage(reading, question),
  );
  return { orgId: null, ...answer };
}

async function answerUsage(
  reading: Reading,
  question: Pick<UsageQuestion, "compare">,
): Promise<Omit<UsageAnswer, "orgId">> {
  const { window, org } = reading;
  refuseTooManyPoints(reading, SERIES_POINTS_MAX);
  const { keys, byKey } = await readGroups(reading, window, window.buckets);
  const buckets = window.buckets.map((bucket) => bucketOf(reading, bucket));
  const seriesOf = (tallies: readonly Tally[]) =>
    buckets.map((bucket, i) => withMeasures(bucket, tallies[i] ?? createTally(), org.currency));
  // Series and totals are the groups added up, so that no rounding and no late fold can come between them.
  const perBucket = window.buckets.map(createTally);
  for (const tallies of byKey.values()) addTallies(perBucket, tallies);
  const total = totalOf(perBucket);
  const frame = await moneyFrameOf(reading);
  return {
    window: frame.window,
    totals: measuresOf(total, org.currency),
    series: seriesOf(perBucket),
    ...(reading.plan.grouping === null
      ? {}
      : { groups: await listGroups(reading, { keys, byKey, seriesOf }) }),
    ...(question.compare === undefined ? {} : { comparison: await compare(reading, total) }),
    pricing: frame.pricing,
    freshness: frame.freshness,
    reconciliation: frame.reconciliation,
  };
}

async function listGroups(
  reading: Reading,
  read: {
    keys: GroupKeys;
    byKey: ReadonlyMap<number, readonly Tally[]>;
    seriesOf: (tallies: readonly Tally[]) => UsageGroup["series"];
  },
): Promise<UsageGroup[]> {
  const ordered = orderKeys(read.keys, read.byKey.keys());
  const name = await nameGroups(reading, ordered);
  return ordered.map((key) => {
    const tallies = read.byKey.get(key) ?? [];
    return {
      ...name(key),
      ...measuresOf(totalOf(tallies), reading.org.currency),
      series: read.seriesOf(tallies),
    };
  });
}

/** How much of the window has elapsed and is wholly counted; what the period before is compared up to. */
export const elapsedOf = (reading: Reading): ReturnType<typeof previousOf> =>
  previousOf(reading.window, Math.min(reading.nowMs, reading.completeThroughMs ?? 0));

async function compare(reading: Reading, total: Tally): Promise<Comparison | null> {
  const spans = elapsedOf(reading);
  if (spans === null) return null;
  const sumOf = async (span: Span): Promise<Tally> =>
    span.startMs === span.endMs
      ? createTally()
      : totalOf([...(await readTallies(reading, [span], NO_GROUPS)).values()].flat());
  const isWhole = spans.current.endMs === reading.window.endMs;
  const current = isWhole ? total : await sumOf(spans.current);
  const previous = await sumOf(spans.previous);
  const answer = (span: Span, tally: Tally) => {
    const { start, end } = bucketOf(reading, span);
    return { start, end, totals: measuresOf(tally, reading.org.currency) };
  };
  return {
    current: answer(spans.current, current),
    previous: answer(spans.previous, previous),
    change: changeOf(current, previous, reading.org.currency),
  };
}
