import type { Database } from "./database.ts";

const DAY_MS = 86_400_000;

/** UTC day number (days since the Unix epoch) of an instant in microseconds. */
export const dayOfUs = (us: number): number => Math.floor(us / (DAY_MS * 1000));

/** `usage_event_20261120` for a UTC day number. */
export function rawPartitionName(day: number): string {
  return `usage_event_${new Date(day * DAY_MS).toISOString().slice(0, 10).replaceAll("-", "")}`;
}

/** UTC day numbers that have a raw partition. Catalogue only. */
export const listRawPartitionDays = async (database: Database): Promise<number[]> => {
  const rows = await database.sql<{ name: string }>`
    select c.relname as name
      from pg_inherits i
      join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'usage_event'::regclass
     order by c.relname`;
  return rows.map(({ name }) => {
    const digits = name.slice("usage_event_".length);
    return (
      Date.UTC(
        Number(digits.slice(0, 4)),
        Number(digits.slice(4, 6)) - 1,
        Number(digits.slice(6, 8)),
      ) / DAY_MS
    );
  });
};

/**
 * Makes the raw partition of a UTC day unless it is there. The table is built aside and attached, which takes only a
 * SHARE UPDATE EXCLUSIVE lock on usage_event: batches go on meanwhile. Safe to repeat and to run from many processes.
 */
export async function createRawPartition(database: Database, day: number): Promise<void> {
  const name = rawPartitionName(day);
  const from = new Date(day * DAY_MS).toISOString();
  const to = new Date((day + 1) * DAY_MS).toISOString();
  await database.transaction(async (tx) => {
    await tx.sql`select pg_advisory_xact_lock(hashtext('tallystick raw partitions'))`;
    const [found] = await tx.sql<{ oid: string | null }>`select to_regclass(${name})::text as oid`;
    if (found?.oid) return;
    await tx.exec(`
      create table ${name} (like usage_event including defaults including constraints including indexes including storage);
      alter table ${name} enable row level security;
      alter table ${name} force row level security;
      alter table usage_event attach partition ${name} for values from ('${from}') to ('${to}')`);
  });
}
