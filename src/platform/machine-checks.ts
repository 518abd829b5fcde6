import { existsSync } from "node:fs";
import { access, constants, readFile, stat, statfs } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Config } from "#config";
import type { Clock } from "#kernel";
import { findDataDirHolder } from "./data-dir.ts";
import { isPortFree } from "./free-port.ts";
import { findEmbeddedUrl } from "./postgres-embedded.ts";
import { listMissingLinks, POSTGRES_MAJOR } from "./postgres-runtime.ts";
import { inspectPostgres, listPostgresProblems } from "./postgres-server.ts";
import { systemCodeOf } from "./system-error.ts";

const NODE_MAJOR_MIN = 24;
/** End of life of Node.js 24. */
const NODE_END = Date.parse("2028-04-30T00:00:00Z");
const GIB = 1024 ** 3;

/** One thing looked at. `detail` says what was found and, unless it is ok, what to do. */
export type Check = { name: string; state: "ok" | "warning" | "failed"; detail: string };

const ok = (name: string, detail: string): Check => ({ name, state: "ok", detail });
const warning = (name: string, detail: string): Check => ({ name, state: "warning", detail });
const failed = (name: string, detail: string): Check => ({ name, state: "failed", detail });

/** Looks at this machine as far as one can without the database. Changes nothing. */
export async function checkMachine(config: Config, clock: Clock): Promise<Check[]> {
  const dataDir = resolve(config.dataDir);
  const holder = await findDataDirHolder(dataDir, clock);
  const checks = [
    checkNode(clock),
    await checkDataDir(dataDir, holder),
    await checkDisk(dataDir),
    await checkPort(config, holder),
  ];
  if (config.databaseUrl === undefined) checks.push(await checkEmbedded(dataDir));
  return checks;
}

function checkNode(clock: Clock): Check {
  const version = process.versions.node;
  if (Number.parseInt(version, 10) < NODE_MAJOR_MIN) {
    return failed(
      "node",
      `Node.js ${version}; ${NODE_MAJOR_MIN} or newer is needed. The launcher (bin/tallystick.mjs) brings one.`,
    );
  }
  if (version.startsWith("24.") && clock.now() > NODE_END) {
    return warning("node", `Node.js ${version} gets no more fixes. Move to a newer line.`);
  }
  return ok("node", `Node.js ${version}`);
}

async function checkDataDir(dataDir: string, holder: number | undefined): Promise<Check> {
  const name = "data-dir";
  const present = existingParent(dataDir);
  try {
    await access(present, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch {
    return failed(
      name,
      `${present} may not be written by this user. Give it the rights, or choose another folder with --data-dir.`,
    );
  }
  if (present !== dataDir) return ok(name, `${dataDir} will be made by the first start`);
  if (!(await stat(dataDir)).isDirectory())
    return failed(name, `${dataDir} is not a folder. Choose another with --data-dir.`);
  const key = await stat(join(dataDir, "admin-key")).catch(() => undefined);
  if (key && (key.mode & 0o077) !== 0) {
    return warning(name, `${join(dataDir, "admin-key")} can be read by other users: chmod 600 it.`);
  }
  return ok(name, holder === undefined ? dataDir : `${dataDir}, in use by process ${holder}`);
}

/** The path itself, or the nearest folder above it that is there. */
const existingParent = (path: string): string =>
  existsSync(path) ? path : existingParent(dirname(path));

async function checkDisk(dataDir: string): Promise<Check> {
  const { bavail, bsize } = await statfs(existingParent(dataDir));
  const free = bavail * bsize;
  const detail = `${(free / GIB).toFixed(1)} GiB free at ${dataDir}`;
  if (free < GIB / 4) return failed("disk", `${detail}: too little to work with. Make room.`);
  if (free < 4 * GIB)
    return warning("disk", `${detail}: the database's log alone may take 4 GiB. Make room soon.`);
  return ok("disk", detail);
}

async function checkPort(config: Config, holder: number | undefined): Promise<Check> {
  const { port, host } = config;
  if (port === 0) return ok("port", "any free one");
  if (await isPortFree(port, host)) return ok("port", `${host}:${port} is free`);
  if (holder !== undefined)
    return ok("port", `${host}:${port} is taken, and Tallystick runs on this data directory`);
  return failed(
    "port",
    `${host}:${port} is taken by another program. Stop it, or choose another with --port.`,
  );
}

async function checkEmbedded(dataDir: string): Promise<Check> {
  const name = "embedded-postgres";
  try {
    const version = (
      await readFile(join(dataDir, "postgres", "PG_VERSION"), "utf8").catch(() => "")
    ).trim();
    if (version !== "" && version !== String(POSTGRES_MAJOR)) {
      return failed(
        name,
        `The database was made by PostgreSQL ${version}; this version of Tallystick brings ${POSTGRES_MAJOR}.`,
      );
    }
    const missing = await listMissingLinks(dataDir);
    if (version === "") return ok(name, "installed; the first start creates the database");
    if (missing.length === 0) return ok(name, `PostgreSQL ${version}, all library links in place`);
    return failed(
      name,
      `${missing.length} library links are missing, ${missing[0]} first. Delete ${join(dataDir, "runtime")}: the next start makes it anew.`,
    );
  } catch (error) {
    return failed(name, error instanceof Error ? error.message : String(error));
  }
}

/** The database in use, if it can be reached now, and what was found of it. An embedded one runs while the service does. */
export async function checkPostgres(
  config: Config,
): Promise<{ check: Check; url: string | undefined }> {
  const name = "postgres";
  const url = config.databaseUrl ?? (await findEmbeddedUrl(resolve(config.dataDir)));
  if (url === undefined) return { check: ok(name, "not created yet"), url };
  try {
    const facts = await inspectPostgres(url);
    const problems = listPostgresProblems(facts);
    if (problems.length > 0) return { check: failed(name, problems.join(" ")), url };
    const detail = `PostgreSQL ${facts.version}, rights and encoding as needed, ${facts.timeZones} time zones`;
    if (!facts.dataChecksums)
      return {
        check: warning(name, `${detail}; without data checksums, damage on disk goes unnoticed`),
        url,
      };
    return { check: ok(name, detail), url };
  } catch (error) {
    const isAway =
      config.databaseUrl === undefined && systemCodeOf(causeOf(error)) === "ECONNREFUSED";
    if (isAway)
      return { check: ok(name, "not running: it runs while the service does"), url: undefined };
    return {
      check: failed(name, error instanceof Error ? error.message : String(error)),
      url: undefined,
    };
  }
}

const causeOf = (error: unknown): unknown => (error instanceof Error ? error.cause : undefined);
