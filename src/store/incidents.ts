import { type Grain, rollupTable } from "#contract";
import { type Sql, table } from "./database.ts";
import { bytesOf, readInt8s } from "./rows.ts";

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

/** Numbers packed of a row, in `listCallCells`' order. */
const CELL_NUMBERS = 10;

/**
 * How the calls of each model of an org (0: of all orgs) ended and how long they took, per bucket of one grain, in no
 * order; buckets without calls are left out. Index: rollup_model's primary key, one range. Reads only; repeatable.
 */
export async function listCallCells(
  sql: Sql,
  ask: { orgId: number; grain: Grain; start: Date; end: Date },
): Promise<CallCellRow[]> {
  const [packed] = await sql<{ numbers: string | null; sketches: string | null }>`
  select encode(string_agg(int8send(c.member_id) || int8send(c.bucket) || int8send(c.requests) || int8send(c.client)
                           || int8send(c.capacity) || int8send(c.upstream) || int8send(c.policy) || int8send(c.internal)
                           || int8send(c.latencies) || int8send(octet_length(c.sketches)), ''),
                'base64') as numbers,
         encode(string_agg(c.sketches, ''), 'base64') as sketches
    from (
      select member_id,
             extract(epoch from bucket)::int8 as bucket,
             exact_sum(requests) as requests,
             coalesce(exact_sum(requests) filter (where outcome = 2), 0) as client,
             coalesce(exact_sum(requests) filter (where outcome = 3), 0) as capacity,
             coalesce(exact_sum(requests) filter (where outcome = 4), 0) as upstream,
             coalesce(exact_sum(requests) filter (where outcome = 5), 0) as policy,
             coalesce(exact_sum(requests) filter (where outcome = 6), 0) as internal,
             exact_sum(latency_count) as latencies,
             coalesce(string_agg(int4send(octet_length(latency_sketch)) || latency_sketch, '') filter (where latency_count > 0),
                      '') as sketches
        from ${table(rollupTable("model", ask.grain))}
       where org_id = ${ask.orgId}
         and bucket >= ${ask.start}
         and bucket < ${ask.end}
       group by bucket, member_id) c`;
  if (packed === undefined || packed.numbers === null || packed.sketches === null) return [];
  const numbers = readInt8s(bytesOf(packed.numbers));
  const sketches = bytesOf(packed.sketches);
  let end = 0;
  return Array.from({ length: numbers.length / CELL_NUMBERS }, (_, row) => {
    const at = (place: number): number => numbers[row * CELL_NUMBERS + place] ?? 0;
    const start = end;
    end += at(9);
    return {
      memberId: at(0),
      bucketSeconds: at(1),
      requests: at(2),
      client: at(3),
      capacity: at(4),
      upstream: at(5),
      policy: at(6),
      internal: at(7),
      latencyCount: at(8),
      sketches: start === end ? null : sketches.subarray(start, end),
    };
  });
}
