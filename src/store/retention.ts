import { DIMENSIONS, ERROR_GRAINS, errorTable, GRAINS, rollupTable } from "#contract";
import type { Sql, Tx } from "./database.ts";
import { rawPartitionName } from "./partitions.ts";
import { selectRows } from "./rows.ts";

/** Everything here waits at most so long for a lock; ingestion would queue up behind it. Retention comes again. */
const LOCK_MS_MAX = 2000;
/** Deleting a day's rows may take longer than a statement of the service should. */
const STATEMENT_MS_MAX = 600_000;

/** Begins a step of retention: alone among processes, and patient with its own work but not with others' locks. */
export async function tryRetentionLock(tx: Tx): Promise<boolean> {
  await tx.exec(
    `set local lock_timeout = ${LOCK_MS_MAX}; set local statement_timeout = ${STATEMENT_MS_MAX}; set local idle_in_transaction_session_timeout = ${STATEMENT_MS_MAX}`,
  );
  const [lock] = await selectRows<{ held: boolean }>(
    tx,
    "select pg_try_advisory_xact_lock(hashtext('tallystick retention')) as held",
  );
  return lock?.held === true;
}

/** The UTC day number (days since the Unix epoch) of the database's today. */
export async function getToday(sql: Sql): Promise<number> {
  const [row] = await sql<{ today: number }>`
    select ((clock_timestamp() at time zone 'UTC')::date - date '1970-01-01') as today`;
  return row?.today ?? 0;
}

/** The UTC day number of the database's today, so many months ago. */
export async function getDayMonthsAgo(sql: Sql, months: number): Promise<number> {
  const [row] = await sql<{ day: number }>`
    select ((clock_timestamp() at time zone 'UTC')::date - make_interval(months => ${months}))::date - date '1970-01-01' as day`;
  return row?.day ?? 0;
}

/** Closes a raw partition to everybody until the transaction ends: nothing can be added between a look and the drop. */
export const lockRawDay = (tx: Tx, day: number): Promise<unknown> =>
  tx.exec(`lock table ${rawPartitionName(day)} in access exclusive mode`);

/**
 * Whether something in a raw partition is still needed: rows of a batch that is newer than the retention (history
 * loaded late), or that a consumer has not folded. Index: usage_event_batch of that day. Reads only.
 */
export async function isRawDayNeeded(tx: Tx, day: number, retentionDays: number): Promise<boolean> {
  const name = rawPartitionName(day);
  const [row] = await selectRows<{ needed: boolean }>(
    tx,
    `
  select exists (
    select
      from ingestion_batches b
     where b.accepted > 0
       and b.min_occurred_at < to_timestamp(${(day + 1) * 86_400})
       and b.max_occurred_at >= to_timestamp(${day * 86_400})
       and (b.committed_at > clock_timestamp() - make_interval(days => ${Number(retentionDays)}) or ${unfolded("b")})
       and exists (select from ${name} e where e.batch_id = b.batch_id)) as needed`,
  );
  return row?.needed === true;
}

/** Whether a batch waits for a consumer. */
const unfolded = (batch: string): string => `exists (
         select
           from fold_state f
           left join watermark w on w.consumer = f.consumer and w.lane_id = ${batch}.lane_id
          where coalesce(w.batch_no, 0) < ${batch}.batch_no)`;

/** Drops a raw partition, and notes that the day's events are gone if it had any. Locks usage_event for a moment. */
export const dropRawDay = (tx: Tx, day: number): Promise<unknown> =>
  tx.exec(`
  insert into purged (what, org_id, day)
  select 'raw', 0, date '1970-01-01' + ${Number(day)}
   where exists (select from ${rawPartitionName(day)})
      on conflict do nothing;
  drop table ${rawPartitionName(day)}`);

/** UTC day numbers whose raw events retention has deleted. */
export const listPurgedRawDays = (sql: Sql): Promise<{ day: number }[]> => sql<{ day: number }>`
  select distinct day - date '1970-01-01' as day
    from purged
   where what in ('raw', 'all')
     and org_id = 0
   order by 1`;

/** Keeps folds out until the transaction ends: a row may not vanish between a fold's reading and its writing. */
export const holdFolds = (tx: Tx): Promise<unknown> =>
  tx.exec("select from fold_state order by consumer for update");

/** An org and the zone its local days are cut in. */
export type OrgZone = { id: number; timeZone: string };

/** Every org, org 0 included. */
export const listOrgZones = (sql: Sql): Promise<OrgZone[]> => sql<OrgZone>`
  select id, time_zone as "timeZone" from org order by id`;

/**
 * UTC days before `beforeDay` that have 15-minute rows of these orgs, and for which nothing arrived for so many days,
 * and nothing waits to be folded. Index: primary key, one range an org.
 */
export const listPurgeable15mDays = (
  sql: Sql,
  wanted: { orgIds: readonly number[]; beforeDay: number; quietDays: number },
): Promise<{ day: number }[]> => sql<{ day: number }>`
  select d.day - date '1970-01-01' as day
    from (select distinct (bucket at time zone 'UTC')::date as day
            from rollup_org_15m
           where org_id = any(${wanted.orgIds}::int4[])
             and bucket < to_timestamp(${wanted.beforeDay}::float8 * 86400)) as d
   where not exists (
           select
             from ledger l
            where l.org_id = any (array(select id from org))
              and l.hour >= d.day::timestamp at time zone 'UTC'
              and l.hour < (d.day + 1)::timestamp at time zone 'UTC'
              and l.updated_at > clock_timestamp() - make_interval(days => ${wanted.quietDays}))
     and not exists (
           select
             from ingestion_batches b
             join fold_state f on true
             left join watermark w on w.consumer = f.consumer and w.lane_id = b.lane_id
            where b.accepted > 0
              and b.batch_no > coalesce(w.batch_no, 0)
              and b.min_occurred_at < (d.day + 1)::timestamp at time zone 'UTC'
              and b.max_occurred_at >= d.day::timestamp at time zone 'UTC')
   order by 1`;

/**
 * Deletes the 15-minute rows of a UTC day for these orgs, and notes it. Error codes have no hours: those of quarters of
 * an hour stay, so that windows cut at whole hours have them.
 */
export const purge15mDay = (tx: Tx, day: number, orgIds: readonly number[]): Promise<unknown> => {
  const orgs = `'{${orgIds.map(Number).join(",")}}'::int4[]`;
  const deletes = DIMENSIONS.map(
    (dimension) =>
      `delete from ${rollupTable(dimension, "15m")} where org_id = any (${orgs}) and ${ofDay("bucket", day)}`,
  );
  return tx.exec(
    [
      `insert into purged (what, org_id, day) select '15m', unnest(${orgs}), date '1970-01-01' + ${Number(day)} on conflict do nothing`,
      ...deletes,
    ].join("; "),
  );
};

const ofDay = (column: string, day: number): string =>
  `${column} >= to_timestamp(${Number(day) * 86_400}) and ${column} < to_timestamp(${(Number(day) + 1) * 86_400})`;

/**
 * UTC days before `beforeDay` that have any rollups or ledger left, whose raw is gone, and for which nothing arrived
 * since that long and nothing waits to be folded.
 */
export const listPurgeableDays = (
  sql: Sql,
  wanted: { beforeDay: number; quietMonths: number },
): Promise<{ day: number }[]> => sql<{ day: number }>`
  with day as (
    select distinct (bucket at time zone 'UTC')::date as day
      from rollup_org_day
     where org_id = any (array(select id from org))
       and bucket < to_timestamp(${wanted.beforeDay}::float8 * 86400)
     union
    select distinct (hour at time zone 'UTC')::date
      from ledger
     where org_id = any (array(select id from org))
       and hour < to_timestamp(${wanted.beforeDay}::float8 * 86400))
  select d.day - date '1970-01-01' as day
    from day d
   where to_regclass('usage_event_' || to_char(d.day, 'YYYYMMDD')) is null
     and not exists (
           select
             from ledger l
            where l.org_id = any (array(select id from org))
              and l.hour >= d.day::timestamp at time zone 'UTC'
              and l.hour < (d.day + 1)::timestamp at time zone 'UTC'
              and l.updated_at > clock_timestamp() - make_interval(months => ${wanted.quietMonths}))
     and not exists (
           select
             from ingestion_batches b
             join fold_state f on true
             left join watermark w on w.consumer = f.consumer and w.lane_id = b.lane_id
            where b.accepted > 0
              and b.batch_no > coalesce(w.batch_no, 0)
              and b.min_occurred_at < (d.day + 1)::timestamp at time zone 'UTC'
              and b.max_occurred_at >= d.day::timestamp at time zone 'UTC')
   order by 1`;

/**
 * Deletes everything counted for a UTC day: rollups, what re-ratings changed of them, error codes, ledger, reconciliation,
 * and the notes about it but one: that it is gone, so that answers do not take what is left for all there was.
 */
export const purgeDay = (tx: Tx, day: number): Promise<unknown> => {
  const ofOrgs = "org_id = any (array(select id from org))";
  const rollups = DIMENSIONS.flatMap((dimension) =>
    GRAINS.map((grain) => rollupTable(dimension, grain)),
  );
  return tx.exec(
    [
      ...[...rollups, ...ERROR_GRAINS.map(errorTable)].map(
        (name) => `delete from ${name} where ${ofOrgs} and ${ofDay("bucket", day)}`,
      ),
      ...["ledger", "reconciliation"].map(
        (name) => `delete from ${name} where ${ofOrgs} and ${ofDay("hour", day)}`,
      ),
      // What is gone can no longer be taken back, and must not be from what is loaded into the day anew.
      `delete from rerating_rollup where rerating_id = any (array(select id from rerating)) and ${ofDay("bucket", day)}`,
      `delete from purged where day = date '1970-01-01' + ${Number(day)}`,
      `insert into purged (what, org_id, day) values ('all', 0, date '1970-01-01' + ${Number(day)})`,
    ].join("; "),
  );
};

/** Counts, or deletes, at most so many rows of the quarantine received longer ago. Index: quarantine_received. */
export const countOldQuarantine = async (sql: Sql, days: number): Promise<number> => {
  const [row] = await sql<{ rows: number }>`
    select count(*)::int4 as rows from quarantine where received_at < clock_timestamp() - make_interval(days => ${days})`;
  return row?.rows ?? 0;
};

/** See `countOldQuarantine`. Returns how many went. Repeat until none does. */
export const deleteOldQuarantine = async (
  sql: Sql,
  days: number,
  rowsMax: number,
): Promise<number> => {
  const gone = await sql<{ id: string }>`
    delete from quarantine
     where id in (
             select id
               from quarantine
              where received_at < clock_timestamp() - make_interval(days => ${days})
              order by received_at
              limit ${rowsMax})
    returning id::text`;
  return gone.length;
};

/**
 * Counts batches older than that many days which both consumers have folded and which are not their lane's last: the
 * last one tells `verify` from when on a lane's batches are all there.
 */
export const countOldBatches = async (sql: Sql, days: number): Promise<number> => {
  const [row] = await sql<{ rows: number }>`
    select count(*)::int4 as rows
      from ingestion_batches b
      join lane l on l.id = b.lane_id
     where b.committed_at < clock_timestamp() - make_interval(days => ${days})
       and b.batch_no < l.batch_no
       and b.batch_no <= (
             select min(coalesce(w.batch_no, 0))
               from fold_state f
               left join watermark w on w.consumer = f.consumer and w.lane_id = b.lane_id)`;
  return row?.rows ?? 0;
};

/** Deletes some of them, oldest of each lane first, so that none is missing between two that are there. Repeatable. */
export const deleteOldBatches = async (
  sql: Sql,
  days: number,
  rowsMax: number,
): Promise<number> => {
  const gone = await sql<{ batchNo: number }>`
    delete from ingestion_batches
     where batch_id in (
             select o.batch_id
               from lane l
              cross join lateral (
                    select b.batch_id
                      from ingestion_batches b
                     where b.lane_id = l.id
                       and b.committed_at < clock_timestamp() - make_interval(days => ${days})
                       and b.batch_no < l.batch_no
                       and b.batch_no <= (
                             select min(coalesce(w.batch_no, 0))
                               from fold_state f
                               left join watermark w on w.consumer = f.consumer and w.lane_id = l.id)
                     order by b.batch_no
                     limit ${rowsMax}) as o)
    returning batch_no as "batchNo"`;
  return gone.length;
};

/** Which orgs' 15-minute rows are purged of some UTC days (start, s). Primary key of purged; reads only. */
export const listPurged15m = (
  sql: Sql,
  daySeconds: readonly number[],
): Promise<{ orgId: number; daySeconds: number }[]> => sql<{ orgId: number; daySeconds: number }>`
  select p.org_id as "orgId", d.seconds as "daySeconds"
    from unnest(${daySeconds}::float8[]) as d (seconds)
    join purged p
      on p.what = '15m'
     and p.day = (to_timestamp(d.seconds) at time zone 'UTC')::date`;
