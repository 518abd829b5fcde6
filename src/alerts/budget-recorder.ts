import { addMonths, Failure, monthAt } from "#contract";
import { type Clock, type Logger, type Repeating, startRepeating } from "#kernel";
import { listDueCrossings } from "#query";
import { type Database, insertBudgetCrossings, isConnectionLost, listBudgetOrgs } from "#store";

export type BudgetRecorderDeps = {
  database: Database;
  clock: Clock;
  logger: Logger;
  settings: {
    /** Usage may come this late, in days: so far back months are looked at. */
    rawRetentionDays: number;
  };
  /** How often, ms; every minute by itself. */
  intervalMs?: number;
};

/** The running recorder. A turn tells how many crossings it recorded; disposing lets it finish with the org it is at. */
export type BudgetRecorder = Repeating<number>;

const INTERVAL_MS = 60_000;
const ORGS_AT_ONCE = 500;
const DAY_MS = 86_400_000;

/**
 * Records each threshold of each budget once a month, when spend has reached it; a former month's when late usage brings
 * it there. Any number of processes may do so at once: one of them records it.
 */
export function startBudgetRecorder(deps: BudgetRecorderDeps): BudgetRecorder {
  return startRepeating({
    work: (signal) => recordAll(deps, signal),
    intervalMs: deps.intervalMs ?? INTERVAL_MS,
    onError: (error) => deps.logger.warn({ err: error }, "Budgets are looked at later"),
  });
}

type BudgetOrg = Awaited<ReturnType<typeof listBudgetOrgs>>[number];

async function recordAll(deps: BudgetRecorderDeps, signal: AbortSignal): Promise<number> {
  let count = 0;
  for (let after = 0; ;) {
    const page = { after, limit: ORGS_AT_ONCE };
    const orgs = await deps.database.withSystem(({ sql }) => listBudgetOrgs(sql, page));
    for (const org of orgs) {
      if (signal.aborted) return count;
      for (const month of listOpenMonths(org, deps)) count += await recordMonth(deps, org, month);
    }
    const last = orgs.at(-1);
    if (last === undefined) return count;
    after = last.id;
  }
}

/** Months that usage may still come for, the current one last. */
function listOpenMonths(
  { timeZone }: BudgetOrg,
  { clock, settings }: BudgetRecorderDeps,
): string[] {
  const nowMs = clock.now();
  const current = monthAt(timeZone, nowMs);
  const months: string[] = [];
  let month = monthAt(timeZone, nowMs - settings.rawRetentionDays * DAY_MS);
  for (; month <= current; month = addMonths(month, 1)) months.push(month);
  return months;
}

async function recordMonth(
  { database, clock, logger }: BudgetRecorderDeps,
  org: BudgetOrg,
  month: string,
): Promise<number> {
  const about = { orgId: org.externalId, month };
  try {
    const crossings = await listDueCrossings(database, clock, about);
    if (crossings.length === 0) return 0;
    const found = { orgId: org.id, month, at: new Date(clock.now()), crossings };
    const recorded = await database.change(org.id, ({ sql }) => insertBudgetCrossings(sql, found));
    for (const crossing of recorded) {
      logger.info({ ...about, ...crossing }, "A budget's threshold was crossed");
    }
    return recorded.length;
  } catch (error) {
    if (isConnectionLost(error)) throw error;
    // An org that was deleted meanwhile, or a month whose quarters of an hour are no longer kept: no figure, no crossing.
    // What else may go wrong with one org keeps no other waiting.
    const level = error instanceof Failure ? "debug" : "warn";
    logger[level]({ ...about, err: error }, "A month's budgets cannot be looked at");
    return 0;
  }
}
