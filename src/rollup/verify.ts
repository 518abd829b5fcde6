import {
  ALL_ORGS,
  CONSUMERS,
  DIMENSIONS,
  ERROR_GRAINS,
  errorTable,
  GRAINS,
  rollupTable,
  unpackCurrency,
} from "#contract";
import type { Clock } from "#kernel";
import {
  clearDay,
  createParts,
  type Database,
  type DayToVerify,
  type FigureDifference,
  getBatchHorizonSeconds,
  listDaysToVerify,
  listErrorDifferences,
  listKeyPartitionNumbers,
  listLedgerDifferences,
  listMissingKeys,
  listOrgNames,
  listRowDifferences,
  listSourceNames,
  readSnapshot,
  ROLLUP_MEASURES,
  type RowDifference,
  sumErrorParts,
  sumRawParts,
  sumSystemParts,
  takeRawEvents,
  takeRollupParts,
  type Tx,
} from "#store";
import { describeSketches, FIRST_OF_BIN, takeSketchParts } from "./verify-sketches.ts";
import { listBatchLedgerDifferences, listKeyCountDifferences } from "./verify-ledger.ts";

const DAY_SECONDS = 86_400;
/** Differences of one kind and day that are listed; the others are counted. */
const LISTED_PER_CHECK = 50;
const LISTED_MAX = 500;

export type VerifyDeps = { database: Database; clock: Clock };

/** Instants in milliseconds since the Unix epoch; whole UTC days are checked. Left out: from the first event, to the last. */
export type VerifyRange = { fromMs?: number; toMs?: number };

/** One figure that is not what another says it should be. */
export type Difference = {
  /** What was compared: "ledger", "ledger_batches", "keys", "key_count", "rollup_model_hour", "rollup_error_day", …. */
  check: string;
  /** External id of the org; "*" for all orgs together. */
  org: string;
  /** Start of the hour (of the bucket, for rollups), RFC 3339 in UTC; null where a check has no hours. */
  hour: string | null;
  /** Where the events came from; null where a check does not tell sources apart. */
  source: string | null;
  /** Which figure differs. */
  figure: string;
  expected: string;
  found: string;
};

/** One check, and how many differences it found, listed or not. */
export type CheckResult = { check: string; differences: number };

/** What a verification found. */
export type VerifyReport = {
  isMatch: boolean;
  /** The whole UTC days that were checked, RFC 3339; null when there is nothing yet. */
  from: string | null;
  to: string | null;
  checkedAt: string;
  daysChecked: number;
  /** Every check that was made, by the names that differences carry; what a range cannot tell is not among them. */
  checks: CheckResult[];
  /** The first differences, oldest day first. */
  differences: Difference[];
  /** All of them, listed or not. */
  differenceCount: number;
};

/** How far a verification has come. */
export type VerifyProgress = { daysDone: number; days: number };

/**
 * Compares producer totals, ledger, raw, keys and every rollup (all dimensions and grains, latency bins, error codes)
 * with each other, on one snapshot, as far as the watermarks claim. Days whose raw is gone are compared among the
 * rollups. Reads only: one scan of raw for the keys, one for the rest. Takes two connections, each of which holds a day
 * at a time.
 */
export async function verify(
  deps: VerifyDeps,
  range: VerifyRange = {},
  onProgress: (progress: VerifyProgress) => void = () => undefined,
): Promise<VerifyReport> {
  const checkedAt = new Date(deps.clock.now()).toISOString();
  return await readSnapshot(deps.database, async (tx, readBeside) => {
    const days = (await listDaysToVerify(tx)).filter((day) => isInRange(day, range));
    const found = new Findings();
    const inDays = days.map(() => new Findings());
    const queue = new DayQueue(days, onProgress);
    const verifyDays = async (reader: Tx) => {
      await createParts(reader);
      await queue.work((day, i) => verifyDay(reader, inDays[i] ?? found, day));
    };
    await queue.settle([
      verifyWhole(tx, found, {
        days,
        isAll: range.fromMs === undefined && range.toMs === undefined,
      }).then(() => verifyDays(tx)),
      // Nearly all of the work is PostgreSQL's, and one connection has it use one core.
      ...(days.length > 1 ? [readBeside(verifyDays)] : []),
    ]);
    for (const ofDay of inDays) found.addAll(ofDay);
    const [first, last] = [days[0], days.at(-1)];
    return {
      isMatch: found.total === 0,
      from: first ? isoOf(first.daySeconds) : null,
      to: last ? isoOf(last.daySeconds + DAY_SECONDS) : null,
      checkedAt,
      daysChecked: days.length,
      checks: found.checks(),
      differences: await found.inWords(tx),
      differenceCount: found.total,
    };
  });
}

/** Hands days out, oldest first, to whoever is free; after a failure, none. */
class DayQueue {
  readonly #days: readonly DayToVerify[];
  readonly #onProgress: (progress: VerifyProgress) => void;
  #next = 0;
  #done = 0;

  constructor(days: readonly DayToVerify[], onProgress: (progress: VerifyProgress) => void) {
    this.#days = days;
    this.#onProgress = onProgress;
    onProgress({ daysDone: 0, days: days.length });
  }

  /** Takes one day after another until there is none. */
  async work(verifyOne: (day: DayToVerify, i: number) => Promise<void>): Promise<void> {
    try {
      for (;;) {
        const i = this.#next++;
        const day = this.#days[i];
        if (day === undefined) return;
        await verifyOne(day, i);
        this.#onProgress({ daysDone: ++this.#done, days: this.#days.length });
      }
    } catch (error) {
      // At once: what holds this worker may take its time to fail.
      this.#stop();
      throw error;
    }
  }

  /** Waits for all workers, also when one fails; then throws what it threw. */
  async settle(workers: readonly Promise<void>[]): Promise<void> {
    const results = await Promise.allSettled(
      workers.map((worker) =>
        worker.catch((error: unknown) => {
          this.#stop();
          throw error;
        }),
      ),
    );
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  #stop(): void {
    this.#next = this.#days.length;
  }
}

const isoOf = (seconds: number): string =>
  new Date(seconds * 1000).toISOString().replace(".000Z", "Z");

const isInRange = ({ daySeconds }: DayToVerify, { fromMs, toMs }: VerifyRange): boolean =>
  (fromMs === undefined || (daySeconds + DAY_SECONDS) * 1000 > fromMs) &&
  (toMs === undefined || daySeconds * 1000 < toMs);

/** What is compared over all days at once: keys, and what batches said of themselves. */
async function verifyWhole(
  tx: Tx,
  found: Findings,
  { days, isAll }: { days: readonly DayToVerify[]; isAll: boolean },
): Promise<void> {
  const [first, last] = [days[0], days.at(-1)];
  if (first === undefined || last === undefined) return;
  const span = { fromSeconds: first.daySeconds, toSeconds: last.daySeconds + DAY_SECONDS };
  const partitions = (await listKeyPartitionNumbers(tx.sql)).map(({ no }) => no);
  const target = { partitions, rowsMax: LISTED_PER_CHECK };
  found.addFigures("keys", await listMissingKeys(tx, target, span));
  // Keys carry no time, so they can only be counted over all of it.
  if (isAll) found.addFigures("key_count", await listKeyCountDifferences(tx, partitions));
  const horizon = await getBatchHorizonSeconds(tx.sql);
  found.addFigures("ledger_batches", await listBatchLedgerDifferences(tx, days, horizon));
}

async function verifyDay(tx: Tx, found: Findings, day: DayToVerify): Promise<void> {
  const span = { fromSeconds: day.daySeconds, toSeconds: day.daySeconds + DAY_SECONDS };
  await clearDay(tx);
  if (!day.isRawGone) {
    await takeRawEvents(tx, FIRST_OF_BIN, span);
    found.addFigures("ledger", await listLedgerDifferences(tx, LISTED_PER_CHECK, span));
  }
  await sumErrorParts(tx, day.isRawGone, span);
  for (const dimension of ["model", "client", "actor", "tag"] as const) {
    if (day.isRawGone) {
      await takeRollupParts(tx, dimension, span);
      await takeSketchParts(tx, dimension, span);
    } else {
      const isUsage = CONSUMERS.usage.some((name) => name === dimension);
      await sumRawParts(tx, dimension, isUsage ? "usage" : "people");
    }
  }
  await sumSystemParts(tx);
  for (const grain of ERROR_GRAINS) {
    const target = { grain, rowsMax: LISTED_PER_CHECK };
    found.addFigures(errorTable(grain), await listErrorDifferences(tx, target, span));
  }
  for (const dimension of DIMENSIONS) {
    for (const grain of GRAINS) {
      const target = { dimension, grain, rowsMax: LISTED_PER_CHECK };
      found.addRows(rollupTable(dimension, grain), await listRowDifferences(tx, target, span));
    }
  }
}

/** Collects differences: the first ones in full, all of them in number. */
class Findings {
  total = 0;
  readonly #totals = new Map<string, number>();
  readonly #listed: { check: string; difference: FigureDifference }[] = [];

  /** Every difference carries how many there are of its kind. */
  addFigures(check: string, differences: readonly FigureDifference[]): void {
    this.#count(check, differences[0]?.total ?? 0);
    for (const difference of differences) this.#list({ check, difference });
  }

  addAll(others: Findings): void {
    for (const [check, total] of others.#totals) this.#count(check, total);
    for (const one of others.#listed) this.#list(one);
  }

  #count(check: string, total: number): void {
    this.total += total;
    this.#totals.set(check, (this.#totals.get(check) ?? 0) + total);
  }

  #list(one: { check: string; difference: FigureDifference }): void {
    if (this.#listed.length < LISTED_MAX) this.#listed.push(one);
  }

  addRows(check: string, rows: readonly RowDifference[]): void {
    this.addFigures(check, rows.map(figureOf));
  }

  /** How many each check found, in the order they were first made. */
  checks(): CheckResult[] {
    return [...this.#totals].map(([check, differences]) => ({ check, differences }));
  }

  async inWords(tx: Tx): Promise<Difference[]> {
    const orgIds = [...new Set(this.#listed.map(({ difference }) => difference.orgId))];
    const orgs = new Map((await listOrgNames(tx.sql, orgIds)).map(({ id, name }) => [id, name]));
    const sources = new Map((await listSourceNames(tx.sql)).map(({ id, name }) => [id, name]));
    return this.#listed.map(({ check, difference }) => ({
      check,
      org: orgs.get(difference.orgId) ?? `unknown org ${difference.orgId}`,
      hour: difference.hourSeconds === null ? null : isoOf(difference.hourSeconds),
      source:
        difference.sourceId === null
          ? null
          : (sources.get(difference.sourceId) ?? `unknown source ${difference.sourceId}`),
      figure: difference.figure,
      expected: difference.expected,
      found: difference.found,
    }));
  }
}

/** The first measure in which a rollup row is wrong, its latency sketch last. */
function figureOf(row: RowDifference): FigureDifference {
  const at = ROLLUP_MEASURES.findIndex((_, i) => row.expected?.[i] !== row.found?.[i]);
  const whose = row.orgId === ALL_ORGS ? "all orgs, " : "";
  const rating = row.rating === 0 ? "" : `, rated in ${unpackCurrency(Math.abs(row.rating))}`;
  const [expected, found] =
    at < 0
      ? describeSketches(row.expected?.at(-1) ?? "", row.found?.at(-1) ?? "")
      : [row.expected?.[at] ?? "no row", row.found?.[at] ?? "no row"];
  return {
    orgId: row.orgId,
    sourceId: null,
    hourSeconds: row.bucketSeconds,
    figure: `${ROLLUP_MEASURES[at] ?? "latency sketch"} (${whose}member ${row.memberId}, outcome ${row.outcome}${rating})`,
    expected,
    found,
    total: row.total,
  };
}
