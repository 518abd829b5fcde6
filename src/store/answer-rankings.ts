import { FIRST_ERROR_OUTCOME } from "#contract";
import type { RollupAsk, UsageSums } from "./answers.ts";
import type { Sql } from "./database.ts";

/** Failed requests of one outcome and code; `code` null: none was given. */
export type ErrorCodeSums = { outcome: number; code: string | null; requests: number };

/**
 * The most frequent error codes over pieces of time, largest first: whole days from rollup_error_day, hours and quarters
 * of them from rollup_error_15m. Index: their primary keys, one range a piece. Reads only; repeatable.
 */
export const listTopErrorCodes = (
  sql: Sql,
  ask: {
    orgId: number;
    pieces: RollupAsk["pieces"];
    modelIds: readonly number[] | null;
    outcomes: readonly number[] | null;
    limit: number;
  },
): Promise<ErrorCodeSums[]> => {
  const { "15m": quarters, hour: hours, day: days } = ask.pieces;
  const edges = {
    starts: [...hours.starts, ...quarters.starts],
    ends: [...hours.ends, ...quarters.ends],
  };
  return sql<ErrorCodeSums>`
  select c.outcome, d.value as code, c.requests
    from (
      select r.outcome, r.error_code_id, exact_sum(r.requests) as requests
        from (
        select r.*
          from unnest(${edges.starts}::timestamptz[], ${edges.ends}::timestamptz[]) as p (starts, ends)
         cross join lateral (
                 select outcome, error_code_id, requests
                   from rollup_error_15m
                  where org_id = ${ask.orgId} and bucket >= p.starts and bucket < p.ends
                    and (${ask.modelIds}::int4[] is null or model_id = any(${ask.modelIds}::int4[]))
                    and (${ask.outcomes}::int2[] is null or outcome = any(${ask.outcomes}::int2[]))
                 offset 0) r
         union all
        select r.*
          from unnest(${days.starts}::timestamptz[], ${days.ends}::timestamptz[]) as p (starts, ends)
         cross join lateral (
                 select outcome, error_code_id, requests
                   from rollup_error_day
                  where org_id = ${ask.orgId} and bucket >= p.starts and bucket < p.ends
                    and (${ask.modelIds}::int4[] is null or model_id = any(${ask.modelIds}::int4[]))
                    and (${ask.outcomes}::int2[] is null or outcome = any(${ask.outcomes}::int2[]))
                 offset 0) r
      ) r
       group by r.outcome, r.error_code_id
       order by 3 desc, 1, 2
       limit ${ask.limit}
    ) c
    left join dictionary d on d.id = c.error_code_id
   order by c.requests desc, c.outcome, d.value`;
};

/** What one org used; `costNano` as in UsageSums. */
export type OrgUsageSums = Omit<UsageSums, "bucketNo" | "key"> & { orgId: number };

/**
 * Usage per org and currency over one span, every org but the pseudo-org of all; cost on the basis of all orgs together
 * (the event's own, else the price book's), whatever an org's own is. Index: the rollups' primary keys, one range per
 * org and piece. Reads only; repeatable.
 */
export const sumUsageByOrg = (
  sql: Sql,
  ask: Pick<RollupAsk, "pieces" | "outcomes">,
): Promise<OrgUsageSums[]> => sql<OrgUsageSums>`
  select r.org_id as "orgId",
         case when r.rating > 0 then r.rating else r.currency end as currency,
         exact_sum(r.requests) as requests,
         coalesce(exact_sum(r.requests) filter (where r.outcome >= ${FIRST_ERROR_OUTCOME}), 0) as errors,
         exact_sum(r.input_tokens) as "inputTokens",
         exact_sum(r.cache_read_tokens) as "cacheReadTokens",
         exact_sum(r.cache_write_5m_tokens) as "cacheWrite5mTokens",
         exact_sum(r.cache_write_1h_tokens) as "cacheWrite1hTokens",
         exact_sum(r.output_tokens) as "outputTokens",
         exact_sum(r.reasoning_tokens) as "reasoningTokens",
         exact_sum(case when r.rating > 0 then r.requests else r.priced_requests end) as "pricedRequests",
         exact_sum(case when r.rating > 0
                        then r.input_tokens + r.cache_read_tokens + r.cache_write_5m_tokens + r.cache_write_1h_tokens
                             + r.output_tokens + r.reasoning_tokens
                        else r.priced_tokens
                   end) as "pricedTokens",
         sum(case when r.rating > 0 then r.rated_nano else r.cost_nano end)::text as "costNano"
    from (
    select r.*
      from unnest(${ask.pieces["15m"].starts}::timestamptz[], ${ask.pieces["15m"].ends}::timestamptz[]) as p (starts, ends)
     cross join org o
     cross join lateral (
             select org_id, member_id, outcome, currency, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens,
                    cache_write_1h_tokens, output_tokens, reasoning_tokens, priced_requests, priced_tokens, cost_nano,
                    rating, rated_nano
               from rollup_org_15m
              where org_id = o.id and bucket >= p.starts and bucket < p.ends
                and (${ask.outcomes}::int2[] is null or outcome = any(${ask.outcomes}::int2[]))
             offset 0) r
     where o.id > 0
     union all
    select r.*
      from unnest(${ask.pieces.hour.starts}::timestamptz[], ${ask.pieces.hour.ends}::timestamptz[]) as p (starts, ends)
     cross join org o
     cross join lateral (
             select org_id, member_id, outcome, currency, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens,
                    cache_write_1h_tokens, output_tokens, reasoning_tokens, priced_requests, priced_tokens, cost_nano,
                    rating, rated_nano
               from rollup_org_hour
              where org_id = o.id and bucket >= p.starts and bucket < p.ends
                and (${ask.outcomes}::int2[] is null or outcome = any(${ask.outcomes}::int2[]))
             offset 0) r
     where o.id > 0
     union all
    select r.*
      from unnest(${ask.pieces.day.starts}::timestamptz[], ${ask.pieces.day.ends}::timestamptz[]) as p (starts, ends)
     cross join org o
     cross join lateral (
             select org_id, member_id, outcome, currency, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens,
                    cache_write_1h_tokens, output_tokens, reasoning_tokens, priced_requests, priced_tokens, cost_nano,
                    rating, rated_nano
               from rollup_org_day
              where org_id = o.id and bucket >= p.starts and bucket < p.ends
                and (${ask.outcomes}::int2[] is null or outcome = any(${ask.outcomes}::int2[]))
             offset 0) r
     where o.id > 0
  ) r
   group by 1, 2`;
