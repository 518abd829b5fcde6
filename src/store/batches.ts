import type { Sql } from "./database.ts";

/** What one committed batch leaves behind in `ingestion_batches`. Instants are microseconds since the Unix epoch. */
export type BatchRow = {
  laneId: number;
  batchNo: number;
  batchId: number;
  epoch: number;
  receivedAtMs: number;
  received: number;
  accepted: number;
  duplicate: number;
  conflict: number;
  rejected: number;
  /** Of the accepted events; null when there is none. */
  minOccurredAtUs: number | null;
  maxOccurredAtUs: number | null;
  positionFrom: string | null;
  positionTo: string | null;
  durationMs: number;
  correlationId: string;
  ledger: Buffer;
};

/** Writes the batch's row; its primary key (lane, batch_no) makes a second one impossible. */
export const insertBatch = (sql: Sql, batch: BatchRow): Promise<never[]> => sql`
  insert into ingestion_batches
    (lane_id, batch_no, batch_id, epoch, received_at, received, accepted, duplicate, conflict, rejected,
     min_occurred_at, max_occurred_at, position_from, position_to, duration_ms, correlation_id, ledger)
  values
    (${batch.laneId}, ${batch.batchNo}, ${batch.batchId}, ${batch.epoch}, to_timestamp(${batch.receivedAtMs}::float8 / 1000),
     ${batch.received}, ${batch.accepted}, ${batch.duplicate}, ${batch.conflict}, ${batch.rejected},
     timestamptz 'epoch' + ${batch.minOccurredAtUs}::int8 * interval '1 microsecond',
     timestamptz 'epoch' + ${batch.maxOccurredAtUs}::int8 * interval '1 microsecond',
     ${batch.positionFrom}, ${batch.positionTo}, ${batch.durationMs}, ${batch.correlationId}, ${batch.ledger})`;

/** Whether a batch committed under this epoch: settles a COMMIT whose answer was lost. Primary key; reads only. */
export async function isBatchCommitted(
  sql: Sql,
  lane: { laneId: number; batchNo: number; epoch: number },
): Promise<boolean> {
  const rows = await sql<{ found: number }>`
    select 1 as found
      from ingestion_batches
     where lane_id = ${lane.laneId}
       and batch_no = ${lane.batchNo}
       and epoch = ${lane.epoch}`;
  return rows.length > 0;
}
