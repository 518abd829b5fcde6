import { ensureStream, readStreamEnds, type BrokerConnection, type ConsumeMessage } from "#broker";
import type { StreamIncident } from "#store";
import { digestOf, type StreamPosition, UNKNOWN_DIGEST } from "./stream-position.ts";
import { offsetOf, type StreamStart } from "./stream-subscription.ts";
import { type Connect, isUnreadable, probeStream } from "./stream-unreadable.ts";

/** What became of a stream since it was last read: where to go on, and what was found amiss. */
export type StreamLook = {
  start: StreamStart;
  incident: StreamIncident | undefined;
  /** The message that has to come first, if the stream is still the one that was. */
  expected: StreamPosition | undefined;
};

/** How a stream is kept when it has to be declared. */
export type StreamRetention = { retentionSeconds: number; retentionBytes: number };

/**
 * Compares what a stream holds with the position up to which it was read. Declares it when there is none. `connection`
 * may break; `connect` opens others, to find out what can be found out about a stream whose ends cannot be read.
 */
export async function lookAtStream(
  { connection, connect }: { connection: BrokerConnection; connect: Connect },
  ask: { stream: string; position: StreamPosition | undefined; retention: StreamRetention },
  signal: AbortSignal,
): Promise<StreamLook> {
  await ensureStream(connection, { name: ask.stream, ...ask.retention }, signal);
  if (ask.position === undefined)
    return { start: "first", incident: undefined, expected: undefined };
  try {
    return judgeEnds(ask.position, await readStreamEnds(connection, ask.stream, signal));
  } catch (error) {
    if (!isUnreadable(error)) throw error;
  }
  // Silence comes from beyond the end alone: at an offset that was passed over as unreadable, the broker fails again.
  const { offset } = ask.position;
  const isBeyond =
    (await probeStream(connect, { stream: ask.stream, offset }, signal)) === "silent";
  return judgeEnds(ask.position, isBeyond ? null : { first: offset, last: offset });
}

/** Pure part of `lookAtStream`: `ends` are the offsets of the first and the last message, null when there is none. */
export function judgeEnds(
  position: StreamPosition,
  ends: { first: number; last: number } | null,
): StreamLook {
  if (ends === null || ends.last < position.offset)
    return { start: "first", incident: recreated(position), expected: undefined };
  if (ends.first > position.offset)
    return { start: "first", incident: gapBefore(position, ends.first), expected: undefined };
  if (position.digest === UNKNOWN_DIGEST)
    return { start: position.offset + 1, incident: undefined, expected: undefined };
  return { start: position.offset, incident: undefined, expected: position };
}

/** What retention took away before it was read. */
function gapBefore(position: StreamPosition, first: number): StreamIncident | undefined {
  const isPartlyRead = position.itemsDone !== null;
  return gapBetween(isPartlyRead ? position.offset : position.offset + 1, first - 1, isPartlyRead);
}

/**
 * The incident of offsets that are gone, both included; none when there is no message among them. A segment begins with
 * a record of the broker's own, which has an offset too: one offset alone before a first message is that.
 */
export function gapBetween(
  fromOffset: number,
  toOffset: number,
  isMessage = false,
): StreamIncident | undefined {
  if (toOffset < fromOffset || (toOffset === fromOffset && !isMessage)) return undefined;
  return {
    kind: "gap",
    fromOffset,
    toOffset,
    detail:
      `Offsets ${fromOffset} to ${toOffset} were deleted by the stream's retention before they were read. ` +
      "Whoever published them can send them again: what was counted is recognised.",
  };
}

/** The incident of a stream that is not the one that was read. */
export function recreated({ offset }: StreamPosition): StreamIncident {
  return {
    kind: "recreated",
    fromOffset: offset + 1,
    toOffset: null,
    detail:
      `The stream was deleted and made anew: offset ${offset}, up to which it was read, is not the message it was. ` +
      "It is read from its first message. What the former stream held beyond that offset was not read.",
  };
}

/** Whether the first message delivered is the one at which reading stopped. */
export const isExpected = (message: ConsumeMessage, expected: StreamPosition): boolean =>
  offsetOf(message) === expected.offset && digestOf(message.content) === expected.digest;
