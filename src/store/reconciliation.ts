import { CONSUMERS, type Consumer, DIMENSIONS, rollupTable } from "#contract";
import type { Sql, Tx } from "./database.ts";
import { selectRows } from "./rows.ts";

/** What the checks may rest on. Instants in µs since the Unix epoch. */
export type ReconcileClaim = {
  /** Time of the newest fold of the usage consumer: every change of the ledger up to it can be seen. */
  foldedAtUs: number;
  /** How far people are counted; null before the first fold. */
  peopleCompleteThroughUs: number | null;
  /** Up to where both consumers are complete; null before both have folded. */
  completeThroughUs: number | null;
};

/** Reads both rows of fold_state. */
export async function getReconcileClaim(sql: Sql): Promise<ReconcileClaim> {
  const [claim] = await sql<ReconcileClaim>`
    select (extract(epoch from u.updated_at) * 1000000)::int8 as "foldedAtUs",
           case when p.complete_through > '-infinity'
                then (extract(epoch from p.complete_through) * 1000000)::int8
            end as "peopleCompleteThroughUs",
           case when least(u.complete_through, p.complete_through) > '-infinity'
                then (extract(epoch from least(u.complete_through, p.complete_through)) * 1000000)::int8
            end as "completeThroughUs"
      from fold_state u, fold_state p
     where u.consumer = 'usage'
       and p.consumer = 'people'`;
  if (!claim) throw new Error("fold_state has lost a row");
  return claim;
}

/**
 * Hours (start, s) whose ledger changed after `sinceUs` (null: ever) and that were not checked since.
 * Index: ledger_updated; with null a scan of the ledger. Reads only.
 */
export const listUncheckedHours = (
  sql: Sql,
  sinceUs: number | null,
): Promise<{ hourSeconds: number }[]> => sql<{
  hourSeconds: number;
}>`
  select distinct extract(epoch from l.hour)::float8 as "hourSeconds"
    from ledger l
    left join reconciliation r on r.org_id = l.org_id and r.hour = l.hour
   where l.updated_at > coalesce(
           timestamptz 'epoch' + ${sinceUs}::int8 * interval '1 microsecond', '-infinity'::timestamptz)
     and (r.checked_at is null or r.checked_at < l.updated_at)
   order by 1`;

/** Takes the right to reconcile until the transaction ends; false while another process has it. */
export async function tryReconcileLock(tx: Tx): Promise<boolean> {
  const [lock] = await selectRows<{ held: boolean }>(
    tx,
    "select pg_try_advisory_xact_lock(hashtext('tallystick reconciler')) as held",
  );
  return lock?.held === true;
}

const MODULUS = "18446744073709551616";
const KEY_DIGEST =
  "(('x' || left(translate(e.event_key::text, '-', ''), 16))::bit(64)::int8 # " +
  "('x' || right(translate(e.event_key::text, '-', ''), 16))::bit(64)::int8)";
const FIGURES = [
  "requests",
  "tokens",
  "cost_nano",
  "rated_requests",
  "rated_nano",
  "latencies",
] as const;
const TOKENS = (row: string): string =>
  `(${row}.input_tokens::int8 + ${row}.cache_read_tokens + ${row}.cache_write_5m_tokens + ${row}.cache_write_1h_tokens + ${row}.output_tokens + ${row}.reasoning_tokens)`;

/** What was checked: org and hour rows, and how many of them differ. */
export type ReconcileResult = { checked: number; differing: number };

/**
 * Checks hours of one UTC day for every org that has anything in them, and keeps the result: ledger against raw (counts
 * and id digests, per source), and raw against the hour rows of every dimension, each as far as its consumer has
 * folded. Without raw (`isRawGone`) the dimensions, but tags, are compared with the org's own rows. Org 0 is all orgs together.
 * One statement, so one snapshot; one scan of the hours' raw. Repeatable.
 */
export async function reconcileHours(
  tx: Tx,
  hours: { hourSeconds: readonly number[]; isRawGone: boolean },
): Promise<ReconcileResult> {
  const from = Math.min(...hours.hourSeconds);
  const to = Math.max(...hours.hourSeconds) + 3600;
  const compared = hours.isRawGone ? ADDING_UP : DIMENSIONS;
  const wanted = `array[${hours.hourSeconds.map((seconds) => `to_timestamp(${Number(seconds)})`).join(", ")}]`;
  const [result] = await selectRows<ReconcileResult>(
    tx,
    `
  with hour as (
    select unnest(${wanted}) as hour
  ), raw as (
    ${hours.isRawGone ? NO_RAW : rawSums(from, to, wanted)}
  ), told as (
    select l.org_id, l.hour, l.source_id, sum(l.accepted) as accepted, sum(l.accepted_digest) % ${MODULUS} as digest
      from ledger l
     where l.org_id = any (array(select id from org))
       and l.hour = any (${wanted})
     group by 1, 2, 3
  ), kept as (
    ${compared.map((dimension) => hourRows(dimension, wanted)).join(" union all ")}
  ), should as (
    ${hours.isRawGone ? FROM_ORG_ROWS : FROM_RAW}
  ), difference as (
    ${hours.isRawGone ? "" : `${LEDGER_DIFFERENCES} union all`}
    ${FIGURES.map(figureDifferences).join(" union all ")}
  ), seen as (
    select org_id, hour from told union select org_id, hour from kept union select org_id, hour from should
    union select 0, hour from told
  ), result as (
    insert into reconciliation as r (org_id, hour, state, checked_at, differences)
    select s.org_id, s.hour, case when count(d.org_id) = 0 then 'match' else 'differs' end,
           (select updated_at from fold_state where consumer = 'usage'),
           coalesce(
             json_agg(json_build_object(
               'check', d.name, 'source', (select name from source where id = d.source_id), 'figure', d.figure,
               'expected', d.expected, 'found', d.found) order by d.name, d.source_id, d.figure)
             filter (where d.org_id is not null), '[]'::json)
      from seen s
      left join difference d on d.org_id = s.org_id and d.hour = s.hour
     group by s.org_id, s.hour
     order by s.org_id, s.hour
        on conflict (org_id, hour) do update
       set state = excluded.state, checked_at = excluded.checked_at, differences = excluded.differences
    returning state
  )
  select count(*)::int4 as checked, (count(*) filter (where state = 'differs'))::int4 as differing from result`,
  );
  return result ?? { checked: 0, differing: 0 };
}

/** Raw per org, hour and source: what each consumer has folded of it. */
function rawSums(from: number, to: number, wanted: string): string {
  const sums = (consumer: Consumer) => `
           coalesce(sum(e.requests) filter (where ${consumer}.lane_id is not null), 0) as ${consumer}_requests,
           coalesce(sum(${TOKENS("e")}) filter (where ${consumer}.lane_id is not null), 0) as ${consumer}_tokens,
           coalesce(sum(e.cost_nano) filter (where ${consumer}.lane_id is not null), 0) as ${consumer}_cost_nano,
           coalesce(sum(e.requests) filter (where ${consumer}.lane_id is not null and e.rated_nano is not null), 0) as ${consumer}_rated_requests,
           coalesce(sum(e.rated_nano) filter (where ${consumer}.lane_id is not null), 0) as ${consumer}_rated_nano,
           count(e.latency_ms) filter (where ${consumer}.lane_id is not null) as ${consumer}_latencies`;
  // An event is counted once under each of its tags.
  const tagged = (count: string) =>
    `coalesce(sum(${count} * cardinality(e.tag_ids)) filter (where people.lane_id is not null), 0)`;
  const mark = (consumer: Consumer) => `
      left join watermark ${consumer}
             on ${consumer}.consumer = '${consumer}'
            and ${consumer}.lane_id = (e.batch_id >> 36)::int4
            and ${consumer}.batch_no >= (e.batch_id & 68719476735)`;
  return `
    select e.org_id, date_bin('1 hour', e.occurred_at, timestamptz 'epoch') as hour, e.source_id,
           count(*) filter (where usage.lane_id is not null) as accepted,
           ((coalesce(sum(${KEY_DIGEST}) filter (where usage.lane_id is not null), 0)) % ${MODULUS} + ${MODULUS}) % ${MODULUS} as digest,
           ${sums("usage")}, ${sums("people")},
           ${tagged("e.requests")} as tag_requests,
           ${tagged(TOKENS("e"))} as tag_tokens,
           ${tagged("e.cost_nano")} as tag_cost_nano,
           ${tagged("(case when e.rated_nano is null then 0 else e.requests end)")} as tag_rated_requests,
           ${tagged("e.rated_nano")} as tag_rated_nano,
           ${tagged("(e.latency_ms is not null)::int4")} as tag_latencies
      from usage_event e ${mark("usage")} ${mark("people")}
     where e.occurred_at >= to_timestamp(${from})
       and e.occurred_at < to_timestamp(${to})
       and date_bin('1 hour', e.occurred_at, timestamptz 'epoch') = any (${wanted})
     group by 1, 2, 3`;
}

const NO_RAW = "select 1 where false";

/** What an hour's rows of each dimension add up to, per org. */
const hourRows = (dimension: (typeof DIMENSIONS)[number], wanted: string): string => `
    select '${dimension}' as dimension, r.org_id, r.bucket as hour, sum(r.requests) as requests,
           sum(${TOKENS("r")}) as tokens, sum(r.cost_nano) as cost_nano,
           coalesce(sum(r.requests) filter (where r.rating <> 0), 0) as rated_requests, sum(r.rated_nano) as rated_nano,
           sum(r.latency_count) as latencies
      from ${rollupTable(dimension, "hour")} r
     where r.org_id = any (array(select id from org))
       and r.bucket = any (${wanted})
     group by 2, 3`;

/** What they should add up to: raw as the dimension's consumer has folded it. All orgs together only where they are kept. */
const FROM_RAW = (["usage", "people"] as const satisfies readonly Consumer[])
  .flatMap((consumer) =>
    CONSUMERS[consumer].flatMap((dimension) => {
      const from = dimension === "tag" ? dimension : consumer;
      const sums = FIGURES.map((figure) => `sum(${from}_${figure}) as ${figure}`).join(", ");
      const rows = (orgId: string) =>
        `select '${dimension}' as dimension, ${orgId} as org_id, hour, ${sums} from raw group by 2, 3 having sum(${from}_requests) > 0`;
      return consumer === "usage" ? [rows("org_id"), rows("0")] : [rows("org_id")];
    }),
  )
  .join(" union all ");

/** Rows by tag add up to no other rows: without raw they are for `verify`, which compares their grains. */
const ADDING_UP = DIMENSIONS.filter((dimension) => dimension !== "tag");

const FROM_ORG_ROWS = ADDING_UP.filter((dimension) => dimension !== "org")
  .map(
    (dimension) =>
      `select '${dimension}' as dimension, org_id, hour, ${FIGURES.join(", ")} from kept
        where dimension = 'org'${dimension === "model" ? "" : " and org_id > 0"}`,
  )
  .concat(
    `select 'org', 0, hour, ${FIGURES.map((figure) => `sum(${figure})`).join(", ")} from kept
      where dimension = 'org' and org_id > 0 group by 3`,
    `select dimension, org_id, hour, ${FIGURES.join(", ")} from kept where dimension = 'org' and org_id > 0`,
  )
  .join(" union all ");

const LEDGER_DIFFERENCES = `
    select org_id, hour, source_id, 'ledger' as name,
           case when t.accepted is distinct from r.accepted then 'accepted events' else 'digest of accepted ids' end as figure,
           case when t.accepted is distinct from r.accepted then coalesce(t.accepted, 0) else t.digest end::text as expected,
           case when t.accepted is distinct from r.accepted then coalesce(r.accepted, 0) else r.digest end::text as found
      from told t
      full join raw r using (org_id, hour, source_id)
     where coalesce(t.accepted, 0) <> coalesce(r.accepted, 0)
        or coalesce(t.digest, 0) <> coalesce(r.digest, 0)
    union all
    select 0, hour, null, 'ledger', 'accepted events', coalesce(t.accepted, 0)::text, coalesce(r.accepted, 0)::text
      from (select hour, sum(accepted) as accepted from told group by 1) t
      full join (select hour, sum(accepted) as accepted from raw group by 1) r using (hour)
     where coalesce(t.accepted, 0) <> coalesce(r.accepted, 0)`;

const figureDifferences = (figure: (typeof FIGURES)[number]): string => `
    select org_id, hour, null::int4 as source_id, 'rollup_' || dimension || '_hour' as name, '${figure}' as figure,
           coalesce(s.${figure}, 0)::text as expected, coalesce(k.${figure}, 0)::text as found
      from should s
      full join kept k using (dimension, org_id, hour)
     where coalesce(s.${figure}, 0) <> coalesce(k.${figure}, 0)`;

/** Of these UTC days (start, s) those whose raw retention has deleted. Primary key of purged; reads only. */
export const listRawGoneDays = (
  sql: Sql,
  daySeconds: readonly number[],
): Promise<{ daySeconds: number }[]> => sql<{
  daySeconds: number;
}>`
  select d.seconds as "daySeconds"
    from unnest(${daySeconds}::float8[]) as d (seconds)
   where exists (
           select
             from purged p
            where p.what = 'raw'
              and p.day = (to_timestamp(d.seconds) at time zone 'UTC')::date)`;
