import type { Consumer, Dimension, Grain } from "#contract";
import { rollupTable } from "#contract";
import type { Database, Sql, Tx } from "./database.ts";
import { ROLLUP_MEASURES } from "./rollups.ts";
import { selectRows } from "./rows.ts";

/** A span of time: [from, to) in seconds since the Unix epoch. */
export type Span = { fromSeconds: number; toSeconds: number };

const WIDTHS = { "15m": "15 minutes", hour: "1 hour", day: "1 day" } as const satisfies Record<
  Grain,
  string
>;
const KEY = "org_id, member_id, bucket, outcome, currency";
const SUMS = ROLLUP_MEASURES.map((name) => `sum(${name})::int8 as ${name}`).join(", ");

const instant = (seconds: number): string => `to_timestamp(${Number(seconds)})`;
const within = (column: string, span: Span): string =>
  `${column} >= ${instant(span.fromSeconds)} and ${column} < ${instant(span.toSeconds)}`;
/** The same for tables whose primary key begins with the org: one index range an org instead of a scan of all of time. */
const withinOrgs = (column: string, span: Span): string =>
  `org_id = any (array(select id from org)) and ${within(column, span)}`;

/** Raw rows of batches that a consumer has folded: the only ones it can be held to. */
const folded = (consumer: Consumer): string => `usage_event e
      join watermark w on w.consumer = '${consumer}'
                      and w.lane_id = (e.batch_id >> 36)::int4
                      and w.batch_no >= (e.batch_id & 68719476735)`;

/** Digest of a key: its first eight bytes xor its last eight, as a signed number (equal modulo 2^64 to the unsigned one). */
const KEY_DIGEST =
  "(('x' || left(translate(e.event_key::text, '-', ''), 16))::bit(64)::int8 # " +
  "('x' || right(translate(e.event_key::text, '-', ''), 16))::bit(64)::int8)";
const MODULUS = "18446744073709551616";
const unsigned = (sum: string): string => `((${sum}) % ${MODULUS} + ${MODULUS}) % ${MODULUS}`;

/**
 * Runs reads on one snapshot of the whole database, without limits of time, with the temporary tables the checks need.
 * Nothing is written but those.
 */
export async function readSnapshot<T>(
  database: Database,
  work: (tx: Tx) => Promise<T>,
): Promise<T> {
  return await database.transaction(async (tx) => {
    await tx.exec(`
      set transaction isolation level repeatable read;
      set local statement_timeout = 0;
      set local idle_in_transaction_session_timeout = 0;
      set local work_mem = '64MB';
      set local jit = off;
      create temp table verify_part (
        dimension text not null, org_id int4 not null, member_id int4 not null, bucket timestamptz not null,
        outcome int2 not null, currency int2 not null, bin int4, bin_count int8 not null,
        ${ROLLUP_MEASURES.map((name) => `${name} int8 not null`).join(", ")}) on commit drop;
      create temp table verify_error (
        org_id int4 not null, model_id int4 not null, bucket timestamptz not null,
        outcome int2 not null, error_code_id int4 not null, requests int8 not null) on commit drop`);
    return await work(tx);
  });
}

/** A UTC day with anything in it, and what of it retention has deleted. */
export type DayToVerify = { daySeconds: number; isRawGone: boolean };

/** UTC days that raw, ledger or rollups know of, oldest first. Reads the ledger, day rows and the catalogue. */
export const listDaysToVerify = (sql: Sql): Promise<DayToVerify[]> => sql<DayToVerify>`
  with days as (
    select date_bin('1 day', hour, timestamptz 'epoch') as day from ledger
     union
    select bucket from rollup_org_day
     union
    select to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC'
      from pg_inherits i
      join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'usage_event'::regclass)
  select extract(epoch from day)::float8 as "daySeconds",
         exists (
           select
             from purged p
            where p.what = 'raw'
              and p.day = (d.day at time zone 'UTC')::date) as "isRawGone"
    from days d
   order by day`;

/** Forgets the parts of the day before. */
export const clearParts = (tx: Tx): Promise<unknown> =>
  tx.exec("truncate verify_part, verify_error");

const MEMBER_COLUMN = { model: "e.model_id", client: "e.client_id", actor: "e.actor_id" } as const;

/**
 * Adds up one day of raw, as far as the consumer has folded it, per 15-minute row and latency bin. `binStarts` are the
 * first milliseconds of latency bins 1, 2, …. One scan of the day's partition.
 */
export const sumRawParts = (
  tx: Tx,
  wanted: {
    dimension: "model" | "client" | "actor";
    consumer: Consumer;
    binStarts: readonly number[];
  },
  day: Span,
): Promise<unknown> => {
  const tokens =
    "(e.input_tokens::int8 + e.cache_read_tokens + e.cache_write_5m_tokens + e.cache_write_1h_tokens + e.output_tokens + e.reasoning_tokens)";
  return tx.exec(`
  insert into verify_part (dimension, ${KEY}, bin, bin_count, ${ROLLUP_MEASURES.join(", ")})
  select '${wanted.dimension}', e.org_id, ${MEMBER_COLUMN[wanted.dimension]},
         date_bin('15 minutes', e.occurred_at, timestamptz 'epoch'), e.outcome, e.currency,
         width_bucket(e.latency_ms, '{${wanted.binStarts.map(Number).join(",")}}'::int4[]), count(e.latency_ms),
         sum(e.requests), coalesce(sum(e.requests) filter (where e.cost_nano is not null), 0),
         sum(e.input_tokens), sum(e.cache_read_tokens), sum(e.cache_write_5m_tokens), sum(e.cache_write_1h_tokens),
         sum(e.output_tokens), sum(e.reasoning_tokens),
         coalesce(sum(${tokens}) filter (where e.cost_nano is not null), 0), coalesce(sum(e.cost_nano), 0),
         count(e.latency_ms), coalesce(sum(e.latency_ms), 0)
    from ${folded(wanted.consumer)}
   where ${within("e.occurred_at", day)}
   group by 2, 3, 4, 5, 6, 7`);
};

/** Where raw is gone: takes one day's own rows of the finest grain left of each org for what they should be. */
export const takeRollupParts = (tx: Tx, dimension: Dimension, day: Span): Promise<unknown> =>
  tx.exec(`
  insert into verify_part (dimension, ${KEY}, bin_count, ${ROLLUP_MEASURES.join(", ")})
  select '${dimension}', ${KEY}, 0, ${ROLLUP_MEASURES.join(", ")}
    from (${finestRows(dimension, day, "")}) as finest`);

const finestRows = (dimension: Dimension, day: Span, alsoColumn: string): string => {
  const isPurged = `exists (
          select
            from purged p
           where p.what = '15m'
             and p.org_id = r.org_id
             and p.day = (${instant(day.fromSeconds)} at time zone 'UTC')::date)`;
  const rows = (grain: Grain, condition: string) => `
    select ${KEY}, ${ROLLUP_MEASURES.join(", ")}${alsoColumn}
      from ${rollupTable(dimension, grain)} r
     where ${withinOrgs("bucket", day)}
       and org_id > 0
       and ${condition}`;
  return `${rows("15m", `not ${isPurged}`)} union all ${rows("hour", isPurged)}`;
};

/** The sketches of the same rows, some at a time. */
export const readRollupSketches = (
  tx: Tx,
  dimension: Dimension,
  day: Span,
): AsyncGenerator<SketchRowRead[]> =>
  readByCursor<SketchRowRead>(
    tx,
    `select org_id as "orgId", member_id as "memberId", extract(epoch from bucket)::float8 as "bucketSeconds",
            outcome, currency, latency_sketch as sketch
       from (${finestRows(dimension, day, ", latency_sketch")}) as finest
      where latency_count > 0`,
  );

/** A rollup row's key and sketch. */
export type SketchRowRead = {
  orgId: number;
  memberId: number;
  bucketSeconds: number;
  outcome: number;
  currency: number;
  sketch: Buffer;
};

/** Latency bins of one row. */
export type BinPart = Omit<SketchRowRead, "sketch"> & { bin: number; count: number };

/** Adds bins that were read out of sketches to the parts of a dimension. */
export const addBinParts = (
  sql: Sql,
  dimension: Dimension,
  parts: readonly BinPart[],
): Promise<never[]> => sql`
  insert into verify_part
  select ${dimension}, p.org_id, p.member_id, to_timestamp(p.seconds), p.outcome, p.currency, p.bin, p.n,
         0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    from unnest(
           ${parts.map((part) => part.orgId)}::int4[],
           ${parts.map((part) => part.memberId)}::int4[],
           ${parts.map((part) => part.bucketSeconds)}::float8[],
           ${parts.map((part) => part.outcome)}::int2[],
           ${parts.map((part) => part.currency)}::int2[],
           ${parts.map((part) => part.bin)}::int4[],
           ${parts.map((part) => part.count)}::int8[]) as p (org_id, member_id, seconds, outcome, currency, bin, n)`;

/** The id for all orgs together of a member in column `id`; -2, which no row has, when org 0 lacks its text. */
const systemMember = (id: string): string => `
  case when ${id} <= 0 then ${id}
       else coalesce((
              select s.id
                from dictionary d
                join dictionary s on s.org_id = 0 and s.kind = d.kind and s.value = d.value
               where d.id = ${id}), -2)
   end`;

/** From the models' parts: the orgs' own, and for both those of all orgs together. Errors likewise. */
export const sumSystemParts = (tx: Tx): Promise<unknown> => {
  const add = (dimension: string, orgId: string, memberId: string, from: string) => `
  insert into verify_part (dimension, ${KEY}, bin, bin_count, ${ROLLUP_MEASURES.join(", ")})
  select '${dimension}', ${orgId}, ${memberId}, bucket, outcome, currency, bin, sum(bin_count), ${SUMS}
    from verify_part
   where dimension = '${from}'
   group by 2, 3, 4, 5, 6, 7`;
  return tx.exec(`
  ${add("org", "org_id", "0", "model")};
  ${add("org", "0", "0", "org")};
  ${add("model", "0", systemMember("member_id"), "model")};
  insert into verify_error
  select 0, ${systemMember("model_id")}, bucket, outcome, ${systemMember("error_code_id")}, sum(requests)
    from verify_error
   group by 2, 3, 4, 5;
  analyze verify_part`);
};

/** A rollup row that is not what it should be: the measures in the order of ROLLUP_MEASURES, null when there is no row. */
export type RowDifference = {
  orgId: number;
  memberId: number;
  bucketSeconds: number;
  outcome: number;
  currency: number;
  expected: string[] | null;
  found: string[] | null;
  /** How many rows of this table and day differ, listed or not. */
  total: number;
};

/** Compares a rollup table's day with the parts, both ways. At most `rowsMax` differences. */
export async function listRowDifferences(
  tx: Tx,
  target: { dimension: Dimension; grain: Grain; rowsMax: number },
  day: Span,
): Promise<RowDifference[]> {
  const texts = (row: string) => ROLLUP_MEASURES.map((name) => `${row}.${name}::text`).join(", ");
  return await selectRows<RowDifference>(
    tx,
    `
  with want as (
    select org_id, member_id, date_bin('${WIDTHS[target.grain]}', bucket, timestamptz 'epoch') as bucket, outcome, currency,
           ${SUMS}
      from verify_part
     where dimension = '${target.dimension}'
       and ${kept(target.grain, day, "verify_part.org_id")}
     group by 1, 2, 3, 4, 5
  ), have as (
    select ${KEY}, ${ROLLUP_MEASURES.join(", ")}
      from ${rollupTable(target.dimension, target.grain)} r
     where ${withinOrgs("bucket", day)}
       and ${kept(target.grain, day, "r.org_id")}
  )
  select org_id as "orgId", member_id as "memberId", extract(epoch from bucket)::float8 as "bucketSeconds",
         outcome, currency,
         case when want.requests is not null then array[${texts("want")}] end as expected,
         case when have.requests is not null then array[${texts("have")}] end as found,
         (count(*) over ())::int4 as total
    from want
    full join have using (${KEY})
   where (${ROLLUP_MEASURES.map((name) => `want.${name}`).join(", ")})
         is distinct from (${ROLLUP_MEASURES.map((name) => `have.${name}`).join(", ")})
   order by org_id, bucket, member_id, outcome, currency
   limit ${Number(target.rowsMax)}`,
  );
}

/** Whether rows of a grain are still there for an org: retention deletes 15-minute rows long before the others. */
const kept = (grain: Grain, day: Span, orgId: string): string =>
  grain !== "15m"
    ? "true"
    : `not exists (
             select
               from purged p
              where p.what = '15m'
                and p.org_id = ${orgId}
                and p.day = (${instant(day.fromSeconds)} at time zone 'UTC')::date)`;

/** A rollup row's sketch beside the bins it should have. */
export type SketchToCompare = SketchRowRead & { bins: number[] | null; counts: string[] | null };

/** Streams a rollup table's day with the bins its parts say, some rows at a time. */
export const readSketchesToCompare = (
  tx: Tx,
  target: { dimension: Dimension; grain: Grain },
  day: Span,
): AsyncGenerator<SketchToCompare[]> =>
  readByCursor<SketchToCompare>(
    tx,
    `with part as (
       select org_id, member_id, date_bin('${WIDTHS[target.grain]}', bucket, timestamptz 'epoch') as bucket,
              outcome, currency, bin, sum(bin_count) as n
         from verify_part
        where dimension = '${target.dimension}'
          and bin_count > 0
        group by 1, 2, 3, 4, 5, 6
     ), want as (
       select ${KEY}, array_agg(bin order by bin) as bins, array_agg(n::text order by bin) as counts
         from part
        group by ${KEY}
     )
     select r.org_id as "orgId", r.member_id as "memberId", extract(epoch from r.bucket)::float8 as "bucketSeconds",
            r.outcome, r.currency, r.latency_sketch as sketch, want.bins, want.counts
       from ${rollupTable(target.dimension, target.grain)} r
       left join want using (${KEY})
      where r.${withinOrgs("r.bucket", day)}
        and ${kept(target.grain, day, "r.org_id")}`,
  );

const CURSOR_ROWS = 4000;

async function* readByCursor<Row>(tx: Tx, query: string): AsyncGenerator<Row[]> {
  await tx.exec(`declare verify_rows no scroll cursor for ${query}`);
  for (;;) {
    const rows = await selectRows<Row>(tx, `fetch ${CURSOR_ROWS} from verify_rows`);
    if (rows.length === 0) break;
    yield rows;
  }
  await tx.exec("close verify_rows");
}

/** Adds up one day's failed requests from raw, or takes the own rows there are where raw is gone. */
export const sumErrorParts = (tx: Tx, isRawGone: boolean, day: Span): Promise<unknown> =>
  tx.exec(
    isRawGone
      ? `insert into verify_error
         select org_id, model_id, bucket, outcome, error_code_id, requests
           from rollup_error_15m
          where ${withinOrgs("bucket", day)}
            and org_id > 0`
      : `insert into verify_error
         select e.org_id, e.model_id, date_bin('15 minutes', e.occurred_at, timestamptz 'epoch'), e.outcome,
                e.error_code_id, sum(e.requests)
           from ${folded("usage")}
          where ${within("e.occurred_at", day)}
            and e.outcome >= 2
          group by 1, 2, 3, 4, 5`,
  );

/** Two figures that should be one. `source` and `hour` where they apply; `total` counts those not listed too. */
export type FigureDifference = {
  orgId: number;
  sourceId: number | null;
  hourSeconds: number | null;
  figure: string;
  expected: string;
  found: string;
  total: number;
};

/** Compares a day of rollup_error_15m with its parts, both ways. */
export async function listErrorDifferences(
  tx: Tx,
  rowsMax: number,
  day: Span,
): Promise<FigureDifference[]> {
  return await selectRows<FigureDifference>(
    tx,
    `
  with have as (
    select org_id, model_id, bucket, outcome, error_code_id, requests
      from rollup_error_15m
     where ${withinOrgs("bucket", day)}
  )
  select org_id as "orgId", null::int4 as "sourceId", extract(epoch from date_trunc('hour', bucket))::float8 as "hourSeconds",
         'requests of one error code' as figure,
         coalesce(want.requests, 0)::text as expected, coalesce(have.requests, 0)::text as found,
         (count(*) over ())::int4 as total
    from verify_error want
    full join have using (org_id, model_id, bucket, outcome, error_code_id)
   where want.requests is distinct from have.requests
   order by org_id, bucket, model_id, outcome, error_code_id
   limit ${Number(rowsMax)}`,
  );
}

/** Compares the ledger's accepted events of a day, counts and digests, with raw, per org, source and hour. */
export async function listLedgerDifferences(
  tx: Tx,
  rowsMax: number,
  day: Span,
): Promise<FigureDifference[]> {
  return await selectRows<FigureDifference>(
    tx,
    `
  with raw as (
    select e.org_id, e.source_id, date_bin('1 hour', e.occurred_at, timestamptz 'epoch') as hour,
           count(*) as accepted, ${unsigned(`sum(${KEY_DIGEST})`)} as digest
      from ${folded("usage")}
     where ${within("e.occurred_at", day)}
     group by 1, 2, 3
  ), told as (
    select org_id, source_id, hour, sum(accepted) as accepted, sum(accepted_digest) % ${MODULUS} as digest
      from ledger
     where ${withinOrgs("hour", day)}
     group by 1, 2, 3
  ), both_sides as (
    select org_id, source_id, hour,
           coalesce(told.accepted, 0) as told_accepted, coalesce(raw.accepted, 0) as raw_accepted,
           coalesce(told.digest, 0) as told_digest, coalesce(raw.digest, 0) as raw_digest
      from told
      full join raw using (org_id, source_id, hour)
  )
  select org_id as "orgId", source_id as "sourceId", extract(epoch from hour)::float8 as "hourSeconds",
         case when told_accepted <> raw_accepted then 'accepted events' else 'digest of accepted ids' end as figure,
         case when told_accepted <> raw_accepted then told_accepted else told_digest end::text as expected,
         case when told_accepted <> raw_accepted then raw_accepted else raw_digest end::text as found,
         (count(*) over ())::int4 as total
    from both_sides
   where told_accepted <> raw_accepted
      or told_digest <> raw_digest
   order by hour, org_id, source_id
   limit ${Number(rowsMax)}`,
  );
}
