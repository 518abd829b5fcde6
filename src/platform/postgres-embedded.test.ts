import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, chown, mkdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { temporaryFolder, waitFor } from "#harness";
import { OperatorError, silentLogger } from "#kernel";
import {
  findDataDirHolder,
  listMissingLinks,
  openDataDir,
  startPostgres,
  type EmbeddedPostgres,
} from "#platform";
import pg from "pg";
import { isProcessAlive } from "./processes.ts";

const HOLDER = fileURLToPath(new URL("../../test/faults/embedded-holder.ts", import.meta.url));
const isRoot = process.getuid?.() === 0;

const start = (dataDir: string, progress: string[] = []): Promise<EmbeddedPostgres> =>
  startPostgres({
    dataDir,
    logger: silentLogger,
    onProgress: (step) => progress.push(step),
    settings: { fsync: "off", shared_buffers: "64MB" },
    stopMsMax: 10_000,
    random: () => 0,
  });

async function query<Row extends pg.QueryResultRow>(url: string, text: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function startHolder(
  dataDir: string,
  uid?: number,
): Promise<{ child: ChildProcess; url: string; pid: number }> {
  const child = spawn(process.execPath, [HOLDER, dataDir], {
    stdio: ["ignore", "pipe", "inherit"],
    ...(uid !== undefined && { uid, gid: uid }),
  });
  const said: unknown[] = await once(child.stdout ?? child, "data");
  const { url, pid } = JSON.parse(String(said[0])) as { url: string; pid: number };
  return { child, url, pid };
}

test("a first start makes a closed, checksummed database; a second finds what was stored", async () => {
  await using folder = await temporaryFolder();
  const progress: string[] = [];
  {
    await using server = await start(folder.path, progress);
    assert.equal(server.isAdopted, false);
    await query(server.url, "create table kept (x int); insert into kept values (7)");
    const settings = await query(
      server.url,
      "select name, setting from pg_settings where name in ('data_checksums', 'listen_addresses', 'TimeZone', 'synchronous_commit') order by lower(name)",
    );
    assert.deepEqual(settings, [
      { name: "data_checksums", setting: "on" },
      { name: "listen_addresses", setting: "127.0.0.1" },
      { name: "synchronous_commit", setting: "on" },
      { name: "TimeZone", setting: "UTC" },
    ]);
    const wrong = Object.assign(new URL(server.url), { password: "guess" }).href;
    await assert.rejects(query(wrong, "select 1"), /password authentication failed/);
    assert.equal((await stat(join(folder.path, "postgres.json"))).mode & 0o777, 0o600);
    assert.deepEqual(await listMissingLinks(folder.path), []);
  }
  assert.deepEqual(progress, ["Preparing PostgreSQL", "Creating the database"]);
  progress.length = 0;
  await using server = await start(folder.path, progress);
  assert.deepEqual(await query(server.url, "select x from kept"), [{ x: 7 }]);
  assert.deepEqual(progress, []);
});

test("a server left behind by a killed process is adopted, with all its data, and stopped in the end", async () => {
  await using folder = await temporaryFolder();
  const holder = await startHolder(folder.path);
  await query(holder.url, "create table kept (x int); insert into kept values (7)");
  holder.child.kill("SIGKILL");
  await once(holder.child, "exit");
  {
    await using dataDir = await openDataDir(folder.path);
    await using server = await start(dataDir.path);
    assert.equal(server.isAdopted, true);
    assert.equal(server.pid(), holder.pid);
    assert.deepEqual(await query(server.url, "select x from kept"), [{ x: 7 }]);
  }
  assert.equal(isProcessAlive(holder.pid), false);
  assert.equal(existsSync(join(folder.path, "postgres/postmaster.pid")), false);
});

test("a server that dies is started again under the same address", async () => {
  await using folder = await temporaryFolder();
  await using server = await start(folder.path);
  const first = server.pid();
  await query(server.url, "create table kept (x int); insert into kept values (7)");
  process.kill(first, "SIGKILL");
  const rows = await waitFor(() => query(server.url, "select x from kept"), { msMax: 20_000 });
  assert.deepEqual(rows, [{ x: 7 }]);
  assert.notEqual(server.pid(), first);
});

test("a port that is taken meanwhile is given up for a free one", async () => {
  await using folder = await temporaryFolder();
  let port: number;
  {
    await using server = await start(folder.path);
    port = Number(new URL(server.url).port);
  }
  const squatter = createServer().listen(port, "127.0.0.1");
  await once(squatter, "listening");
  try {
    await using server = await start(folder.path);
    assert.notEqual(Number(new URL(server.url).port), port);
  } finally {
    squatter.close();
  }
});

test("a stop that was cut short leaves nothing that hinders the next start", async () => {
  await using folder = await temporaryFolder();
  {
    await using server = await start(folder.path);
    assert.ok(server.pid() > 0);
  }
  // As after a power cut: the pid file is there, and its id belongs to another process by now.
  await writeFile(
    join(folder.path, "postgres/postmaster.pid"),
    `${process.pid}\n${folder.path}/postgres\n1\n5432\n`,
  );
  await mkdir(join(folder.path, "postgres.new"));
  await using server = await start(folder.path);
  assert.deepEqual(await query(server.url, "select 1 as x"), [{ x: 1 }]);
});

test("a data directory of another major version, and one without its password, are left alone and explained", async () => {
  await using folder = await temporaryFolder();
  await mkdir(join(folder.path, "postgres"));
  await writeFile(join(folder.path, "postgres/PG_VERSION"), "17\n");
  await assert.rejects(start(folder.path), (error) => {
    assert.ok(error instanceof OperatorError);
    return /made by PostgreSQL 17.*pg_dump/.test(error.message);
  });
  await writeFile(join(folder.path, "postgres/PG_VERSION"), "18\n");
  await assert.rejects(start(folder.path), /postgres\.json is missing or damaged/);
  assert.equal(await readFile(join(folder.path, "postgres/PG_VERSION"), "utf8"), "18\n");
});

test("a password that is not the database's is told, and the server started for nothing is stopped again", async () => {
  await using folder = await temporaryFolder();
  await (await start(folder.path))[Symbol.asyncDispose]();
  const file = join(folder.path, "postgres.json");
  const access = await readFile(file, "utf8");
  await writeFile(file, JSON.stringify({ ...JSON.parse(access), password: "guess" }));
  await assert.rejects(
    start(folder.path),
    /password in postgres\.json is not that of the database/,
  );
  assert.equal(existsSync(join(folder.path, "postgres/postmaster.pid")), false);
  await writeFile(file, access);
  await using server = await start(folder.path);
  assert.deepEqual(await query(server.url, "select 1 as x"), [{ x: 1 }]);
});

test("two services on one data directory: the second is told who holds it; a dead holder's lock is taken over", async () => {
  await using folder = await temporaryFolder();
  const holder = await startHolder(folder.path);
  try {
    assert.equal(await findDataDirHolder(folder.path), holder.child.pid);
    await assert.rejects(
      openDataDir(folder.path),
      new RegExp(`already runs on .* \\(process ${holder.child.pid}\\)`),
    );
  } finally {
    holder.child.kill("SIGKILL");
    await once(holder.child, "exit");
  }
  assert.equal(await findDataDirHolder(folder.path), undefined);
  await using dataDir = await openDataDir(folder.path);
  await using server = await start(dataDir.path);
  assert.equal(server.isAdopted, true);
});

test("as root the server runs as another user, also below a folder that user may not enter", async (t) => {
  if (!isRoot) return t.diagnostic("not root: nothing to drop");
  await using folder = await temporaryFolder();
  await chmod(folder.path, 0o700);
  const dataDir = join(folder.path, "inner");
  await mkdir(dataDir);
  await using cleanup = new AsyncDisposableStack();
  {
    await using server = await start(dataDir);
    const home = await readlink(join(dataDir, "postgres-home"));
    cleanup.defer(() => rm(home, { recursive: true, force: true }));
    const owner = await stat(`/proc/${server.pid()}`);
    assert.notEqual(owner.uid, 0);
    assert.equal((await stat(join(home, "postgres"))).mode & 0o777, 0o700);
    await query(server.url, "create table kept (x int)");
  }
  await using server = await start(dataDir);
  assert.deepEqual(await query(server.url, "select x from kept"), []);
});

test("an ordinary user starts it as well", async (t) => {
  if (!isRoot) return t.diagnostic("the other tests did");
  await using folder = await temporaryFolder();
  await chown(folder.path, 65_534, 65_534);
  const holder = await startHolder(folder.path, 65_534);
  try {
    const proc = await stat(`/proc/${holder.pid}`);
    assert.equal(proc.uid, 65_534);
    assert.deepEqual(await query(holder.url, "select 1 as x"), [{ x: 1 }]);
  } finally {
    holder.child.kill("SIGKILL");
    process.kill(holder.pid, "SIGINT");
    await waitFor(() => !existsSync(join(folder.path, "postgres/postmaster.pid")));
  }
});

test("a full disk is told in plain words, before and after the first start, and needs no repair", async (t) => {
  await using folder = await temporaryFolder();
  const mount = (mib: number) =>
    spawnSync("mount", ["-t", "tmpfs", "-o", `size=${mib}m,mode=755`, "tmpfs", folder.path]);
  // The server's log writer ends a moment after the server.
  const unmount = () => waitFor(() => spawnSync("umount", [folder.path]).status === 0);
  if (mount(30).status !== 0) return t.diagnostic("may not mount a small disk here");
  try {
    await assert.rejects(
      start(folder.path),
      (error) => error instanceof OperatorError && /disk .* is full/.test(error.message),
    );
    await unmount();
    mount(250);
    {
      await using server = await start(folder.path);
      await query(server.url, "create table kept (x int); insert into kept values (7)");
    }
    const filler = join(folder.path, "filler");
    spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=1M"]);
    // PostgreSQL may find room enough to come up; then it refuses writes by itself.
    const outcome = await start(folder.path).then(
      (server) => server[Symbol.asyncDispose]().then(() => "starts all the same"),
      (error: unknown) =>
        error instanceof OperatorError ? error.message : `unexplained: ${String(error)}`,
    );
    assert.match(outcome, /^starts all the same$|disk .* is full/);
    await rm(filler);
    await using server = await start(folder.path);
    assert.deepEqual(await query(server.url, "select x from kept"), [{ x: 7 }]);
  } finally {
    await unmount();
  }
});
