import type { CostBasis } from "#contract";
import { RATED_ABOVE, type RollupAsk } from "./answers.ts";
import type { Sql } from "./database.ts";

/**
 * Usage of one model: all of its requests, and what of it has no cost. Token classes are those of rows without any cost
 * (see `isMixed`).
 */
export type UnpricedSums = {
  memberId: number;
  allRequests: number;
  requests: number;
  totalTokens: number;
  inputTokens: number;
  cacheReadTokens: number;
  cacheWrite5mTokens: number;
  cacheWrite1hTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  /** Some rows have a cost for a part of their requests: whose tokens are whose is not kept by class. */
  isMixed: boolean;
};

/**
 * Usage without a cost on the ask's basis (see `sumUsage`) by model, every model of the ask, in no order. Index: the
 * rollups' primary keys, one range a piece. Reads only; repeatable.
 */
export const sumUnpriced = (
  sql: Sql,
  ask: Pick<RollupAsk, "orgId" | "pieces" | "costBasis">,
): Promise<UnpricedSums[]> => sql<UnpricedSums>`
  select r.member_id as "memberId",
         sum(r.requests)::int8 as "allRequests",
         sum(r.requests - priced.requests)::int8 as requests,
         sum(tokens.total - priced.tokens)::int8 as "totalTokens",
         coalesce(sum(r.input_tokens) filter (where priced.requests = 0), 0)::int8 as "inputTokens",
         coalesce(sum(r.cache_read_tokens) filter (where priced.requests = 0), 0)::int8 as "cacheReadTokens",
         coalesce(sum(r.cache_write_5m_tokens) filter (where priced.requests = 0), 0)::int8 as "cacheWrite5mTokens",
         coalesce(sum(r.cache_write_1h_tokens) filter (where priced.requests = 0), 0)::int8 as "cacheWrite1hTokens",
         coalesce(sum(r.output_tokens) filter (where priced.requests = 0), 0)::int8 as "outputTokens",
         coalesce(sum(r.reasoning_tokens) filter (where priced.requests = 0), 0)::int8 as "reasoningTokens",
         bool_or(priced.requests > 0 and priced.requests < r.requests) as "isMixed"
    from (
    select r.*
      from unnest(${ask.pieces["15m"].starts}::timestamptz[], ${ask.pieces["15m"].ends}::timestamptz[]) as p (starts, ends)
     cross join lateral (
             select member_id, rating, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens,
                    cache_write_1h_tokens, output_tokens, reasoning_tokens, priced_requests, priced_tokens
               from rollup_model_15m
              where org_id = ${ask.orgId} and bucket >= p.starts and bucket < p.ends
             offset 0) r
     union all
    select r.*
      from unnest(${ask.pieces.hour.starts}::timestamptz[], ${ask.pieces.hour.ends}::timestamptz[]) as p (starts, ends)
     cross join lateral (
             select member_id, rating, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens,
                    cache_write_1h_tokens, output_tokens, reasoning_tokens, priced_requests, priced_tokens
               from rollup_model_hour
              where org_id = ${ask.orgId} and bucket >= p.starts and bucket < p.ends
             offset 0) r
     union all
    select r.*
      from unnest(${ask.pieces.day.starts}::timestamptz[], ${ask.pieces.day.ends}::timestamptz[]) as p (starts, ends)
     cross join lateral (
             select member_id, rating, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens,
                    cache_write_1h_tokens, output_tokens, reasoning_tokens, priced_requests, priced_tokens
               from rollup_model_day
              where org_id = ${ask.orgId} and bucket >= p.starts and bucket < p.ends
             offset 0) r
  ) r
   cross join lateral (
           select r.input_tokens + r.cache_read_tokens + r.cache_write_5m_tokens + r.cache_write_1h_tokens
                  + r.output_tokens + r.reasoning_tokens as total) tokens
   cross join lateral (select r.rating > ${RATED_ABOVE[ask.costBasis]}::int2 as rated) uses
   cross join lateral (
           select case when not uses.rated then r.priced_requests when r.rating = 0 then 0 else r.requests end as requests,
                  case when not uses.rated then r.priced_tokens when r.rating = 0 then 0 else tokens.total end as tokens)
         priced
   group by r.member_id`;

/** The first UTC day on which a model had usage without a cost. */
export type UnpricedSince = { memberId: number; day: Date };

/**
 * Since when models of an org have usage without a cost on a basis, looked for in whole UTC days of a span; models
 * without any in it are left out. Index: rollup_model_day's primary key, one range. Reads only; repeatable.
 */
export const listUnpricedSince = (
  sql: Sql,
  ask: {
    orgId: number;
    costBasis: CostBasis;
    memberIds: readonly number[];
    start: Date;
    end: Date;
  },
): Promise<UnpricedSince[]> => sql<UnpricedSince>`
  select member_id as "memberId", min(bucket) as day
    from rollup_model_day
   where org_id = ${ask.orgId}
     and bucket >= ${ask.start}
     and bucket < ${ask.end}
     and member_id = any(${ask.memberIds}::int4[])
     and case ${ask.costBasis}::text
           when 'computed' then rating = 0
           when 'event' then priced_requests < requests
           else rating = 0 and priced_requests < requests
         end
   group by member_id`;
