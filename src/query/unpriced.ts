import { formatInstant, MEMBER_OTHER, RANGE_DAYS_MAX } from "#contract";
import type { Clock } from "#kernel";
import { type Database, listUnpricedSince, sumUnpriced, type UnpricedSums } from "#store";
import type { Freshness, Pricing, Reconciliation, WindowAnswer } from "./answers.ts";
import { ratioOf } from "./measures.ts";
import { planOf } from "./plan.ts";
import type { Filters, WindowQuestion } from "./questions.ts";
import {
  askOf,
  EVERY_ORG,
  moneyFrameOf,
  nameGroups,
  type Reading,
  withReading,
} from "./reading.ts";

const DAY_MS = 86_400_000;

/** When, and how many models stand alone. A filter that is not kept per model is refused. */
type UnpricedQuestion = Omit<WindowQuestion, "granularity"> &
  Pick<Filters, "clientIds" | "actorIds" | "tags"> & {
    limit?: number | undefined;
    requireComplete?: boolean | undefined;
  };

/** The six classes add up to `totalTokens`. */
const CLASSES = [
  "inputTokens",
  "cacheReadTokens",
  "cacheWrite5mTokens",
  "cacheWrite1hTokens",
  "outputTokens",
  "reasoningTokens",
] as const;

/**
 * Usage without a cost. Classes are null where usage with and without one was counted together, so that only the total
 * is known. `share`: its requests as a part of all of the org's, six digits; null when there are none at all.
 */
type Unpriced = {
  requests: number;
  totalTokens: number;
  share: number | null;
} & Record<(typeof CLASSES)[number], number | null>;

/** `modelId` null: none was named. `since`: start of the first UTC day with such usage. */
type UnpricedModel = Unpriced & { modelId: string | null; isOther: boolean; since: string };

type UnpricedAnswer = {
  orgId: string | null;
  window: WindowAnswer;
  /** All requests of the window, those with a cost too. */
  allRequests: number;
  totals: Unpriced;
  /** Most requests first; all further models in one row, so that the columns add up. */
  models: UnpricedModel[];
  /** Width of the buckets in which `since` was looked for. */
  sinceGranularity: "day";
  pricing: Pricing;
  freshness: Freshness;
  reconciliation: Reconciliation;
};

/** An org's usage without a cost on the org's basis, by model. Throws Failure as `getUsage` does. */
export const getUnpriced = (
  database: Database,
  clock: Clock,
  question: UnpricedQuestion & { orgId: string },
): Promise<UnpricedAnswer> => answerUnpriced(database, clock, question);

/** As `getUnpriced`, over all orgs together. */
export const getSystemUnpriced = (
  database: Database,
  clock: Clock,
  question: UnpricedQuestion,
): Promise<UnpricedAnswer> => answerUnpriced(database, clock, { ...question, orgId: EVERY_ORG });

async function answerUnpriced(
  database: Database,
  clock: Clock,
  question: UnpricedQuestion & { orgId: string | typeof EVERY_ORG },
): Promise<UnpricedAnswer> {
  const scope = question.orgId === EVERY_ORG ? "system" : "org";
  const plan = planOf({ ...question, groupBy: "model" }, scope, "path");
  return await withReading({ database, clock }, { ...question, plan }, async (reading) => {
    const all = await sumUnpriced(reading.tx.sql, await askOf(reading, [reading.window]));
    const allRequests = all.reduce((sum, row) => sum + row.allRequests, 0);
    const ranked = all
      .filter(({ requests }) => requests > 0)
      .toSorted((a, b) => b.requests - a.requests || a.memberId - b.memberId);
    return {
      orgId: question.orgId,
      allRequests,
      totals: addUp(ranked, allRequests),
      models: await listModels(reading, ranked, allRequests),
      sinceGranularity: "day",
      ...(await moneyFrameOf(reading)),
    };
  });
}

async function listModels(
  reading: Reading,
  ranked: readonly UnpricedSums[],
  allRequests: number,
): Promise<UnpricedModel[]> {
  const sinceOf = await readSince(reading, ranked);
  const named = ranked
    .filter(({ memberId }) => memberId !== MEMBER_OTHER)
    .slice(0, reading.plan.limit);
  const name = await nameGroups(
    reading,
    named.map(({ memberId }) => memberId),
  );
  const rowOf = (key: number, rows: readonly UnpricedSums[]): UnpricedModel => {
    const { modelId = null, isOther } = name(key);
    return { modelId, isOther, since: sinceOf(rows), ...addUp(rows, allRequests) };
  };
  const rest = ranked.filter((row) => !named.includes(row));
  return [
    ...named.map((row) => rowOf(row.memberId, [row])),
    ...(rest.length === 0 ? [] : [rowOf(MEMBER_OTHER, rest)]),
  ];
}

/** The function gives the first day of some models; each has one, for what is in the window is looked at too. */
async function readSince(
  { tx, org, window, nowMs }: Reading,
  sums: readonly UnpricedSums[],
): Promise<(of: readonly UnpricedSums[]) => string> {
  const startMs = Math.min(window.startMs, nowMs - RANGE_DAYS_MAX * DAY_MS);
  const found = await listUnpricedSince(tx.sql, {
    orgId: org.id,
    costBasis: org.costBasis,
    memberIds: sums.map(({ memberId }) => memberId),
    start: new Date(Math.floor(startMs / DAY_MS) * DAY_MS),
    end: new Date(window.endMs),
  });
  const days = new Map(found.map(({ memberId, day }) => [memberId, day.getTime()]));
  return (of) => {
    const firstMs = Math.min(...of.map(({ memberId }) => days.get(memberId) ?? Infinity));
    return formatInstant(firstMs, "UTC");
  };
}

/** Throws a RangeError beyond exact numbers (2^53). */
function addUp(rows: readonly UnpricedSums[], allRequests: number): Unpriced {
  const sum = (of: (row: UnpricedSums) => number): number =>
    rows.reduce((total, row) => total + of(row), 0);
  const requests = sum((row) => row.requests);
  const totalTokens = sum((row) => row.totalTokens);
  if (!Number.isSafeInteger(totalTokens) || !Number.isSafeInteger(allRequests)) {
    throw new RangeError("usage adds up to more than a number holds exactly");
  }
  const isMixed = rows.some((row) => row.isMixed);
  const classOf = (name: (typeof CLASSES)[number]) => (isMixed ? null : sum((row) => row[name]));
  return {
    requests,
    totalTokens,
    inputTokens: classOf("inputTokens"),
    cacheReadTokens: classOf("cacheReadTokens"),
    cacheWrite5mTokens: classOf("cacheWrite5mTokens"),
    cacheWrite1hTokens: classOf("cacheWrite1hTokens"),
    outputTokens: classOf("outputTokens"),
    reasoningTokens: classOf("reasoningTokens"),
    share: ratioOf(requests, allRequests),
  };
}
