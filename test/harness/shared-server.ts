import { spawn } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { hasDebianPostgres, installDebianPostgres } from "./debian-postgres.ts";
import { installDebianRabbit, RABBIT_MISSING } from "./rabbitmq.ts";

/** The oldest PostgreSQL supported, from Debian; and the one Tallystick brings along. */
export const SERVER_KINDS = ["debian15", "embedded"] as const;
export type ServerKind = (typeof SERVER_KINDS)[number];

/** Where the keeper of one kind of server leaves its state; one per user, so that rights never clash. */
export const serverFolder = (kind: ServerKind): string =>
  join(tmpdir(), `tallystick-test-${process.getuid?.() ?? 0}`, kind);

/** The server a test uses unless it says which: TEST_POSTGRES, else debian15 where it is installed, else embedded. */
export function defaultServer(): ServerKind {
  const wish = process.env["TEST_POSTGRES"];
  if (wish !== undefined && wish !== "") {
    const kind = SERVER_KINDS.find((known) => known === wish);
    if (kind === undefined) throw new Error(`TEST_POSTGRES is one of: ${SERVER_KINDS.join(", ")}`);
    return kind;
  }
  return hasDebianPostgres() ? "debian15" : "embedded";
}

const leases = new Map<ServerKind, Promise<{ pool: pg.Pool; url: string }>>();

/**
 * A connection pool (superuser, "postgres" database) to the server that all test files and runs of this user share.
 * Started by a keeper process of its own when none runs; the keeper stops it ten seconds after the last pool is gone.
 * The pool does not keep this process alive.
 */
export function leaseServer(kind: ServerKind): Promise<{ pool: pg.Pool; url: string }> {
  let lease = leases.get(kind);
  if (lease === undefined) {
    lease = findOrStart(kind);
    leases.set(kind, lease);
  }
  return lease;
}

async function findOrStart(kind: ServerKind): Promise<{ pool: pg.Pool; url: string }> {
  const folder = serverFolder(kind);
  await mkdir(folder, { recursive: true, mode: 0o755 });
  let keeper: { done: boolean } = { done: true };
  for (let waitedMs = 0; waitedMs < 120_000; waitedMs += 100) {
    const found = await connectToKept(folder);
    if (found) return found;
    // A keeper that finds another one at work ends at once, so asking again is harmless.
    if (keeper.done) keeper = startKeeper(kind);
    await delay(100);
  }
  throw new Error(`no ${kind} server for the tests; see ${join(folder, "keeper.log")}`);
}

async function connectToKept(folder: string): Promise<{ pool: pg.Pool; url: string } | undefined> {
  const url = await readFile(join(folder, "url"), "utf8").catch(() => "");
  if (url === "") return undefined;
  // The connection stays open while the process lives: it is what tells the keeper that the server is in use.
  const pool = new pg.Pool({
    connectionString: url,
    max: 2,
    min: 1,
    idleTimeoutMillis: 0,
    allowExitOnIdle: true,
    application_name: "tallystick tests",
  });
  pool.on("error", () => undefined);
  try {
    await pool.query("select 1");
    return { pool, url };
  } catch {
    await pool.end();
    return undefined;
  }
}

function startKeeper(kind: ServerKind): { done: boolean } {
  const state = { done: false };
  const script = fileURLToPath(new URL("./keeper.ts", import.meta.url));
  const child = spawn(process.execPath, [script, kind], { detached: true, stdio: "ignore" });
  child.once("exit", () => (state.done = true));
  child.unref();
  return state;
}

/**
 * Starts every kind of PostgreSQL server there is for a whole test run and installs RabbitMQ where that may be done; says
 * on standard error what cannot be had (under CI=true that is an error). Test files started meanwhile find the servers;
 * they stop by themselves after the run.
 */
export async function startTestServers(): Promise<AsyncDisposable> {
  if (!installDebianPostgres()) {
    const message =
      "PostgreSQL 15 is not installed (Debian package postgresql-15): the tests use the embedded PostgreSQL alone.";
    if (process.env["CI"] === "true") throw new Error(message);
    process.stderr.write(`${message}\n`);
  }
  // RabbitMQ is started by the first test that asks for it; what takes minutes is done here.
  if ((process.env["RABBITMQ_TEST_URL"] ?? "") === "" && !(await installDebianRabbit())) {
    if (process.env["CI"] === "true") throw new Error(RABBIT_MISSING);
    process.stderr.write(`${RABBIT_MISSING}\n`);
  }
  const kinds = SERVER_KINDS.filter((kind) => kind !== "debian15" || hasDebianPostgres());
  await Promise.all(kinds.map((kind) => leaseServer(kind)));
  return {
    [Symbol.asyncDispose]: async () => {
      const open = await Promise.all(leases.values());
      leases.clear();
      await Promise.all(open.map((lease) => lease.pool.end()));
    },
  };
}
