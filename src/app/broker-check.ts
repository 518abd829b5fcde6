import { connectBroker, findPartitions, inspectBroker, readStreamEnds } from "#broker";
import type { Config } from "#config";
import type { Check } from "#platform";
import { type Database, listStreamProgress, type StreamProgressRow } from "#store";

const CONNECT_MS_MAX = 5_000;
const LOOK_MS_MAX = 10_000;
const STREAMS_MAX = 1_000;

/**
 * Looks at the broker and its streams, and compares how far they reach with how far they are read. Changes nothing.
 * Without a broker in the settings: nothing to look at.
 */
export async function checkBroker(
  config: Config,
  database: Database | undefined,
): Promise<Check[]> {
  const url = config.rabbitmqUrl;
  if (url === undefined) return [];
  await using connection = connectBroker({
    url,
    name: "tallystick doctor",
    heartbeatSeconds: config.rabbitmqHeartbeatSeconds,
    connectMsMax: CONNECT_MS_MAX,
    random: () => 0.5,
  });
  const signal = AbortSignal.timeout(LOOK_MS_MAX);
  try {
    const facts = await inspectBroker(connection, signal);
    const broker: Check = {
      name: "broker",
      state: facts.streamsProblem === undefined ? "ok" : "failed",
      detail: facts.streamsProblem ?? `${facts.product} ${facts.version}, streams can be used`,
    };
    if (!config.transports.includes("stream")) return [broker];
    const streams = await findPartitions(
      connection,
      {
        name: config.streamName,
        partitions: config.streamPartitions,
        managementUrl: config.rabbitmqManagementUrl,
        url,
      },
      signal,
    );
    const progress = database ? await listStreamProgress(database.sql, STREAMS_MAX) : [];
    const checks = [broker];
    for (const stream of streams) {
      const read = progress.find(({ partition }) => partition === stream);
      const look = readStreamEnds(connection, stream, signal);
      checks.push(
        await look.then(
          (ends) => describeStream(stream, ends, read),
          (error: unknown) => ({
            name: `stream ${stream}`,
            state: "warning",
            detail: `not there yet, or cannot be read (${wordsOf(error)}); the service declares it when it starts`,
          }),
        ),
      );
    }
    return checks;
  } catch (error) {
    const { state } = connection;
    const reason = state.state === "unreachable" ? state.reason : wordsOf(error);
    return [{ name: "broker", state: "failed", detail: `RABBITMQ_URL: ${reason}` }];
  }
}

function describeStream(
  stream: string,
  ends: { first: number; last: number } | null,
  read: StreamProgressRow | undefined,
): Check {
  const name = `stream ${stream}`;
  const holds = ends === null ? "empty" : `holds offsets ${ends.first} to ${ends.last}`;
  const last = read?.lastOffset ?? null;
  if (last === null) return { name, state: "ok", detail: `${holds}; nothing read of it yet` };
  if (ends === null || ends.last < last) {
    const detail = `${holds}, but it was read up to ${last}: it was deleted and made anew, and will be read from its beginning`;
    return { name, state: "warning", detail };
  }
  if (ends.first > last + 2) {
    const detail = `${holds}, but it was read up to ${last} only: offsets ${last + 1} to ${ends.first - 1} are gone (raise its retention, or STREAM_RETENTION_DAYS before it is declared)`;
    return { name, state: "warning", detail };
  }
  const state = read?.isRead === true ? "" : ", and no process reads it at present";
  return { name, state: "ok", detail: `${holds}, read up to ${last}${state}` };
}

const wordsOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);
