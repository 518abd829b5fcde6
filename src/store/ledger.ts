import type { BatchLedgerEntry } from "#contract";
import type { Sql } from "./database.ts";

/**
 * Adds control totals to the delivery ledger, in key order. Keys are distinct; digests add modulo 2^64.
 * `foldedAtUs` is the fold's time: a later check of the hour knows by it that the hour changed.
 * Not repeatable: the fold's fence makes it happen once.
 */
export const addLedgerEntries = (
  sql: Sql,
  entries: readonly BatchLedgerEntry[],
  foldedAtUs: number,
): Promise<never[]> => sql`
  insert into ledger as l
    (org_id, source_id, partition, hour, received, accepted, duplicate, conflict, rejected,
     received_digest, accepted_digest, updated_at)
  select e.org_id, e.source_id, e.partition, to_timestamp(e.seconds), e.received, e.accepted, e.duplicate, e.conflict,
         e.rejected, e.received_digest, e.accepted_digest,
         timestamptz 'epoch' + ${foldedAtUs}::int8 * interval '1 microsecond'
    from unnest(
           ${entries.map((entry) => entry.orgId)}::int4[],
           ${entries.map((entry) => entry.sourceId)}::int2[],
           ${entries.map((entry) => entry.partition)}::int4[],
           ${entries.map((entry) => entry.hourSeconds)}::float8[],
           ${entries.map((entry) => entry.received)}::int8[],
           ${entries.map((entry) => entry.accepted)}::int8[],
           ${entries.map((entry) => entry.duplicate)}::int8[],
           ${entries.map((entry) => entry.conflict)}::int8[],
           ${entries.map((entry) => entry.rejected)}::int8[],
           ${entries.map((entry) => String(entry.receivedDigest))}::numeric[],
           ${entries.map((entry) => String(entry.acceptedDigest))}::numeric[])
         as e (org_id, source_id, partition, seconds, received, accepted, duplicate, conflict, rejected,
               received_digest, accepted_digest)
   order by e.org_id, e.seconds, e.source_id, e.partition
      on conflict (org_id, hour, source_id, partition) do update
     set received = l.received + excluded.received,
         accepted = l.accepted + excluded.accepted,
         duplicate = l.duplicate + excluded.duplicate,
         conflict = l.conflict + excluded.conflict,
         rejected = l.rejected + excluded.rejected,
         received_digest = (l.received_digest + excluded.received_digest) % 18446744073709551616,
         accepted_digest = (l.accepted_digest + excluded.accepted_digest) % 18446744073709551616,
         updated_at = excluded.updated_at`;
