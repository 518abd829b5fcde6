import { execFile, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { appendFile, chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const BIN = "/usr/lib/postgresql/15/bin";

/** A PostgreSQL server of the tests, with the means to make it fail. */
export type TestServer = AsyncDisposable & {
  /** Superuser connection to its "postgres" database. */
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  /** Stops it: "fast" is the orderly way, "immediate" is a crash that needs recovery. */
  stop(mode: "fast" | "immediate"): Promise<void>;
  /** Starts it again on the same port and data. */
  start(): Promise<void>;
  /** The postmaster's process id. */
  pid(): Promise<number>;
};

export const hasDebianPostgres = (): boolean => existsSync(join(BIN, "postgres"));

/** Installs Debian's PostgreSQL 15 when it is missing and this may be done: as root, where there is apt. */
export function installDebianPostgres(): boolean {
  if (hasDebianPostgres()) return true;
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) return false;
  process.stderr.write("Installing postgresql-15 for the tests …\n");
  const options = {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["ignore", "ignore", "inherit"],
  } satisfies Parameters<typeof spawnSync>[2];
  const install = ["install", "-y", "--no-install-recommends", "postgresql-15"];
  if (spawnSync("apt-get", install, options).status !== 0) {
    spawnSync("apt-get", ["update"], options);
    spawnSync("apt-get", install, options);
  }
  return hasDebianPostgres();
}

/**
 * Starts a private server in `folder` (made new) on a free loopback port, without fsync: it lives as long as a test run.
 * `settings` are lines of postgresql.conf. As root it runs as the user "postgres".
 */
export async function startDebianPostgres(
  folder: string,
  settings: readonly string[] = [],
): Promise<TestServer> {
  const as = await unprivilegedUser();
  const password = randomBytes(12).toString("hex");
  const dataDir = join(folder, "data");
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o755);
  await mkdir(dataDir, { mode: 0o700 });
  const passwordFile = join(folder, "password");
  await writeFile(passwordFile, password);
  if (as.uid !== undefined) {
    await run("chown", ["-R", `${as.uid}:${as.gid}`, dataDir, passwordFile]);
  }
  const inside = { ...as, cwd: "/" };
  await run(
    join(BIN, "initdb"),
    [
      "-D",
      dataDir,
      "-U",
      "postgres",
      "-A",
      "md5",
      `--pwfile=${passwordFile}`,
      "-E",
      "UTF8",
      "--no-locale",
      "--no-sync",
    ],
    inside,
  );
  const port = await findFreePort();
  await appendFile(join(dataDir, "postgresql.conf"), `${confLines(port, settings).join("\n")}\n`);

  const pgCtl = async (...args: string[]) => {
    try {
      await run(join(BIN, "pg_ctl"), ["-D", dataDir, "-s", "-w", "-t", "60", ...args], inside);
    } catch (error) {
      const log = await readFile(join(dataDir, "server.log"), "utf8").catch(() => "");
      throw new Error(`pg_ctl ${args[0]} failed: ${log.slice(-2000)}`, { cause: error });
    }
  };
  const start = () => pgCtl("start", "-l", join(dataDir, "server.log"));
  const stop = (mode: "fast" | "immediate") => pgCtl("stop", "-m", mode);
  await start();
  return {
    url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
    port,
    dataDir,
    start,
    stop,
    pid: async () => Number.parseInt(await readFile(join(dataDir, "postmaster.pid"), "utf8"), 10),
    [Symbol.asyncDispose]: async () => {
      if (existsSync(join(dataDir, "postmaster.pid")))
        await stop("immediate").catch(() => undefined);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Ends what an earlier run left behind in `folder`, and the folder. */
export async function clearDebianPostgres(folder: string): Promise<void> {
  const dataDir = join(folder, "data");
  if (existsSync(join(dataDir, "postmaster.pid"))) {
    const as = await unprivilegedUser();
    await run(join(BIN, "pg_ctl"), ["-D", dataDir, "-s", "-w", "stop", "-m", "immediate"], {
      ...as,
      cwd: "/",
    }).catch(() => undefined);
  }
  await rm(folder, { recursive: true, force: true });
}

function confLines(port: number, settings: readonly string[]): string[] {
  return [
    `port = ${port}`,
    "listen_addresses = '127.0.0.1'",
    "unix_socket_directories = ''",
    "password_encryption = md5",
    "max_connections = 300",
    "shared_buffers = 64MB",
    "fsync = off",
    "full_page_writes = off",
    "synchronous_commit = off",
    "max_wal_size = 2GB",
    "autovacuum_naptime = 5s",
    "timezone = 'UTC'",
    ...settings,
  ];
}

/** PostgreSQL refuses to run as root, so root's servers run as "postgres". */
async function unprivilegedUser(): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {};
  const passwd = await readFile("/etc/passwd", "utf8");
  const entry = passwd.split("\n").find((line) => line.startsWith("postgres:"));
  const [, , uid, gid] = entry?.split(":") ?? [];
  if (uid === undefined || gid === undefined)
    throw new Error('no user "postgres" to run a server as');
  return { uid: Number(uid), gid: Number(gid) };
}

/** A loopback port nothing listens on at the moment. */
export async function findFreePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
