import type { Sql } from "./database.ts";

/** An event that was not counted, and why. */
export type QuarantineRow = {
  orgId: number;
  sourceId: number;
  /** Where it stood in its source, as the transport words it; null where that has no positions. */
  position: string | null;
  receivedAtMs: number;
  code: string;
  pointer: string;
  detail: string;
  eventId: string | null;
  occurredAtUs: number | null;
  bytes: Buffer;
  truncated: boolean;
};

/**
 * Keeps the rejected and conflicting items of a batch, in one statement. Ids are bound as JSON-free arrays;
 * event ids that are no valid PostgreSQL text were nulled before.
 */
export const insertQuarantine = (
  sql: Sql,
  batchId: number,
  rows: readonly QuarantineRow[],
): Promise<never[]> => sql`
  insert into quarantine
    (org_id, source_id, batch_id, position, received_at, code, pointer, detail, event_id, occurred_at, bytes, truncated)
  select org_id, source_id, ${batchId}, position, to_timestamp(received_ms / 1000), code, pointer, detail, event_id,
         timestamptz 'epoch' + occurred_us * interval '1 microsecond', bytes, truncated
    from unnest(
           ${rows.map((row) => row.orgId)}::int4[],
           ${rows.map((row) => row.sourceId)}::int2[],
           ${rows.map((row) => row.position)}::text[],
           ${rows.map((row) => row.receivedAtMs)}::float8[],
           ${rows.map((row) => row.code)}::text[],
           ${rows.map((row) => row.pointer)}::text[],
           ${rows.map((row) => row.detail)}::text[],
           ${rows.map((row) => row.eventId)}::text[],
           ${rows.map((row) => row.occurredAtUs)}::int8[],
           ${rows.map((row) => row.bytes)}::bytea[],
           ${rows.map((row) => row.truncated)}::bool[]
         ) as item (org_id, source_id, position, received_ms, code, pointer, detail, event_id, occurred_us, bytes, truncated)`;
