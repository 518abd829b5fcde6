import { randomUUID } from "node:crypto";
import { Gauge, type Registry } from "prom-client";
import type { BrokerConnection } from "#broker";
import type { Config } from "#config";
import {
  startQueueTransport,
  startStreamTransport,
  type Ingestor,
  type QueueTransport,
  type StreamTransport,
} from "#ingest";
import type { Clock, Crash, Logger } from "#kernel";
import type { Database } from "#store";
import { messageSettings, openBroker } from "./broker.ts";

/** What comes from a broker, and the connection it comes by. */
export type Transports = AsyncDisposable & {
  readonly connection: BrokerConnection;
  readonly stream: StreamTransport | undefined;
  readonly queue: QueueTransport | undefined;
};

export type TransportsDeps = {
  database: Database;
  ingestor: Ingestor;
  clock: Clock;
  logger: Logger;
  registry: Registry;
  crash: Crash;
  random: () => number;
};

const DAY_SECONDS = 86_400;
/** Share of the grace period for batches under way. */
const DRAIN_SHARE = 0.4;

/** Begins to consume what the settings name, whether the broker can be reached or not. Without a broker: undefined. */
export function startTransports(config: Config, deps: TransportsDeps): Transports | undefined {
  if (config.rabbitmqUrl === undefined) return undefined;
  const { logger, random } = deps;
  const url = config.rabbitmqUrl;
  const scope = new AsyncDisposableStack();
  const connection = scope.use(openBroker(url, config, random));
  let isReachable: boolean | undefined;
  connection.onStateChange((state) => {
    // A broker that is away gives one reason after another for it: closed, refused, not answering.
    if (isReachable === (state.state === "connected")) return;
    isReachable = state.state === "connected";
    if (state.state === "connected") logger.info({ ...state }, "broker_connected");
    else logger.warn({ reason: state.reason }, "broker_unreachable");
  });
  new Gauge({
    name: "tallystick_broker_connected",
    help: "1 while there is a connection to RabbitMQ, else 0",
    registers: [deps.registry],
    collect() {
      this.set(connection.state.state === "connected" ? 1 : 0);
    },
  });
  const common = { ...deps, connection, createId: randomUUID };
  const limits = {
    ...messageSettings(config),
    graceMs: config.shutdownGraceMs * DRAIN_SHARE,
  };
  const stream = config.transports.includes("stream")
    ? scope.use(
        startStreamTransport({
          ...common,
          connect: (purpose) => openBroker(url, config, random, purpose),
          settings: {
            ...limits,
            writesFor: config.streamOrgs,
            name: config.streamName,
            partitions: config.streamPartitions,
            managementUrl: config.rabbitmqManagementUrl,
            brokerUrl: url,
            leaseSeconds: config.streamLeaseSeconds,
            prefetch: config.streamPrefetch,
            retention: {
              retentionSeconds: config.streamRetentionDays * DAY_SECONDS,
              retentionBytes: config.streamRetentionBytes,
            },
          },
        }),
      )
    : undefined;
  const queue = config.transports.includes("queue")
    ? scope.use(
        startQueueTransport({
          ...common,
          settings: {
            ...limits,
            writesFor: config.queueOrgs,
            name: config.queueName,
            workers: config.consumerWorkers,
            prefetch: config.queuePrefetch,
          },
        }),
      )
    : undefined;
  return { connection, stream, queue, [Symbol.asyncDispose]: () => scope.disposeAsync() };
}

/** What /ready says of a broker. One that is away is told and does not fail it: HTTP goes on without. */
export const describeTransports = (transports: Transports): string => {
  const { connection, stream, queue } = transports;
  const broker =
    connection.state.state === "connected"
      ? `${connection.state.product} ${connection.state.version}`
      : connection.state.reason;
  const parts = [broker];
  if (stream) parts.push(`${stream.source}: ${stream.trouble ?? describeStreams(stream)}`);
  if (queue) parts.push(`${queue.source}: ${queue.trouble ?? `${queue.consumers} consumers`}`);
  return parts.join("; ");
};

function describeStreams(stream: StreamTransport): string {
  const status = stream.status();
  if (status.length === 0) return "read by other processes";
  return status
    .map(({ stream: name, lagMessages, trouble }) => {
      const lag = lagMessages === null ? "lag not known" : `${lagMessages} messages behind`;
      return `${name} ${trouble ?? lag}`;
    })
    .join(", ");
}
