import { setImmediate as yieldToOthers } from "node:timers/promises";
import {
  ALL_ORGS,
  CONSUMERS,
  type Consumer,
  type Dimension,
  type Grain,
  GRAIN_SECONDS,
  GRAINS,
  MEMBER_NONE,
  rollupTable,
} from "#contract";
import {
  addErrorDeltas,
  addLedgerEntries,
  addRollupDeltas,
  copyRollupDeltas,
  deleteEmptiedRows,
  type ErrorDelta,
  type FreshnessDelta,
  listStoredSketches,
  raiseFreshness,
  raiseSourceFreshness,
  type RollupKey,
  RollupRows,
  type Tx,
} from "#store";
import { Cells, type Coarser, LAST_INGESTED, LAST_OCCURRED, QUARTER_SECONDS } from "./cells.ts";
import type { FoldInput } from "./read-fold.ts";
import type { FoldSums } from "./raw-reader.ts";
import type { SketchCache, SketchRow } from "./sketch-cache.ts";
import type { SystemMembers } from "./system-members.ts";

/** Cells handled between two looks at the event loop. */
const CELLS_PER_TURN = 256;
/** Rows sent by one statement of arrays. */
const ROWS_PER_STATEMENT = 20_000;
const NO_SKETCH = Buffer.alloc(0);
const same = (id: number): number => id;

/** What the writing of rollup rows needs beside the sums. */
export type RollupWriter = {
  tx: Tx;
  consumer: Consumer;
  cache: SketchCache;
  members: SystemMembers;
  /** Sketches of buckets before this instant (s) are not remembered: retention may delete their rows. */
  rememberFromSeconds: number;
  /** Orgs and days (`<org id>/<start in s>`) whose 15-minute rows retention has deleted: they get no new ones. */
  purged15m: ReadonlySet<string>;
};

/** What the writing of a fold needs beside its input: its time too, µs since the Unix epoch. */
export type FoldWriter = RollupWriter & { foldedAtUs: number };

/** Sketches as they stand after the fold; for the cache, once the transaction is committed. */
export type WrittenSketches = (readonly [row: SketchRow, sketch: Buffer])[];

/** Writes everything a fold adds, in one order of tables and keys, inside the caller's fenced transaction. */
export async function writeFold(writer: FoldWriter, input: FoldInput): Promise<WrittenSketches> {
  if (writer.consumer === "usage") await writeFacts(writer, input);
  return await writeRollups(writer, input.sums);
}

/**
 * Writes what the sums of a fold or of a move add to the consumer's rollup rows, and nothing else, inside a transaction
 * that keeps folds out. A row that a move leaves with nothing is deleted. Throws a RangeError when a row has less than a
 * move takes from it.
 */
export async function writeRollups(writer: RollupWriter, sums: FoldSums): Promise<WrittenSketches> {
  const written: WrittenSketches = [];
  const { isMove } = sums;
  let table = 0;
  for (const dimension of CONSUMERS[writer.consumer]) {
    let cells = await baseCells(writer, dimension, sums);
    for (const grain of GRAINS) {
      if (grain !== "15m") {
        const quarters = GRAIN_SECONDS[grain] / QUARTER_SECONDS;
        cells = await addTogether(new Cells(), cells, { quarters, orgId: same, memberId: same });
      }
      await writeTable(writer, { dimension, grain, table: table++, cells, isMove }, written);
    }
  }
  return written;
}

/** The members whose ids for all orgs a fold needs. */
export function membersOf(sums: FoldSums): Set<number> {
  const ids = new Set<number>();
  for (let cell = 0; cell < sums.first.size; cell++) ids.add(sums.first.keyOf(cell).memberId);
  for (let place = 0; place < sums.errors.size; place++) ids.add(sums.errors.word(place, 4));
  return ids;
}

/** Starts (s) of the UTC days a fold touches. */
export function daysOf(sums: FoldSums): number[] {
  const days = new Set<number>();
  for (let cell = 0; cell < sums.first.size; cell++) days.add(dayOf(sums.first.keyOf(cell)));
  return [...days];
}

const dayOf = ({ bucketSeconds }: RollupKey): number =>
  Math.floor(bucketSeconds / GRAIN_SECONDS.day) * GRAIN_SECONDS.day;

/** Fifteen-minute cells of a dimension; for org and model with those of all orgs together beside them. */
async function baseCells(
  writer: RollupWriter,
  dimension: Dimension,
  sums: FoldSums,
): Promise<Cells> {
  const { members } = writer;
  switch (dimension) {
    case "org": {
      const own = await addTogether(new Cells(), sums.first, {
        quarters: 1,
        orgId: same,
        memberId: () => MEMBER_NONE,
      });
      return await addTogether(own, own, { quarters: 1, orgId: () => ALL_ORGS, memberId: same });
    }
    case "model":
      return await addTogether(sums.first, sums.first, {
        quarters: 1,
        orgId: () => ALL_ORGS,
        memberId: (id) => members.idOf(id),
      });
    case "client":
      return sums.first;
    case "actor":
      return sums.second;
    case "tag":
      return sums.tags;
  }
}

/** Adds the cells that `finer` has now to `into`, which may be the same table. Yields to the event loop. */
async function addTogether(into: Cells, finer: Cells, coarser: Coarser): Promise<Cells> {
  const size = finer.size;
  for (let from = 0; from < size; from += CELLS_PER_TURN) {
    into.addFrom(finer, coarser, from, Math.min(size, from + CELLS_PER_TURN));
    if (from > 0) await yieldToOthers();
  }
  return into;
}

/** A rollup table, its number among the consumer's, and what is added to it. */
type Target = { dimension: Dimension; grain: Grain; table: number; cells: Cells; isMove: boolean };

async function writeTable(
  writer: RollupWriter,
  target: Target,
  written: WrittenSketches,
): Promise<void> {
  const { cells, isMove } = target;
  if (cells.size === 0) return;
  const current = await findCurrentSketches(writer, target);
  const rows = new RollupRows(cells.size * 260);
  for (let cell = 0; cell < cells.size; cell++) {
    const key = cells.keyOf(cell);
    if (isPurged(writer, target, key) || (isMove && cells.isNothing(cell))) continue;
    const delta = cells.sketchOf(cell);
    let sketch: Buffer = NO_SKETCH;
    if (delta) {
      sketch = delta.encodeWith(current[cell] ?? NO_SKETCH);
      if (key.bucketSeconds >= writer.rememberFromSeconds)
        written.push([cells.rowOf(cell, target.table), sketch]);
    }
    rows.add(key, cells.deltaOf(cell), sketch);
    if (cell % CELLS_PER_TURN === CELLS_PER_TURN - 1) await yieldToOthers();
  }
  await copyRollupDeltas(writer.tx, target, rows);
  await addRollupDeltas(writer.tx, target);
  if (isMove && !(await deleteEmptiedRows(writer.tx, target)))
    throw new RangeError(
      `${rollupTable(target.dimension, target.grain)} has less than is taken from it`,
    );
}

const isPurged = (writer: RollupWriter, target: Target, key: RollupKey): boolean =>
  writer.purged15m.size > 0 &&
  target.grain === "15m" &&
  writer.purged15m.has(`${key.orgId}/${dayOf(key)}`);

/** Sketches of the rows that get latencies, by cell: from the cache, the rest from the table. */
async function findCurrentSketches(
  writer: RollupWriter,
  target: Target,
): Promise<(Buffer | undefined)[]> {
  const { cells } = target;
  const current: (Buffer | undefined)[] = [];
  const missing: number[] = [];
  for (let cell = 0; cell < cells.size; cell++) {
    if (cells.sketchOf(cell) === undefined) continue;
    const isRemembered = cells.keyOf(cell).bucketSeconds >= writer.rememberFromSeconds;
    const known = isRemembered ? writer.cache.get(cells.rowOf(cell, target.table)) : undefined;
    if (known) current[cell] = known;
    else missing.push(cell);
  }
  for (let from = 0; from < missing.length; from += ROWS_PER_STATEMENT) {
    const asked = missing.slice(from, from + ROWS_PER_STATEMENT);
    const found = await listStoredSketches(
      writer.tx.sql,
      target,
      asked.map((cell) => cells.keyOf(cell)),
    );
    for (const { index, sketch } of found) current[asked[index] ?? -1] = sketch;
  }
  return current;
}

/** What only the usage consumer keeps: ledger, error codes, freshness. */
async function writeFacts(writer: FoldWriter, { sums, ledger }: FoldInput): Promise<void> {
  const { sql } = writer.tx;
  for (const part of partsOf(ledger)) await addLedgerEntries(sql, part, writer.foldedAtUs);
  for (const part of partsOf(errorDeltasOf(sums, writer.members))) await addErrorDeltas(sql, part);
  for (const part of partsOf(freshnessOf(sums.first)))
    await raiseFreshness(sql, part, writer.foldedAtUs);
  const sources = [...sums.sources].map(([sourceId, newest]) => ({
    sourceId,
    lastOccurredAtUs: newest.occurredAtUs,
    lastIngestedAtUs: newest.ingestedAtUs,
  }));
  for (const part of partsOf(sources)) await raiseSourceFreshness(sql, part, writer.foldedAtUs);
}

function* partsOf<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let from = 0; from < items.length; from += ROWS_PER_STATEMENT)
    yield items.slice(from, from + ROWS_PER_STATEMENT);
}

/** Own rows, and those of all orgs together. */
function errorDeltasOf(sums: FoldSums, members: SystemMembers): ErrorDelta[] {
  const own: ErrorDelta[] = [];
  const all = new Map<string, ErrorDelta>();
  for (let place = 0; place < sums.errors.size; place++) {
    const delta = {
      orgId: sums.errors.word(place, 0),
      modelId: sums.errors.word(place, 1),
      bucketSeconds: sums.errors.word(place, 2) * QUARTER_SECONDS,
      outcome: sums.errors.word(place, 3),
      errorCodeId: sums.errors.word(place, 4),
      requests: sums.errorRequests[place] ?? 0,
    };
    own.push(delta);
    const modelId = members.idOf(delta.modelId);
    const errorCodeId = members.idOf(delta.errorCodeId);
    const key = `${modelId}/${delta.bucketSeconds}/${delta.outcome}/${errorCodeId}`;
    const sum = all.get(key);
    if (sum) sum.requests += delta.requests;
    else all.set(key, { ...delta, orgId: ALL_ORGS, modelId, errorCodeId });
  }
  return [...own, ...all.values()];
}

/** Newest event per org and model. */
function freshnessOf(cells: Cells): FreshnessDelta[] {
  const newest = new Map<string, FreshnessDelta>();
  for (let cell = 0; cell < cells.size; cell++) {
    const { orgId, memberId: modelId } = cells.keyOf(cell);
    const lastOccurredAtUs = cells.valueOf(cell, LAST_OCCURRED);
    const lastIngestedAtUs = cells.valueOf(cell, LAST_INGESTED);
    const key = `${orgId}/${modelId}`;
    const known = newest.get(key);
    if (known) {
      known.lastOccurredAtUs = Math.max(known.lastOccurredAtUs, lastOccurredAtUs);
      known.lastIngestedAtUs = Math.max(known.lastIngestedAtUs, lastIngestedAtUs);
    } else newest.set(key, { orgId, modelId, lastOccurredAtUs, lastIngestedAtUs });
  }
  return [...newest.values()];
}
