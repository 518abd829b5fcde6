import {
  type Consumer,
  DIMENSIONS,
  ERROR_GRAINS,
  type ErrorGrain,
  errorTable,
  GRAIN_SECONDS,
  GRAINS,
  rollupTable,
} from "#contract";
import type { Database, Tx } from "./database.ts";
import { ratingOf } from "./rollups.ts";
import { selectRows } from "./rows.ts";

/** A span of time: [from, to) in seconds since the Unix epoch. */
export type Span = { fromSeconds: number; toSeconds: number };

/** A span's conditions, as text: its bounds are numbers. */
const within = (column: string, span: Span): string =>
  `${column} >= to_timestamp(${Number(span.fromSeconds)}) and ${column} < to_timestamp(${Number(span.toSeconds)})`;
/** The same for tables whose primary key begins with the org: one index range an org instead of a scan of all of time. */
export const withinOrgs = (column: string, span: Span): string =>
  `org_id = any (array(select id from org)) and ${within(column, span)}`;

/** Digest of a key: its first eight bytes xor its last eight, as a signed number (equal modulo 2^64 to the unsigned one). */
const KEY_DIGEST =
  "(('x' || left(translate(e.event_key::text, '-', ''), 16))::bit(64)::int8 # " +
  "('x' || right(translate(e.event_key::text, '-', ''), 16))::bit(64)::int8)";
const MODULUS = "18446744073709551616";
const unsigned = (sum: string): string => `((${sum}) % ${MODULUS} + ${MODULUS}) % ${MODULUS}`;

/** What the checks keep of a day, beside the parts of `verify-rollups.ts`. */
const TABLES = `
  create temp table verify_event (
    is_usage bool not null, is_people bool not null, org_id int4 not null, source_id int2 not null,
    model_id int4 not null, client_id int4 not null, actor_id int4 not null, tag_ids int4[], error_code_id int4 not null,
    bucket timestamptz not null, outcome int2 not null, currency int2 not null, requests int4 not null,
    input_tokens int4 not null, cache_read_tokens int4 not null, cache_write_5m_tokens int4 not null,
    cache_write_1h_tokens int4 not null, output_tokens int4 not null, reasoning_tokens int4 not null,
    cost_nano int8, rating int2 not null, rated_nano int8, latency_ms int4, bin int4, digest int8 not null) on commit drop;
  create temp table verify_error (
    org_id int4 not null, model_id int4 not null, bucket timestamptz not null,
    outcome int2 not null, error_code_id int4 not null, requests int8 not null) on commit drop`;

/** Runs work in another transaction, on a connection of its own, that sees the same snapshot. */
export type ReadBeside = <T>(work: (tx: Tx) => Promise<T>) => Promise<T>;

/**
 * Runs reads on one snapshot of the whole database, without limits of time, with temporary tables that the checks make
 * in it. Nothing is written but those. `readBeside` works until `work` has resolved.
 */
export async function readSnapshot<T>(
  database: Database,
  work: (tx: Tx, readBeside: ReadBeside) => Promise<T>,
): Promise<T> {
  return await database.transaction(async (tx) => {
    await tx.exec("set transaction isolation level repeatable read");
    await prepareReads(tx);
    const [snapshot] = await selectRows<{ id: string }>(tx, "select pg_export_snapshot() as id");
    return await work(tx, (other) =>
      database.transaction(async (beside) => {
        await beside.exec(
          `set transaction isolation level repeatable read; set transaction snapshot '${snapshot?.id ?? ""}'`,
        );
        await prepareReads(beside);
        return await other(beside);
      }),
    );
  });
}

const prepareReads = (tx: Tx): Promise<unknown> =>
  tx.exec(`
  set local statement_timeout = 0;
  set local idle_in_transaction_session_timeout = 0;
  set local work_mem = '64MB';
  set local jit = off;
  set local max_parallel_workers_per_gather = 2;
  set local enable_mergejoin = off;
  ${TABLES}`);

/** A UTC day with anything in it, and what of it retention has deleted. */
export type DayToVerify = { daySeconds: number; isRawGone: boolean };

/**
 * UTC days of which ledger, rollups or raw hold anything, oldest first. Reads the ledger, day rows and the catalogue,
 * and looks at the other tables for days that only have a raw partition, which may have been made ahead.
 */
export const listDaysToVerify = (tx: Tx): Promise<DayToVerify[]> => {
  const rollups = DIMENSIONS.flatMap((dimension) =>
    GRAINS.map((grain) => rollupTable(dimension, grain)),
  );
  const ofDay = (column: string) =>
    `${column} >= d.day and ${column} < d.day + interval '24 hours'`;
  const isAny = [...rollups, ...ERROR_GRAINS.map(errorTable)].map(
    (name) =>
      `exists (select from ${name} where org_id = any (array(select id from org)) and ${ofDay("bucket")})`,
  );
  return selectRows<DayToVerify>(
    tx,
    `
  with counted as (
    select date_bin('1 day', hour, timestamptz 'epoch') as day from ledger
     union
    select bucket from rollup_org_day
  ), days as (
    select day from counted
     union
    select d.day
      from (
             select to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC' as day
               from pg_inherits i
               join pg_class c on c.oid = i.inhrelid
              where i.inhparent = 'usage_event'::regclass
             except
             select day from counted) as d
     where exists (select from usage_event e where ${ofDay("e.occurred_at")})
        or ${isAny.join("\n        or ")})
  select extract(epoch from day)::float8 as "daySeconds",
         exists (
           select
             from purged p
            where p.what = 'raw'
              and p.day = (d.day at time zone 'UTC')::date) as "isRawGone"
    from days d
   order by day`,
  );
};

/**
 * Takes one day of raw, as far as each consumer has folded it, with what every check asks of an event. `binStarts` are
 * the first milliseconds of latency bins 1, 2, …. One scan of the day's partition.
 */
export const takeRawEvents = (
  tx: Tx,
  binStarts: readonly number[],
  day: Span,
): Promise<unknown> => {
  const foldedBy = (consumer: Consumer) => `
           select lane_id, batch_no
             from watermark
            where consumer = '${consumer}'`;
  return tx.exec(`
  insert into verify_event
  select e.batch_no <= u.batch_no is true, e.batch_no <= p.batch_no is true, e.org_id, e.source_id,
         e.model_id, e.client_id, e.actor_id, e.tag_ids, e.error_code_id,
         date_bin('15 minutes', e.occurred_at, timestamptz 'epoch'), e.outcome, e.currency, e.requests,
         e.input_tokens, e.cache_read_tokens, e.cache_write_5m_tokens,
         e.cache_write_1h_tokens, e.output_tokens, e.reasoning_tokens,
         e.cost_nano, ${ratingOf("e")}, e.rated_nano, e.latency_ms, width_bucket(e.latency_ms, '{${binStarts.map(Number).join(",")}}'::int4[]), ${KEY_DIGEST}
    from (select *, (batch_id >> 36)::int4 as lane_id, batch_id & 68719476735 as batch_no from usage_event) as e
    left join (${foldedBy("usage")}) as u using (lane_id)
    left join (${foldedBy("people")}) as p using (lane_id)
   where ${within("e.occurred_at", day)}
     and (e.batch_no <= u.batch_no or e.batch_no <= p.batch_no)`);
};

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
    select org_id, source_id, date_bin('1 hour', bucket, timestamptz 'epoch') as hour,
           count(*) as accepted, ${unsigned("sum(digest)")} as digest
      from verify_event
     where is_usage
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

/**
 * The id for all orgs together of a member in column `id`; -2, which no row has, when org 0 lacks its text. Asked once
 * for each member.
 */
export const systemMember = (id: string): string => `
  case when ${id} <= 0 then ${id}
       else coalesce((
              select s.id
                from dictionary d
                join dictionary s on s.org_id = 0 and s.kind = d.kind and s.value = d.value
               where d.id = ${id}), -2)
   end`;

/**
 * Adds up one day's failed requests from raw, or takes the own rows there are where raw is gone; then those of all orgs
 * together.
 */
export const sumErrorParts = (tx: Tx, isRawGone: boolean, day: Span): Promise<unknown> => {
  const own = isRawGone
    ? `select org_id, model_id, bucket, outcome, error_code_id, requests
         from rollup_error_15m
        where ${withinOrgs("bucket", day)}
          and org_id > 0`
    : `select org_id, model_id, bucket, outcome, error_code_id, sum(requests)
         from verify_event
        where is_usage
          and outcome >= 2
        group by 1, 2, 3, 4, 5`;
  return tx.exec(`
  insert into verify_error ${own};
  insert into verify_error
  with member as materialized (
    select m.id, ${systemMember("m.id")} as system_id
      from (select model_id as id from verify_error union select error_code_id from verify_error) as m)
  select 0, m.system_id, e.bucket, e.outcome, c.system_id, sum(e.requests)
    from verify_error e
    join member m on m.id = e.model_id
    join member c on c.id = e.error_code_id
   group by 2, 3, 4, 5`);
};

/** Compares a day of rollup_error_15m or rollup_error_day with its parts, both ways. */
export async function listErrorDifferences(
  tx: Tx,
  { grain, rowsMax }: { grain: ErrorGrain; rowsMax: number },
  day: Span,
): Promise<FigureDifference[]> {
  return await selectRows<FigureDifference>(
    tx,
    `
  with want as (
    select org_id, model_id, date_bin('${GRAIN_SECONDS[grain]} seconds', bucket, timestamptz 'epoch') as bucket, outcome,
           error_code_id, sum(requests)::int8 as requests
      from verify_error
     group by 1, 2, 3, 4, 5
  ), have as (
    select org_id, model_id, bucket, outcome, error_code_id, requests
      from ${errorTable(grain)}
     where ${withinOrgs("bucket", day)}
  )
  select org_id as "orgId", null::int4 as "sourceId", extract(epoch from date_trunc('hour', bucket))::float8 as "hourSeconds",
         'requests of one error code' as figure,
         coalesce(want.requests, 0)::text as expected, coalesce(have.requests, 0)::text as found,
         (count(*) over ())::int4 as total
    from want
    full join have using (org_id, model_id, bucket, outcome, error_code_id)
   where want.requests is distinct from have.requests
   order by org_id, bucket, model_id, outcome, error_code_id
   limit ${Number(rowsMax)}`,
  );
}
