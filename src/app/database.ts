import { resolve } from "node:path";
import type { Config } from "#config";
import { STREAMS_PER_PROCESS_MAX, type IngestSettings } from "#ingest";
import { OperatorError } from "#kernel";
import {
  connectPostgres,
  findDataDirHolder,
  findEmbeddedUrl,
  openDataDir,
  openPostgres,
} from "#platform";
import { explainSchemaVersion, getSchemaVersion, openDatabase, type Database } from "#store";
import type { AppDeps } from "./deps.ts";

const API_CONNECTIONS = 8;
/** Owner connections beside the lanes: two rollup consumers, reconciliation, re-rating, and single statements. */
const OWNER_CONNECTIONS_SPARE = 7;

/**
 * The database of an installation, for a command beside the service, whether that runs or not: the database brought along
 * is started until the scope ends when it does not. Throws OperatorError when there is none, or none of this version.
 */
export async function reachDatabase(
  config: Config,
  deps: AppDeps,
  scope: AsyncDisposableStack,
): Promise<Database> {
  const url = config.databaseUrl ?? (await reachEmbedded(config, deps, scope));
  await connectPostgres(url, { ...deps, attemptsMax: 3 });
  const version = await getSchemaVersion(url);
  if (version.state !== "current") throw new OperatorError(explainSchemaVersion(version));
  return scope.use(await openAppDatabase(url, config, () => undefined));
}

/** The embedded database of a service that runs, or else of its own until the scope ends. */
async function reachEmbedded(
  config: Config,
  deps: AppDeps,
  scope: AsyncDisposableStack,
): Promise<string> {
  const folder = resolve(config.dataDir);
  const url = await findEmbeddedUrl(folder);
  if (url === undefined)
    throw new OperatorError(
      `${folder} holds no database yet: the first "tallystick start" makes it.`,
    );
  if ((await findDataDirHolder(folder, deps.clock)) !== undefined) return url;
  const dataDir = scope.use(await openDataDir(folder, deps.clock));
  return scope.use(await openPostgres(config, dataDir.path, deps)).url;
}

/** Opens the database as the settings say; `onIdleError` is told of connections lost while nothing used them. */
export const openAppDatabase = (
  url: string,
  config: Config,
  onIdleError: (error: Error) => void,
): Promise<Database> =>
  openDatabase({
    url,
    ownerConnectionsMax:
      config.ingestLanes +
      OWNER_CONNECTIONS_SPARE +
      (config.rabbitmqUrl === undefined ? 0 : STREAMS_PER_PROCESS_MAX),
    apiConnectionsMax: API_CONNECTIONS,
    ownerStatementMsMax: config.ownerStatementMsMax,
    apiStatementMsMax: config.apiStatementMsMax,
    connectMsMax: 5_000,
    onIdleError,
  });

/** What the settings mean for taking events in. */
export const ingestSettings = (config: Config): IngestSettings => ({
  lanes: config.ingestLanes,
  batchEventsMax: config.ingestBatchEventsMax,
  pendingEventsMax: config.ingestPendingEventsMax,
  pendingBytesMax: config.ingestPendingBytesMax,
  waitMsMax: 10_000,
  rawRetentionDays: config.rawRetentionDays,
  futureToleranceSeconds: config.futureToleranceSeconds,
  leaseSeconds: 15,
  members: {
    orgsMax: 10_000,
    registersOrgs: config.unknownOrgs === "register",
    modelsMax: config.modelsPerOrgMax,
    clientsMax: config.clientsPerOrgMax,
    actorsMax: config.actorsPerOrgMax,
    errorCodesMax: 1000,
    tagValuesMax: config.tagValuesPerKeyMax,
  },
  keys: { partitionKeysMax: config.keyPartitionKeysMax, windowHours: config.dedupWindowDays * 24 },
});
