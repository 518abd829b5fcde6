import { readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { OperatorError, type Crash, type Logger } from "#kernel";
import { sqlStateOf } from "./errors.ts";

const MIGRATIONS = new URL("./migrations/", import.meta.url);
const APPLIED_TABLE = "schema_migration";
/** How many migrations the database may be ahead of this program: one version back keeps working (expand, then contract). */
const AHEAD_MAX = 1;

/** How the database's schema relates to the one this program was built with. Versions are migration numbers; 0 is an empty database. */
export type SchemaVersion = {
  state: "current" | "behind" | "ahead" | "too_far_ahead";
  programVersion: number;
  schemaVersion: number;
  /** Migrations this program has and the database has not, oldest first. */
  pending: string[];
  /** Migrations the database has and this program does not know. */
  unknown: string[];
};

export type MigrateDeps = {
  logger: Logger;
  crash: Crash;
  /** Where the migrations are; the program's own unless a test says otherwise. */
  folder?: URL;
};

/**
 * Brings the schema up to this program's, one file per transaction, oldest first, and returns the names applied.
 * Two at once: the second waits for the first's advisory lock. Ended at any moment, it can simply be run again.
 * A schema one migration ahead is left alone; further ahead throws OperatorError.
 */
export async function migrate(url: string, deps: MigrateDeps): Promise<string[]> {
  const folder = deps.folder ?? MIGRATIONS;
  const applied: string[] = [];
  const before = await getSchemaVersion(url, folder);
  if (before.state === "too_far_ahead") throw new OperatorError(explainSchemaVersion(before));
  if (before.state === "ahead") deps.logger.warn(before, "Schema is newer than this program");
  if (before.pending.length === 0) return applied;
  for (;;) {
    const name = await applyNext(url, folder);
    if (name === undefined) return applied;
    applied.push(name);
    deps.logger.info({ migration: name }, "Migration applied");
    deps.crash("migrate_after_step");
  }
}

/**
 * Compares the migrations applied with the files. Reads only. The owner's rights are not needed, but a connection is.
 * Throws what PostgreSQL said when it cannot be reached.
 */
export async function getSchemaVersion(
  url: string,
  folder: URL = MIGRATIONS,
): Promise<SchemaVersion> {
  const [files, applied] = await Promise.all([listMigrations(folder), listApplied(url)]);
  const pending = files.filter((name) => !applied.includes(name));
  const unknown = applied.filter((name) => !files.includes(name));
  const state =
    unknown.length > AHEAD_MAX
      ? "too_far_ahead"
      : unknown.length > 0
        ? "ahead"
        : pending.length > 0
          ? "behind"
          : "current";
  return {
    state,
    programVersion: versionOf(files),
    schemaVersion: versionOf(applied),
    pending,
    unknown,
  };
}

/** One sentence for a person: what the versions are, and what to do. */
export function explainSchemaVersion(version: SchemaVersion): string {
  const { schemaVersion, programVersion } = version;
  switch (version.state) {
    case "current":
      return `The schema is at version ${schemaVersion}, as this program expects.`;
    case "behind":
      return schemaVersion === 0
        ? "The database is empty. Run `tallystick migrate` (or `tallystick start`, which does it first)."
        : `The schema is at version ${schemaVersion} and this program at ${programVersion}. Run \`tallystick migrate\` (or \`tallystick start\`, which does it first).`;
    case "ahead":
      return `The schema is at version ${schemaVersion}, one ahead of this program (${programVersion}). This works while an upgrade is under way; upgrade this instance soon.`;
    case "too_far_ahead":
      return `The schema is at version ${schemaVersion} and this program only knows ${programVersion}. Migrations are not undone: start the newer program, or restore a backup made before the upgrade.`;
  }
}

/** Names of the migration files, oldest first, without ".sql". */
async function listMigrations(folder: URL): Promise<string[]> {
  const files = await readdir(folder);
  return files
    .filter((file) => file.endsWith(".sql"))
    .map((file) => file.slice(0, -".sql".length))
    .toSorted();
}

const versionOf = (names: readonly string[]): number =>
  Math.max(0, ...names.map((name) => Number.parseInt(name, 10)));

/** Names of the migrations the database has, oldest first; none when it has never been migrated. */
async function listApplied(url: string): Promise<string[]> {
  try {
    return await withClient(url, async (client) => {
      const { rows } = await client.query<{ name: string }>(
        `select name from ${APPLIED_TABLE} order by name limit 10000`,
      );
      return rows.map((row) => row.name);
    });
  } catch (error) {
    if (sqlStateOf(error) === "42P01") return [];
    throw error;
  }
}

/** A connection of its own, without time limits: a migration, or the wait for another's, takes what it takes. */
async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({
    connectionString: url,
    application_name: "tallystick migrate",
    connectionTimeoutMillis: 10_000,
  });
  client.on("error", () => undefined); // a lost connection rejects the statement under way as well
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/**
 * Applies the oldest missing migration under the lock and returns its name, or undefined when none is missing.
 * Roles belong to the whole cluster and the lock to one database, so migrations of two databases may meet there:
 * the loser's file is rolled back whole and applied again.
 */
async function applyNext(url: string, folder: URL): Promise<string | undefined> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await withClient(url, (client) => runNext(client, folder));
    } catch (error) {
      if (attempt >= 10 || !isRoleCollision(error)) throw error;
    }
  }
}

async function runNext(client: pg.Client, folder: URL): Promise<string | undefined> {
  // Loaded only when there is work: it is larger than the rest of a start.
  const { runner } = await import("node-pg-migrate");
  const quiet = () => undefined;
  const [done] = await runner({
    dbClient: client,
    dir: fileURLToPath(folder),
    ignorePattern: "(?!.*\\.sql$).*",
    migrationsTable: APPLIED_TABLE,
    direction: "up",
    count: 1,
    singleTransaction: false,
    advisoryLockMode: "wait",
    logger: { debug: quiet, info: quiet, warn: quiet, error: quiet },
  });
  return done?.name;
}

function isRoleCollision(error: unknown): boolean {
  const state = sqlStateOf(error);
  return (
    state === "42710" ||
    (state === "23505" && /pg_auth/.test(String(error))) ||
    (state === "XX000" && /tuple concurrently updated/.test(String(error)))
  );
}
