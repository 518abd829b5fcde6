import { randomInt, randomUUID } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { collectDefaultMetrics, Registry } from "prom-client";
import manifest from "../package.json" with { type: "json" };
import { startBudgetRecorder } from "#alerts";
import { openApi, type Api, type ApiLimits, type ReadinessProbe } from "#api";
import { ADMIN, startAuditAnchors, startSignInRetention } from "#auth";
import type { Config } from "#config";
import { openIngestor, type Ingestor } from "#ingest";
import { createCrash, neverCrash, OperatorError, type Clock } from "#kernel";
import {
  checkMachine,
  checkPostgres,
  openDataDir,
  openPostgres,
  writePrivateFile,
  type Check,
} from "#platform";
import { startPoolRating, startReratingWorker } from "#rerating";
import { startReconciler, startRetention, startRollup, type Rollup } from "#rollup";
import {
  explainSchemaVersion,
  getSchemaVersion,
  listConsumerProgress,
  listTablesWithoutRowSecurity,
  migrate,
  type Database,
  type SchemaVersion,
} from "#store";
import { ingestSettings, openAppDatabase } from "./app/database.ts";
import type { AppDeps } from "./app/deps.ts";
import { checkBroker } from "./app/broker-check.ts";
import { checkIdentity } from "./app/identity-check.ts";
import { openSignIn } from "./app/sign-in.ts";
import { openPublisher } from "./app/publisher.ts";
import { describeTransports, startTransports, type Transports } from "./app/transports.ts";

export type { Check } from "#platform";
export type { Difference, VerifyRange } from "#rollup";
export type { AppDeps } from "./app/deps.ts";
export {
  replayStream,
  type ReplayOrder,
  type ReplayProgress,
  type ReplayReport,
} from "./app/replay.ts";
export { verifyAuditLog, type AuditFault, type AuditReport } from "./app/audit.ts";
export { verifyDatabase, type VerifyProgress, type VerifyReport } from "./app/verify.ts";
/** For `budgets`: what files say. */
export { budgetFileEntry } from "#alerts";
/** For `prices`: what files and catalogues say that usage costs. */
export {
  type CatalogueNote,
  convertCatalogue,
  entriesOf,
  listEntryFaults,
  listProviders,
  pathOf,
  type PriceList,
  priceList,
  priceListFields,
} from "#pricing";
/** For `import`: how the rows of foreign files become events. */
export {
  createAzureTraceAdapter,
  createCsvAdapter,
  fillEventLine,
  isRowField,
  ROW_FIELDS,
  type EventDefaults,
  type RecordAdapter,
  type RowFault,
  type RowField,
} from "#ingest";

/** Of this program. */
export const VERSION: string = manifest.version;

/** The running service. Disposing drains it and stops everything, in the reverse order of the start. */
export type App = AsyncDisposable & {
  /** Where the API listens. */
  readonly url: string;
  /** Owner connection of the database in use. */
  readonly databaseUrl: string;
  /** Absolute. */
  readonly dataDir: string;
  readonly adminKey: AdminKey;
  /** Makes a link that signs one browser in as administrator, once and within 15 minutes. Undefined: another process serves people. */
  readonly makeSignInLink: (() => Promise<string>) | undefined;
  /** Readiness fails from now on; requests are still answered. */
  retire(): void;
  /** For a process that has to end this instant: what would outlive it is told to stop, without waiting. */
  abandon(): void;
};

export type AdminKey = { key: string; file: string; isNew: boolean };

/** Shares of the grace period: answers under way first, then what they left to commit; PostgreSQL takes the rest. */
const DRAIN_SHARE = 0.4;
/**
 * Starts everything and resolves when the API answers. Throws OperatorError with what to do when a setting, the
 * machine or the database is in the way; whatever was started by then is stopped again.
 */
export async function openApp(config: Config, deps: AppDeps): Promise<App> {
  const { logger, clock, random, signal } = deps;
  const crash = config.crashpoint
    ? createCrash(config.crashpoint.name, config.crashpoint.pass)
    : neverCrash;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });

  await using scope = new AsyncDisposableStack();
  const dataDir = scope.use(await openDataDir(config.dataDir, clock));
  const adminKey = await findOrMakeAdminKey(dataDir.path);
  const postgres = scope.use(await openPostgres(config, dataDir.path, deps));
  signal.throwIfAborted();
  await migrate(postgres.url, { logger, crash });
  signal.throwIfAborted();
  let isStopping = false;
  const onIdleError = (error: Error) => {
    // PostgreSQL, when it stops with us, takes leave of connections that are about to close.
    if (!isStopping) logger.warn({ err: error }, "An idle database connection was lost");
  };
  const database = scope.use(await openAppDatabase(postgres.url, config, onIdleError));
  const ingestor = scope.use(
    await openIngestor({
      database,
      clock,
      logger,
      registry,
      crash,
      random,
      settings: ingestSettings(config),
    }),
  );
  const common = { database, clock, logger, registry, crash, random };
  const has = (role: Config["roles"][number]): boolean => config.roles.includes(role);
  const rollup = has("rollup")
    ? scope.use(await startRollup({ ...common, settings: config }))
    : undefined;
  if (has("scheduler")) {
    scope.use(startReconciler({ database, clock, logger }));
    scope.use(startRetention({ database, logger, settings: config }));
    scope.use(startAuditAnchors({ database, clock, logger, folder: dataDir.path }));
    scope.use(startSignInRetention({ database, clock, logger }));
    scope.use(startBudgetRecorder({ database, clock, logger, settings: config }));
    scope.use(startReratingWorker({ database, clock, logger, crash }));
    scope.use(startPoolRating({ database, clock, logger, crash }));
  }
  const transports = has("ingest") ? startTransports(config, { ...common, ingestor }) : undefined;
  if (transports) scope.use(transports);
  const publisher = scope.use(openPublisher(config, { logger, random }));
  const signIn = openSignIn(
    config,
    { database, clock, logger, ingestor, adminKey: adminKey.key },
    scope,
  );
  if (adminKey.isNew) {
    // Those who signed in with the key that was replaced do so again.
    const caller = { principal: ADMIN, requestId: randomUUID() };
    await signIn.sessions?.close(caller, { isEverywhere: true });
  }
  scope.defer(() => crash("shutdown_mid_drain"));
  signal.throwIfAborted();
  const api = scope.use(
    await listen(config, {
      database,
      ingestor,
      publisher,
      serves: { events: has("ingest"), answers: has("api") },
      ...signIn,
      registry,
      logger,
      clock,
      createId: randomUUID,
      probes: createProbes({
        database,
        ingestor,
        rollup,
        clock,
        databaseUrl: postgres.url,
        transports,
      }),
      limits: apiLimits(config),
      version: VERSION,
    }),
  );
  const note = join(dataDir.path, "service.json");
  await writePrivateFile(
    note,
    `${JSON.stringify({ url: reachableUrl(api.url), pid: process.pid })}\n`,
  );
  scope.defer(() => rm(note, { force: true }));

  const owned = scope.move();
  return {
    url: reachableUrl(api.url),
    databaseUrl: postgres.url,
    dataDir: dataDir.path,
    adminKey,
    makeSignInLink: has("api")
      ? async () => {
          const caller = { principal: ADMIN, requestId: randomUUID() };
          const { path } = await signIn.signInLinks.create(caller);
          return `${config.publicUrl ?? reachableUrl(api.url)}${path}`;
        }
      : undefined,
    retire: () => api.setReady(false),
    abandon: () => postgres.abandon(),
    [Symbol.asyncDispose]: () => {
      isStopping = true;
      return owned.disposeAsync();
    },
  };
}

/** Brings the schema up to date without starting the service, and tells the migrations applied and the version reached. */
export async function migrateDatabase(
  config: Config,
  deps: AppDeps,
): Promise<{ applied: string[]; version: SchemaVersion; explanation: string }> {
  const crash = config.crashpoint
    ? createCrash(config.crashpoint.name, config.crashpoint.pass)
    : neverCrash;
  await using dataDir = await openDataDir(config.dataDir, deps.clock);
  await using postgres = await openPostgres(config, dataDir.path, deps);
  const applied = await migrate(postgres.url, { logger: deps.logger, crash });
  const version = await getSchemaVersion(postgres.url);
  return { applied, version, explanation: explainSchemaVersion(version) };
}

/** Looks at the machine, the data directory and the database, as far as they can be reached, and changes nothing. */
export async function diagnose(config: Config, clock: Clock): Promise<Check[]> {
  const checks = await checkMachine(config, clock);
  checks.push(...(await checkIdentity(config, clock)));
  const { check, url } = await checkPostgres(config);
  checks.push(check);
  if (url === undefined || check.state === "failed")
    return [...checks, ...(await checkBroker(config, undefined))];

  const version = await getSchemaVersion(url);
  const state = {
    current: "ok",
    behind: "warning",
    ahead: "warning",
    too_far_ahead: "failed",
  } as const;
  checks.push({
    name: "migrations",
    state: state[version.state],
    detail: explainSchemaVersion(version),
  });
  if (version.schemaVersion === 0) return [...checks, ...(await checkBroker(config, undefined))];

  await using database = await openAppDatabase(url, config, () => undefined);
  const open = (await listTablesWithoutRowSecurity(database.sql)).map((row) => row.table);
  checks.push({
    name: "row-security",
    state: open.length === 0 ? "ok" : "failed",
    detail:
      open.length === 0
        ? "every table of orgs' data is behind row-level security"
        : `${open.join(", ")} lack row-level security: somebody changed the schema by hand. Put it back: \`alter table … force row level security\`.`,
  });
  checks.push(...(await checkBroker(config, database)));
  return checks;
}

const apiLimits = (config: Config): ApiLimits => ({
  bodyBytesMax: config.httpBodyBytesMax,
  eventsMax: config.httpEventsMax,
  pendingBodyBytesMax: Math.max(config.ingestPendingBytesMax, config.httpBodyBytesMax),
  readsMax: 64,
  readMsMax: config.apiStatementMsMax + 75,
  drainMsMax: config.shutdownGraceMs * DRAIN_SHARE,
  rates: {
    address: config.rateIpPerMinute,
    failedLogin: config.rateFailedLoginsPerMinute,
    key: config.rateKeyPerMinute,
    org: config.rateOrgPerMinute,
    events: config.rateEventsPerMinute,
  },
});

async function listen(
  config: Config,
  deps: Omit<Parameters<typeof openApi>[0], "host" | "port">,
): Promise<Api> {
  const { host, port } = config;
  try {
    return await openApi({ ...deps, host, port });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    const reasons = new Map<unknown, string>([
      [
        "EADDRINUSE",
        `Port ${port} of ${host} is in use by another program. Stop it, or choose another with --port.`,
      ],
      [
        "EACCES",
        `Port ${port} may only be opened by the administrator. Choose one above 1023 with --port.`,
      ],
      ["EADDRNOTAVAIL", `HOST is no address of this machine.`],
      ["ENOTFOUND", `HOST cannot be found.`],
    ]);
    const reason = reasons.get(code);
    throw reason === undefined ? error : new OperatorError(reason, { cause: error });
  }
}

type ProbeDeps = {
  database: Database;
  ingestor: Ingestor;
  rollup: Rollup | undefined;
  clock: Clock;
  databaseUrl: string;
  transports: Transports | undefined;
};
const SCHEMA_CHECK_MS = 30_000;

/**
 * What /ready asks. A rollup that is behind or stopped is told but does not fail it: taking the service out of rotation
 * would stop ingestion as well, and help nothing.
 */
function createProbes(deps: ProbeDeps): Record<string, ReadinessProbe> {
  const { database, ingestor, rollup, clock, databaseUrl, transports } = deps;
  let schema: { version: SchemaVersion; atMs: number } | undefined;
  return {
    database: async () => {
      await database.withDirectory((tx) => listConsumerProgress(tx.sql));
      return { ok: true, detail: "answers" };
    },
    migrations: async () => {
      if (schema === undefined || clock.now() - schema.atMs > SCHEMA_CHECK_MS) {
        schema = { version: await getSchemaVersion(databaseUrl), atMs: clock.now() };
      }
      const ok = schema.version.state === "current" || schema.version.state === "ahead";
      return { ok, detail: explainSchemaVersion(schema.version) };
    },
    ingest: async () => ({
      ok: true,
      detail: `${ingestor.pendingEvents} events waiting to be committed${ingestor.trouble === undefined ? "" : `: ${ingestor.trouble}`}`,
    }),
    ...(transports && {
      broker: async () => ({ ok: true, detail: describeTransports(transports) }),
    }),
    rollup: async () => ({
      ok: true,
      detail:
        rollup === undefined
          ? "another process's role"
          : Object.entries(rollup.stats())
              .map(
                ([consumer, { state, lagSeconds }]) =>
                  `${consumer}: ${state}${lagSeconds === null ? "" : `, ${lagSeconds.toFixed(1)} s behind`}`,
              )
              .join("; "),
    }),
  };
}

const KEY_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

async function findOrMakeAdminKey(dataDir: string): Promise<AdminKey> {
  const file = join(dataDir, "admin-key");
  const known = (await readFile(file, "utf8").catch(() => "")).trim();
  if (known !== "") return { key: known, file, isNew: false };
  const secret = Array.from({ length: 32 }, () =>
    KEY_LETTERS.charAt(randomInt(KEY_LETTERS.length)),
  ).join("");
  const key = `tally_admin_${secret}`;
  await writePrivateFile(file, `${key}\n`);
  return { key, file, isNew: true };
}

/** A service that listens on all addresses is reached on loopback from here. */
function reachableUrl(url: string): string {
  const { protocol, hostname, port } = new URL(url);
  const host = hostname === "0.0.0.0" ? "127.0.0.1" : hostname === "[::]" ? "[::1]" : hostname;
  return `${protocol}//${host}:${port}`;
}
