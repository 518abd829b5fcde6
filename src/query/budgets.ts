import {
  addMonths,
  formatNano,
  isMonth,
  Failure,
  MEMBER_KIND,
  monthAt,
  type Span,
  spanOfMonth,
} from "#contract";
import type { Clock } from "#kernel";
import {
  type BudgetCrossing,
  type BudgetRow,
  type Database,
  listBudgetCrossings,
  listBudgets,
  listWordIds,
  listWords,
} from "#store";
import type {
  Amount,
  Freshness,
  Measures,
  Pricing,
  Reconciliation,
  WindowAnswer,
} from "./answers.ts";
import {
  type Burn,
  burnPerDayOf,
  daysLeftOf,
  expectedOf,
  isReached,
  shareSpentOf,
} from "./budget-outlook.ts";
import { costOf, createTally, measuresOf, type Tally, totalOf } from "./measures.ts";
import { planOf } from "./plan.ts";
import { getOrg, type GroupKeys, moneyFrameOf, type Reading, withReading } from "./reading.ts";
import { readTallies } from "./tallies.ts";

/** An org has at most so many budgets. */
export const BUDGETS_MAX = 200;
/** A budget has at most so many thresholds. */
export const BUDGET_THRESHOLDS_MAX = 10;

/** What a budget says. `modelId` null: all of the org's spend. Thresholds in per cent, ascending. */
export type BudgetTerms = {
  budgetId: string;
  name: string | null;
  modelId: string | null;
  amount: Amount;
  thresholds: number[];
  createdAt: string;
  updatedAt: string;
};

/** A threshold and what is known of it: `crossedAt` and the figures of then once it was recorded, whatever changed later. */
export type ThresholdState = {
  percent: number;
  isReached: boolean;
  crossedAt: string | null;
  crossedAtSpent: Amount | null;
};

/** A budget in one month. What looks ahead is null when the month is over, or nothing can be said. */
export type BudgetState = Omit<BudgetTerms, "thresholds"> & {
  spent: Amount;
  otherCosts: Amount[];
  pricedShare: Measures["pricedShare"];
  share: number;
  burnPerDay: Amount | null;
  daysLeft: string | null;
  expected: Amount | null;
  thresholds: ThresholdState[];
};

export type BudgetsAnswer = {
  orgId: string;
  month: string;
  window: WindowAnswer;
  budgets: BudgetState[];
  pricing: Pricing;
  freshness: Freshness;
  reconciliation: Reconciliation;
};

/** A threshold that is reached and that nobody has recorded. */
export type DueCrossing = {
  budgetId: string;
  percent: number;
  spentNano: bigint;
  amountNano: bigint;
};

type BudgetsQuestion = { orgId: string; month?: string | undefined };

/**
 * An org's budgets in a month ("2026-11") of its own calendar, the current one when left out: what is spent, exactly as
 * the rollups have it, and where that leads. Throws Failure as `getUsage` does.
 */
export const getBudgets = (
  database: Database,
  clock: Clock,
  question: BudgetsQuestion,
): Promise<BudgetsAnswer> =>
  withMonth({ database, clock }, question, async (month) => {
    const { reading, name } = month;
    const budgets = month.budgets.map((budget) => stateOf(budget, month));
    return { orgId: question.orgId, month: name, budgets, ...(await moneyFrameOf(reading)) };
  });

/** Thresholds of an org's budgets that a month's spend has reached and that are not recorded yet. Throws as `getBudgets`. */
export const listDueCrossings = (
  database: Database,
  clock: Clock,
  question: BudgetsQuestion,
): Promise<DueCrossing[]> =>
  withMonth({ database, clock }, question, async ({ reading, budgets, crossings }) =>
    budgets.flatMap(({ row, spent }) => {
      const amountNano = BigInt(row.amountNano);
      const spentNano = costOf(spent, reading.org.currency);
      return row.thresholds
        .filter((percent) => isReached({ amountNano, spentNano }, percent))
        .filter((percent) => findCrossing(crossings, row, percent) === undefined)
        .map((percent) => ({ budgetId: row.budgetId, percent, spentNano, amountNano }));
    }),
  );

/** A budget as it was read; `burn` is null when no rate can be told. */
type BudgetReading = { row: BudgetRow; spent: Tally; burn: Burn | null };
type MonthReading = {
  reading: Reading;
  name: string;
  budgets: BudgetReading[];
  crossings: readonly BudgetCrossing[];
  /** How much of the month is still to come, ms; null: it is over. */
  restMs: number | null;
};

async function withMonth<T>(
  deps: { database: Database; clock: Clock },
  question: BudgetsQuestion,
  work: (month: MonthReading) => Promise<T>,
): Promise<T> {
  const { timeZone } = await getOrg(deps.database, question.orgId);
  const name = question.month ?? monthAt(timeZone, deps.clock.now());
  if (!isMonth(name)) throw noMonth();
  const ask = {
    orgId: question.orgId,
    timeZone,
    start: `${name}-01`,
    end: `${addMonths(name, 1)}-01`,
    granularity: "month",
    plan: planOf({ groupBy: "model" }, "org"),
  } as const;
  return await withReading(deps, ask, async (reading) => {
    const place = { orgId: reading.org.id, month: name };
    const rows = await listBudgets(reading.tx.sql, {
      ...place,
      budgetId: null,
      limit: BUDGETS_MAX,
    });
    const limit = BUDGETS_MAX * BUDGET_THRESHOLDS_MAX * 2;
    const crossings = await listBudgetCrossings(reading.tx.sql, { ...place, limit });
    const restMs = restOf(reading, spanOfMonth(timeZone, name));
    const budgets = rows.length === 0 ? [] : await readBudgets(reading, rows, restMs !== null);
    return await work({ reading, name, budgets, crossings, restMs });
  });
}

function noMonth(): Failure {
  const message = "must be a month, such as 2026-11";
  return new Failure("invalid_request", `month: ${message}`, {
    details: [{ pointer: "/query/month", code: "invalid_month", message }],
  });
}

/** Until when spend is counted. */
const countedUntil = (reading: Reading): number =>
  Math.min(reading.nowMs, reading.completeThroughMs ?? 0);

/** From what is counted to the month's end; null when the month is over. */
function restOf(reading: Reading, month: Span): number | null {
  if (reading.nowMs >= month.endMs) return null;
  return month.endMs - Math.max(month.startMs, countedUntil(reading));
}

async function readBudgets(
  reading: Reading,
  rows: readonly BudgetRow[],
  isRunning: boolean,
): Promise<BudgetReading[]> {
  const models = await findModels(
    reading,
    rows.flatMap(({ model }) => model ?? []),
  );
  const keys: GroupKeys = { by: "member", shown: [...models.values()], groupOf: (key) => key };
  const spentBy = await readTallies(reading, [reading.window], keys);
  const days = isRunning ? listBurnDays(reading) : [];
  const burnBy =
    days.length === 0 ? new Map<number, Tally[]>() : await readTallies(reading, days, keys);
  const overMs = measuredMs(days, burnBy);
  return rows.map((row) => {
    const of = (byKey: ReadonlyMap<number, readonly Tally[]>): Tally =>
      totalOf(
        row.model === null ? [...byKey.values()].flat() : findTallies(byKey, models.get(row.model)),
      );
    const burn = overMs === 0 ? null : { nano: costOf(of(burnBy), reading.org.currency), overMs };
    return { row, spent: of(spentBy), burn };
  });
}

const findTallies = (
  byKey: ReadonlyMap<number, readonly Tally[]>,
  key: number | undefined,
): readonly Tally[] => (key === undefined ? [] : (byKey.get(key) ?? [createTally()]));

/** Keys of models by their names; one that was never used has none. */
async function findModels(
  { tx, org }: Reading,
  values: readonly string[],
): Promise<Map<string, number>> {
  if (values.length === 0) return new Map();
  const ids = await listWordIds(tx.sql, { orgId: org.id, kind: MEMBER_KIND.model, values });
  const words = await listWords(
    tx.sql,
    ids.map(({ id }) => id),
  );
  return new Map(words.map(({ id, value }) => [value, id]));
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const BURN_DAYS = 7;

/** The last seven times 24 hours that are wholly counted, on whole hours; of those days the first comes first. */
function listBurnDays(reading: Reading): Span[] {
  const endMs = Math.floor(countedUntil(reading) / HOUR_MS) * HOUR_MS;
  if (endMs < (BURN_DAYS + 1) * DAY_MS) return [];
  return Array.from({ length: BURN_DAYS }, (_, i) => ({
    startMs: endMs - (BURN_DAYS - i) * DAY_MS,
    endMs: endMs - (BURN_DAYS - i - 1) * DAY_MS,
  }));
}

/** How long the burn was measured: since the first of the days on which the org used anything. 0: on none. */
function measuredMs(days: readonly Span[], byKey: ReadonlyMap<number, readonly Tally[]>): number {
  const first = days.findIndex((_, day) =>
    [...byKey.values()].some((tallies) => (tallies[day]?.requests ?? 0) > 0),
  );
  return first === -1 ? 0 : (days.length - first) * DAY_MS;
}

const findCrossing = (
  crossings: readonly BudgetCrossing[],
  { budgetId }: BudgetRow,
  percent: number,
): BudgetCrossing | undefined =>
  crossings.find((one) => one.budgetId === budgetId && one.percent === percent);

function stateOf(
  { row, spent, burn }: BudgetReading,
  { reading, crossings, restMs }: MonthReading,
): BudgetState {
  const { currency } = reading.org;
  const amountOf = (nano: bigint): Amount => ({ amount: formatNano(nano), currency });
  const amounts = { amountNano: BigInt(row.amountNano), spentNano: costOf(spent, currency) };
  const { cost, otherCosts, pricedShare } = measuresOf(spent, currency);
  const { thresholds, ...terms } = termsOf(row, currency);
  const ahead = restMs === null || burn === null ? null : { restMs, burn };
  return {
    ...terms,
    spent: cost,
    otherCosts,
    pricedShare,
    share: shareSpentOf(amounts),
    burnPerDay: ahead && amountOf(burnPerDayOf(ahead.burn)),
    daysLeft: ahead && daysLeftOf(amounts, ahead.burn),
    expected: ahead && amountOf(expectedOf(amounts.spentNano, ahead.burn, ahead.restMs)),
    thresholds: thresholds.map((percent) => {
      const crossing = findCrossing(crossings, row, percent);
      return {
        percent,
        isReached: isReached(amounts, percent),
        crossedAt: crossing?.crossedAt.toISOString() ?? null,
        crossedAtSpent: crossing === undefined ? null : amountOf(BigInt(crossing.spentNano)),
      };
    }),
  };
}

/** A stored budget in the words of answers. */
export const termsOf = (row: BudgetRow, currency: string): BudgetTerms => ({
  budgetId: row.budgetId,
  name: row.name,
  modelId: row.model,
  amount: { amount: formatNano(BigInt(row.amountNano)), currency },
  thresholds: row.thresholds,
  createdAt: row.createdAt.toISOString(),
  updatedAt: row.updatedAt.toISOString(),
});
