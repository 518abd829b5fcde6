import {
  type Dimension,
  type Grain,
  GRAIN_SECONDS,
  GRAINS,
  MEMBER_KIND,
  rollupTable,
} from "#contract";
import type { Sql, Tx } from "./database.ts";
import { rawPartitionName } from "./partitions.ts";
import type { ReratingOrder } from "./rerate-rows.ts";
import type { ReratingWork } from "./reratings.ts";
import { ratingOf, ROLLUP_MEASURES } from "./rollups.ts";
import { selectRows } from "./rows.ts";

/** A UTC day (YYYY-MM-DD) of an order. */
export type ReratingDay = {
  order: Pick<ReratingOrder, "id" | "orgId" | "model" | "startsAt" | "endsAt">;
  day: string;
};

/** Whether retention has deleted raw events of a UTC day; there may be later ones. Primary key of purged; reads only. */
export const isRawPurged = async (sql: Sql, day: string): Promise<boolean> => {
  const [row] = await sql<{ isPurged: boolean }>`
    select exists (
             select
               from purged
              where what = 'raw'
                and org_id = 0
                and day = ${day}::date) as "isPurged"`;
  return row?.isPurged === true;
};

/** UTC day numbers whose raw was taken away, of those from one on: what lies there now came late. Index: purged's primary key. */
export const listRawPurgedDays = async (sql: Sql, fromDay: number): Promise<number[]> => {
  const rows = await sql<{ day: number }>`
    select day - date '1970-01-01' as day
      from purged
     where what = 'raw'
       and org_id = 0
       and day >= date '1970-01-01' + ${fromDay}::int4`;
  return rows.map(({ day }) => day);
};

const TOKENS = [
  "input_tokens",
  "cache_read_tokens",
  "cache_write_5m_tokens",
  "cache_write_1h_tokens",
  "output_tokens",
  "reasoning_tokens",
] as const;
const KEY = "org_id, member_id, bucket, outcome, currency, rating";

/**
 * Makes the table of a step's sums, which goes with its transaction: rows of orgs' models in the finest buckets there are,
 * `seconds` wide, less what raw has of them.
 */
export const createRerateSums = (tx: Tx): Promise<unknown> =>
  tx.exec(`
  create temp table rerate_sum (
    no int4 primary key, org_id int4 not null, model_id int4 not null, system_id int4, bucket timestamptz not null,
    seconds int4 not null, outcome int2 not null, currency int2 not null, rating int2 not null, requests int8 not null,
    ${TOKENS.map((name) => `${name} int8 not null`).join(", ")},
    nano_before numeric not null, nano_after numeric
  ) on commit drop`);

const dayOf = (day: string): Date => new Date(`${day}T00:00:00Z`);
const instant = (at: Date): string => `timestamptz '${at.toISOString()}'`;
const nextDay = (day: string): Date => new Date(dayOf(day).getTime() + GRAIN_SECONDS.day * 1000);

/** Whether an org's 15-minute rows of a day are deleted. */
const is15mPurged = (org: string, day: string): string =>
  `exists (select from purged p where p.what = '15m' and p.org_id = ${org} and p.day = date '${dayOf(day).toISOString().slice(0, 10)}')`;

/** Rows of a grain that an order is about: of orgs that have no finer ones. */
const rowsOf = ({ order, day }: ReratingDay, grain: "15m" | "hour"): string => {
  const orgs = order.orgId === 0 ? "o.id > 0" : `o.id = ${Number(order.orgId)}`;
  return `
    select ${KEY}, ${GRAIN_SECONDS[grain]} as seconds, requests, ${TOKENS.join(", ")}, rated_nano
      from ${rollupTable("model", grain)}
     where org_id = any (array(select o.id from org o where ${orgs} and ${grain === "15m" ? "not " : ""}${is15mPurged("o.id", day)}))
       and bucket >= ${instant(dayOf(day))}
       and bucket < ${instant(nextDay(day))}
       and bucket > ${instant(order.startsAt)} - interval '${GRAIN_SECONDS[grain]} seconds'
       and bucket < ${instant(order.endsAt)}`;
};

/** What raw has of the same rows, as far as it is folded. */
const rawOf = (day: string): string => `
    select e.org_id, e.model_id as member_id,
           date_bin(case when ${is15mPurged("e.org_id", day)} then interval '1 hour' else interval '15 minutes' end,
                    e.occurred_at, timestamptz 'epoch') as bucket,
           e.outcome, e.currency, ${ratingOf("e")} as rating, sum(e.requests) as requests,
           ${TOKENS.map((name) => `sum(e.${name}) as ${name}`).join(", ")}, sum(coalesce(e.rated_nano, 0)) as rated_nano
      from only ${rawPartitionName(dayOf(day).getTime() / (GRAIN_SECONDS.day * 1000))} e
     where exists (
             select
               from watermark w
              where w.consumer = 'usage'
                and w.lane_id = (e.batch_id >> 36)::int4
                and w.batch_no >= e.batch_id & 68719476735)
     group by 1, 2, 3, 4, 5, 6`;

/**
 * Chooses the rows of a day that an order is about, less what raw (`hasRaw`) has of them: that is rated event by event.
 * Returns how many. Index: primary key, one range an org; one scan of the day's raw.
 */
export const chooseSumsToRate = async (
  tx: Tx,
  { order, day, hasRaw }: ReratingDay & { hasRaw: boolean },
): Promise<number> => {
  await tx.exec(`
  insert into rerate_sum (no, org_id, model_id, bucket, seconds, outcome, currency, rating, requests, ${TOKENS.join(", ")}, nano_before)
  select row_number() over (order by ${KEY}), org_id, member_id, bucket, seconds, outcome, currency, rating,
         ${["requests", ...TOKENS, "rated_nano"].map((name) => (hasRaw ? `r.${name} - coalesce(e.${name}, 0)` : `r.${name}`)).join(", ")}
    from (${rowsOf({ order, day }, "15m")} union all ${rowsOf({ order, day }, "hour")}) as r
    ${hasRaw ? `left join (${rawOf(day)}) as e using (${KEY})` : ""}
   where r.requests > ${hasRaw ? "coalesce(e.requests, 0)" : "0"}`);
  // The models by text: the order's, or all.
  const [left] = await tx.sql<{ rows: number }>`
    with others as (
      delete from rerate_sum
       where ${order.model}::text is not null
         and model_id <> all (array(select id from dictionary where kind = ${MEMBER_KIND.model} and value = ${order.model}))
    )
    select coalesce(max(no), 0) as rows from rerate_sum`;
  return left?.rows ?? 0;
};

/** What of a sum its new cost depends on; the bucket's start in seconds, the cost as text. */
export type SumToRate = {
  no: number;
  orgId: number;
  modelId: number;
  bucketSeconds: number;
  seconds: number;
  outcome: number;
  rating: number;
  requests: number;
  inputTokens: number;
  cacheReadTokens: number;
  cacheWrite5mTokens: number;
  cacheWrite1hTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  nanoBefore: string;
};

/** Chosen sums by number, half-open. Primary key; reads only. */
export const listChosenSums = (
  sql: Sql,
  { from, to }: { from: number; to: number },
): Promise<SumToRate[]> => sql<SumToRate>`
  select no,
         org_id as "orgId",
         model_id as "modelId",
         extract(epoch from bucket)::float8 as "bucketSeconds",
         seconds,
         outcome,
         rating,
         requests,
         input_tokens as "inputTokens",
         cache_read_tokens as "cacheReadTokens",
         cache_write_5m_tokens as "cacheWrite5mTokens",
         cache_write_1h_tokens as "cacheWrite1hTokens",
         output_tokens as "outputTokens",
         reasoning_tokens as "reasoningTokens",
         nano_before::text as "nanoBefore"
    from rerate_sum
   where no >= ${from}
     and no < ${to}
   order by no`;

/** Says what chosen sums cost anew. */
export const rateChosenSums = (
  sql: Sql,
  rated: { no: readonly number[]; nano: readonly bigint[] },
): Promise<never[]> => sql`
  update rerate_sum
     set nano_after = r.nano
    from unnest(${rated.no}::int4[], ${rated.nano.map(String)}::numeric[]) as r (no, nano)
   where rerate_sum.no = r.no`;

/** Forgets the chosen sums that nothing was said about. */
export const dropUnratedSums = (sql: Sql): Promise<never[]> => sql`
  delete from rerate_sum
   where nano_after is null`;

/** Keeps what is added to rows, for an undo. */
export const insertReratingSums = (sql: Sql, id: number): Promise<never[]> => sql`
  insert into rerating_rollup (rerating_id, org_id, model_id, bucket, outcome, currency, rating, requests, nano_before, nano_after)
  select ${id}::int4, org_id, model_id, bucket, outcome, currency, rating, requests, nano_before, nano_after
    from rerate_sum`;

/** Takes out what an order has added to a day's rows: chosen, with before and after in each other's place. Primary key. */
export const takeSumsToUndo = async (tx: Tx, { order, day }: ReratingDay): Promise<number> => {
  const { rowCount } = await tx.exec(`
  with taken as (
    delete from rerating_rollup
     where rerating_id = ${Number(order.id)}
       and bucket >= ${instant(dayOf(day))}
       and bucket < ${instant(nextDay(day))}
    returning *
  )
  insert into rerate_sum (no, org_id, model_id, bucket, seconds, outcome, currency, rating, requests, ${TOKENS.join(", ")}, nano_before, nano_after)
  select row_number() over (), org_id, model_id, bucket,
         case when ${is15mPurged("taken.org_id", day)} then ${GRAIN_SECONDS.hour} else ${GRAIN_SECONDS["15m"]} end,
         outcome, currency, rating, requests, ${TOKENS.map(() => "0").join(", ")}, nano_after, nano_before
    from taken`);
  return rowCount ?? 0;
};

/** As `addReratingLines`, of the chosen sums. */
export const addReratingSumLines = (
  tx: Tx,
  { order, day, as }: ReratingDay & { as: ReratingWork },
): Promise<unknown> => {
  const columns =
    as === "previewing"
      ? ["priced_before", "priced_after", "nano_before", "nano_after"]
      : ["applied_before", "applied_after", "applied_nano_before", "applied_nano_after"];
  // Undone, after and before have changed places, and both are taken off.
  const [before, after, sign] =
    as === "undoing" ? ["nano_after", "nano_before", -1] : ["nano_before", "nano_after", 1];
  return tx.exec(`
    insert into rerating_line as line (rerating_id, org_id, model_id, day, currency, ${columns.join(", ")})
    select ${Number(order.id)}, org_id, model_id, ${instant(dayOf(day))} at time zone 'UTC', abs(rating),
           ${sign} * sum(requests), ${sign} * sum(requests), ${sign} * sum(${before}), ${sign} * sum(${after})
      from rerate_sum
     group by org_id, model_id, abs(rating)
     order by org_id, model_id, abs(rating)
        on conflict (rerating_id, day, org_id, model_id, currency) do update
       set ${columns.map((name) => `${name} = line.${name} + excluded.${name}`).join(", ")}`);
};

/** The ids of the chosen sums' models for all orgs together. Index: dictionary's. */
const RESOLVE_MODELS = `
  update rerate_sum
     set system_id = s.id
    from dictionary d
    join dictionary s on s.org_id = 0 and s.kind = d.kind and s.value = d.value
   where d.id = rerate_sum.model_id`;

/** Whose row of a dimension a sum belongs to: its org's own, or that of all orgs together. */
type Owner = { org: "org_id" | "0"; member: "model_id" | "system_id" | "0" };

const added = (grain: Grain, { org, member }: Owner, day: string): string => `
    select ${org} as org_id, ${member} as member_id,
           date_bin('${GRAIN_SECONDS[grain]} seconds', bucket, timestamptz 'epoch') as bucket, outcome, currency, rating,
           sum(nano_after - nano_before) as nano
      from rerate_sum
     where seconds <= ${GRAIN_SECONDS[grain]}
       and ${grain === "15m" && org === "0" ? `not ${is15mPurged("0", day)}` : "true"}
     group by 1, 2, 3, 4, 5, 6
     order by 1, 3, 2, 4, 5, 6`;

const SAME_ROW = KEY.split(", ")
  .map((name) => `r.${name} = a.${name}`)
  .join("\n       and ");

/**
 * Adds what the chosen sums change to every rollup row that they are part of. People's dimensions, which do not know models,
 * get it in the row of nobody; it is made where there is none, and deleted where nothing is left of it. False when a row is
 * not there: then the caller rolls back. In a transaction that keeps folds out. Index: primary keys.
 */
export async function addChosenSums(tx: Tx, day: string): Promise<boolean> {
  await tx.exec(RESOLVE_MODELS);
  for (const grain of GRAINS) {
    for (const [dimension, owners] of OWNERS) {
      for (const owner of owners) {
        const [rows] = await selectRows<{ isWhole: boolean }>(
          tx,
          `
  with a as materialized (${added(grain, owner, day)}
  ), done as (
    update ${rollupTable(dimension, grain)} r
       set rated_nano = r.rated_nano + a.nano
      from a
     where ${SAME_ROW}
    returning 1
  )
  select (select count(*) from a) = (select count(*) from done) as "isWhole"`,
        );
        if (rows?.isWhole !== true) return false;
      }
    }
    for (const dimension of PEOPLE) await addToNobody(tx, { dimension, grain, day });
  }
  for (const grain of GRAINS)
    for (const dimension of PEOPLE) await deleteEmptied(tx, { dimension, grain, day });
  return true;
}

const OWN_ORG: Owner = { org: "org_id", member: "0" };
const OWNERS: readonly (readonly [Dimension, readonly Owner[]])[] = [
  ["org", [OWN_ORG, { org: "0", member: "0" }]],
  [
    "model",
    [
      { org: "org_id", member: "model_id" },
      { org: "0", member: "system_id" },
    ],
  ],
];
/** Not by tag: answers count what has no tag as all that is there by client less what has one. */
const PEOPLE = ["client", "actor"] as const satisfies readonly Dimension[];

type Target = { dimension: Dimension; grain: Grain; day: string };

const addToNobody = (tx: Tx, { dimension, grain, day }: Target): Promise<unknown> =>
  tx.exec(`
  insert into ${rollupTable(dimension, grain)} as r (${KEY}, ${ROLLUP_MEASURES.join(", ")}, latency_sketch)
  select ${KEY}, ${ROLLUP_MEASURES.map((name) => (name === "rated_nano" ? "nano" : "0")).join(", ")}, ''
    from (${added(grain, OWN_ORG, day)}) as a
      on conflict (org_id, bucket, member_id, outcome, currency, rating) do update
     set rated_nano = r.rated_nano + excluded.rated_nano`);

/** Deletes rows of nobody in which nothing is left, the finest first: a row stays while there is a finer one of its time. */
const deleteEmptied = (tx: Tx, { dimension, grain, day }: Target): Promise<unknown> => {
  const finer = GRAINS[GRAINS.indexOf(grain) - 1];
  const isLast =
    finer === undefined
      ? ""
      : `
     and not exists (
           select
             from ${rollupTable(dimension, finer)} f
            where f.org_id = r.org_id
              and f.bucket >= r.bucket
              and f.bucket < r.bucket + interval '${GRAIN_SECONDS[grain]} seconds'
              and f.member_id = r.member_id
              and f.outcome = r.outcome
              and f.currency = r.currency
              and f.rating = r.rating)`;
  return tx.exec(`
  delete from ${rollupTable(dimension, grain)} r
   using (${added(grain, OWN_ORG, day)}) as a
   where ${SAME_ROW}
     and ${ROLLUP_MEASURES.map((name) => `r.${name} = 0`).join(" and ")}
     and r.latency_sketch = ''${isLast}`);
};

/** What became of rollup rows without raw. */
export const TALLIED = [
  "rated",
  "unpriced",
  "no_price",
  "other_model",
  "pool",
  "cut",
  "turn",
  "currency",
  "not_linear",
  "fraction",
  "not_counted",
  "class_unpriced",
  "too_large",
] as const;
export type Tallied = (typeof TALLIED)[number];

/** Rows that were rated again (`rated`), or left and why; and the requests in them. */
export type ReratingTally = { became: Tallied; rows: number; requests: number };

/** Notes what became of a day's rows, in place of what was noted before. Primary key; repeatable. */
export const replaceReratingTally = async (
  sql: Sql,
  { id, day }: { id: number; day: string },
  tally: readonly ReratingTally[],
): Promise<void> => {
  await sql`delete from rerating_tally where rerating_id = ${id} and day = ${day}::date`;
  await sql`
    insert into rerating_tally (rerating_id, day, became, row_count, requests)
    select ${id}::int4, ${day}::date, t.became, t.rows, t.requests
      from unnest(
             ${tally.map((one) => one.became)}::text[],
             ${tally.map((one) => one.rows)}::int8[],
             ${tally.map((one) => one.requests)}::int8[])
           as t (became, rows, requests)`;
};

/** The tally of an order, all days together, the most requests first. Primary key; reads only. */
export const sumReratingTally = (
  sql: Sql,
  id: number,
): Promise<ReratingTally[]> => sql<ReratingTally>`
  select became, sum(row_count)::int8 as rows, sum(requests)::int8 as requests
    from rerating_tally
   where rerating_id = ${id}
   group by became
   order by sum(requests) desc, became`;
