import {
  type CostBasis,
  type Dimension,
  FIRST_ERROR_OUTCOME,
  type Grain,
  GRAINS,
  MEMBER_OTHER,
  rollupTable,
  type Piece,
} from "#contract";
import { type Sql, table } from "./database.ts";
import { bytesOf, readInt8s } from "./rows.ts";

/** Rows of one grain, as parallel arrays: the bucket each stretch belongs to, its start and its end. */
export type PieceArrays = { buckets: number[]; starts: string[]; ends: string[] };

/**
 * What to read: rows of one org (0: all orgs together) and dimension, over pieces that belong to numbered buckets;
 * of some members and outcomes only, or (null) of all.
 */
export type RollupAsk = {
  orgId: number;
  dimension: Dimension;
  pieces: Readonly<Record<Grain, PieceArrays>>;
  memberIds: readonly number[] | null;
  outcomes: readonly number[] | null;
  /** Which cost counts. */
  costBasis: CostBasis;
};

/**
 * What sums are split by: the members `shown`, all others under MEMBER_OTHER, or (null) each; the outcome; or nothing
 * (key 0).
 */
export type RollupKeys = { by: "none" | "member" | "outcome"; shown: readonly number[] | null };
export const NO_KEYS: RollupKeys = { by: "none", shown: [] };

/*
 * Rows with a rating are rated throughout, and none (rating above 0) or all (below 0) of their events have a cost of
 * their own: so each row shows one of its two costs, and what is priced of it follows.
 *
 * Each piece is a range scan of its own, and summed by itself: of a few groups at a time, which stay in the processor's
 * cache. Where pieces are not summed by themselves, `offset 0` keeps their scans apart: the planner, when it plans for
 * pieces it does not know, would otherwise read an org's whole history once and compare every row with every piece.
 */

/** Sorts pieces by grain for `RollupAsk`. */
export function arrangePieces(buckets: readonly (readonly Piece[])[]): RollupAsk["pieces"] {
  const arrays = { "15m": emptyArrays(), hour: emptyArrays(), day: emptyArrays() };
  buckets.forEach((pieces, bucket) => {
    for (const piece of pieces) {
      const array = arrays[piece.grain];
      array.buckets.push(bucket);
      array.starts.push(new Date(piece.startMs).toISOString());
      array.ends.push(new Date(piece.endMs).toISOString());
    }
  });
  return arrays;
}

/**
 * Rows whose rating is above this show what the price book says, all others the events' own cost: every row, those
 * without a cost of their own, or none.
 */
export const RATED_ABOVE = {
  computed: -32_768,
  event_or_computed: 0,
  event: 32_767,
} as const satisfies Record<CostBasis, number>;

const emptyArrays = (): PieceArrays => ({ buckets: [], starts: [], ends: [] });
const rollup = (ask: RollupAsk, grain: Grain) => table(rollupTable(ask.dimension, grain));

/**
 * Usage of one bucket, key and currency (packed), with the cost that the ask's basis shows. `costNano` is an integer as
 * text: billionths of the currency's unit.
 */
export type UsageSums = {
  bucketNo: number;
  key: number;
  currency: number;
  requests: number;
  errors: number;
  inputTokens: number;
  cacheReadTokens: number;
  cacheWrite5mTokens: number;
  cacheWrite1hTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  pricedRequests: number;
  pricedTokens: number;
  costNano: string;
};

/** Numbers packed of a row, in `sumUsageOf`'s order. */
const USAGE_NUMBERS = 13;

/**
 * Usage per bucket, key and currency, in no order; buckets without rows are left out, and what is read at several
 * grains, or in several pieces, has a row for each. Index: the rollups' primary keys, one range a piece. Reads only;
 * repeatable.
 */
export async function sumUsage(sql: Sql, ask: RollupAsk, keys: RollupKeys): Promise<UsageSums[]> {
  const sums: UsageSums[][] = [];
  for (const grain of GRAINS) sums.push(await sumUsageOf(sql, ask, keys, grain));
  return sums.flat();
}

/** All rows come packed in one: taking thousands of rows of a dozen numbers each apart would take longer than the sums. */
async function sumUsageOf(
  sql: Sql,
  ask: RollupAsk,
  keys: RollupKeys,
  grain: Grain,
): Promise<UsageSums[]> {
  const pieces = ask.pieces[grain];
  if (pieces.starts.length === 0) return [];
  const [packed] = await sql<{ numbers: string | null; costs: string | null }>`
  select encode(string_agg(int8send(p.no) || int8send(s.key) || int8send(s.currency) || int8send(s.requests)
                           || int8send(s.errors) || int8send(s.input) || int8send(s.cache_read)
                           || int8send(s.cache_write_5m) || int8send(s.cache_write_1h) || int8send(s.output)
                           || int8send(s.reasoning) || int8send(s.priced_requests) || int8send(s.priced_tokens), ''),
                'base64') as numbers,
         string_agg(s.cost_nano::text, ',') as costs
    from unnest(${pieces.buckets}::int4[], ${pieces.starts}::timestamptz[], ${pieces.ends}::timestamptz[]) as p (no, starts, ends)
   cross join lateral (
           select case ${keys.by}::text
                    when 'outcome' then r.outcome::int4
                    when 'member' then case when ${keys.shown}::int4[] is null or r.member_id = any(${keys.shown}::int4[])
                                            then r.member_id
                                            else ${MEMBER_OTHER}
                                       end
                    else 0
                  end as key,
                  shown.currency,
                  exact_sum(r.requests) as requests,
                  coalesce(exact_sum(r.requests) filter (where r.outcome >= ${FIRST_ERROR_OUTCOME}), 0) as errors,
                  exact_sum(r.input_tokens) as input,
                  exact_sum(r.cache_read_tokens) as cache_read,
                  exact_sum(r.cache_write_5m_tokens) as cache_write_5m,
                  exact_sum(r.cache_write_1h_tokens) as cache_write_1h,
                  exact_sum(r.output_tokens) as output,
                  exact_sum(r.reasoning_tokens) as reasoning,
                  exact_sum(shown.priced_requests) as priced_requests,
                  exact_sum(shown.priced_tokens) as priced_tokens,
                  sum(shown.cost_nano) as cost_nano
             from ${rollup(ask, grain)} r
            cross join lateral (select r.rating > ${RATED_ABOVE[ask.costBasis]}::int2 as rated) uses
            cross join lateral (
                    select case when uses.rated then abs(r.rating) else r.currency end as currency,
                           case when uses.rated then r.rated_nano else r.cost_nano end as cost_nano,
                           case when not uses.rated then r.priced_requests when r.rating = 0 then 0 else r.requests end
                           as priced_requests,
                           case when not uses.rated then r.priced_tokens when r.rating = 0 then 0
                                else r.input_tokens + r.cache_read_tokens + r.cache_write_5m_tokens
                                     + r.cache_write_1h_tokens + r.output_tokens + r.reasoning_tokens
                           end as priced_tokens) shown
            where r.org_id = ${ask.orgId} and r.bucket >= p.starts and r.bucket < p.ends
              and (${ask.memberIds}::int4[] is null or r.member_id = any(${ask.memberIds}::int4[]))
              and (${ask.outcomes}::int2[] is null or r.outcome = any(${ask.outcomes}::int2[]))
            group by 1, 2) s`;
  if (packed === undefined || packed.numbers === null || packed.costs === null) return [];
  const numbers = readInt8s(bytesOf(packed.numbers));
  return packed.costs.split(",").map((costNano, row) => {
    const at = (place: number): number => numbers[row * USAGE_NUMBERS + place] ?? 0;
    return {
      bucketNo: at(0),
      key: at(1),
      currency: at(2),
      requests: at(3),
      errors: at(4),
      inputTokens: at(5),
      cacheReadTokens: at(6),
      cacheWrite5mTokens: at(7),
      cacheWrite1hTokens: at(8),
      outputTokens: at(9),
      reasoningTokens: at(10),
      pricedRequests: at(11),
      pricedTokens: at(12),
      costNano,
    };
  });
}

/**
 * Calls of one bucket and key: how they ended, and the latencies known of them. Errors per class in OUTCOMES' order.
 * `sketches`: latency sketches laid end to end, each after its length (4 bytes, big-endian); null: none, or not asked for.
 */
export type CallSums = {
  bucketNo: number;
  key: number;
  requests: number;
  cancelled: number;
  client: number;
  capacity: number;
  upstream: number;
  policy: number;
  internal: number;
  latencyCount: number;
  latencySumMs: number;
  sketches: Buffer | null;
};

/** As `sumUsage`, of how calls ended; with the sketches of all members, of those shown, or (null) of none. */
export async function sumCalls(
  sql: Sql,
  ask: RollupAsk,
  keys: RollupKeys,
  sketchesOf: "all" | "shown" | null,
): Promise<CallSums[]> {
  const sums: CallSums[][] = [];
  for (const grain of GRAINS) sums.push(await sumCallsOf(sql, ask, { ...keys, sketchesOf }, grain));
  return sums.flat();
}

async function sumCallsOf(
  sql: Sql,
  ask: RollupAsk,
  keys: RollupKeys & { sketchesOf: "all" | "shown" | null },
  grain: Grain,
): Promise<CallSums[]> {
  const pieces = ask.pieces[grain];
  if (pieces.starts.length === 0) return [];
  const rows = await sql<Omit<CallSums, "sketches"> & { sketches: string | null }>`
  select p.no as "bucketNo", s.*
    from unnest(${pieces.buckets}::int4[], ${pieces.starts}::timestamptz[], ${pieces.ends}::timestamptz[]) as p (no, starts, ends)
   cross join lateral (
           select case ${keys.by}::text
                    when 'outcome' then outcome::int4
                    when 'member' then case when ${keys.shown}::int4[] is null or member_id = any(${keys.shown}::int4[])
                                            then member_id
                                            else ${MEMBER_OTHER}
                                       end
                    else 0
                  end as key,
                  exact_sum(requests) as requests,
                  coalesce(exact_sum(requests) filter (where outcome = 1), 0) as cancelled,
                  coalesce(exact_sum(requests) filter (where outcome = 2), 0) as client,
                  coalesce(exact_sum(requests) filter (where outcome = 3), 0) as capacity,
                  coalesce(exact_sum(requests) filter (where outcome = 4), 0) as upstream,
                  coalesce(exact_sum(requests) filter (where outcome = 5), 0) as policy,
                  coalesce(exact_sum(requests) filter (where outcome = 6), 0) as internal,
                  exact_sum(latency_count) as "latencyCount",
                  exact_sum(latency_sum_ms) as "latencySumMs",
                  encode(string_agg(int4send(octet_length(latency_sketch)) || latency_sketch, '')
                           filter (where latency_count > 0
                                     and (${keys.sketchesOf}::text = 'all'
                                          or ${keys.sketchesOf}::text = 'shown' and member_id = any(${keys.shown}::int4[]))),
                         'base64') as sketches
             from ${rollup(ask, grain)}
            where org_id = ${ask.orgId} and bucket >= p.starts and bucket < p.ends
              and (${ask.memberIds}::int4[] is null or member_id = any(${ask.memberIds}::int4[]))
              and (${ask.outcomes}::int2[] is null or outcome = any(${ask.outcomes}::int2[]))
            group by 1) s`;
  return rows.map((row) => ({
    ...row,
    sketches: row.sketches === null ? null : bytesOf(row.sketches),
  }));
}

/** A member's place by a measure: `size` is an integer (of cost, billionths). */
type MemberRank = { size: bigint; key: number };

/**
 * The first members by a measure (cost: in one currency), largest first, equal ones by id, of those after a rank;
 * MEMBER_OTHER is never among them. Index as `sumUsage`, the pieces over the whole window. Reads only; repeatable.
 */
export const listTopMembers = (
  sql: Sql,
  ask: RollupAsk,
  order: {
    by: "requests" | "errors" | "totalTokens" | "cost";
    currency: number;
    after: MemberRank | null;
    limit: number;
  },
): Promise<{ memberId: number }[]> => sql<{ memberId: number }>`
  select m.member_id as "memberId"
    from (
    select r.member_id,
           sum(case ${order.by}::text
                 when 'errors' then case when r.outcome >= ${FIRST_ERROR_OUTCOME} then r.requests else 0 end
                 when 'totalTokens' then r.input_tokens + r.cache_read_tokens + r.cache_write_5m_tokens
                                         + r.cache_write_1h_tokens + r.output_tokens + r.reasoning_tokens
                 when 'cost' then case when uses.rated then case when abs(r.rating) = ${order.currency} then r.rated_nano else 0 end
                                       when r.currency = ${order.currency} then r.cost_nano
                                       else 0
                                  end
                 else r.requests
               end) as size
    from (
    select p.no, r.*
      from unnest(${ask.pieces["15m"].buckets}::int4[], ${ask.pieces["15m"].starts}::timestamptz[], ${ask.pieces["15m"].ends}::timestamptz[])
           as p (no, starts, ends)
     cross join lateral (
             select member_id, outcome, currency, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens,
                    cache_write_1h_tokens, output_tokens, reasoning_tokens, priced_requests, priced_tokens, cost_nano,
                    rating, rated_nano
               from ${rollup(ask, "15m")}
              where org_id = ${ask.orgId} and bucket >= p.starts and bucket < p.ends
                and (${ask.memberIds}::int4[] is null or member_id = any(${ask.memberIds}::int4[]))
                and (${ask.outcomes}::int2[] is null or outcome = any(${ask.outcomes}::int2[]))
             offset 0) r
     union all
    select p.no, r.*
      from unnest(${ask.pieces.hour.buckets}::int4[], ${ask.pieces.hour.starts}::timestamptz[], ${ask.pieces.hour.ends}::timestamptz[])
           as p (no, starts, ends)
     cross join lateral (
             select member_id, outcome, currency, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens,
                    cache_write_1h_tokens, output_tokens, reasoning_tokens, priced_requests, priced_tokens, cost_nano,
                    rating, rated_nano
               from ${rollup(ask, "hour")}
              where org_id = ${ask.orgId} and bucket >= p.starts and bucket < p.ends
                and (${ask.memberIds}::int4[] is null or member_id = any(${ask.memberIds}::int4[]))
                and (${ask.outcomes}::int2[] is null or outcome = any(${ask.outcomes}::int2[]))
             offset 0) r
     union all
    select p.no, r.*
      from unnest(${ask.pieces.day.buckets}::int4[], ${ask.pieces.day.starts}::timestamptz[], ${ask.pieces.day.ends}::timestamptz[])
           as p (no, starts, ends)
     cross join lateral (
             select member_id, outcome, currency, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens,
                    cache_write_1h_tokens, output_tokens, reasoning_tokens, priced_requests, priced_tokens, cost_nano,
                    rating, rated_nano
               from ${rollup(ask, "day")}
              where org_id = ${ask.orgId} and bucket >= p.starts and bucket < p.ends
                and (${ask.memberIds}::int4[] is null or member_id = any(${ask.memberIds}::int4[]))
                and (${ask.outcomes}::int2[] is null or outcome = any(${ask.outcomes}::int2[]))
             offset 0) r
  ) r
   cross join lateral (select r.rating > ${RATED_ABOVE[ask.costBasis]}::int2 as rated) uses
   where r.member_id <> ${MEMBER_OTHER}
   group by r.member_id) m
   where ${order.after?.size.toString() ?? null}::numeric is null
      or m.size < ${order.after?.size.toString() ?? null}::numeric
      or m.size = ${order.after?.size.toString() ?? null}::numeric and m.member_id > ${order.after?.key ?? null}::int4
   order by m.size desc, m.member_id
   limit ${order.limit}`;

/** A UTC day (YYYY-MM-DD) of which retention has deleted something, and what: quarters of an hour, or all figures. */
export type PurgedDay = { day: string; what: "15m" | "all" };

/**
 * The latest UTC day of which too little is kept: of a span's days all figures of which are gone, and of some days
 * those whose 15-minute rows are, for one org or (null) for any. Index: purged's primary key. At most one row. Reads
 * only; repeatable.
 */
export const listPurgedDays = (
  sql: Sql,
  ask: { orgId: number | null; start: Date; end: Date; quarterDays: readonly string[] },
): Promise<PurgedDay[]> => sql<PurgedDay>`
  select day::text as day, what
    from purged
   where what = 'all'
     and day >= (${ask.start}::timestamptz at time zone 'UTC')::date
     and day < ${ask.end}::timestamptz at time zone 'UTC'
   union all
  select day::text, what
    from purged
   where what = '15m'
     and day = any(${ask.quarterDays}::date[])
     and (${ask.orgId}::int4 is null or org_id = ${ask.orgId})
   order by 2 desc, 1 desc
   limit 1`;
