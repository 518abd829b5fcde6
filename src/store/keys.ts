import { type Database, type Sql, table, type Tx } from "./database.ts";
import { CopyBuffer, type FoundKey } from "./events.ts";
import { RATING_LOCK } from "./prices.ts";

/** One table of the key ledger. Exactly one is open; the others only answer questions until they are dropped. */
export type KeyPartition = {
  no: number;
  openedAtMs: number;
  closedAtMs: number | null;
  keys: number | null;
};

const keyTable = (no: number) => table(`event_key_${no}`);

/** Every batch holds this lock shared while it writes keys; rotation takes it alone, so no batch straddles one. */
const KEY_LOCK = "hashtext('tallystick key rotation')";
/** The locks of a batch, held until its transaction ends: for its keys, and for the price book (`lockRatingAlone`). */
export const lockForBatch = (tx: Tx): Promise<unknown> =>
  tx.exec(
    `select pg_advisory_xact_lock_shared(${KEY_LOCK}), pg_advisory_xact_lock_shared(${RATING_LOCK})`,
  );
export const lockKeysAlone = (tx: Tx): Promise<unknown> =>
  tx.exec(`select pg_advisory_xact_lock(${KEY_LOCK})`);

/** Rows for `copyKeys`. */
export class KeyRows extends CopyBuffer {
  add(
    key: readonly [number, number, number, number],
    contentHash: readonly [number, number],
    orgId: number,
  ): void {
    this.reserve(42);
    const { view, at } = this;
    view.setInt16(at, 3);
    view.setInt32(at + 2, 16);
    view.setUint32(at + 6, key[0]);
    view.setUint32(at + 10, key[1]);
    view.setUint32(at + 14, key[2]);
    view.setUint32(at + 18, key[3]);
    view.setInt32(at + 22, 8);
    view.setUint32(at + 26, contentHash[0]);
    view.setUint32(at + 30, contentHash[1]);
    view.setInt32(at + 34, 4);
    view.setInt32(at + 38, orgId);
    this.at = at + 42;
    this.rows++;
  }
}

/** Claims the keys of new events and returns how many. 23505 when another transaction claimed one first: roll back and look again. */
export const copyKeys = (tx: Tx, partition: number, rows: KeyRows): Promise<number> =>
  tx.copyIn(
    `copy event_key_${partition} (key, content_hash, org_id) from stdin (format binary)`,
    rows.finish(),
  );

/** Keys as PostgreSQL's binary uuid[], for `= any($1)`: the driver sends a Buffer as it is. */
export function encodeUuidArray(
  keys: readonly (readonly [number, number, number, number])[],
): Buffer {
  const bytes = Buffer.allocUnsafe(20 + keys.length * 20);
  bytes.writeInt32BE(1, 0);
  bytes.writeInt32BE(0, 4);
  bytes.writeInt32BE(2950, 8);
  bytes.writeInt32BE(keys.length, 12);
  bytes.writeInt32BE(1, 16);
  let at = 20;
  for (const key of keys) {
    bytes.writeInt32BE(16, at);
    bytes.writeUInt32BE(key[0], at + 4);
    bytes.writeUInt32BE(key[1], at + 8);
    bytes.writeUInt32BE(key[2], at + 12);
    bytes.writeUInt32BE(key[3], at + 16);
    at += 20;
  }
  return bytes;
}

/** Which of these keys (see `encodeUuidArray`; sorted, so that the index is walked once) a partition holds, for any org. */
export const listKnownKeys = (
  sql: Sql,
  partition: number,
  keys: Buffer,
): Promise<FoundKey[]> => sql<FoundKey>`
  select key, org_id as "orgId", content_hash::text as "contentHash"
    from ${keyTable(partition)}
   where key = any(${keys}::uuid[])`;

/** Every partition there is, oldest first, and from when on identity has to be looked up in raw. */
export const listKeyPartitions = (sql: Sql): Promise<KeyPartition[]> => sql<KeyPartition>`
  select no,
         (extract(epoch from opened_at) * 1000)::float8 as "openedAtMs",
         (extract(epoch from closed_at) * 1000)::float8 as "closedAtMs",
         keys
    from event_key_partition
   order by no`;

/** Events ingested before this instant (ms) may have lost their keys; -Infinity when none were ever dropped. */
export async function getDedupFloorMs(sql: Sql): Promise<number> {
  const [row] = await sql<{ floorMs: number }>`
    select (extract(epoch from dedup_floor) * 1000)::float8 as "floorMs" from installation`;
  if (!row) throw new Error("installation has no row");
  return row.floorMs;
}

/**
 * Keys in a partition, from its size: a page holds 136 rows and rows are only ever added. Never under-counts, and does
 * not keep batches waiting as counting would.
 */
export async function countKeysAtMost(sql: Sql, partition: number): Promise<number> {
  const [row] = await sql<{ pages: number }>`
    select pg_relation_size(${`event_key_${partition}`}::regclass) / 8192 as pages`;
  return (row?.pages ?? 0) * 136;
}

/** Keys in a closed partition, exactly: reads all of it, without holding anybody up. */
export async function countKeys(sql: Sql, partition: number): Promise<number> {
  const [row] = await sql<{ keys: number }>`
    select count(*)::int8 as keys from ${keyTable(partition)}`;
  if (!row) throw new Error("count gave no row");
  return row.keys;
}

/** Streams every key of a closed partition, as binary COPY, to build its filter. */
export const readKeys = (tx: Tx, partition: number): AsyncIterable<Buffer> =>
  tx.copyOutChunks(`copy (select key from event_key_${partition}) to stdout (format binary)`);

/** Opens the first partition of an installation; does nothing when one is open. */
export async function openFirstKeyPartition(database: Database): Promise<void> {
  await database.transaction(async (tx) => {
    await lockKeysAlone(tx);
    const [open] = await tx.sql<{
      no: number;
    }>`select no from event_key_partition where closed_at is null`;
    if (!open) await createKeyPartition(tx);
  });
}

/**
 * Closes the open partition (unless another process did) and opens the next, while no batch is in flight. Returns
 * whether it was this call that rotated.
 */
export async function rotateKeyPartition(database: Database, openNo: number): Promise<boolean> {
  return await database.transaction(async (tx) => {
    await lockKeysAlone(tx);
    const closed = await tx.sql<{ no: number }>`
      update event_key_partition
         set closed_at = clock_timestamp(),
             keys = pg_relation_size(${`event_key_${openNo}`}::regclass) / 8192 * 136
       where no = ${openNo}
         and closed_at is null
      returning no`;
    if (closed.length === 0) return false;
    await createKeyPartition(tx);
    return true;
  });
}

async function createKeyPartition(tx: Tx): Promise<void> {
  const [row] = await tx.sql<{ no: number }>`
    insert into event_key_partition (no)
    select coalesce(max(no), 0) + 1 from event_key_partition
    returning no`;
  if (!row) throw new Error("event_key_partition took no row");
  await tx.exec(`
    create table event_key_${row.no} (key uuid not null, content_hash int8 not null, org_id int4 not null);
    create unique index event_key_${row.no}_key on event_key_${row.no} (key, org_id);
    alter table event_key_${row.no} enable row level security;
    alter table event_key_${row.no} force row level security`);
}

/**
 * Drops partitions that closed before the window (hours) began, and moves the floor below which identity is looked up
 * in raw. Returns their numbers. Waits for batches in flight.
 */
export async function dropExpiredKeyPartitions(
  database: Database,
  windowHours: number,
): Promise<number[]> {
  const expired = await database.sql<{ no: number }>`
    select no from event_key_partition
     where closed_at < clock_timestamp() - make_interval(hours => ${windowHours})`;
  if (expired.length === 0) return [];
  return await database.transaction(async (tx) => {
    await lockKeysAlone(tx);
    const gone = await tx.sql<{ no: number; closedAt: string }>`
      delete from event_key_partition
       where no = any(${expired.map(({ no }) => no)}::int4[])
      returning no, closed_at::text as "closedAt"`;
    for (const { no } of gone) await tx.exec(`drop table event_key_${no}`);
    await tx.sql`
      update installation
         set dedup_floor = greatest(dedup_floor, (select max(t) from unnest(${gone.map((g) => g.closedAt)}::timestamptz[]) as t))`;
    return gone.map(({ no }) => no);
  });
}
