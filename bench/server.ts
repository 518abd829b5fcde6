import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { startDebianPostgres } from "#harness";
import { neverCrash, silentLogger } from "#kernel";
import { createPostgresSettings, openDataDir, startPostgres } from "#platform";
import { type Database, migrate, openDatabase } from "#store";

/** Which PostgreSQL is measured: the one brought along, or Debian's PostgreSQL 15 with the same settings. */
export const SERVER_KINDS = ["embedded", "debian15"] as const;
export type ServerKind = (typeof SERVER_KINDS)[number];

/** A database of one bench's own, dropped at the end. */
export type BenchDatabase = AsyncDisposable & { readonly url: string; readonly database: Database };

/** A private PostgreSQL with production's settings, stopped and removed at the end. */
export type BenchServer = AsyncDisposable & {
  /** Process id of the postmaster. */
  pid(): Promise<number>;
  /** A new database with Tallystick's schema; an empty one with `isMigrated: false`. */
  createDatabase(options?: { isMigrated: boolean }): Promise<BenchDatabase>;
};

const TEMPLATE = "bench_template";
const STOP_MS_MAX = 20_000;
const OWNER_CONNECTIONS = 12;
const API_CONNECTIONS = 4;
/** Filling takes minutes; nothing that is measured comes near it. */
const STATEMENT_MS_MAX = 1_200_000;

/** Starts the server in a new folder under the system's temporary one. */
export async function startServer(kind: ServerKind): Promise<BenchServer> {
  await using scope = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "tallystick-bench-"));
  scope.defer(() => rm(folder, { recursive: true, force: true }));
  // As root, PostgreSQL's own user has to pass through.
  await chmod(folder, 0o711);
  const server = kind === "embedded" ? await startEmbedded(folder) : await startDebian(folder);
  scope.use(server);
  await runAlone(server.url, `create database ${TEMPLATE}`);
  await migrate(urlOf(server.url, TEMPLATE), { logger: silentLogger, crash: neverCrash });
  const owned = scope.move();
  let databases = 0;
  return {
    pid: server.pid,
    createDatabase: ({ isMigrated } = { isMigrated: true }) =>
      createDatabase(server.url, `bench_${++databases}`, isMigrated ? TEMPLATE : "template1"),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

type Started = AsyncDisposable & { url: string; pid: () => Promise<number> };

async function startEmbedded(folder: string): Promise<Started> {
  await using scope = new AsyncDisposableStack();
  const dataDir = scope.use(await openDataDir(folder));
  const server = scope.use(
    await startPostgres({
      dataDir: dataDir.path,
      logger: silentLogger,
      onProgress: () => undefined,
      stopMsMax: STOP_MS_MAX,
      random: Math.random,
    }),
  );
  const owned = scope.move();
  return {
    url: server.url,
    pid: async () => server.pid(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function startDebian(folder: string): Promise<Started> {
  const settings: Record<string, string> = { ...createPostgresSettings() };
  // Said by the harness in its own way, or about logs.
  for (const name of [
    "listen_addresses",
    "unix_socket_directories",
    "password_encryption",
    "logging_collector",
  ]) {
    delete settings[name];
  }
  const production = { ...settings, fsync: "on", full_page_writes: "on" };
  const lines = Object.entries(production).map(([name, value]) => `${name} = '${value}'`);
  const server = await startDebianPostgres(join(folder, "server"), lines);
  return {
    url: server.url,
    pid: server.pid,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function createDatabase(
  serverUrl: string,
  name: string,
  template: string,
): Promise<BenchDatabase> {
  await runAlone(serverUrl, `create database ${name} template ${template}`);
  // What was written so far is not to be written out during the measurement.
  await runAlone(serverUrl, "checkpoint");
  const url = urlOf(serverUrl, name);
  const database = await openBenchDatabase(url);
  return {
    url,
    database,
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await runAlone(serverUrl, `drop database ${name} with (force)`);
    },
  };
}

/** The pools of a process that takes part in a bench. */
export const openBenchDatabase = (url: string): Promise<Database> =>
  openDatabase({
    url,
    ownerConnectionsMax: OWNER_CONNECTIONS,
    apiConnectionsMax: API_CONNECTIONS,
    ownerStatementMsMax: STATEMENT_MS_MAX,
    apiStatementMsMax: STATEMENT_MS_MAX,
    connectMsMax: 10_000,
    onIdleError: () => undefined,
  });

/** One statement on a connection of its own, outside of any transaction. */
async function runAlone(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function urlOf(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  return url.href;
}
