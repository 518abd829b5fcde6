import { type Grain, rollupTable } from "#contract";
import { type Sql, table } from "./database.ts";
import { bytesOf } from "./rows.ts";

/** Calls of one model in one bucket. `sketches` as in CallSums; null when no call reported a latency. */
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
export async function listCallCells(
  sql: Sql,
  ask: { orgId: number; grain: Grain; start: Date; end: Date },
): Promise<CallCellRow[]> {
  const rows = await sql<Omit<CallCellRow, "sketches"> & { sketches: string | null }>`
  select member_id as "memberId",
         extract(epoch from bucket)::int8 as "bucketSeconds",
         exact_sum(requests) as requests,
         coalesce(exact_sum(requests) filter (where outcome = 2), 0) as client,
         coalesce(exact_sum(requests) filter (where outcome = 3), 0) as capacity,
         coalesce(exact_sum(requests) filter (where outcome = 4), 0) as upstream,
         coalesce(exact_sum(requests) filter (where outcome = 5), 0) as policy,
         coalesce(exact_sum(requests) filter (where outcome = 6), 0) as internal,
         exact_sum(latency_count) as "latencyCount",
         encode(string_agg(int4send(octet_length(latency_sketch)) || latency_sketch, '') filter (where latency_count > 0),
                'base64') as sketches
    from ${table(rollupTable("model", ask.grain))}
   where org_id = ${ask.orgId}
     and bucket >= ${ask.start}
     and bucket < ${ask.end}
   group by bucket, member_id`;
  return rows.map((row) => ({
    ...row,
    sketches: row.sketches === null ? null : bytesOf(row.sketches),
  }));
}
