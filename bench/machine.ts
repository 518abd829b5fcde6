import { availableParallelism, totalmem } from "node:os";
import type { Database } from "#store";

const SETTINGS = [
  "shared_buffers",
  "effective_cache_size",
  "work_mem",
  "fsync",
  "synchronous_commit",
  "full_page_writes",
  "wal_compression",
  "max_wal_size",
  "checkpoint_timeout",
  "data_checksums",
  "jit",
];

/** What a figure depends on, and nothing that tells whose machine it was. */
export type Machine = {
  cores: number;
  memoryGib: number;
  platform: string;
  node: string;
  postgres: string;
  postgresSettings: Record<string, string>;
};

/** Facts of this machine and of the server. Reads only. */
export async function describeMachine(database: Database): Promise<Machine> {
  const rows = await database.sql<{ name: string; value: string }>`
    select name, current_setting(name) as value
      from pg_settings
     where name = any(${["server_version", ...SETTINGS]}::text[])
     order by name`;
  const settings = Object.fromEntries(rows.map(({ name, value }) => [name, value]));
  const { server_version: postgres = "", ...postgresSettings } = settings;
  return {
    cores: availableParallelism(),
    memoryGib: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform} ${process.arch}`,
    node: process.versions.node,
    postgres: postgres.split(" ")[0] ?? "",
    postgresSettings,
  };
}
