import {
  CONSUMERS,
  type Consumer,
  type Dimension,
  type Grain,
  GRAINS,
  rollupTable,
} from "#contract";
import { type Sql, table, type Tx } from "./database.ts";
import { CopyBuffer } from "./events.ts";
import { selectRows } from "./rows.ts";

/**
 * The columns of every rollup table after its key, in the order `RollupRows.add` takes them. The two costs are numeric:
 * they are the one measure that honest events can push past 64 bits.
 */
export const ROLLUP_MEASURES = [
  "requests",
  "priced_requests",
  "input_tokens",
  "cache_read_tokens",
  "cache_write_5m_tokens",
  "cache_write_1h_tokens",
  "output_tokens",
  "reasoning_tokens",
  "priced_tokens",
  "cost_nano",
  "latency_count",
  "latency_sum_ms",
  "rated_nano",
] as const;

/**
 * The rating of a raw row, which is part of its rollup rows' key: 0 when the price book prices it not, else the currency
 * of that price, negative when the event has a cost of its own.
 */
export const ratingOf = (row: string): string =>
  `case when ${row}.rated_nano is null then 0
        when ${row}.cost_nano is null then coalesce(${row}.rated_currency, 0)
        else -coalesce(${row}.rated_currency, 0)
    end`;

/** Which row: bucket start in seconds since the Unix epoch. */
export type RollupKey = {
  orgId: number;
  memberId: number;
  bucketSeconds: number;
  outcome: number;
  currency: number;
  /** See `ratingOf`. */
  rating: number;
};

const KEYS = ["org_id", "member_id", "bucket", "outcome", "currency", "rating"];
const KEY_COLUMNS = KEYS.join(", ");
const COLUMNS = `${KEY_COLUMNS}, ${ROLLUP_MEASURES.join(", ")}, latency_sketch`;
/** A delta carries each cost as the sums of the high and of the low 32-bit words, each exact. */
const DELTA_COLUMNS = COLUMNS.replace("cost_nano", "cost_high, cost_low").replace(
  "rated_nano",
  "rated_high, rated_low",
);
const ADDED_COLUMNS = COLUMNS.replace("cost_nano", "cost_high * 4294967296.0 + cost_low").replace(
  "rated_nano",
  "rated_high * 4294967296.0 + rated_low",
);
const COLUMN_COUNT = 6 + ROLLUP_MEASURES.length + 3;
const ROW_BYTES = 2 + 8 + 8 + 12 + 6 + 6 + 6 + (ROLLUP_MEASURES.length + 2) * 12 + 4;
const PG_EPOCH_SECONDS = 946_684_800;
const COST = ROLLUP_MEASURES.indexOf("cost_nano");
const RATED = ROLLUP_MEASURES.indexOf("rated_nano");

/** What a delta adds: the measures but costs, exact below 2^53, and costs as sums of high and low 32-bit words. */
export type RollupDelta = {
  measures: Float64Array;
  at: number;
  costHigh: number;
  costLow: number;
  ratedHigh: number;
  ratedLow: number;
};

/** Deltas for `copyRollupDeltas`, in binary COPY form. */
export class RollupRows extends CopyBuffer {
  /**
   * Adds one row. `delta.measures[delta.at …]` holds the measures in order, the costs' places unused. The sketch is the
   * row's whole new sketch, or empty when the delta has no latencies.
   */
  add(key: RollupKey, delta: RollupDelta, sketch: Uint8Array): void {
    this.reserve(ROW_BYTES + sketch.length);
    const { view } = this;
    let at = this.at;
    view.setInt16(at, COLUMN_COUNT);
    view.setInt32(at + 2, 4);
    view.setInt32(at + 6, key.orgId);
    view.setInt32(at + 10, 4);
    view.setInt32(at + 14, key.memberId);
    view.setInt32(at + 18, 8);
    this.int64(at + 22, (key.bucketSeconds - PG_EPOCH_SECONDS) * 1_000_000);
    view.setInt32(at + 30, 2);
    view.setInt16(at + 34, key.outcome);
    view.setInt32(at + 36, 2);
    view.setInt16(at + 40, key.currency);
    view.setInt32(at + 42, 2);
    view.setInt16(at + 46, key.rating);
    at += 48;
    for (let i = 0; i < ROLLUP_MEASURES.length; i++) {
      if (i === COST) {
        at = this.#measure(at, delta.costHigh);
        at = this.#measure(at, delta.costLow);
      } else if (i === RATED) {
        at = this.#measure(at, delta.ratedHigh);
        at = this.#measure(at, delta.ratedLow);
      } else at = this.#measure(at, delta.measures[delta.at + i] ?? 0);
    }
    view.setInt32(at, sketch.length);
    this.bytes.set(sketch, at + 4);
    this.at = at + 4 + sketch.length;
    this.rows++;
  }

  #measure(at: number, value: number): number {
    this.view.setInt32(at, 8);
    this.int64(at + 4, value);
    return at + 12;
  }
}

const deltaTable = (dimension: Dimension, grain: Grain): string => `fold_${dimension}_${grain}`;

/**
 * Prepares a session for folding: one temporary table of deltas per rollup table, emptied by each commit, and plans
 * that do not depend on statistics taken while a table was small. Once per session.
 */
export async function prepareFoldSession(tx: Tx, consumer: Consumer): Promise<void> {
  const tables = CONSUMERS[consumer].flatMap((dimension) =>
    GRAINS.map((grain) => {
      const name = deltaTable(dimension, grain);
      return (
        `create temp table ${name} (like ${rollupTable(dimension, grain)}) on commit delete rows; ` +
        `alter table ${name} drop column cost_nano, drop column rated_nano, ` +
        ["cost_high", "cost_low", "rated_high", "rated_low"]
          .map((column) => `add column ${column} int8 not null`)
          .join(", ")
      );
    }),
  );
  await tx.exec(
    [
      ...tables,
      "set jit = off",
      "set enable_seqscan = off",
      "set enable_hashjoin = off",
      "set enable_mergejoin = off",
    ].join("; "),
  );
}

/** Sends deltas to the session's temporary table of one rollup table; returns how many arrived. */
export const copyRollupDeltas = (
  tx: Tx,
  target: { dimension: Dimension; grain: Grain },
  rows: RollupRows,
): Promise<number> =>
  tx.copyIn(
    `copy ${deltaTable(target.dimension, target.grain)} (${DELTA_COLUMNS}) from stdin (format binary)`,
    rows.finish(),
  );

/**
 * Adds the session's deltas of one rollup table to it, in key order; sketches are replaced where the delta brings one,
 * or (then it is empty) takes latencies away. Not repeatable: the fold's fence and watermark make it happen once.
 */
export const addRollupDeltas = (
  tx: Tx,
  target: { dimension: Dimension; grain: Grain },
): Promise<unknown> =>
  tx.exec(`
  insert into ${rollupTable(target.dimension, target.grain)} as r (${COLUMNS})
  select ${ADDED_COLUMNS}
    from ${deltaTable(target.dimension, target.grain)}
   order by org_id, bucket, member_id, outcome, currency, rating
      on conflict (org_id, bucket, member_id, outcome, currency, rating) do update
     set ${ROLLUP_MEASURES.map((name) => `${name} = r.${name} + excluded.${name}`).join(",\n         ")},
         latency_sketch = case when excluded.latency_count = 0 and excluded.latency_sketch = '' then r.latency_sketch
                               else excluded.latency_sketch
                           end`);

/** Measures that no honest row has below 0: costs may be, by credits. */
const COUNTS = ROLLUP_MEASURES.filter((name) => !name.endsWith("_nano"));

/** A row of nobody with an amount alone: what a re-rating of rollups without raw has added, which no person is known for. */
const IS_DIFFERENCE = [
  "r.member_id = 0",
  "r.rated_nano <> 0",
  ...ROLLUP_MEASURES.filter((name) => name !== "rated_nano").map((name) => `r.${name} = 0`),
  "r.latency_sketch = ''",
].join(" and ");
const isPeoples = ({ dimension }: { dimension: Dimension }): boolean =>
  CONSUMERS.people.some((name) => name === dimension);

/**
 * Deletes of one rollup table the rows which the session's deltas have left with nothing. False when one has less than
 * nothing: then the caller rolls back. Index: primary key, one look-up a delta that takes requests away. Not repeatable
 * alone: it belongs behind `addRollupDeltas`.
 */
export async function deleteEmptiedRows(
  tx: Tx,
  target: { dimension: Dimension; grain: Grain },
): Promise<boolean> {
  const gone = await selectRows<{ isEmpty: boolean }>(
    tx,
    `
  delete from ${rollupTable(target.dimension, target.grain)} as r
   using ${deltaTable(target.dimension, target.grain)} as d
   where d.requests < 0
     and ${KEYS.map((name) => `r.${name} = d.${name}`).join("\n     and ")}
     and (r.requests = 0${isPeoples(target) ? ` and not (${IS_DIFFERENCE})` : ""} or least(${COUNTS.map((name) => `r.${name}`).join(", ")}) < 0)
  returning ${ROLLUP_MEASURES.map((name) => `r.${name} = 0`).join(" and ")} and r.latency_sketch = '' as "isEmpty"`,
  );
  return gone.every(({ isEmpty }) => isEmpty);
}

/** A stored sketch; `index` is the place of its key in the list asked for. */
export type StoredSketch = { index: number; sketch: Buffer };

/** The sketches of those of the given rows that exist. Index: primary key, one look-up a key. Reads only. */
export const listStoredSketches = (
  sql: Sql,
  target: { dimension: Dimension; grain: Grain },
  keys: readonly RollupKey[],
): Promise<StoredSketch[]> => sql<StoredSketch>`
  select (k.place - 1)::int4 as index, r.latency_sketch as sketch
    from unnest(
           ${keys.map((key) => key.orgId)}::int4[],
           ${keys.map((key) => key.memberId)}::int4[],
           ${keys.map((key) => key.bucketSeconds)}::float8[],
           ${keys.map((key) => key.outcome)}::int2[],
           ${keys.map((key) => key.currency)}::int2[],
           ${keys.map((key) => key.rating)}::int2[])
         with ordinality as k (org_id, member_id, seconds, outcome, currency, rating, place)
    join ${table(rollupTable(target.dimension, target.grain))} r
      on r.org_id = k.org_id
     and r.bucket = to_timestamp(k.seconds)
     and r.member_id = k.member_id
     and r.outcome = k.outcome
     and r.currency = k.currency
     and r.rating = k.rating`;

/** Failed requests of one error code in a 15-minute bucket (its start in seconds). */
export type ErrorDelta = {
  orgId: number;
  modelId: number;
  bucketSeconds: number;
  outcome: number;
  errorCodeId: number;
  requests: number;
};

/**
 * Adds to rollup_error_15m and, per UTC day, to rollup_error_day, each in key order. Keys are distinct. Not repeatable:
 * the fold's fence makes it happen once.
 */
export const addErrorDeltas = (sql: Sql, deltas: readonly ErrorDelta[]): Promise<never[]> => sql`
  with delta as materialized (
    select d.org_id, d.model_id, to_timestamp(d.seconds) as bucket, d.outcome, d.error_code_id, d.requests
      from unnest(
             ${deltas.map((delta) => delta.orgId)}::int4[],
             ${deltas.map((delta) => delta.modelId)}::int4[],
             ${deltas.map((delta) => delta.bucketSeconds)}::float8[],
             ${deltas.map((delta) => delta.outcome)}::int2[],
             ${deltas.map((delta) => delta.errorCodeId)}::int4[],
             ${deltas.map((delta) => delta.requests)}::int8[])
           as d (org_id, model_id, seconds, outcome, error_code_id, requests)
  ), quarters as (
    insert into rollup_error_15m as r (org_id, model_id, bucket, outcome, error_code_id, requests)
    select org_id, model_id, bucket, outcome, error_code_id, requests
      from delta
     order by org_id, bucket, model_id, outcome, error_code_id
        on conflict (org_id, bucket, model_id, outcome, error_code_id) do update
       set requests = r.requests + excluded.requests
  )
  insert into rollup_error_day as r (org_id, model_id, bucket, outcome, error_code_id, requests)
  select org_id, model_id, date_bin('1 day', bucket, timestamptz 'epoch') as day, outcome, error_code_id,
         exact_sum(requests)
    from delta
   group by org_id, day, model_id, outcome, error_code_id
   order by org_id, day, model_id, outcome, error_code_id
      on conflict (org_id, bucket, model_id, outcome, error_code_id) do update
     set requests = r.requests + excluded.requests`;
