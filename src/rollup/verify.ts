import {
  ALL_ORGS,
  CONSUMERS,
  type Dimension,
  DIMENSIONS,
  type Grain,
  GRAINS,
  rollupTable,
} from "#contract";
import type { Clock } from "#kernel";
import {
  clearParts,
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
  readSketchesToCompare,
  readSnapshot,
  ROLLUP_MEASURES,
  type RowDifference,
  type Span,
  sumErrorParts,
  sumRawParts,
  sumSystemParts,
  takeRollupParts,
  type Tx,
} from "#store";
import { FIRST_OF_BIN, isSketchOf, takeSketchParts } from "./verify-sketches.ts";
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
  /** What was compared: "ledger", "ledger_batches", "keys", "key_count", "rollup_model_hour", "rollup_error_15m", …. */
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

/** What a verification found. */
export type VerifyReport = {
  isMatch: boolean;
  /** The whole UTC days that were checked, RFC 3339; null when there is nothing yet. */
  from: string | null;
  to: string | null;
  checkedAt: string;
  daysChecked: number;
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
 * rollups. Reads only; takes a scan of raw per dimension.
 */
export async function verify(
  deps: VerifyDeps,
  range: VerifyRange = {},
  onProgress: (progress: VerifyProgress) => void = () => undefined,
): Promise<VerifyReport> {
  const checkedAt = new Date(deps.clock.now()).toISOString();
  return await readSnapshot(deps.database, async (tx) => {
    const days = (await listDaysToVerify(tx.sql)).filter((day) => isInRange(day, range));
    const found = new Findings();
    const [first, last] = [days[0], days.at(-1)];
    if (first && last) {
      const span = { fromSeconds: first.daySeconds, toSeconds: last.daySeconds + DAY_SECONDS };
      await verifyKeys(tx, found, {
        span,
        isWhole: range.fromMs === undefined && range.toMs === undefined,
      });
      found.addFigures(
        "ledger_batches",
        await listBatchLedgerDifferences(tx, days, await getBatchHorizonSeconds(tx.sql)),
      );
    }
    for (const [i, day] of days.entries()) {
      onProgress({ daysDone: i, days: days.length });
      await verifyDay(tx, found, day);
    }
    onProgress({ daysDone: days.length, days: days.length });
    return {
      isMatch: found.total === 0,
      from: first ? isoOf(first.daySeconds) : null,
      to: last ? isoOf(last.daySeconds + DAY_SECONDS) : null,
      checkedAt,
      daysChecked: days.length,
      differences: await found.inWords(tx),
      differenceCount: found.total,
    };
  });
}

const isoOf = (seconds: number): string =>
  new Date(seconds * 1000).toISOString().replace(".000Z", "Z");

const isInRange = ({ daySeconds }: DayToVerify, { fromMs, toMs }: VerifyRange): boolean =>
  (fromMs === undefined || (daySeconds + DAY_SECONDS) * 1000 > fromMs) &&
  (toMs === undefined || daySeconds * 1000 < toMs);

async function verifyKeys(
  tx: Tx,
  found: Findings,
  range: { span: Span; isWhole: boolean },
): Promise<void> {
  const partitions = (await listKeyPartitionNumbers(tx.sql)).map(({ no }) => no);
  found.addFigures(
    "keys",
    await listMissingKeys(tx, { partitions, rowsMax: LISTED_PER_CHECK }, range.span),
  );
  // Keys carry no time, so they can only be counted over all of it.
  if (range.isWhole) found.addFigures("key_count", await listKeyCountDifferences(tx, partitions));
}

async function verifyDay(tx: Tx, found: Findings, day: DayToVerify): Promise<void> {
  const span = { fromSeconds: day.daySeconds, toSeconds: day.daySeconds + DAY_SECONDS };
  await clearParts(tx);
  if (!day.isRawGone)
    found.addFigures("ledger", await listLedgerDifferences(tx, LISTED_PER_CHECK, span));
  await sumErrorParts(tx, day.isRawGone, span);
  for (const dimension of ["model", "client", "actor"] as const) {
    if (day.isRawGone) {
      await takeRollupParts(tx, dimension, span);
      await takeSketchParts(tx, dimension, span);
    } else {
      const consumer = CONSUMERS.usage.some((name) => name === dimension) ? "usage" : "people";
      await sumRawParts(tx, { dimension, consumer, binStarts: FIRST_OF_BIN }, span);
    }
  }
  await sumSystemParts(tx);
  found.addFigures("rollup_error_15m", await listErrorDifferences(tx, LISTED_PER_CHECK, span));
  for (const dimension of DIMENSIONS)
    for (const grain of GRAINS) await verifyTable(tx, found, { dimension, grain, span });
}

async function verifyTable(
  tx: Tx,
  found: Findings,
  { dimension, grain, span }: { dimension: Dimension; grain: Grain; span: Span },
): Promise<void> {
  const check = rollupTable(dimension, grain);
  const rows = await listRowDifferences(tx, { dimension, grain, rowsMax: LISTED_PER_CHECK }, span);
  found.addRows(check, rows);
  const wrong: FigureDifference[] = [];
  let total = 0;
  for await (const page of readSketchesToCompare(tx, { dimension, grain }, span)) {
    for (const row of page) {
      if (isSketchOf(row)) continue;
      total++;
      if (wrong.length >= LISTED_PER_CHECK) continue;
      const expected = `${row.bins?.length ?? 0} bins as in raw`;
      const figure = `latency sketch (member ${row.memberId})`;
      wrong.push({
        orgId: row.orgId,
        sourceId: null,
        hourSeconds: row.bucketSeconds,
        figure,
        expected,
        found: "other bins",
        total: 0,
      });
    }
  }
  found.addFigures(
    check,
    wrong.map((difference) => ({ ...difference, total })),
  );
}

/** Collects differences: the first ones in full, all of them in number. */
class Findings {
  total = 0;
  readonly #listed: { check: string; difference: FigureDifference }[] = [];

  /** Every difference carries how many there are of its kind. */
  addFigures(check: string, differences: readonly FigureDifference[]): void {
    this.total += differences[0]?.total ?? 0;
    for (const difference of differences) {
      if (this.#listed.length < LISTED_MAX) this.#listed.push({ check, difference });
    }
  }

  addRows(check: string, rows: readonly RowDifference[]): void {
    this.addFigures(check, rows.map(figureOf));
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

/** The first measure in which a rollup row is wrong. */
function figureOf(row: RowDifference): FigureDifference {
  const at = ROLLUP_MEASURES.findIndex((_, i) => row.expected?.[i] !== row.found?.[i]);
  const whose = row.orgId === ALL_ORGS ? "all orgs, " : "";
  return {
    orgId: row.orgId,
    sourceId: null,
    hourSeconds: row.bucketSeconds,
    figure: `${ROLLUP_MEASURES[at] ?? "row"} (${whose}member ${row.memberId}, outcome ${row.outcome})`,
    expected: row.expected?.[at] ?? "no row",
    found: row.found?.[at] ?? "no row",
    total: row.total,
  };
}
