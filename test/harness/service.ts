import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { App } from "#app";
import { loadConfig } from "#config";
import { silentLogger, systemClock, type Clock, type Logger } from "#kernel";
import { SERVICE_ENV, SERVICE_FLAGS } from "../../bin/launcher-plan.mjs";
import { temporaryFolder } from "./temporary-folder.ts";
import { testDatabase, type TestDatabase } from "./test-database.ts";
import { waitFor } from "./wait-for.ts";

const CLI = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));

/** How a test talks to a running service. */
export type ServiceFace = {
  readonly url: string;
  readonly adminKey: string;
  readonly dataDir: string;
  /** fetch with the admin key; the path begins with a slash. */
  request(path: string, init?: RequestInit): Promise<Response>;
  /** Sends events as one JSON array and returns the answer's body; throws on any status but 2xx and 4xx. */
  send(events: readonly object[], query?: string): Promise<SendAnswer>;
  /** The body of a GET as JSON; throws on any status but 200. */
  get(path: string): Promise<unknown>;
};

/** What POST /analytics/v1/events says. */
export type SendAnswer = {
  counts: {
    received: number;
    accepted: number;
    duplicate: number;
    conflict: number;
    rejected: number;
  };
  results: { index: number; eventId: string | null; status: string; code?: string }[];
};

export type TestServiceOptions = {
  /** Settings, as environment variables. */
  env?: Record<string, string>;
  /** A database to use, which stays; a new one, dropped at the end, when not given. */
  db?: TestDatabase;
  clock?: Clock;
  logger?: Logger;
  /** 0 ≤ random() < 1. */
  random?: () => number;
};

/** The real app in this process, on a free port, with a database of its own unless one is given. */
export async function testService(
  options: TestServiceOptions = {},
): Promise<ServiceFace & AsyncDisposable & { app: App; db: TestDatabase }> {
  await using scope = new AsyncDisposableStack();
  const folder = scope.use(await temporaryFolder());
  const db = options.db ?? scope.use(await testDatabase());
  // Loaded here: it brings every layer along, and most tests need few.
  const { openApp } = await import("#app");
  const { config } = loadConfig({
    PORT: "0",
    DATA_DIR: folder.path,
    DATABASE_URL: db.url,
    ...options.env,
  });
  const app = scope.use(
    await openApp(config, {
      logger: options.logger ?? silentLogger,
      clock: options.clock ?? systemClock,
      random: options.random ?? Math.random,
      onProgress: () => undefined,
      signal: new AbortController().signal,
    }),
  );
  const owned = scope.move();
  return {
    ...faceOf({ url: app.url, adminKey: app.adminKey.key, dataDir: app.dataDir }),
    app,
    db,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export type SpawnServiceOptions = {
  env?: Record<string, string>;
  /** Kept when given, so that a service can be started on it again; else made and removed. */
  dataDir?: string;
  /** A database to use, or "embedded" for the one brought along; a new test database when not given. */
  databaseUrl?: string;
  /** A process group of its own, for signals to the whole group. */
  detached?: boolean;
};

/** The real service as a process of its own. Disposing kills it when it still runs. */
export type SpawnedService = ServiceFace &
  AsyncDisposable & {
    readonly pid: number;
    /** Sends a signal (SIGKILL when none is named). */
    kill(signal?: NodeJS.Signals): void;
    /** Resolves when it has ended, with exit code or signal. */
    readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
    /** What it has logged so far. */
    stderr(): string;
  };

/** Starts `tallystick start` and resolves when it listens; throws with its standard error when it ends instead. */
export async function spawnService(options: SpawnServiceOptions = {}): Promise<SpawnedService> {
  await using scope = new AsyncDisposableStack();
  const dataDir = options.dataDir ?? join(scope.use(await temporaryFolder()).path, "data");
  await mkdir(dataDir, { recursive: true });
  if (process.getuid?.() === 0) await chmod(dataDir, 0o711);
  const databaseUrl = options.databaseUrl ?? scope.use(await testDatabase()).url;
  const child = spawn(process.execPath, [...SERVICE_FLAGS, CLI, "start", "--json"], {
    env: {
      ...SERVICE_ENV,
      PATH: process.env["PATH"],
      PORT: "0",
      DATA_DIR: dataDir,
      ...(databaseUrl !== "embedded" && { DATABASE_URL: databaseUrl }),
      ...options.env,
    },
    stdio: ["ignore", "pipe", "pipe"],
    detached: options.detached ?? false,
  });
  const exited = once(child, "exit").then(() => ({
    code: child.exitCode,
    signal: child.signalCode,
  }));
  scope.defer(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
    if (databaseUrl === "embedded") await stopOrphan(dataDir);
  });
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (log += text));
  const [line] = (await Promise.race([
    once(createInterface(child.stdout), "line"),
    exited.then(({ code, signal }) =>
      Promise.reject(new Error(`the service ended with ${code ?? signal}:\n${log}`)),
    ),
  ])) as [string];
  const { url } = JSON.parse(line) as { url: string };
  const adminKey = (await readFile(join(dataDir, "admin-key"), "utf8")).trim();
  const owned = scope.move();
  return {
    ...faceOf({ url, adminKey, dataDir }),
    pid: child.pid ?? 0,
    kill: (signal = "SIGKILL") => void child.kill(signal),
    exited,
    stderr: () => log,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Ends the database server that a killed service left behind in its data directory. */
async function stopOrphan(dataDir: string): Promise<void> {
  const home = await readlink(join(dataDir, "postgres-home")).catch(() => dataDir);
  const file = join(home, "postgres", "postmaster.pid");
  const pid = Number.parseInt(await readFile(file, "utf8").catch(() => ""), 10);
  if (!(pid > 1)) return;
  process.kill(pid, "SIGQUIT");
  await waitFor(() => !existsSync(file), { what: "the orphaned PostgreSQL to end" });
}

function faceOf(place: { url: string; adminKey: string; dataDir: string }): ServiceFace {
  const request = (path: string, init: RequestInit = {}) => {
    const headers = new Headers(init.headers);
    if (!headers.has("authorization")) headers.set("authorization", `Bearer ${place.adminKey}`);
    return fetch(place.url + path, { ...init, headers });
  };
  const expect = async (answer: Response, isExpected: boolean): Promise<unknown> => {
    if (isExpected) return await answer.json();
    throw new Error(`${answer.url} answered ${answer.status}: ${await answer.text()}`);
  };
  return {
    ...place,
    request,
    send: async (events, query = "") => {
      const answer = await request(`/analytics/v1/events${query}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(events),
      });
      return (await expect(answer, answer.status < 500)) as SendAnswer;
    },
    get: async (path) => {
      const answer = await request(path);
      return await expect(answer, answer.status === 200);
    },
  };
}
