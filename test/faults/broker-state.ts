import { connectBroker, readStreamEnds, type BrokerConnection } from "#broker";
import { type ServiceFace, type SpawnedService, waitFor } from "#harness";
import { type Database, listStreamProgress } from "#store";

/** What the service consumes by default. */
export const NAMES = { stream: "analytics.usage.v1", queue: "usage-events" } as const;

/** Short waits, so that a scenario of many faults is not made of waiting. */
export const BROKER_SETTINGS = {
  FOLD_INTERVAL_MS: "100",
  PEOPLE_FOLD_INTERVAL_MS: "200",
  STREAM_LEASE_SECONDS: "2",
  RABBITMQ_HEARTBEAT_SECONDS: "2",
} as const;

/** What a service says of its broker, its streams and its queue. */
export async function brokerStateOf(service: ServiceFace): Promise<string> {
  const answer = await service.request("/ready");
  const { checks } = (await answer.json()) as { checks: { broker?: { detail: string } } };
  return checks.broker?.detail ?? "";
}

/** Resolves when the service reads the stream and consumes the queue; else throws with what it says of itself. */
export async function untilConsuming(service: SpawnedService, msMax = 30_000): Promise<void> {
  const isConsuming = async () => /behind.*consumers/.test(await brokerStateOf(service));
  await waitFor(isConsuming, { msMax, what: "the broker to be consumed" }).catch(
    async (error: unknown) => {
      const state = await brokerStateOf(service).catch(String);
      throw new Error(`${String(error)}\n${state}\n${service.stderr().slice(-4000)}`);
    },
  );
}

/** The value of a metric without labels, or the sum over its labels; 0 when it is not there. */
export async function metricOf(service: ServiceFace, name: string): Promise<number> {
  const text = await (await service.request("/metrics")).text();
  const lines = text
    .split("\n")
    .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** A test's own connection to a broker. */
export const connectTest = (url: string): BrokerConnection =>
  connectBroker({
    url,
    name: "test",
    heartbeatSeconds: 10,
    connectMsMax: 10_000,
    random: () => 0.5,
  });

/** Messages that are in a queue and not delivered to anybody. */
async function countReady(connection: BrokerConnection, queue: string): Promise<number> {
  const channel = await connection.openChannel();
  channel.on("error", () => undefined);
  try {
    return (await channel.checkQueue(queue)).messageCount;
  } finally {
    await channel.close().catch(() => undefined);
  }
}

export type DrainOptions = {
  /** The streams to be read to their ends, and the queue to be empty. */
  streams?: readonly string[];
  queue?: string | null;
  msMax?: number;
};

/**
 * Resolves when all that the broker confirmed before is committed: each stream's last message is the last one read, and
 * the queue holds nothing, delivered or not.
 */
export async function letBrokerDrain(
  broker: { url: string },
  database: Database,
  services: readonly ServiceFace[],
  { streams = [NAMES.stream], queue = NAMES.queue, msMax = 90_000 }: DrainOptions = {},
): Promise<void> {
  await using connection = connectTest(broker.url);
  for (const stream of streams) {
    const ends = await readStreamEnds(connection, stream);
    if (ends === null) continue;
    const isRead = async () => {
      const rows = await listStreamProgress(database.sql, 1000);
      const row = rows.find(({ partition }) => partition === stream);
      return (row?.lastOffset ?? -1) >= ends.last;
    };
    await waitFor(isRead, { msMax, what: `${stream} to be read up to ${ends.last}` });
  }
  if (queue === null) return;
  const isEmpty = async () => {
    if ((await countReady(connection, queue)) > 0) return false;
    for (const service of services)
      if ((await metricOf(service, "tallystick_queue_unacked_messages")) > 0) return false;
    return (await countReady(connection, queue)) === 0;
  };
  await waitFor(isEmpty, { msMax, what: `${queue} to be empty` });
}
