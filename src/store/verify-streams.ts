import type { Database, Sql, Tx } from "./database.ts";

/** Reads one moment of the database for as long as it takes. */
export const readMoment = <T>(database: Database, work: (tx: Tx) => Promise<T>): Promise<T> =>
  database.transaction(async (tx) => {
    await tx.exec(
      "set transaction isolation level repeatable read, read only; set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0",
    );
    return await work(tx);
  });

/** A lane of a stream, by the stream's name and its source in the ledger. */
export type StreamLane = { laneId: number; source: string; stream: string };

/** Every lane of a stream, in order of name. Reads only. */
export const listStreamLanes = (sql: Sql): Promise<StreamLane[]> => sql<StreamLane>`
  select id as "laneId", transport as source, partition as stream
    from lane
   where starts_with(transport, 'stream/')
   order by transport collate "C", partition collate "C"
   limit 10000`;

/** The batches of a lane that can be compared with its stream. Positions as in lane.position. */
export type ComparableBatches = {
  fromBatchNo: number;
  /** Where the first of them began; null: at the stream's beginning. */
  positionFrom: string | null;
  /** Where the last of them ended. */
  positionTo: string;
  /** Up to which the stream counts as read, when somebody set it after the last batch; null: from its beginning. */
  position: string | null;
};

/**
 * Those of a lane's batches, up to the last one, whose messages a stream that begins with `firstOffset` still holds, and
 * that came after the stream was made anew, or the position was set back by hand, the last time. Undefined when there
 * are none. Index: primary key, all batches of the lane. Reads only.
 */
export async function findComparableBatches(
  tx: Tx,
  { laneId, firstOffset }: { laneId: number; firstOffset: number },
): Promise<ComparableBatches | undefined> {
  const [found] = await tx.sql<ComparableBatches>`
    with anew as (
      select coalesce(max(batch_no), -1) as batch_no
        from stream_incident
       where lane_id = ${laneId}
         and kind = 'recreated'
    ), step as (
      select b.batch_no,
             b.batch_no = anew.batch_no + 1 or b.position_from is null as is_beginning,
             b.position_from,
             b.position_from like '%+%' as is_within_message,
             split_part(split_part(b.position_from, ':', 1), '+', 1)::int8 as from_offset,
             split_part(split_part(b.position_to, ':', 1), '+', 1)::int8 as to_offset,
             lag(split_part(split_part(b.position_to, ':', 1), '+', 1)::int8) over (order by b.batch_no) as before,
             b.position_to
        from ingestion_batches b
       cross join anew
       where b.lane_id = ${laneId}
         and b.batch_no > anew.batch_no
    ), since as (
      select coalesce(max(case when not is_beginning and to_offset < from_offset then batch_no + 1
                               when is_beginning and before is not null or from_offset < before then batch_no
                          end), 0) as batch_no
        from step
    )
    select step.batch_no as "fromBatchNo",
           case when not is_beginning then position_from end as "positionFrom",
           (select position_to from step order by batch_no desc limit 1) as "positionTo",
           (select position from lane where id = ${laneId}) as position
      from step
      join since on step.batch_no >= since.batch_no
     where case when is_beginning then ${firstOffset}::int8 = 0
                when is_within_message then from_offset >= ${firstOffset}::int8
                else from_offset >= ${firstOffset}::int8 - 1 end
     order by step.batch_no
     limit 1`;
  return found;
}

/** Events of one org and hour that a replay was the first to count. */
export type ReplayedRow = {
  orgId: number;
  org: string;
  hourSeconds: number;
  accepted: number;
  acceptedDigest: string;
};

/** What replays of a stream were the first to count in these hours, as far as it is folded. Index: primary key, by org. */
export const listReplayed = (
  sql: Sql,
  wanted: { source: string; partition: number; fromSeconds: number; toSeconds: number },
): Promise<ReplayedRow[]> => sql<ReplayedRow>`
  select l.org_id as "orgId",
         o.external_id as org,
         extract(epoch from l.hour)::float8 as "hourSeconds",
         l.accepted,
         l.accepted_digest::text as "acceptedDigest"
    from ledger l
    join org o on o.id = l.org_id
   where l.org_id = any (array(select id from org))
     and l.hour >= to_timestamp(${wanted.fromSeconds})
     and l.hour <= to_timestamp(${wanted.toSeconds})
     and l.source_id = (select id from source where name = ${`replay/${wanted.source}`})
     and l.partition = ${wanted.partition}
     and l.accepted > 0`;
