/**
 * Holds one shared server for the tests (argument: its kind) and stops it when nobody has been connected for a while.
 * A process of its own, because test files come and go and none of them outlives the others.
 */
import { appendFileSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { clearDebianPostgres, startDebianPostgres } from "./debian-postgres.ts";
import { startEmbeddedForTests } from "./embedded-postgres.ts";
import { SERVER_KINDS, serverFolder, type ServerKind } from "./shared-server.ts";
import { takeLock } from "./single-instance.ts";

const IDLE_CHECKS_MAX = 10;

const kind = SERVER_KINDS.find((known) => known === process.argv[2]);
if (kind === undefined) throw new Error(`usage: keeper.ts ${SERVER_KINDS.join("|")}`);
await keep(kind);

async function keep(kind: ServerKind): Promise<void> {
  const folder = serverFolder(kind);
  const lock = join(folder, "keeper.pid");
  if (!(await takeLock(lock))) return;
  const stopped = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stopped.abort());
  try {
    await using server = await start(kind, join(folder, "server"));
    const urlFile = join(folder, "url");
    do {
      await writeFile(`${urlFile}.new`, server.url, { mode: 0o600 });
      await rename(`${urlFile}.new`, urlFile);
      await waitUntilIdle(server.url, stopped.signal);
      await rm(urlFile, { force: true });
      // Someone may have read the file just before it went.
      await delay(500);
    } while (!stopped.signal.aborted && (await countClients(server.url)) > 0);
  } catch (error) {
    appendFileSync(
      join(folder, "keeper.log"),
      `${String(error)} ${String(error instanceof Error ? error.cause : "")}\n`,
    );
    throw error;
  } finally {
    await rm(lock, { force: true });
  }
}

async function start(kind: ServerKind, folder: string): Promise<AsyncDisposable & { url: string }> {
  if (kind === "embedded") return await startEmbeddedForTests(folder);
  await clearDebianPostgres(folder);
  return await startDebianPostgres(folder);
}

async function waitUntilIdle(url: string, signal: AbortSignal): Promise<void> {
  for (let idle = 0; idle < IDLE_CHECKS_MAX && !signal.aborted;) {
    await delay(1000, undefined, { signal }).catch(() => undefined);
    idle = (await countClients(url)) === 0 ? idle + 1 : 0;
  }
}

async function countClients(url: string): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  const { rows } = await client.query<{ clients: string }>(
    "select count(*) as clients from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()",
  );
  await client.end();
  return Number(rows[0]?.clients ?? 0);
}
