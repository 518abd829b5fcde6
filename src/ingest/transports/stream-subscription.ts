import { type BrokerConnection, type Channel, type ConsumeMessage, findUnreadable } from "#broker";
import { BufferFull, MessageBuffer } from "./message-buffer.ts";

export { BufferFull } from "./message-buffer.ts";

/**
 * Where to begin: at an offset (or the first one kept after it), at the first message there is, or with the chunk of
 * messages that holds this instant (with the next message that comes, when all are older).
 */
export type StreamStart = number | "first" | { timeMs: number };

export type StreamSubscription = AsyncDisposable & {
  readonly buffer: MessageBuffer;
  /** Lets the broker send as many more as were taken, up to and including this message. */
  ack(message: ConsumeMessage): void;
};

/**
 * Reads a stream over a channel of its own, from `start` on. Messages come into `buffer`; when the channel ends, for
 * whatever reason, so does the buffer. The prefetch is what bounds the messages under way. Throws what the broker says;
 * a TopologyFault `unreadable`, here or from the buffer, when the broker fails on what it is to deliver: the connection
 * is lost then, and so are messages before that, of the chunks that the prefetch made it read in one go.
 */
export async function subscribeStream(
  connection: BrokerConnection,
  ask: { stream: string; start: StreamStart; prefetch: number; bufferBytesMax: number },
  signal: AbortSignal,
): Promise<StreamSubscription> {
  const channel = await connection.openChannel(signal);
  const buffer = new MessageBuffer(ask.bufferBytesMax);
  let isOpen = true;
  const end = (error: Error): void => {
    isOpen = false;
    buffer.close(error);
  };
  channel.on("error", end);
  channel.on("close", () =>
    end(findUnreadable(connection, ask.stream) ?? new Error("the channel was closed")),
  );
  const close = async (): Promise<void> => {
    if (!isOpen) return;
    isOpen = false;
    await channel.close().catch(() => undefined);
  };
  const deliver = (message: ConsumeMessage | null): void => {
    if (message === null) {
      buffer.close(new Error(`stream ${ask.stream} was deleted, or its consumers were cancelled`));
      return;
    }
    if (!isOpen) return;
    buffer.push(message);
    if (!buffer.isOverfull) return;
    buffer.close(new BufferFull(`more than ${ask.bufferBytesMax} bytes of messages are waiting`));
    close().catch(() => undefined);
  };
  try {
    await startConsuming(channel, ask, deliver);
  } catch (error) {
    await close();
    throw findUnreadable(connection, ask.stream) ?? error;
  }
  return {
    buffer,
    ack: (message) => {
      if (isOpen) channel.ack(message, true);
    },
    [Symbol.asyncDispose]: close,
  };
}

async function startConsuming(
  channel: Channel,
  { stream, start, prefetch }: { stream: string; start: StreamStart; prefetch: number },
  deliver: (message: ConsumeMessage | null) => void,
): Promise<void> {
  await channel.prefetch(prefetch);
  await channel.consume(stream, deliver, {
    noAck: false,
    arguments: { "x-stream-offset": encodeStart(start) },
  });
}

/** Of any other type (a plain number is none of the protocol's own) the broker closes the connection. */
function encodeStart(start: StreamStart): object | string {
  if (typeof start === "number") return { "!": "long", value: start };
  if (start === "first") return start;
  return { "!": "timestamp", value: Math.floor(start.timeMs / 1000) };
}

/** The offset of a message of a stream. Throws when it is none. */
export function offsetOf({ properties: { headers } }: ConsumeMessage): number {
  const offset: unknown = headers?.["x-stream-offset"];
  if (typeof offset === "number" && Number.isSafeInteger(offset)) return offset;
  if (typeof offset === "bigint") return Number(offset);
  throw new Error("a message of a stream came without its offset");
}
