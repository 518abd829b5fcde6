import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import {
  appendFile,
  chmod,
  chown,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { z } from "zod";
import { OperatorError, retry, type Logger } from "#kernel";
import { writePrivateFile } from "./data-dir.ts";
import { findFreePort } from "./free-port.ts";
import { choosePostgresPlace, type PostgresPlace, type ServerUser } from "./postgres-place.ts";
import {
  findPostmaster,
  launchPostgres,
  PortBusy,
  POSTGRES_ENV,
  stopPostgres,
  waitUntilReady,
  type Postmaster,
} from "./postgres-process.ts";
import {
  POSTGRES_MAJOR,
  preparePostgresRuntime,
  type PostgresRuntime,
} from "./postgres-runtime.ts";
import {
  createPostgresSettings,
  formatPostgresSettings,
  type PostgresSettings,
} from "./postgres-settings.ts";
import { explainFileError, systemCodeOf } from "./system-error.ts";

const run = promisify(execFile);
const ROLE = "tallystick";
const OLD_LOGS_KEPT = 5;

export type EmbeddedPostgresOptions = {
  /** Held by the caller (`openDataDir`). */
  dataDir: string;
  logger: Logger;
  /** Told in a few words what takes time on a first start. */
  onProgress: (step: string) => void;
  /** Beside or instead of the usual settings. */
  settings?: PostgresSettings;
  /** How long an orderly stop may take before the server is stopped at once, ms. */
  stopMsMax: number;
  /** 0 ≤ random() < 1, for the jitter of restarts. */
  random: () => number;
};

/** The database server brought along. Disposing stops it; ending this process without that leaves it to the next start. */
export type EmbeddedPostgres = AsyncDisposable & {
  /** Superuser connection to the database "tallystick". */
  readonly url: string;
  /** Version of the binaries package. */
  readonly version: string;
  /** Whether it was running already, left behind by a process that was killed. */
  readonly isAdopted: boolean;
  /** Process id of the server now; another one after a crash. */
  pid(): number;
  /** Asks the server to stop and does not wait: for a process that has to end this instant. */
  abandon(): void;
};

const postgresAccess = z.object({ port: z.number().int(), password: z.string() });
/** What postgres.json holds: where the server listens (loopback) and its password. */
export type PostgresAccess = z.infer<typeof postgresAccess>;

/**
 * Starts PostgreSQL on `<dataDir>/postgres`, made on the first start, and resolves when it answers. A server left
 * behind by a killed process is adopted; one that dies is started again. Throws OperatorError in plain words for a
 * full disk, missing rights, missing binaries and a cluster of another major version.
 */
export async function startPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  try {
    return await prepareAndStart(options);
  } catch (error) {
    throw explainFileError(error, options.dataDir);
  }
}

async function prepareAndStart(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { dataDir, logger } = options;
  const place = await choosePostgresPlace(dataDir, logger);
  const cluster = join(place.folder, "postgres");
  await refuseOtherMajor(cluster);
  if (!existsSync(cluster)) options.onProgress("Preparing PostgreSQL");
  const runtime = await preparePostgresRuntime(place.folder);
  const access = await findOrMakeAccess(dataDir, cluster);
  if (!existsSync(cluster)) {
    options.onProgress("Creating the database");
    await createCluster(place, runtime, access.password);
  }
  await writeSettings(cluster, place.user, { ...createPostgresSettings(), ...options.settings });
  await pruneLogs(join(cluster, "log"));

  const server = new Supervisor(options, {
    postgres: runtime.postgres,
    cluster,
    user: place.user,
    startLog: join(dataDir, "postgres-start.log"),
  });
  const isAdopted = await server.open(access);
  return {
    url: urlOf(server.access, ROLE),
    version: runtime.version,
    isAdopted,
    pid: () => server.pid,
    abandon: () => server.abandon(),
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

/** Owner connection to the embedded server of a data directory as its last start left it noted, or undefined. */
export async function findEmbeddedUrl(dataDir: string): Promise<string | undefined> {
  const access = await readAccess(dataDir);
  return access && urlOf(access, ROLE);
}

type Launch = { postgres: string; cluster: string; user: ServerUser | undefined; startLog: string };

/** Keeps one server running until told to stop. */
class Supervisor {
  readonly #options: EmbeddedPostgresOptions;
  readonly #launch: Launch;
  readonly #stopping = new AbortController();
  #access: PostgresAccess = { port: 0, password: "" };
  #postmaster: Postmaster | undefined;
  #watching: Promise<void> = Promise.resolve();

  constructor(options: EmbeddedPostgresOptions, launch: Launch) {
    this.#options = options;
    this.#launch = launch;
  }

  get pid(): number {
    return this.#postmaster?.pid ?? 0;
  }

  get access(): PostgresAccess {
    return this.#access;
  }

  /** Adopts or starts the server; resolves to whether it was adopted. */
  async open(access: PostgresAccess): Promise<boolean> {
    this.#access = access;
    try {
      const orphan = await findPostmaster(this.#launch.cluster);
      if (orphan) await this.#adopt(orphan);
      else await this.#startOnFreePort();
      await this.#ensureDatabase();
      this.#watching = this.#watch();
      return orphan !== undefined;
    } catch (error) {
      // What was started and cannot be used must not stay behind.
      await this.stop();
      throw explainConnection(error, this.#launch.cluster);
    }
  }

  abandon(): void {
    this.#stopping.abort(new Error("PostgreSQL is being stopped"));
    if (this.#postmaster && !this.#postmaster.hasExited())
      process.kill(this.#postmaster.pid, "SIGINT");
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("PostgreSQL is being stopped"));
    if (this.#postmaster) {
      const how = await stopPostgres(this.#postmaster, this.#options.stopMsMax);
      if (how === "immediate")
        this.#options.logger.warn("PostgreSQL was slow to stop and was stopped at once");
    }
    await this.#watching;
  }

  async #adopt(orphan: Postmaster): Promise<void> {
    this.#options.logger.warn(
      { pid: orphan.pid },
      "Adopting the PostgreSQL that an earlier run left behind",
    );
    // The port it was given when it started, should the note be older.
    const file = await readFile(join(this.#launch.cluster, "postmaster.pid"), "utf8");
    const port = Number(file.split("\n")[3]);
    if (port > 0) this.#access = { ...this.#access, port };
    this.#postmaster = orphan;
    await this.#waitUntilReady(orphan);
    await writeAccess(this.#options.dataDir, this.#access);
  }

  async #startOnFreePort(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#start();
        await writeAccess(this.#options.dataDir, this.#access);
        return;
      } catch (error) {
        if (!(error instanceof PortBusy)) throw error;
        if (attempt === 10)
          throw new OperatorError("PostgreSQL finds no free port on 127.0.0.1.", { cause: error });
        this.#access = { ...this.#access, port: await findFreePort() };
      }
    }
  }

  async #start(): Promise<void> {
    this.#postmaster = launchPostgres({ ...this.#launch, port: this.#access.port });
    await this.#waitUntilReady(this.#postmaster);
  }

  async #waitUntilReady(postmaster: Postmaster): Promise<void> {
    await waitUntilReady(postmaster, urlOf(this.#access, "postgres"), {
      ...this.#launch,
      onSlow: () => this.#options.onProgress("Waiting for PostgreSQL to recover"),
    });
  }

  /** Starts the server again whenever it ends unasked. It keeps its port: open pools know no other. */
  async #watch(): Promise<void> {
    const { logger, random } = this.#options;
    const signal = this.#stopping.signal;
    while (!signal.aborted) {
      await this.#postmaster?.exited;
      if (signal.aborted) return;
      logger.error("PostgreSQL ended unexpectedly: starting it again");
      await retry(() => this.#start(), {
        attemptsMax: Number.POSITIVE_INFINITY,
        waitMs: 200,
        waitMsMax: 15_000,
        isRetryable: () => true,
        random,
        signal,
        onRetry: (error) =>
          logger.error({ err: error }, "PostgreSQL could not be started again; retrying"),
      }).catch(() => undefined); // only the stop signal ends it
    }
    if (this.#postmaster && !this.#postmaster.hasExited())
      await stopPostgres(this.#postmaster, 1_000);
  }

  async #ensureDatabase(): Promise<void> {
    const client = new pg.Client({ connectionString: urlOf(this.#access, "postgres") });
    client.on("error", () => undefined); // the statement below fails as well
    await client.connect();
    try {
      const { rowCount } = await client.query("select from pg_database where datname = $1", [ROLE]);
      if (rowCount === 0) await client.query(`create database ${ROLE}`);
    } finally {
      await client.end();
    }
  }
}

const urlOf = (access: PostgresAccess, database: string): string =>
  `postgres://${ROLE}:${access.password}@127.0.0.1:${access.port}/${database}`;

async function refuseOtherMajor(cluster: string): Promise<void> {
  const version = await readFile(join(cluster, "PG_VERSION"), "utf8").catch(() => undefined);
  if (version === undefined || version.trim() === String(POSTGRES_MAJOR)) return;
  throw new OperatorError(
    `${cluster} was made by PostgreSQL ${version.trim()}, and this version of Tallystick brings ${POSTGRES_MAJOR}. It is left as it is. ` +
      `Start the version of Tallystick that made it, dump its database with pg_dump, then start this one with another --data-dir and restore into that; or set DATABASE_URL.`,
  );
}

async function findOrMakeAccess(dataDir: string, cluster: string): Promise<PostgresAccess> {
  const known = await readAccess(dataDir);
  if (known) return known;
  if (existsSync(cluster)) {
    throw new OperatorError(
      `${join(dataDir, "postgres.json")} is missing or damaged: it holds the password of the database in ${cluster}. Put it back from a backup, or move that folder away to begin anew.`,
    );
  }
  const access = { port: await findFreePort(), password: randomBytes(24).toString("base64url") };
  await writeAccess(dataDir, access);
  return access;
}

async function readAccess(dataDir: string): Promise<PostgresAccess | undefined> {
  try {
    return postgresAccess.parse(JSON.parse(await readFile(join(dataDir, "postgres.json"), "utf8")));
  } catch (error) {
    if (systemCodeOf(error) === "EACCES") throw explainFileError(error, dataDir);
    return undefined;
  }
}

const writeAccess = (dataDir: string, access: PostgresAccess): Promise<void> =>
  writePrivateFile(join(dataDir, "postgres.json"), `${JSON.stringify(access)}\n`);

/** Runs initdb beside the final place and moves the result there: a cluster exists whole or not at all. */
async function createCluster(
  place: PostgresPlace,
  runtime: PostgresRuntime,
  password: string,
): Promise<void> {
  const next = join(place.folder, "postgres.new");
  const passwordFile = join(place.folder, "postgres.password");
  const { user } = place;
  try {
    await rm(next, { recursive: true, force: true });
    await mkdir(next, { mode: 0o700 });
    await writeFile(passwordFile, password, { mode: 0o600 });
    if (user)
      await Promise.all([next, passwordFile].map((path) => chown(path, user.uid, user.gid)));
    const locale = [
      "--locale-provider=builtin",
      "--builtin-locale=C.UTF-8",
      "--locale=C",
      "--encoding=UTF8",
    ];
    await run(
      runtime.initdb,
      [
        "-D",
        next,
        "-U",
        ROLE,
        "-A",
        "scram-sha-256",
        `--pwfile=${passwordFile}`,
        "--data-checksums",
        "--no-instructions",
        ...locale,
      ],
      { cwd: "/", env: POSTGRES_ENV, ...(user && { uid: user.uid, gid: user.gid }) },
    );
    await appendFile(
      join(next, "postgresql.conf"),
      "\n# Tallystick writes tallystick.conf at each start. What you set below wins.\ninclude 'tallystick.conf'\n",
    );
    await rename(next, join(place.folder, "postgres"));
  } catch (error) {
    throw explainCreation(error, place.folder);
  } finally {
    await rm(passwordFile, { force: true });
  }
}

/** What the server itself objects to, once it answers. */
function explainConnection(error: unknown, cluster: string): unknown {
  switch (systemCodeOf(error)) {
    case "53100":
      return new OperatorError(
        `The disk that holds ${cluster} is full. Make room and start again: nothing stored is lost.`,
        {
          cause: error,
        },
      );
    case "28P01":
      return new OperatorError(
        `The password in postgres.json is not that of the database in ${cluster}. Put the file back from a backup, or move that folder away to begin anew.`,
        { cause: error },
      );
    default:
      return error;
  }
}

function explainCreation(error: unknown, folder: string): unknown {
  const said = error instanceof Error && "stderr" in error ? String(error.stderr) : "";
  if (/No space left on device|Disk quota exceeded/.test(said)) {
    return new OperatorError(
      `The disk that holds ${folder} is full. PostgreSQL needs about 150 MB to begin.`,
      { cause: error },
    );
  }
  if (said !== "")
    return new OperatorError(`PostgreSQL could not create its database:\n${said.trim()}`, {
      cause: error,
    });
  if (systemCodeOf(error) === "ENOENT") {
    return new OperatorError(
      "The PostgreSQL brought along does not run on this system (it needs glibc). Set DATABASE_URL to a PostgreSQL of your own.",
      { cause: error },
    );
  }
  return explainFileError(error, folder);
}

async function writeSettings(
  cluster: string,
  user: ServerUser | undefined,
  settings: PostgresSettings,
): Promise<void> {
  const file = join(cluster, "tallystick.conf");
  const text = formatPostgresSettings(settings);
  if ((await readFile(file, "utf8").catch(() => "")) === text) return;
  await writeFile(file, text, { mode: 0o600 });
  await chmod(file, 0o600);
  if (user) await chown(file, user.uid, user.gid);
}

/** The server begins a new log file by size and never ends an old one. */
async function pruneLogs(folder: string): Promise<void> {
  const files = await readdir(folder).catch(() => []);
  const old = files.toSorted().slice(0, -OLD_LOGS_KEPT);
  await Promise.all(old.map((file) => rm(join(folder, file), { force: true })));
}
