import { totalmem } from "node:os";

const MIB = 1024 * 1024;

/** Settings of postgresql.conf; values as written there, without quotes. */
export type PostgresSettings = Readonly<Record<string, string>>;

/** Settings suited to one service that writes in batches and reads rollups, on a machine it shares with others. */
export function createPostgresSettings(memoryBytes: number = totalmem()): PostgresSettings {
  const sharedMib = Math.max(64, Math.min(1024, Math.floor(memoryBytes / 4 / MIB)));
  return {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "100",
    password_encryption: "scram-sha-256",
    shared_buffers: `${sharedMib}MB`,
    effective_cache_size: `${Math.max(128, Math.floor(memoryBytes / 2 / MIB))}MB`,
    work_mem: "16MB",
    maintenance_work_mem: "128MB",
    synchronous_commit: "on",
    wal_compression: "on",
    max_wal_size: "4GB",
    checkpoint_timeout: "15min",
    checkpoint_completion_target: "0.9",
    random_page_cost: "1.1",
    jit: "off",
    timezone: "UTC",
    log_timezone: "UTC",
    datestyle: "iso, ymd",
    lc_messages: "C",
    logging_collector: "on",
    log_directory: "log",
    log_filename: "postgresql-%Y%m%d-%H%M%S.log",
    log_rotation_size: "10MB",
    log_rotation_age: "0",
    log_line_prefix: "%m [%p] %a ",
    log_checkpoints: "off",
  };
}

/** The text of a configuration file. */
export const formatPostgresSettings = (settings: PostgresSettings): string =>
  Object.entries(settings)
    .map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
    .join("");
