import type { Sql } from "./database.ts";

/**
 * A lane this process holds: only the holder of the current epoch can advance it. `position` is where its transport
 * reads on, in the transport's own words; null where it has none.
 */
export type Lane = { laneId: number; epoch: number; batchNo: number; position: string | null };

/** Batch ids carry their lane in the upper bits: 2^36 batches a lane, 2^17 lanes, a safe integer. */
export const batchIdOf = (laneId: number, batchNo: number): number => laneId * 2 ** 36 + batchNo;

/**
 * Takes over a free lane of a transport (its lease has run out), or none. Locks one row, skipping locked ones.
 * The epoch grows, so its former holder can no longer commit.
 */
export const takeFreeLane = async (
  sql: Sql,
  request: { transport: string; owner: string; leaseSeconds: number },
): Promise<Lane | undefined> => {
  const [lane] = await sql<Lane>`
    update lane
       set epoch = epoch + 1,
           owner = ${request.owner},
           lease_until = clock_timestamp() + make_interval(secs => ${request.leaseSeconds})
     where id = (
             select id
               from lane
              where transport = ${request.transport}
                and lease_until < clock_timestamp()
              order by id
              limit 1
                for update skip locked)
    returning id as "laneId", epoch, batch_no as "batchNo", position`;
  return lane;
};

/** Adds a lane to a transport under the lowest free number and holds it; none when another process was faster. */
export const insertLane = async (
  sql: Sql,
  request: { transport: string; owner: string; leaseSeconds: number },
): Promise<Lane | undefined> => {
  const [lane] = await sql<Lane>`
    insert into lane (transport, partition, epoch, owner, lease_until)
    select ${request.transport},
           (select count(*) from lane where transport = ${request.transport})::text,
           1,
           ${request.owner},
           clock_timestamp() + make_interval(secs => ${request.leaseSeconds})
        on conflict (transport, partition) do nothing
    returning id as "laneId", epoch, batch_no as "batchNo", position`;
  return lane;
};

/** What `advanceLane` found. */
export type LaneAdvance = KeyPartitions & {
  /** Newest version of the price book. */
  priceVersion: number;
};
/** The key partition that keys are written to, and the first of those that answer questions. */
export type KeyPartitions = { openKeyPartition: number; oldestKeyPartition: number };

/**
 * The fence: moves the lane to the next batch and its next position, or finds it lost (undefined: another process holds
 * it, this batch is in already, or its position was set by an operator). Also reads which key partitions there are and
 * the price book's version, under the locks the transaction holds. Locks the lane's row.
 */
export const advanceLane = async (
  sql: Sql,
  lane: Lane,
  to: { position: string | null; leaseSeconds: number },
): Promise<LaneAdvance | undefined> => {
  const [row] = await sql<LaneAdvance>`
    update lane
       set batch_no = batch_no + 1,
           position = ${to.position},
           lease_until = clock_timestamp() + make_interval(secs => ${to.leaseSeconds})
     where id = ${lane.laneId}
       and epoch = ${lane.epoch}
       and batch_no = ${lane.batchNo}
       and position is not distinct from ${lane.position}
    returning (select no from event_key_partition where closed_at is null) as "openKeyPartition",
              (select min(no) from event_key_partition) as "oldestKeyPartition",
              (select max(version) from price_version) as "priceVersion"`;
  return row;
};

/** Where the lane stands now, to settle a COMMIT whose answer was lost. Primary key; reads only. */
export const findLane = async (sql: Sql, laneId: number): Promise<Lane | undefined> => {
  const [lane] =
    await sql<Lane>`select id as "laneId", epoch, batch_no as "batchNo", position from lane where id = ${laneId}`;
  return lane;
};

/** Gives a lane back at once instead of at the end of its lease. No effect when it is no longer ours. */
export const releaseLane = (sql: Sql, lane: Lane): Promise<never[]> => sql`
  update lane
     set lease_until = '-infinity', owner = null
   where id = ${lane.laneId}
     and epoch = ${lane.epoch}`;

/** Has the server end this session's transactions that do nothing for so long. For the rest of the session. */
export const limitIdleTransactions = (sql: Sql, seconds: number): Promise<unknown[]> => sql`
  select set_config('idle_in_transaction_session_timeout', ${`${seconds}s`}, false)`;
