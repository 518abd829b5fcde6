import type { Sql, Tx } from "./database.ts";
import { selectRows } from "./rows.ts";
import type { FigureDifference, Span } from "./verify.ts";

/** Every key of the window. `event_key_<no>` are listed in event_key_partition. */
const keysOf = (partitions: readonly number[]): string =>
  partitions.length === 0
    ? "select null::uuid as key, null::int8 as content_hash, null::int4 as org_id where false"
    : partitions
        .map((no) => `select key, content_hash, org_id from event_key_${Number(no)}`)
        .join(" union all ");

/** Raw rows whose keys the window still holds: their batch was committed after the floor. */
const WINDOW = `usage_event e
      join ingestion_batches b on b.batch_id = e.batch_id
      join installation i on b.committed_at > i.dedup_floor`;

/** Raw events of a span without their key, or with one that holds another content, per org, hour and source. */
export async function listMissingKeys(
  tx: Tx,
  wanted: { partitions: readonly number[]; rowsMax: number },
  span: Span,
): Promise<FigureDifference[]> {
  return await selectRows<FigureDifference>(
    tx,
    `
  select e.org_id as "orgId", e.source_id as "sourceId",
         extract(epoch from date_bin('1 hour', e.occurred_at, timestamptz 'epoch'))::float8 as "hourSeconds",
         'events without their key' as figure, '0' as expected, count(*)::text as found,
         (count(*) over ())::int4 as total
    from ${WINDOW}
    left join (${keysOf(wanted.partitions)}) as k
           on k.key = e.event_key and k.org_id = e.org_id and k.content_hash = e.content_hash
   where e.occurred_at >= to_timestamp(${Number(span.fromSeconds)})
     and e.occurred_at < to_timestamp(${Number(span.toSeconds)})
     and k.key is null
   group by 1, 2, 3
   order by 3, 1, 2
   limit ${Number(wanted.rowsMax)}`,
  );
}

/** How many keys the window holds per org. One scan of the key partitions. */
export async function countKeysByOrg(
  tx: Tx,
  partitions: readonly number[],
): Promise<{ orgId: number; keys: number }[]> {
  return await selectRows<{ orgId: number; keys: number }>(
    tx,
    `
  select org_id as "orgId", count(*)::int8 as keys
    from (${keysOf(partitions)}) as k
   group by org_id
   order by org_id`,
  );
}

/** Numbers of the key partitions there are. */
export const listKeyPartitionNumbers = (sql: Sql): Promise<{ no: number }[]> => sql<{ no: number }>`
  select no from event_key_partition order by no`;

/** Packed control totals of a batch. */
export type PackedLedger = { ledger: Buffer };

/** Streams the control totals of the batches that are folded and were committed at or after an instant. */
export const readFoldedBatchLedgers = (
  tx: Tx,
  sinceSeconds: number,
): AsyncGenerator<PackedLedger[]> =>
  readLedgers(
    tx,
    `select b.ledger
       from ingestion_batches b
       join watermark w on w.consumer = 'usage' and w.lane_id = b.lane_id and w.batch_no >= b.batch_no
      where b.committed_at >= to_timestamp(${Number(sinceSeconds)})`,
  );

/** Streams the control totals of the batches whose keys the window still holds. */
export const readWindowBatchLedgers = (tx: Tx): AsyncGenerator<PackedLedger[]> =>
  readLedgers(
    tx,
    "select b.ledger from ingestion_batches b join installation i on b.committed_at > i.dedup_floor where b.accepted > 0",
  );

/** Streams the control totals of one lane's batches from a number on. Primary key. */
export const readLaneBatchLedgers = (
  tx: Tx,
  { laneId, fromBatchNo }: { laneId: number; fromBatchNo: number },
): AsyncGenerator<PackedLedger[]> =>
  readLedgers(
    tx,
    `select ledger from ingestion_batches where lane_id = ${Number(laneId)} and batch_no >= ${Number(fromBatchNo)}`,
  );

async function* readLedgers(tx: Tx, query: string): AsyncGenerator<PackedLedger[]> {
  await tx.exec(`declare verify_batches no scroll cursor for ${query}`);
  for (;;) {
    const rows = await selectRows<PackedLedger>(tx, "fetch 50 from verify_batches");
    if (rows.length === 0) break;
    yield rows;
  }
  await tx.exec("close verify_batches");
}

/**
 * From when on (s) every batch that may have touched an hour is still listed: null when none was ever deleted.
 * Retention deletes batches from the front of each lane.
 */
export async function getBatchHorizonSeconds(sql: Sql): Promise<number | null> {
  const [row] = await sql<{ horizon: number | null }>`
    select extract(epoch from max(first.committed_at))::float8 as horizon
      from lane l
     cross join lateral (
           select b.batch_no, b.committed_at
             from ingestion_batches b
            where b.lane_id = l.id
            order by b.batch_no
            limit 1) as first
     where first.batch_no > 1`;
  return row?.horizon ?? null;
}

/** A ledger row with its digests as text. */
export type LedgerRow = {
  orgId: number;
  sourceId: number;
  partition: number;
  hourSeconds: number;
  received: number;
  accepted: number;
  duplicate: number;
  conflict: number;
  rejected: number;
  receivedDigest: string;
  acceptedDigest: string;
};

/** The ledger rows of a span's hours. Callers ask day by day. */
export const listLedgerRows = (sql: Sql, span: Span): Promise<LedgerRow[]> => sql<LedgerRow>`
  select org_id as "orgId",
         source_id as "sourceId",
         partition,
         extract(epoch from hour)::float8 as "hourSeconds",
         received,
         accepted,
         duplicate,
         conflict,
         rejected,
         received_digest::text as "receivedDigest",
         accepted_digest::text as "acceptedDigest"
    from ledger
   where hour >= to_timestamp(${span.fromSeconds})
     and hour < to_timestamp(${span.toSeconds})
   order by hour, org_id, source_id, partition`;

/** External ids of orgs. Primary key; reads only. */
export const listOrgNames = (
  sql: Sql,
  ids: readonly number[],
): Promise<{ id: number; name: string }[]> => sql<{
  id: number;
  name: string;
}>`
  select id, external_id as name from org where id = any(${ids}::int4[])`;

/** Names of sources. */
export const listSourceNames = (sql: Sql): Promise<{ id: number; name: string }[]> => sql<{
  id: number;
  name: string;
}>`
  select id, name from source order by id limit 40000`;
