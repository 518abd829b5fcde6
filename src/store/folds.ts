import type { Consumer } from "#contract";
import type { Sql, Tx } from "./database.ts";

/** Who may fold: the holder of a consumer's current epoch. */
export type FoldLease = { epoch: number };

/**
 * Takes a consumer's lease when it has run out, or is ours under another epoch; undefined while another process holds
 * it. Time is the database's. Locks the row, and skips it while a fold is being written: that fold's holder is alive.
 */
export async function takeFoldLease(
  sql: Sql,
  request: { consumer: Consumer; owner: string; leaseSeconds: number },
): Promise<FoldLease | undefined> {
  const [lease] = await sql<FoldLease>`
    update fold_state
       set epoch = epoch + 1,
           owner = ${request.owner},
           lease_until = clock_timestamp() + make_interval(secs => ${request.leaseSeconds})
     where consumer = (
             select consumer
               from fold_state
              where consumer = ${request.consumer}
                and (lease_until < clock_timestamp() or owner = ${request.owner})
                for update skip locked)
    returning epoch`;
  return lease;
}

/** Prolongs the lease; false when another process has it. Locks the row. Repeatable. */
export async function renewFoldLease(
  sql: Sql,
  held: { consumer: Consumer; epoch: number; leaseSeconds: number },
): Promise<boolean> {
  const rows = await sql<{ epoch: number }>`
    update fold_state
       set lease_until = clock_timestamp() + make_interval(secs => ${held.leaseSeconds})
     where consumer = ${held.consumer}
       and epoch = ${held.epoch}
    returning epoch`;
  return rows.length > 0;
}

/** Gives the lease back at once instead of at its end. No effect when it is no longer ours. */
export const releaseFoldLease = (
  sql: Sql,
  held: { consumer: Consumer; epoch: number },
): Promise<never[]> => sql`
  update fold_state
     set lease_until = '-infinity', owner = null
   where consumer = ${held.consumer}
     and epoch = ${held.epoch}`;

/** What a consumer claims. Instants in microseconds since the Unix epoch; null before the first fold. */
export type FoldClaim = {
  nowUs: number;
  completeThroughUs: number | null;
  /** Whether anybody's lease lasts; none does while rollup rows are changed by others than folds (`interruptFolds`). */
  isLed: boolean;
};

/** The database's time (taken before anything a later statement sees) and how far a consumer has come. Reads one row. */
export async function getFoldClaim(sql: Sql, consumer: Consumer): Promise<FoldClaim> {
  const [claim] = await sql<FoldClaim>`
    select (extract(epoch from statement_timestamp()) * 1000000)::int8 as "nowUs",
           case when complete_through > '-infinity'
                then (extract(epoch from complete_through) * 1000000)::int8
            end as "completeThroughUs",
           lease_until >= clock_timestamp() as "isLed"
      from fold_state
     where consumer = ${consumer}`;
  if (!claim) throw new Error(`fold_state has no row for ${consumer}`);
  return claim;
}

/**
 * The fence, first in the transaction that writes a fold: proves the epoch is ours, prolongs the lease, moves the claim.
 * Undefined when the lease is lost. Locks the row until the end of the transaction, so nobody can take over half way.
 * Returns the fold's own time (µs): it grows with every fold of a consumer, whatever the clock does.
 */
export async function fenceFold(
  sql: Sql,
  held: { consumer: Consumer; epoch: number; leaseSeconds: number; completeThroughUs: number },
): Promise<number | undefined> {
  const [row] = await sql<{ foldedAtUs: number }>`
    update fold_state
       set lease_until = clock_timestamp() + make_interval(secs => ${held.leaseSeconds}),
           complete_through = greatest(
             complete_through, timestamptz 'epoch' + ${held.completeThroughUs}::int8 * interval '1 microsecond'),
           updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
     where consumer = ${held.consumer}
       and epoch = ${held.epoch}
    returning (extract(epoch from updated_at) * 1000000)::int8 as "foldedAtUs"`;
  return row?.foldedAtUs;
}

/** A committed batch that a consumer has not folded. Instants in µs since the Unix epoch. */
export type UnfoldedBatch = {
  laneId: number;
  batchNo: number;
  batchId: number;
  /** The lane's watermark. */
  foldedThrough: number;
  received: number;
  accepted: number;
  minOccurredAtUs: number | null;
  maxOccurredAtUs: number | null;
  committedAtUs: number;
};

/** The next batches of every lane, in lane order, at most `batchesMax` a lane. Index: primary key. Reads only. */
export const listUnfoldedBatches = (
  sql: Sql,
  consumer: Consumer,
  batchesMax: number,
): Promise<UnfoldedBatch[]> =>
  sql<UnfoldedBatch>`
  select l.id as "laneId",
         b.batch_no as "batchNo",
         b.batch_id as "batchId",
         coalesce(w.batch_no, 0) as "foldedThrough",
         b.received,
         b.accepted,
         (extract(epoch from b.min_occurred_at) * 1000000)::int8 as "minOccurredAtUs",
         (extract(epoch from b.max_occurred_at) * 1000000)::int8 as "maxOccurredAtUs",
         (extract(epoch from b.committed_at) * 1000000)::int8 as "committedAtUs"
    from lane l
    left join watermark w on w.lane_id = l.id and w.consumer = ${consumer}
   cross join lateral (
         select *
           from ingestion_batches i
          where i.lane_id = l.id
            and i.batch_no > coalesce(w.batch_no, 0)
          order by i.batch_no
          limit ${batchesMax}) as b
   order by l.id, b.batch_no`;

/** The packed control totals of some batches. Index: unique (batch_id). Reads only. */
export const listBatchLedgers = (
  sql: Sql,
  batchIds: readonly number[],
): Promise<{ ledger: Buffer }[]> => sql<{
  ledger: Buffer;
}>`
  select ledger from ingestion_batches where batch_id = any(${batchIds}::int8[])`;

/** How far a lane is folded: from the batch the fold began at to the one it ends with. */
export type WatermarkMove = { laneId: number; from: number; to: number };

/**
 * Moves the watermarks of lanes, each only from where the fold found it. Returns how many moved: fewer than asked
 * means that somebody else folded, and the caller rolls back. Locks the rows.
 */
export async function moveWatermarks(
  sql: Sql,
  consumer: Consumer,
  moves: readonly WatermarkMove[],
): Promise<number> {
  const moved = await sql<{ laneId: number }>`
    insert into watermark as w (consumer, lane_id, batch_no)
    select ${consumer}, m.lane_id, m.batch_to
      from unnest(
             ${moves.map((move) => move.laneId)}::int4[],
             ${moves.map((move) => move.from)}::int8[],
             ${moves.map((move) => move.to)}::int8[]) as m (lane_id, batch_from, batch_to)
     order by m.lane_id
        on conflict (consumer, lane_id) do update set batch_no = excluded.batch_no
     where w.batch_no < excluded.batch_no
       and w.batch_no = (
             select m.batch_from
               from unnest(
                      ${moves.map((move) => move.laneId)}::int4[],
                      ${moves.map((move) => move.from)}::int8[]) as m (lane_id, batch_from)
              where m.lane_id = excluded.lane_id)
    returning lane_id as "laneId"`;
  return moved.length;
}

/** Which raw columns a consumer folds by: two members beside the org. */
const MEMBER_COLUMNS = {
  usage: "model_id, error_code_id",
  people: "client_id, actor_id",
} as const satisfies Record<Consumer, string>;

/** `2026-11-20T10:59:59.123456Z`, for a literal that prunes partitions when the statement is planned. */
const instantText = (atUs: number): string => {
  const ms = Math.floor(atUs / 1000);
  return new Date(ms).toISOString().replace("Z", `${String(atUs - ms * 1000).padStart(3, "0")}Z`);
};

/** The columns of usage_event that rollup/raw-reader.ts reads for a consumer, in its order. */
export const rawRowColumns = (consumer: Consumer): string => `
           batch_id, occurred_at, org_id, ${MEMBER_COLUMNS[consumer]}, requests,
           input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
           output_tokens, reasoning_tokens, source_id, outcome, currency, coalesce(rated_currency, 0)::int2,
           latency_ms, cost_nano, rated_nano${consumer === "people" ? ", tag_ids" : ""}`;

/**
 * Streams the narrow raw rows of some batches as binary COPY, as `rawRowColumns` says.
 * Bounds are µs, inclusive. Index: usage_event_batch of each day between the bounds. Reads only.
 */
export function readRawRows(
  tx: Tx,
  consumer: Consumer,
  range: { batchIds: readonly number[]; minUs: number; maxUs: number },
): AsyncIterable<Buffer> {
  return tx.copyOutChunks(`copy (
    select ${rawRowColumns(consumer)}
      from usage_event
     where batch_id = any('{${range.batchIds.map(Number).join(",")}}'::int8[])
       and occurred_at >= '${instantText(range.minUs)}'
       and occurred_at <= '${instantText(range.maxUs)}'
    ) to stdout (format binary)`);
}

/** Texts of dictionary rows. Primary key; reads only. */
export const listMemberValues = (
  sql: Sql,
  ids: readonly number[],
): Promise<{ id: number; kind: number; value: string }[]> => sql<{
  id: number;
  kind: number;
  value: string;
}>`
  select id, kind, value from dictionary where id = any(${ids}::int4[])`;
