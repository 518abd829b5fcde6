import { Registry } from "prom-client";
import { loadConfig } from "#config";
import { parseUsageEvents, type IngestOutcome } from "#contract";
import { type IngestContext, type Ingestor, type IngestSettings, openIngestor } from "#ingest";
import { neverCrash, silentLogger, systemClock } from "#kernel";
import { type CpuReading, readOwnCpuUs, readPostgresCpuUs } from "./measure.ts";
import { type Folding, startFolding, startFoldProcess } from "./folding.ts";
import type { BenchDatabase, BenchServer } from "./server.ts";

/** Where events are folded into rollups: nowhere, in the process that ingests, or in one of its own. */
export type RollupPlace = "none" | "same process" | "own process";

/** Ingestion and rollup on one database, with the settings a service has by default. */
export type BenchService = AsyncDisposable & {
  readonly ingestor: Ingestor;
  /** Resolves when every committed event is in every rollup; does nothing without a rollup. */
  foldAll(): Promise<void>;
  /** CPU time used so far. */
  readCpu(): Promise<CpuReading>;
};

export type ServiceOptions = { rollup: RollupPlace; settings?: Partial<IngestSettings> };

const CONTEXT: IngestContext = {
  source: "http",
  backfill: false,
  writesFor: "any",
  correlationId: "bench",
};
const WAIT_MS_MAX = 60_000;
const LEASE_SECONDS = 30;
const EVENTS_MAX = 5000;

/** Opens ingestion and, where asked for, a rollup on a database. */
export async function openService(
  server: BenchServer,
  { database, url }: BenchDatabase,
  { rollup, settings }: ServiceOptions,
): Promise<BenchService> {
  await using scope = new AsyncDisposableStack();
  const folding = await openFolding(rollup, { database, url });
  if (folding) scope.use(folding);
  const ingestor = scope.use(
    await openIngestor({
      database,
      clock: systemClock,
      logger: silentLogger,
      registry: new Registry(),
      crash: neverCrash,
      random: Math.random,
      settings: { ...defaultIngestSettings(), ...settings },
    }),
  );
  const postmaster = await server.pid();
  const owned = scope.move();
  return {
    ingestor,
    foldAll: async () => await folding?.foldAll(),
    readCpu: async () => ({
      nodeUs: readOwnCpuUs(),
      rollupUs: (await folding?.readCpuUs()) ?? null,
      postgresUs: readPostgresCpuUs(postmaster),
    }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function openFolding(
  place: RollupPlace,
  { database, url }: Pick<BenchDatabase, "database" | "url">,
): Promise<Folding | undefined> {
  if (place === "none") return undefined;
  return place === "same process" ? await startFolding(database) : await startFoldProcess(url);
}

/** What a service started without any setting ingests with. */
export function defaultIngestSettings(): IngestSettings {
  const { config } = loadConfig({});
  return {
    lanes: config.ingestLanes,
    batchEventsMax: config.ingestBatchEventsMax,
    pendingEventsMax: config.ingestPendingEventsMax,
    pendingBytesMax: config.ingestPendingBytesMax,
    waitMsMax: WAIT_MS_MAX,
    rawRetentionDays: config.rawRetentionDays,
    futureToleranceSeconds: config.futureToleranceSeconds,
    leaseSeconds: LEASE_SECONDS,
    members: {
      orgsMax: 100_000,
      registersOrgs: true,
      modelsMax: config.modelsPerOrgMax,
      clientsMax: config.clientsPerOrgMax,
      actorsMax: config.actorsPerOrgMax,
      errorCodesMax: 1000,
      tagValuesMax: config.tagValuesPerKeyMax,
    },
    keys: {
      partitionKeysMax: config.keyPartitionKeysMax,
      windowHours: config.dedupWindowDays * 24,
    },
  };
}

/** Parses one NDJSON body and has it committed, as the HTTP route does. */
export async function ingestBody(ingestor: Ingestor, body: Buffer): Promise<IngestOutcome[]> {
  const items = parseUsageEvents(body, "ndjson", { eventsMax: EVENTS_MAX });
  return await ingestor.ingest(items, CONTEXT);
}

/** How many events got each answer. */
export type Answered = Record<IngestOutcome["status"], number>;

/** Bodies under way at once: enough that every lane finds a full batch waiting. */
const IN_FLIGHT = 48;

/** Has all bodies committed, many at a time, and counts the answers. */
export async function ingestBodies(
  ingestor: Ingestor,
  bodies: readonly Buffer[],
): Promise<Answered> {
  const answered: Answered = { accepted: 0, duplicate: 0, conflict: 0, rejected: 0 };
  const left = bodies.values();
  const sendOn = async (): Promise<void> => {
    for (const body of left) {
      // Parsing is synchronous; bodies that arrive over a network let other work in between, too.
      await new Promise((resolve) => setImmediate(resolve));
      for (const { status } of await ingestBody(ingestor, body)) answered[status]++;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, sendOn));
  return answered;
}

/** Throws unless every event was accepted: anything else would be a benchmark of something else. */
export function assertAllAccepted(answered: Answered, events: number): void {
  if (answered.accepted !== events) {
    throw new Error(`${events} events were sent, and the answers were ${JSON.stringify(answered)}`);
  }
}
