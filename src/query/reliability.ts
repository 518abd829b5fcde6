import { coverSpan, Failure, FIRST_ERROR_OUTCOME, LatencySketch } from "#contract";
import type { Clock } from "#kernel";
import { arrangePieces, type Database, listTopErrorCodes } from "#store";
import type { ErrorCodeCount, ReliabilityAnswer, ReliabilityGroup } from "./answers.ts";
import {
  addCalls,
  callMeasuresOf,
  type CallTally,
  createCallTally,
  latencyOf,
  readCalls,
  sketchOf,
  totalCallsOf,
} from "./calls.ts";
import { chooseKeys, keysOfEach, showFirst } from "./group-keys.ts";
import { consumerOf, describeOutcome, planOf } from "./plan.ts";
import { ERROR_CLASSES, isByOutcome, type ReliabilityQuestion } from "./questions.ts";
import {
  askOf,
  bucketOf,
  frameOf,
  type GroupKeys,
  nameGroups,
  NO_GROUPS,
  orderKeys,
  type Reading,
  type ReadKeys,
  withReading,
} from "./reading.ts";
import { type AskPart, partsOf } from "./tallies.ts";

const PERCENTILES_DEFAULT = [50, 90, 95, 99] as const;
const PERCENTILES_MAX = 10;
const ERROR_CODES_MAX = 100;

/**
 * How an org's calls went over a window: error rate, errors by class and code, latency percentiles; as totals, as a
 * series of local buckets, and (groupBy) per group. Percentiles are of all calls asked about that report a latency.
 * Throws Failure as `getUsage` does.
 */
export async function getReliability(
  database: Database,
  clock: Clock,
  question: ReliabilityQuestion & { orgId: string },
): Promise<ReliabilityAnswer> {
  const plan = planOf(question, "org");
  const percentiles = checkPercentiles(question.percentiles);
  return await withReading({ database, clock }, { ...question, plan }, async (reading) => {
    const whole = await readSeries(reading, percentiles);
    const groups = plan.grouping === null ? {} : { groups: await readGroups(reading, percentiles) };
    const errorsByCode = await readErrorCodes(reading, whole.tally);
    const frame = await frameOf(reading);
    return {
      orgId: question.orgId,
      window: frame.window,
      totals: whole.totals,
      series: whole.series,
      ...groups,
      errorsByCode,
      freshness: frame.freshness,
      reconciliation: frame.reconciliation,
    };
  });
}

function checkPercentiles(asked: readonly number[] | undefined): readonly number[] {
  if (asked === undefined || asked.length === 0) return PERCENTILES_DEFAULT;
  const isGood =
    asked.length <= PERCENTILES_MAX && asked.every((one) => one >= 0.001 && one <= 100);
  if (isGood) return [...new Set(asked)].toSorted((a, b) => a - b);
  const message = `must be at most ${PERCENTILES_MAX} numbers from 0.001 to 100`;
  throw new Failure("invalid_request", `percentile: ${message}`, {
    details: [{ pointer: "/query/percentile", code: "out_of_range", message }],
  });
}

/** The buckets and their sum. Rows of the org itself serve where no member is asked for and the watermark is the same. */
async function readSeries(reading: Reading, percentiles: readonly number[]) {
  const { window, plan } = reading;
  const isOrgEnough = plan.words === null && consumerOf(plan.dimension) === "usage";
  const parts: AskPart[] = isOrgEnough
    ? [{ ask: await askOf(reading, window.buckets, "org"), keys: NO_GROUPS, sign: 1 }]
    : await partsOf(reading, window.buckets, NO_GROUPS);
  const ask = { parts, spans: window.buckets, keys: NO_GROUPS, sketchesOf: "all" } as const;
  const tallies = (await readCalls(reading, ask)).get(0) ?? [];
  const tally = totalCallsOf(tallies);
  const total = new LatencySketch();
  const series = window.buckets.map((bucket, i) => {
    const calls = tallies[i] ?? createCallTally();
    const sketch = sketchOf(calls);
    total.merge(sketch);
    return {
      ...bucketOf(reading, bucket),
      ...callMeasuresOf(calls),
      latency: latencyOf(calls, sketch, percentiles),
    };
  });
  return {
    tally,
    series,
    totals: { ...callMeasuresOf(tally), latency: latencyOf(tally, total, percentiles) },
  };
}

async function readGroups(
  reading: Reading,
  percentiles: readonly number[],
): Promise<ReliabilityGroup[]> {
  const { keys, byKey } = await readCallGroups(reading);
  const ordered = orderKeys(keys, byKey.keys());
  const name = await nameGroups(reading, ordered);
  return ordered.map((key) => {
    const calls = byKey.get(key) ?? createCallTally();
    const group = name(key);
    const isKnown = !group.isOther || isOfFew(reading);
    const latency = isKnown ? latencyOf(calls, sketchOf(calls), percentiles) : null;
    return { ...group, ...callMeasuresOf(calls), latency };
  });
}

/** An org may have a hundred thousand clients: the sketches of those not shown would be read for one row. */
const isOfFew = ({ plan }: Reading): boolean =>
  (plan.grouping !== null && isByOutcome(plan.grouping)) ||
  plan.dimension === "model" ||
  plan.dimension === "tag";

/** Read once, and ranked by what was read, where that says how often was called and what failed of few groups. */
async function readCallGroups(
  reading: Reading,
): Promise<{ keys: GroupKeys; byKey: Map<number, CallTally> }> {
  const { orderBy } = reading.plan;
  const isRankedAfter = isOfFew(reading) && (orderBy === "requests" || orderBy === "errors");
  const each = isRankedAfter ? await keysOfEach(reading, 1) : null;
  if (each === null) {
    const keys = await chooseKeys(reading, reading.window);
    return { keys, byKey: await readCallsOf(reading, keys) };
  }
  const byEach = await readCallsOf(reading, each);
  const countOf = (calls: CallTally) =>
    orderBy === "errors" ? callMeasuresOf(calls).errors : calls.requests;
  const ranked = [...byEach]
    .toSorted(([a, x], [b, y]) => countOf(y) - countOf(x) || a - b)
    .map(([key]) => key);
  const { keys } = showFirst(reading, each, ranked);
  const byKey = new Map<number, CallTally>();
  for (const [key, calls] of byEach) {
    const known = byKey.get(keys.groupOf(key));
    if (known === undefined) byKey.set(keys.groupOf(key), calls);
    else addCalls(known, calls);
  }
  return { keys, byKey };
}

/** Calls of the whole window per key. */
async function readCallsOf(reading: Reading, keys: ReadKeys): Promise<Map<number, CallTally>> {
  const byKey = await readCalls(reading, {
    parts: await partsOf(reading, [reading.window], keys),
    spans: [reading.window],
    keys,
    sketchesOf: isOfFew(reading) ? "all" : "shown",
  });
  return new Map([...byKey].map(([key, tallies]) => [key, totalCallsOf(tallies)]));
}

/** Codes are kept per model only. What is not among the most frequent is one row per class, so that each adds up. */
async function readErrorCodes(
  reading: Reading,
  total: CallTally,
): Promise<ErrorCodeCount[] | null> {
  const { window, plan, memberIds } = reading;
  if (plan.dimension !== "org" && plan.dimension !== "model") return null;
  const outcomes = plan.outcomes?.filter((outcome) => outcome >= FIRST_ERROR_OUTCOME) ?? null;
  const rows = await listTopErrorCodes(reading.tx.sql, {
    orgId: reading.org.id,
    pieces: arrangePieces([coverSpan(window)]),
    modelIds: memberIds,
    outcomes,
    limit: ERROR_CODES_MAX,
  });
  const left = { ...total };
  const codes = rows.flatMap((row) => {
    const { errorClass } = describeOutcome(row.outcome);
    if (errorClass === null) return [];
    left[errorClass] -= row.requests;
    return [{ errorClass, code: row.code, requests: row.requests, isOther: false }];
  });
  const rest = ERROR_CLASSES.filter((errorClass) => left[errorClass] > 0);
  return [
    ...codes,
    ...rest.map((errorClass) => ({
      errorClass,
      code: null,
      requests: left[errorClass],
      isOther: true,
    })),
  ];
}
