import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { OperatorError, sleepMs } from "#kernel";
import type { ServerUser } from "./postgres-place.ts";
import { commandLineOf, isProcessAlive } from "./processes.ts";

/** A running PostgreSQL server, started by this process or found running. */
export type Postmaster = {
  readonly pid: number;
  /** Resolves when the server's main process has ended, however it ended. */
  readonly exited: Promise<void>;
  hasExited(): boolean;
};

export type LaunchOptions = {
  /** Path of the `postgres` program. */
  postgres: string;
  cluster: string;
  port: number;
  user: ServerUser | undefined;
  /** Takes what the server says until its own log begins. */
  startLog: string;
};

/** The server could not listen on its port. */
export class PortBusy extends Error {}

/** What every program of PostgreSQL is started with: nothing of this process's environment, whose PG… variables would steer it. */
export const POSTGRES_ENV = { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C" };

/**
 * Starts the server in a session of its own: a Ctrl-C at the terminal goes to the whole process group, and PostgreSQL
 * has to outlive our draining. It survives this process, too; the next start adopts it.
 */
export function launchPostgres(options: LaunchOptions): Postmaster {
  const log = openSync(options.startLog, "w", 0o600);
  try {
    const child = spawn(options.postgres, ["-D", options.cluster, "-p", String(options.port)], {
      cwd: "/",
      detached: true,
      env: POSTGRES_ENV,
      stdio: ["ignore", log, log],
      ...(options.user && { uid: options.user.uid, gid: options.user.gid }),
    });
    child.unref();
    return watchChild(child);
  } finally {
    closeSync(log);
  }
}

function watchChild(child: ChildProcess): Postmaster {
  let ended = false;
  const exited = new Promise<void>((resolve) => {
    for (const event of ["exit", "error"]) {
      child.once(event, () => {
        ended = true;
        resolve();
      });
    }
  });
  return { pid: child.pid ?? 0, exited, hasExited: () => ended };
}

/** The server that an earlier run left behind in this cluster, if one runs. */
export async function findPostmaster(cluster: string): Promise<Postmaster | undefined> {
  const text = await readFile(join(cluster, "postmaster.pid"), "utf8").catch(() => "");
  const pid = Number.parseInt(text, 10);
  if (!(pid > 0) || !isPostmasterOf(pid, cluster)) return undefined;
  const hasExited = () => !isPostmasterOf(pid, cluster);
  let exited: Promise<void> | undefined;
  return {
    pid,
    hasExited,
    get exited() {
      exited ??= pollUntil(hasExited);
      return exited;
    },
  };
}

/** Whether the process is this cluster's server and not another that was given its id since. */
function isPostmasterOf(pid: number, cluster: string): boolean {
  if (!isProcessAlive(pid)) return false;
  const commandLine = commandLineOf(pid);
  return commandLine === undefined || commandLine.includes(cluster);
}

function pollUntil(condition: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (!condition()) return;
      clearInterval(timer);
      resolve();
    }, 200).unref();
  });
}

/**
 * Resolves when the server answers; recovery after a crash may take its time and is reported every ten seconds.
 * Throws PortBusy, or OperatorError with what the server said, when it ended instead.
 */
export async function waitUntilReady(
  postmaster: Postmaster,
  url: string,
  options: { startLog: string; cluster: string; onSlow: () => void },
): Promise<void> {
  for (let waits = 1; ; waits++) {
    if (await answers(url)) return;
    if (postmaster.hasExited()) throw explainStart(await readLogs(options));
    if (waits % 200 === 0) options.onSlow();
    await sleepMs(50);
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on("error", () => undefined); // the attempt below fails as well
  try {
    await client.connect();
    return true;
  } catch (error) {
    // A wrong password (28P01) or a missing database (3D000) is an answer, and waiting would not change it.
    if (error instanceof pg.DatabaseError && error.code !== "57P03" && error.code !== "53300")
      throw error;
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** What the server said to its standard error, and then in its newest log file: each start begins one. */
async function readLogs(options: { startLog: string; cluster: string }): Promise<string> {
  const folder = join(options.cluster, "log");
  const newest = (await readdir(folder).catch(() => [])).toSorted().at(-1);
  const files =
    newest === undefined ? [options.startLog] : [options.startLog, join(folder, newest)];
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")));
  return texts.join("").slice(-20_000);
}

function explainStart(log: string): Error {
  if (/could not bind|could not create any TCP\/IP sockets/.test(log)) return new PortBusy(log);
  const last = log
    .trim()
    .split("\n")
    .filter((line) => !line.includes("logging collector") && !line.includes("Future log output"))
    .slice(-5)
    .join("\n");
  if (/No space left on device|Disk quota exceeded/.test(log)) {
    return new OperatorError(
      `PostgreSQL cannot start because its disk is full. Make room and start again: nothing stored is lost.\n${last}`,
    );
  }
  if (/Permission denied|invalid permissions|has wrong ownership/.test(log)) {
    return new OperatorError(
      `PostgreSQL may not use its files. Was the data directory made by another user, or copied? Give its files back to that user.\n${last}`,
    );
  }
  if (/could not (create|map|resize) shared memory|Cannot allocate memory/.test(log)) {
    return new OperatorError(`PostgreSQL does not get the memory it asks for.\n${last}`);
  }
  return new OperatorError(`PostgreSQL did not start:\n${last}`);
}

/**
 * Asks the server to stop: orderly first (clients are told, everything is written), and when that takes longer than
 * `waitMsMax`, at once (the next start recovers from the log; nothing committed is lost).
 */
export async function stopPostgres(
  postmaster: Postmaster,
  waitMsMax: number,
): Promise<"fast" | "immediate"> {
  const signal = (name: "SIGINT" | "SIGQUIT") => {
    if (!postmaster.hasExited()) process.kill(postmaster.pid, name);
  };
  signal("SIGINT");
  if (await within(postmaster.exited, waitMsMax)) return "fast";
  signal("SIGQUIT");
  await within(postmaster.exited, 10_000);
  return "immediate";
}

async function within(done: Promise<void>, ms: number): Promise<boolean> {
  const timeUp = new AbortController();
  try {
    return await Promise.race([
      done.then(() => true),
      sleepMs(ms, timeUp.signal).then(
        () => false,
        () => true,
      ),
    ]);
  } finally {
    timeUp.abort();
  }
}
