import { randomUUID } from "node:crypto";
import { Registry } from "prom-client";
import { type BrokerConnection, findPartitions, TopologyFault } from "#broker";
import type { Config } from "#config";
import {
  openIngestor,
  type ReplayProgress,
  type ReplayReport,
  type ReplayRequest,
  replayStreams,
} from "#ingest";
import { createCrash, neverCrash, OperatorError } from "#kernel";
import { awaitBroker, messageSettings, openBroker } from "./broker.ts";
import { ingestSettings, reachDatabase } from "./database.ts";
import type { AppDeps } from "./deps.ts";

export type { ReplayProgress, ReplayReport } from "#ingest";

/** What to take in once more: `stream` is the name of a stream, of a super stream, or of one of its partitions. */
export type ReplayOrder = Pick<ReplayRequest, "from" | "toOffset" | "backfill"> & {
  stream: string;
};

export type ReplayDeps = AppDeps & {
  onReplayed: (progress: ReplayProgress) => void;
  /** Told in words of what keeps it waiting. */
  onTrouble: (trouble: string) => void;
};

/** Share of the grace period for batches under way. */
const DRAIN_SHARE = 0.4;

/**
 * Takes a stream in once more, beside the service or without it: what was counted is a duplicate, what was missing is
 * counted. The position of the live consumption does not move. Throws OperatorError when the broker, the stream or the
 * database is in the way of beginning; later troubles are in the report.
 */
export async function replayStream(
  config: Config,
  order: ReplayOrder,
  deps: ReplayDeps,
): Promise<ReplayReport> {
  const { rabbitmqUrl, crashpoint } = config;
  if (rabbitmqUrl === undefined)
    throw new OperatorError("RABBITMQ_URL is not set: there is no broker to read a stream from.");
  await using scope = new AsyncDisposableStack();
  const connection = scope.use(openBroker(rabbitmqUrl, config, deps.random));
  const { source, streams } = await findStreams(
    connection,
    { ...config, rabbitmqUrl },
    order,
    deps,
  );
  const database = await reachDatabase(config, deps, scope);
  const ingestor = scope.use(
    await openIngestor({
      database,
      clock: deps.clock,
      logger: deps.logger,
      random: deps.random,
      registry: new Registry(),
      crash: crashpoint ? createCrash(crashpoint.name, crashpoint.pass) : neverCrash,
      settings: ingestSettings(config),
    }),
  );
  const { from, toOffset, backfill } = order;
  const streamsMax = Math.min(streams.length, config.ingestLanes);
  const limits = messageSettings(config);
  return await inWords(
    replayStreams(
      {
        connection,
        database,
        ingestor,
        clock: deps.clock,
        createId: randomUUID,
        settings: {
          ...limits,
          writesFor: config.streamOrgs,
          streamsMax,
          bufferBytesMax: Math.ceil(limits.bufferBytesMax / streamsMax),
          prefetch: Math.ceil(config.streamPrefetch / streamsMax),
          graceMs: config.shutdownGraceMs * DRAIN_SHARE,
        },
        onProgress: deps.onReplayed,
        onTrouble: deps.onTrouble,
      },
      { source, streams, from, toOffset, backfill },
      deps.signal,
    ),
  );
}

type Named = Pick<ReplayRequest, "source" | "streams">;

/** A partition of the stream that is consumed keeps its number, and its source. */
async function findStreams(
  connection: BrokerConnection,
  config: Config & { rabbitmqUrl: string },
  { stream }: ReplayOrder,
  { signal }: ReplayDeps,
): Promise<Named> {
  await awaitBroker(connection, signal);
  if (connection.state.state === "unreachable") throw new OperatorError(connection.state.reason);
  const find = async (
    name: string,
    partitions?: number | readonly string[],
  ): Promise<ReplayRequest["streams"]> => {
    const { rabbitmqManagementUrl: managementUrl, rabbitmqUrl: url } = config;
    const question = { name, partitions, managementUrl, url };
    const found = await inWords(findPartitions(connection, question, signal));
    return found.map((one, partition) => ({ stream: one, partition }));
  };
  const consumed = await find(config.streamName, config.streamPartitions);
  const source = `replay/stream/${config.streamName}`;
  if (stream === config.streamName) return { source, streams: consumed };
  const partition = consumed.filter((one) => one.stream === stream);
  if (partition.length > 0) return { source, streams: partition };
  return { source: `replay/stream/${stream}`, streams: await find(stream) };
}

/** What is wrong on the broker is a matter for the operator. */
async function inWords<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof TopologyFault) throw new OperatorError(error.message, { cause: error });
    throw error;
  }
}
