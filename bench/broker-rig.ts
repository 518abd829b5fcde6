import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { spawnService, type SpawnedService, startRabbit, type TestBroker } from "#harness";
import type { Database } from "#store";
import type { Bench } from "./bench.ts";
import { type Child, startChild } from "./child.ts";
import { readMemory, readPostgresCpuUs, readProcessCpuUs } from "./measure.ts";

/** A bench and the RabbitMQ that its parts share. */
export type BrokerBench = Bench & { rabbit: TestBroker; rabbitPid: number };

/** Enough that no part of a run meets an alarm, and the figures that management gathers are as rare as by default. */
const RABBIT_CONFIG = [
  "vm_memory_high_watermark.absolute = 4GB",
  "collect_statistics_interval = 5000",
];

/** Starts a private RabbitMQ; it ends with `scope`. */
export async function startBrokerBench(
  bench: Bench,
  scope: AsyncDisposableStack,
): Promise<BrokerBench> {
  const rabbit = scope.use(await startRabbit({ config: RABBIT_CONFIG }));
  const rabbitPid = Number((await rabbit.ctl("eval", "os:getpid().")).replaceAll(/\D/g, ""));
  const { rabbitmq_version: version } = z
    .object({ rabbitmq_version: z.string() })
    .parse(await rabbit.api("GET", "/api/overview"));
  bench.report.facts["rabbitmq"] = version;
  return { ...bench, rabbit, rabbitPid };
}

/** What a stream or queue of a bench is called, and which of the two it is. */
export type Place = { kind: "stream" | "queue"; name: string };

/** Makes a stream, or a quorum queue, as the service itself would; it is deleted at the end. */
export async function declarePlace(
  { rabbit }: BrokerBench,
  { kind, name }: Place,
): Promise<AsyncDisposable> {
  const path = `/api/queues/%2F/${encodeURIComponent(name)}`;
  await rabbit.api("PUT", path, {
    durable: true,
    arguments: { "x-queue-type": kind === "stream" ? "stream" : "quorum" },
  });
  return { [Symbol.asyncDispose]: async () => void (await rabbit.api("DELETE", path)) };
}

/** How a publisher sends: a message for each event, or batches of the producer module. */
export type Form = "messages" | "batches";

/** The publisher as a process of its own; see broker-publisher.ts for what it can be asked. */
export const startPublisher = (
  { rabbit }: BrokerBench,
  form: Form,
  { name }: Place,
): Promise<Child> =>
  startChild(new URL("./broker-publisher.ts", import.meta.url), [rabbit.url, form, name]);

/** How far the service is. */
export type Progress = {
  /** Events committed, whatever became of them. */
  received: number;
  accepted: number;
  /** Every batch that is committed is in every rollup. */
  isRolledUp: boolean;
};

/** CPU time by process, µs, where it can be read. */
export type BrokerCpu = Record<"service" | "broker" | "PostgreSQL", number | null>;

/** The service as `tallystick start` runs it, in a process of its own, on a database of its own. */
export type ConsumingService = AsyncDisposable & {
  readonly database: Database;
  readProgress(): Promise<Progress>;
  /** Polls until so many events were received, and are in every rollup. Throws when it stands still, or loses some. */
  waitUntilVisible(events: number, onProgress?: (progress: Progress) => void): Promise<void>;
  readCpu(): BrokerCpu;
  readMemory(): ReturnType<typeof readMemory>;
};

const POLL_MS = 50;
const STANDSTILL_MS_MAX = 60_000;
const LOG_CHARACTERS = 3000;

/** Starts the service with default settings, consuming one stream or queue. Resolves when it listens. */
export async function startConsumingService(
  { server, rabbit, rabbitPid }: BrokerBench,
  { kind, name }: Place,
): Promise<ConsumingService> {
  await using scope = new AsyncDisposableStack();
  const db = scope.use(await server.createDatabase());
  const postmaster = await server.pid();
  const service = scope.use(
    await spawnService({
      databaseUrl: db.url,
      env: {
        RABBITMQ_URL: rabbit.url,
        TRANSPORTS: kind,
        ...(kind === "stream" ? { STREAM_NAME: name } : { QUEUE_NAME: name }),
      },
    }),
  );
  const { database } = db;
  const readProgress = (): Promise<Progress> => getProgress(database);
  const owned = scope.move();
  return {
    database,
    readProgress,
    waitUntilVisible: (events, onProgress = () => undefined) =>
      waitUntilVisible({ service, readProgress, onProgress }, events),
    readCpu: () => ({
      service: readProcessCpuUs(service.pid),
      broker: readProcessCpuUs(rabbitPid),
      PostgreSQL: readPostgresCpuUs(postmaster),
    }),
    readMemory: () => readMemory(service.pid),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function getProgress(database: Database): Promise<Progress> {
  const [row] = await database.sql<Progress>`
    select coalesce(sum(received), 0)::int8 as received,
           coalesce(sum(accepted), 0)::int8 as accepted,
           not exists (
             select
               from fold_state f
              cross join lane l
               left join watermark w on w.consumer = f.consumer and w.lane_id = l.id
              where coalesce(w.batch_no, 0) < l.batch_no) as "isRolledUp"
      from ingestion_batches`;
  if (!row) throw new Error("a sum has a row");
  return row;
}

async function waitUntilVisible(
  watch: {
    service: SpawnedService;
    readProgress: () => Promise<Progress>;
    onProgress: (progress: Progress) => void;
  },
  events: number,
): Promise<void> {
  let last = -1;
  for (let movedMs = performance.now(); ;) {
    const progress = await watch.readProgress();
    watch.onProgress(progress);
    if (progress.received >= events && progress.isRolledUp) {
      if (progress.accepted === events) return;
      throw new Error(`${events} events were published; of ${JSON.stringify(progress)}`);
    }
    if (progress.received > last) movedMs = performance.now();
    last = progress.received;
    if (performance.now() - movedMs > STANDSTILL_MS_MAX) {
      const log = watch.service.stderr().slice(-LOG_CHARACTERS);
      throw new Error(
        `the service stands still at ${JSON.stringify(progress)} of ${events}:\n${log}`,
      );
    }
    await delay(POLL_MS);
  }
}

/** CPU time between two readings, µs by process, where both could be read. */
export function brokerCpuBetween(
  from: BrokerCpu,
  to: BrokerCpu,
): Partial<Record<keyof BrokerCpu, number>> {
  const used: Partial<Record<keyof BrokerCpu, number>> = {};
  for (const name of ["service", "broker", "PostgreSQL"] as const) {
    const [before, after] = [from[name], to[name]];
    if (before !== null && after !== null) used[name] = after - before;
  }
  return used;
}
