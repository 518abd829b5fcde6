import { IllegalOperationError } from "amqplib";
import { orAborted } from "./abortable.ts";
import type { BrokerConnection, Channel } from "./connection.ts";

/**
 * Why something on the broker is not as it is needed. `not_a_stream`, `is_a_stream`: the name belongs to a queue of
 * another type. `missing`: it does not exist. `refused`: the broker said no (permissions, limits). `unreachable`: the
 * connection broke off again and again meanwhile, or the management API does not answer. `silent`: a stream with messages
 * delivers none. `unreadable`: the broker failed to hand over a message of a stream, and closed the connection over it.
 */
export type TopologyFaultCode =
  | "not_a_stream"
  | "is_a_stream"
  | "missing"
  | "refused"
  | "unreachable"
  | "silent"
  | "unreadable";

/** Its message is a sentence for a person: what is wrong, what to do. */
export class TopologyFault extends Error {
  override name = "TopologyFault";
  readonly code: TopologyFaultCode;
  constructor(code: TopologyFaultCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
  }
}

/** What the broker answers when it refuses a method: its code (404, 403, …) and its words. */
export type Refusal = { code: number; words: string };

/** The broker's refusal in an error of amqplib; undefined when the error is something else. */
export function findRefusal(error: unknown): Refusal | undefined {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "number") {
    return undefined;
  }
  const words = /with message "([\s\S]*)"$/.exec(error.message)?.[1];
  return words === undefined ? undefined : { code: error.code, words };
}

const NOT_FOUND = 404;
const INTERNAL_ERROR = 541;
const TRIES_MAX = 5;

/**
 * Runs `work` on a channel of its own, closed afterwards. When the connection breaks off meanwhile, runs it again on
 * the next one (work must be safe to repeat); throws a TopologyFault "unreachable" after five of those.
 */
export async function onChannel<T>(
  connection: BrokerConnection,
  signal: AbortSignal | undefined,
  work: (channel: Channel) => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    const channel = await connection.openChannel(signal);
    // Every call on the channel rejects with the same error.
    channel.on("error", () => undefined);
    try {
      const working = work(channel);
      return await (signal === undefined ? working : orAborted(working, signal));
    } catch (error) {
      if (!isConnectionLost(error)) throw error;
      if (tries === TRIES_MAX) {
        throw new TopologyFault(
          "unreachable",
          `The connection to the broker broke off ${TRIES_MAX} times while its queues were asked about. Its log says why.`,
          { cause: error },
        );
      }
    } finally {
      // Not waited for: what was asked is answered. A refusal has closed it already, or its connection is gone.
      channel.close().catch(() => undefined);
    }
  }
}

const isConnectionLost = (error: unknown): boolean =>
  error instanceof IllegalOperationError ||
  (error instanceof Error && /^Channel ended|^Channel closed$/.test(error.message));

/** `work` on a channel, with the broker's refusal, if any, as a value. */
export async function tryOnChannel<T>(
  connection: BrokerConnection,
  signal: AbortSignal | undefined,
  work: (channel: Channel) => Promise<T>,
): Promise<{ result: T; refusal?: undefined } | { refusal: Refusal }> {
  try {
    return { result: await onChannel(connection, signal, work) };
  } catch (error) {
    const refusal = findRefusal(error);
    if (refusal === undefined) throw error;
    return { refusal };
  }
}

/** A passive declare: whether a thing exists. Any other refusal is thrown as a fault. */
export async function exists(
  connection: BrokerConnection,
  what: { kind: "queue" | "exchange"; name: string },
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { refusal } = await tryOnChannel(connection, signal, async (channel) => {
    if (what.kind === "queue") await channel.checkQueue(what.name);
    else await channel.checkExchange(what.name);
  });
  if (refusal === undefined) return true;
  if (refusal.code === NOT_FOUND) return false;
  throw refusedFault(`asking for the ${what.kind} "${what.name}"`, refusal);
}

/** The fault, if it was the broker's own error that ended the connection over which a stream was read. */
export function findUnreadable(
  connection: BrokerConnection,
  stream: string,
): TopologyFault | undefined {
  if (connection.lossCode !== INTERNAL_ERROR) return undefined;
  return new TopologyFault(
    "unreadable",
    `The broker failed with an internal error (541) when it was to deliver messages of the stream "${stream}". Its log says why; as a rule they are compressed, or no AMQP 1.0 data, which it cannot hand over by AMQP 0-9-1.`,
  );
}

/** `doing` completes "The broker refused …". */
export function refusedFault(doing: string, refusal: Refusal): TopologyFault {
  return new TopologyFault(
    refusal.code === NOT_FOUND ? "missing" : "refused",
    `The broker refused ${doing}: ${refusal.words}.`,
  );
}
