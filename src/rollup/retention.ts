import { isZone, offsetMsAt } from "#contract";
import { type Logger, type Repeating, startRepeating } from "#kernel";
import {
  countOldBatches,
  countOldQuarantine,
  type Database,
  deleteOldBatches,
  deleteOldQuarantine,
  dropRawDay,
  getDayMonthsAgo,
  getToday,
  holdFolds,
  isRawDayNeeded,
  listOrgZones,
  listPurgeable15mDays,
  listPurgeableDays,
  listRawPartitionDays,
  lockRawDay,
  type OrgZone,
  purge15mDay,
  purgeDay,
  sqlStateOf,
  type Tx,
  tryRetentionLock,
} from "#store";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const HALF_YEAR_MS = 182 * DAY_MS;
/** A key partition is open for up to a day before its window begins. */
const BATCH_DAYS_MORE = 2;
const ROWS_PER_STATEMENT = 10_000;
const LOCK_NOT_AVAILABLE = "55P03";
const FIRST_RUN_AFTER_MS = 60_000;

/** How long things are kept. */
export type RetentionSettings = {
  rawRetentionDays: number;
  rollup15mRetentionDays: number;
  rollupRetentionMonths: number;
  quarantineRetentionDays: number;
  /** How often it runs, ms. */
  intervalMs?: number;
};

export type RetentionDeps = { database: Database; logger: Logger; settings: RetentionSettings };

/** What went, or (dry run) what would go. Days are UTC, YYYY-MM-DD. */
export type RetentionReport = {
  isDryRun: boolean;
  rawDays: string[];
  /** Days whose 15-minute rows went while their hours and days stay. */
  rollup15mDays: string[];
  /** Days of which nothing is left. */
  rollupDays: string[];
  quarantineRows: number;
  batches: number;
};

/** The running retention. A dry run changes nothing; disposing lets the running step finish. */
export type Retention = Repeating<RetentionReport, { isDryRun?: boolean }>;

/** Starts deleting by itself, hourly, what is older than it has to be kept. One process at a time, day by day. */
export function startRetention(deps: RetentionDeps): Retention {
  const { intervalMs = HOUR_MS } = deps.settings;
  return startRepeating({
    work: (signal, ask?: { isDryRun?: boolean }) =>
      applyRetention(deps, { isDryRun: ask?.isDryRun ?? false, signal }),
    intervalMs,
    firstAfterMs: Math.min(FIRST_RUN_AFTER_MS, intervalMs),
    onError: (error) => deps.logger.warn({ err: error }, "Retention is tried again later"),
  });
}

type Run = { isDryRun: boolean; signal: AbortSignal };

async function applyRetention(deps: RetentionDeps, run: Run): Promise<RetentionReport> {
  const { database, settings, logger } = deps;
  const report: RetentionReport = {
    isDryRun: run.isDryRun,
    rawDays: await dropRawDays(deps, run),
    rollup15mDays: await purge15mDays(deps, run),
    rollupDays: await purgeDays(deps, run),
    quarantineRows: await deleteInParts(run, {
      count: () => countOldQuarantine(database.sql, settings.quarantineRetentionDays),
      delete: () =>
        deleteOldQuarantine(database.sql, settings.quarantineRetentionDays, ROWS_PER_STATEMENT),
    }),
    // Later than raw, so that a batch outlives its events and their keys.
    batches: await deleteInParts(run, {
      count: () => countOldBatches(database.sql, settings.rawRetentionDays + BATCH_DAYS_MORE),
      delete: () =>
        deleteOldBatches(
          database.sql,
          settings.rawRetentionDays + BATCH_DAYS_MORE,
          ROWS_PER_STATEMENT,
        ),
    }),
  };
  const isAnything =
    report.rawDays.length + report.rollup15mDays.length + report.rollupDays.length > 0;
  if (isAnything || report.quarantineRows + report.batches > 0) {
    logger.info(report, run.isDryRun ? "Retention would delete" : "Retention deleted");
  }
  return report;
}

const isoDay = (day: number): string => new Date(day * DAY_MS).toISOString().slice(0, 10);

/** Days whose work was done. Each is a transaction of its own; one that others hold locks on is left for the next run. */
async function forEachDay(
  deps: RetentionDeps,
  { days, run }: { days: readonly number[]; run: Run },
  work: (tx: Tx, day: number) => Promise<boolean>,
): Promise<string[]> {
  const done: string[] = [];
  for (const day of days) {
    if (run.signal.aborted) break;
    try {
      const isDone = await deps.database.transaction(
        async (tx) => (await tryRetentionLock(tx)) && (await work(tx, day)),
      );
      if (isDone) done.push(isoDay(day));
    } catch (error) {
      if (sqlStateOf(error) !== LOCK_NOT_AVAILABLE) throw error;
      deps.logger.info({ day: isoDay(day) }, "Retention leaves a day in use for the next run");
    }
  }
  return done;
}

async function dropRawDays(deps: RetentionDeps, run: Run): Promise<string[]> {
  const { database, settings } = deps;
  const oldest = (await getToday(database.sql)) - settings.rawRetentionDays;
  const days = (await listRawPartitionDays(database)).filter((day) => day < oldest);
  return await forEachDay(deps, { days, run }, async (tx, day) => {
    if (!run.isDryRun) await lockRawDay(tx, day);
    if (await isRawDayNeeded(tx, day, settings.rawRetentionDays)) return false;
    if (!run.isDryRun) await dropRawDay(tx, day);
    return true;
  });
}

async function purge15mDays(deps: RetentionDeps, run: Run): Promise<string[]> {
  const { database, settings } = deps;
  const quietDays = settings.rollup15mRetentionDays;
  const beforeDay = (await getToday(database.sql)) - quietDays;
  const zones = await listOrgZones(database.sql);
  const wanted = { orgIds: onTheHour(zones, beforeDay), beforeDay, quietDays };
  const days = (await listPurgeable15mDays(database.sql, wanted)).map(({ day }) => day);
  return await forEachDay(deps, { days, run }, async (tx, day) => {
    if (run.isDryRun) return true;
    await holdFolds(tx);
    await purge15mDay(tx, day, onTheHour(zones, day));
    return true;
  });
}

/**
 * Orgs whose days can be cut from hours. The others keep their 15-minute rows as long as the hours, or their local days
 * and months would no longer be exact.
 */
const onTheHour = (zones: readonly OrgZone[], day: number): number[] =>
  zones
    .filter(
      ({ timeZone }) =>
        isZone(timeZone) &&
        [day * DAY_MS, day * DAY_MS + HALF_YEAR_MS].every(
          (instant) => offsetMsAt(timeZone, instant) % HOUR_MS === 0,
        ),
    )
    .map(({ id }) => id);

async function purgeDays(deps: RetentionDeps, run: Run): Promise<string[]> {
  const { database, settings } = deps;
  const quietMonths = settings.rollupRetentionMonths;
  const beforeDay = await getDayMonthsAgo(database.sql, quietMonths);
  const days = (await listPurgeableDays(database.sql, { beforeDay, quietMonths })).map(
    ({ day }) => day,
  );
  return await forEachDay(deps, { days, run }, async (tx, day) => {
    if (run.isDryRun) return true;
    await holdFolds(tx);
    await purgeDay(tx, day);
    return true;
  });
}

async function deleteInParts(
  run: Run,
  rows: { count: () => Promise<number>; delete: () => Promise<number> },
): Promise<number> {
  if (run.isDryRun) return await rows.count();
  let total = 0;
  for (;;) {
    const deleted = await rows.delete();
    total += deleted;
    if (deleted === 0 || run.signal.aborted) return total;
  }
}
