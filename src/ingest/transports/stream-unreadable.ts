import { type BrokerConnection, TopologyFault } from "#broker";
import type { StreamIncident } from "#store";
import type { BatchItem } from "../prepared-batch.ts";
import { formatPosition, UNKNOWN_DIGEST } from "./stream-position.ts";
import { offsetOf, subscribeStream } from "./stream-subscription.ts";

/** Opens a connection to the broker; `purpose` shows in its name. */
export type Connect = (purpose: string) => BrokerConnection;

/** What a subscription at an offset came to: the offset of its first message, no message, or a broken connection. */
export type Probe = number | "silent" | "unreadable";

/** A subscription that breaks does so at once. */
const SILENCE_MS = 1000;
/** Offsets that are tried one by one; then in steps that double, and what the last one passed over by halves. */
const SINGLE_STEPS = 256;

export const isUnreadable = (error: unknown): boolean =>
  error instanceof TopologyFault && error.code === "unreadable";

/**
 * Subscribes to a stream at an offset, over a connection of its own, and waits a second for the first message. A broker
 * that is away is waited for until `signal` is aborted, which it throws the reason of, as anything else that goes wrong.
 */
export async function probeStream(
  connect: Connect,
  { stream, offset }: { stream: string; offset: number },
  signal: AbortSignal,
): Promise<Probe> {
  await using connection = connect(`looks for the next readable offset of ${stream}`);
  let silence: AbortSignal | undefined;
  try {
    const ask = { stream, start: offset, prefetch: 1, bufferBytesMax: Number.POSITIVE_INFINITY };
    await using subscription = await subscribeStream(connection, ask, signal);
    silence = AbortSignal.timeout(SILENCE_MS);
    await subscription.buffer.wait(AbortSignal.any([signal, silence]));
    const first = subscription.buffer.peek();
    return first === undefined ? "silent" : offsetOf(first);
  } catch (error) {
    if (isUnreadable(error)) return "unreadable";
    if (silence?.aborted === true && !signal.aborted) return "silent";
    throw error;
  }
}

/**
 * The first offset after `from` at which a stream can be read on, when it cannot at `from`: that of the next message, or
 * the one behind the last entry. Undefined when there is nothing wrong at `from`, or not any more. Among more than 256
 * unreadable offsets in a row it finds one such place, and may pass over readable ones; never an offset that comes later.
 */
export async function findReadable(
  probe: (offset: number) => Promise<Probe>,
  from: number,
): Promise<number | undefined> {
  if ((await probe(from)) !== "unreadable") return undefined;
  let unreadable = from;
  for (let step = 1; ; step = step < SINGLE_STEPS ? step + 1 : step * 2) {
    const at = from + step;
    if (!Number.isSafeInteger(at))
      throw new Error("the broker fails to deliver anything of the stream, at whatever offset");
    const found = await probe(at);
    if (found === "unreadable") {
      unreadable = at;
      continue;
    }
    const next = await halve(probe, { unreadable, at, found });
    // Whatever ailed the broker for a while is not to be taken for what the stream holds.
    return (await probe(from)) === "unreadable" ? next : undefined;
  }
}

type Between = { unreadable: number; at: number; found: number | "silent" };

/** The place between an unreadable offset and one that is not, `at`, where the one turns into the other. */
async function halve(
  probe: (offset: number) => Promise<Probe>,
  { unreadable, at, found }: Between,
): Promise<number> {
  if (at - unreadable <= 1) return found === "silent" ? at : found;
  const middle = Math.floor((unreadable + at) / 2);
  const there = await probe(middle);
  const rest =
    there === "unreadable"
      ? { unreadable: middle, at, found }
      : { unreadable, at: middle, found: there };
  return await halve(probe, rest);
}

/** The incident of offsets, both included, that the broker does not hand over. */
export const unreadableIncident = (fromOffset: number, toOffset: number): StreamIncident => ({
  kind: "unreadable",
  fromOffset,
  toOffset,
  detail:
    `Offsets ${fromOffset} to ${toOffset} cannot be read by AMQP 0-9-1: the broker fails to deliver them, for what is ` +
    "there is compressed, no AMQP 1.0 data, or damaged. What they held can be read by the stream protocol; publish it " +
    "again, without compression and as AMQP 1.0 data: what was counted is recognised.",
});

/** What stands for these offsets in the ledger and in quarantine; with it, they are done. */
export const unreadableItem = (
  { fromOffset, toOffset, detail }: { fromOffset: number; toOffset: number; detail: string },
  about: { source: string; partition: number; receivedAtMs: number },
): BatchItem => ({
  ...about,
  item: {
    event: null,
    rejection: {
      code: "unsupported_body",
      pointer: "",
      detail,
      eventId: null,
      orgId: null,
      occurredAtUs: null,
    },
    bytes: Buffer.alloc(0),
  },
  place: `${fromOffset}-${toOffset}`,
  positionAfter: () =>
    formatPosition({ offset: toOffset, itemsDone: null, digest: UNKNOWN_DIGEST }),
  isBackfill: false,
  writesFor: "any",
});
