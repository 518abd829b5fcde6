/** Control totals of one batch for one (source, partition, org, hour). Digests are sums modulo 2^64. */
export type BatchLedgerEntry = {
  orgId: number;
  sourceId: number;
  partition: number;
  /** Start of the hour, seconds since the Unix epoch. */
  hourSeconds: number;
  received: number;
  accepted: number;
  duplicate: number;
  conflict: number;
  rejected: number;
  /** Order-free digest of the ids received (0 added for an item without a readable id). */
  receivedDigest: bigint;
  acceptedDigest: bigint;
};

const ENTRY_BYTES = 56;

/** Packs the entries for ingestion_batches.ledger: fixed-width, big-endian, 56 bytes each. */
export function encodeBatchLedger(entries: readonly BatchLedgerEntry[]): Buffer {
  const bytes = Buffer.allocUnsafe(entries.length * ENTRY_BYTES);
  let at = 0;
  for (const entry of entries) {
    bytes.writeInt32BE(entry.orgId, at);
    bytes.writeInt32BE(entry.sourceId, at + 4);
    bytes.writeInt32BE(entry.partition, at + 8);
    bytes.writeDoubleBE(entry.hourSeconds, at + 12);
    bytes.writeInt32BE(entry.received, at + 20);
    bytes.writeInt32BE(entry.accepted, at + 24);
    bytes.writeInt32BE(entry.duplicate, at + 28);
    bytes.writeInt32BE(entry.conflict, at + 32);
    bytes.writeInt32BE(entry.rejected, at + 36);
    bytes.writeBigUInt64BE(entry.receivedDigest, at + 40);
    bytes.writeBigUInt64BE(entry.acceptedDigest, at + 48);
    at += ENTRY_BYTES;
  }
  return bytes;
}

/** Reads what `encodeBatchLedger` wrote. Throws a RangeError on a truncated value. */
export function decodeBatchLedger(bytes: Buffer): BatchLedgerEntry[] {
  if (bytes.length % ENTRY_BYTES !== 0)
    throw new RangeError(`batch ledger of ${bytes.length} bytes`);
  const entries: BatchLedgerEntry[] = [];
  for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
    entries.push({
      orgId: bytes.readInt32BE(at),
      sourceId: bytes.readInt32BE(at + 4),
      partition: bytes.readInt32BE(at + 8),
      hourSeconds: bytes.readDoubleBE(at + 12),
      received: bytes.readInt32BE(at + 20),
      accepted: bytes.readInt32BE(at + 24),
      duplicate: bytes.readInt32BE(at + 28),
      conflict: bytes.readInt32BE(at + 32),
      rejected: bytes.readInt32BE(at + 36),
      receivedDigest: bytes.readBigUInt64BE(at + 40),
      acceptedDigest: bytes.readBigUInt64BE(at + 48),
    });
  }
  return entries;
}
