import type { BrokerConnection } from "./connection.ts";
import {
  exists,
  onChannel,
  type Refusal,
  refusedFault,
  TopologyFault,
  tryOnChannel,
} from "./topology-fault.ts";

/** How long a stream keeps its messages: until either limit is passed, in whole segments. */
export type StreamRetention = {
  retentionSeconds: number;
  retentionBytes: number;
  /** Size of a segment file; the broker's default (500 MB) when not given, 3 GB at most. */
  segmentBytes?: number | undefined;
};

/**
 * RabbitMQ 4 gives a message up after 20 deliveries unless told otherwise, and each connection lost counts as one. A
 * message is never sent back for what is in it, so there is no limit to protect from it.
 */
const DELIVERIES_MAX = 1_000_000;

const ACCESS_REFUSED = 403;
const RESOURCE_LOCKED = 405;
const PRECONDITION_FAILED = 406;

/** Arguments that a stream may have beside its type; a queue with any other one is none. */
const STREAM_ARGUMENTS = new Set([
  "x-max-age",
  "x-max-length-bytes",
  "x-stream-max-segment-size-bytes",
  "x-stream-filter-size-bytes",
  "x-initial-cluster-size",
  "x-queue-leader-locator",
]);

/**
 * Makes sure that a durable stream of this name exists. One that exists is taken as it is: its retention stays, even
 * if another one is asked for. Throws a TopologyFault: `not_a_stream` when the name belongs to a queue, `refused` with
 * the broker's words. Safe to repeat, also by several processes at once.
 */
export async function ensureStream(
  connection: BrokerConnection,
  stream: { name: string } & StreamRetention,
  signal?: AbortSignal,
): Promise<void> {
  const { name } = stream;
  if (await exists(connection, { kind: "queue", name }, signal)) {
    return await requireStream(connection, name, signal);
  }
  const { refusal } = await tryOnChannel(connection, signal, (channel) =>
    channel.assertQueue(name, {
      durable: true,
      arguments: {
        "x-queue-type": "stream",
        "x-max-age": `${stream.retentionSeconds}s`,
        "x-max-length-bytes": stream.retentionBytes,
        "x-stream-max-segment-size-bytes": stream.segmentBytes,
      },
    }),
  );
  if (refusal === undefined) return;
  // Somebody else declared it in this moment, with another retention.
  if (isInequivalent(refusal)) return await requireStream(connection, name, signal);
  throw refusedFault(`to declare the stream "${name}"`, refusal);
}

async function requireStream(
  connection: BrokerConnection,
  name: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  if ((await findIsStream(connection, name, signal)) !== false) return;
  throw new TopologyFault(
    "not_a_stream",
    `"${name}" exists on the broker, but it is a queue and no stream. Choose another name for the stream, or delete that queue.`,
  );
}

/**
 * Whether the existing queue `name` is a stream; undefined when the broker does not let us know (no permission to
 * configure). A passive declare would not tell, and consuming would take messages from a queue. So it is declared as a
 * stream, and the broker, which compares, names what differs: we adopt that, until it names the type or agrees.
 */
async function findIsStream(
  connection: BrokerConnection,
  name: string,
  signal: AbortSignal | undefined,
): Promise<boolean | undefined> {
  const adopted: Record<string, string | number> = { "x-queue-type": "stream" };
  for (let rounds = 0; rounds <= STREAM_ARGUMENTS.size; rounds++) {
    const { refusal } = await tryOnChannel(connection, signal, (channel) =>
      channel.assertQueue(name, { durable: true, arguments: adopted }),
    );
    if (refusal === undefined) return true;
    if (refusal.code === RESOURCE_LOCKED) return false;
    const [, argument = "", found] =
      /inequivalent arg '([^']+)'.*? but current is (.*)$/s.exec(refusal.words) ?? [];
    if (refusal.code !== PRECONDITION_FAILED || found === undefined) return undefined;
    if (!STREAM_ARGUMENTS.has(argument)) return false;
    const value = /'([^']*)'/.exec(found)?.[1] ?? "";
    adopted[argument] = /^\d+$/.test(value) ? Number(value) : value;
  }
  return undefined;
}

const isInequivalent = ({ code, words }: Refusal): boolean =>
  code === PRECONDITION_FAILED && words.includes("inequivalent arg");

/**
 * Makes sure that a durable quorum queue of this name exists, whose rejected messages go through the fanout exchange
 * `deadLetter.exchange` to the quorum queue `deadLetter.queue`. A queue that exists and was declared otherwise is taken
 * as it is, and then nothing is declared. Throws a TopologyFault: `is_a_stream` when the name belongs to a stream,
 * `refused` with the broker's words. Safe to repeat, also by several processes at once.
 */
export async function ensureQueue(
  connection: BrokerConnection,
  queue: { name: string; deadLetter: { exchange: string; queue: string } },
  signal?: AbortSignal,
): Promise<void> {
  const { name, deadLetter } = queue;
  const isThere = await exists(connection, { kind: "queue", name }, signal);
  // The dead letters' way comes first: a queue must not be there without it.
  if (!isThere) await ensureDeadLetters(connection, deadLetter, signal);
  const { refusal } = await tryOnChannel(connection, signal, (channel) =>
    channel.assertQueue(name, {
      durable: true,
      arguments: {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": deadLetter.exchange,
        "x-delivery-limit": DELIVERIES_MAX,
      },
    }),
  );
  if (refusal === undefined) {
    // Ours from an earlier time: its dead letters' way may have been deleted since.
    if (isThere) await ensureDeadLetters(connection, deadLetter, signal);
    return;
  }
  if (isInequivalent(refusal)) {
    if ((await findIsStream(connection, name, signal)) !== true) return;
    throw new TopologyFault(
      "is_a_stream",
      `"${name}" exists on the broker, but it is a stream and no queue. Choose another name for the queue, or consume it as a stream.`,
    );
  }
  if (isThere && refusal.code === ACCESS_REFUSED) return;
  throw refusedFault(`to declare the queue "${name}"`, refusal);
}

async function ensureDeadLetters(
  connection: BrokerConnection,
  { exchange, queue }: { exchange: string; queue: string },
  signal: AbortSignal | undefined,
): Promise<void> {
  const declared = await tryOnChannel(connection, signal, async (channel) => {
    await channel.assertExchange(exchange, "fanout", { durable: true });
    await channel.assertQueue(queue, {
      durable: true,
      arguments: { "x-queue-type": "quorum" },
    });
    await channel.bindQueue(queue, exchange, "");
  });
  if (declared.refusal !== undefined) {
    throw refusedFault(
      `to declare the way of dead letters (exchange "${exchange}", queue "${queue}")`,
      declared.refusal,
    );
  }
}

/**
 * Makes sure that a super stream exists: a direct exchange `name` and its streams `name`-0 … `name`-(partitions - 1),
 * bound with their number as routing key. What exists is taken as it is. Throws a TopologyFault as ensureStream does.
 */
export async function ensureSuperStream(
  connection: BrokerConnection,
  superStream: { name: string; partitions: number } & StreamRetention,
  signal?: AbortSignal,
): Promise<void> {
  const { name, partitions, ...retention } = superStream;
  const numbers = Array.from({ length: partitions }, (_, nth) => nth);
  for (const nth of numbers) {
    await ensureStream(connection, { ...retention, name: `${name}-${nth}` }, signal);
  }
  const { refusal } = await tryOnChannel(connection, signal, async (channel) => {
    await channel.assertExchange(name, "direct", {
      durable: true,
      arguments: { "x-super-stream": true },
    });
    for (const nth of numbers) {
      await channel.bindQueue(`${name}-${nth}`, name, String(nth), {
        "x-stream-partition-order": { "!": "long", value: nth },
      });
    }
  });
  if (refusal !== undefined) throw refusedFault(`to declare the super stream "${name}"`, refusal);
}

export type BrokerFacts = {
  /** As the broker gives them, for example "RabbitMQ" and "3.10.8". */
  product: string;
  version: string;
  /** Why streams cannot be used here, as a sentence; undefined when they can, as far as the broker lets us know. */
  streamsProblem: string | undefined;
};

/** Asks a broker what it is and whether streams work on it. Changes nothing there. Waits for the connection. */
export async function inspectBroker(
  connection: BrokerConnection,
  signal?: AbortSignal,
): Promise<BrokerFacts> {
  const { product, version } = await onChannel(connection, signal, (channel) =>
    Promise.resolve(channel.connection.serverProperties),
  );
  // No stream can be exclusive: a broker that knows streams names that property, one that does not names the type.
  const { refusal } = await tryOnChannel(connection, signal, (channel) =>
    channel.assertQueue(PROBE, {
      durable: true,
      exclusive: true,
      arguments: { "x-queue-type": "stream" },
    }),
  );
  const isUsable = refusal === undefined || !/x-queue-type|feature.flag/i.test(refusal.words);
  return {
    product,
    version,
    streamsProblem: isUsable
      ? undefined
      : `${product} ${version} refuses streams: ${refusal.words}. Use RabbitMQ 3.9 or newer with the feature flag stream_queue enabled.`,
  };
}

/** Never declared: the broker refuses it. */
const PROBE = "tallystick.probe";
