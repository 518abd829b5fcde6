import { type Grain, rollupTable } from "#contract";
import { type Sql, table } from "./database.ts";

/** Calls of one model in one bucket. `sketches` as in SketchRow; null when no call reported a latency. */
export type CallCellRow = {
  memberId: number;
  bucketSeconds: number;
  requests: number;
  client: number;
  capacity: number;
  upstream: number;
  policy: number;
  internal: number;
  latencyCount: number;
  sketches: Buffer | null;
};

/**
 * How the calls of each model of an org (0: of all orgs) ended and how long they took, per bucket of one grain, in no
 * order; buckets without calls are left out. Index: rollup_model's primary key, one range. Reads only; repeatable.
 */
export const listCallCells = (
  sql: Sql,
  ask: { orgId: number; grain: Grain; start: Date; end: Date },
): Promise<CallCellRow[]> => sql<CallCellRow>`
  select member_id as "memberId",
         extract(epoch from bucket)::int8 as "bucketSeconds",
         sum(requests)::int8 as requests,
         coalesce(sum(requests) filter (where outcome = 2), 0)::int8 as client,
         coalesce(sum(requests) filter (where outcome = 3), 0)::int8 as capacity,
         coalesce(sum(requests) filter (where outcome = 4), 0)::int8 as upstream,
         coalesce(sum(requests) filter (where outcome = 5), 0)::int8 as policy,
         coalesce(sum(requests) filter (where outcome = 6), 0)::int8 as internal,
         sum(latency_count)::int8 as "latencyCount",
         string_agg(int4send(octet_length(latency_sketch)) || latency_sketch, '')
           filter (where latency_count > 0) as sketches
    from ${table(rollupTable("model", ask.grain))}
   where org_id = ${ask.orgId}
     and bucket >= ${ask.start}
     and bucket < ${ask.end}
   group by bucket, member_id`;
