import { setTimeout as delay } from "node:timers/promises";
import { orAborted } from "./abortable.ts";
import type { BrokerConnection, Channel, ConsumeMessage } from "./connection.ts";
import { findUnreadable, refusedFault, TopologyFault, tryOnChannel } from "./topology-fault.ts";

/** Offsets of the first and the last message that a stream holds. Between them, not every offset is a message's. */
export type StreamEnds = { first: number; last: number };

/** An empty stream shows by silence alone: its count of messages, which the broker renews every 5 s, may be old. */
const SILENCE_MS = 1000;
const DELIVERY_MS_MAX = 5000;
/** More messages than a chunk that was published over AMQP; the protocol's limit. */
const PREFETCH_MAX = 65_535;

/**
 * Reads where a stream begins and ends; null when it is empty (known after 1 s). Takes a few round trips and transfers
 * the stream's first and last chunk (some thousand messages at most). Messages published meanwhile may be counted or
 * not. Throws a TopologyFault: `missing`, `not_a_stream`, `refused`, `silent` when the stream delivers nothing within
 * 6 s although the broker counts messages, and `unreadable` when one of the two chunks holds an entry that the broker
 * cannot hand over by AMQP 0-9-1: it closes the whole connection then, so do not ask on one that others need.
 */
export async function readStreamEnds(
  connection: BrokerConnection,
  stream: string,
  signal?: AbortSignal,
): Promise<StreamEnds | null> {
  // A channel for each: with two on one channel, deliveries overtake the second one's consume-ok.
  const [first, last] = await Promise.all([
    readEnd(connection, { stream, from: "first", prefetch: 1 }, signal),
    readEnd(connection, { stream, from: "last", prefetch: PREFETCH_MAX }, signal),
  ]);
  if (first !== null && last !== null) return { first: first.first, last: last.last };
  // The first message was published between the two looks: it is the only one known.
  const only = first ?? last;
  return only === null ? null : { first: only.first, last: only.last };
}

/** The offset of the first message that a stream holds; null when it is empty. As `readStreamEnds`, for that end alone. */
export async function readFirstOffset(
  connection: BrokerConnection,
  stream: string,
  signal?: AbortSignal,
): Promise<number | null> {
  const seen = await readEnd(connection, { stream, from: "first", prefetch: 1 }, signal);
  return seen?.first ?? null;
}

type End = { stream: string; from: "first" | "last"; prefetch: number };
/** First and last offset of what a look at one end saw. */
type Seen = { first: number; last: number };

async function readEnd(
  connection: BrokerConnection,
  end: End,
  signal: AbortSignal | undefined,
): Promise<Seen | null> {
  const read = await tryOnChannel(connection, signal, (channel) =>
    look(channel, end).catch((error: unknown) => {
      throw findUnreadable(connection, end.stream) ?? error;
    }),
  );
  if (read.refusal === undefined) return read.result;
  if (read.refusal.words.includes("x-stream-offset")) throw queueFault(end.stream);
  throw refusedFault(`to read the stream "${end.stream}"`, read.refusal);
}

/** Subscribes and notes the offsets of what comes at once. Nothing is acknowledged; closing the channel ends it. */
async function look(channel: Channel, { stream, from, prefetch }: End): Promise<Seen | null> {
  const stop = new AbortController();
  // Of a refusal the channel tells by "error", of a lost connection by "close" alone.
  channel.on("error", (error: Error) => stop.abort(error));
  channel.on("close", () => stop.abort(new Error("Channel ended while a stream was read")));
  const arrival = Promise.withResolvers<true>();
  let seen: Seen | undefined;
  const note = (message: ConsumeMessage | null): void => {
    const offset: unknown = message?.properties.headers?.["x-stream-offset"];
    if (typeof offset !== "number") return stop.abort(strangeFault(stream, message));
    seen = { first: seen?.first ?? offset, last: offset };
    arrival.resolve(true);
  };
  await channel.prefetch(prefetch);
  await channel.consume(stream, note, { arguments: { "x-stream-offset": from } });
  if (!(await comesWithin(SILENCE_MS, arrival.promise, stop.signal))) {
    const { messageCount } = await channel.checkQueue(stream);
    if (messageCount === 0) return null;
    const isLate = await comesWithin(DELIVERY_MS_MAX, arrival.promise, stop.signal);
    if (!isLate) throw silentFault(stream, messageCount);
  }
  // Within its credit the broker hands over all there is in one go: the answer to a question that is asked after the
  // first message comes behind the last one.
  await channel.checkQueue(stream);
  stop.signal.throwIfAborted();
  return seen ?? null;
}

/** Whether it comes in time. Throws what the signal is aborted with. */
async function comesWithin(ms: number, arrival: Promise<true>, stop: AbortSignal) {
  const timer = new AbortController();
  try {
    const late = delay(ms, false, { signal: timer.signal }).catch(() => false);
    return await orAborted(Promise.race([arrival, late]), stop);
  } finally {
    timer.abort();
  }
}

/** A consumer that is cancelled (null) has lost its stream; a message without offset comes from a queue. */
const strangeFault = (stream: string, message: ConsumeMessage | null): TopologyFault =>
  message === null
    ? new TopologyFault("missing", `The stream "${stream}" was deleted while it was read.`)
    : queueFault(stream);

const queueFault = (stream: string): TopologyFault =>
  new TopologyFault(
    "not_a_stream",
    `"${stream}" is a queue and no stream: it has no offsets. Choose another name for the stream.`,
  );

const silentFault = (stream: string, messageCount: number): TopologyFault =>
  new TopologyFault(
    "silent",
    `The stream "${stream}" holds about ${messageCount} messages, but delivers none. The broker may be overloaded.`,
  );
