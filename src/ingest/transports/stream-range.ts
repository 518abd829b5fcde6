import { type BrokerConnection, type ConsumeMessage, readStreamEnds, TopologyFault } from "#broker";
import { type Clock, OperatorError, sleepMs } from "#kernel";
import type { MessageLimits } from "./amqp-message.ts";
import { type StreamBatch, StreamBatcher } from "./stream-batch.ts";
import {
  BufferFull,
  offsetOf,
  subscribeStream,
  type StreamStart,
  type StreamSubscription,
} from "./stream-subscription.ts";

/** Messages of one stream, from `start` to the last one up to `toOffset`, which the stream holds when asked for. */
export type StreamRange = {
  stream: string;
  /** For the items: their source in the ledger and the number of its partition. */
  source: string;
  partition: number;
  start: StreamStart;
  /** Items of the first message that are left out. */
  skipItems?: number;
  toOffset: number;
};

export type RangeDeps = {
  connection: BrokerConnection;
  clock: Clock;
  settings: {
    prefetch: number;
    bufferBytesMax: number;
    batchEventsMax: number;
    message: MessageLimits;
  };
  /** Told of offsets, both included, that the stream no longer holds, or of records of the broker's own among them. */
  onGap: (gap: { fromOffset: number; toOffset: number }) => void;
  /** Told in words why reading was broken off; it is tried again. */
  onTrouble: (trouble: string) => void;
};

/** The stream ends before the messages that were asked for: it is another one by now. */
export class StreamAnew extends OperatorError {}

const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 10_000;
/** Failures in a row on a connection that is alive; then it is no passing trouble. */
const FAILURES_MAX = 8;
/** What lies behind a time is on the broker's disk: silence this long means that nothing does. */
const SILENCE_MS = 5000;

/**
 * Reads a range of a stream once, beside whoever else reads the stream. Waits for a broker that is away until `signal`
 * is aborted, which it throws the reason of. Throws StreamAnew, or another OperatorError when the stream is missing or
 * the broker refuses again and again. A batch's messages are acknowledged when the next one is asked for.
 */
export async function* readStreamRange(
  deps: RangeDeps,
  range: StreamRange,
  signal: AbortSignal,
): AsyncGenerator<StreamBatch, void, undefined> {
  const reader = new RangeReader(deps, range, signal);
  for (let failures = 0; !reader.isDone;) {
    try {
      for await (const batch of reader.readOn()) {
        failures = 0;
        yield batch;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof BufferFull) continue;
      if (error instanceof StreamAnew) throw error;
      const trouble = error instanceof Error ? error.message : String(error);
      if (isFinal(error)) throw new OperatorError(trouble, { cause: error });
      if (++failures === FAILURES_MAX)
        throw new OperatorError(
          `The stream "${range.stream}" cannot be read. The broker said, again and again: ${trouble}`,
          { cause: error },
        );
      deps.onTrouble(trouble);
      await sleepMs(Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** failures), signal);
    }
  }
}

/** Whether trying again is of no use. */
const isFinal = (error: unknown): boolean =>
  error instanceof TopologyFault && error.code !== "unreachable" && error.code !== "silent";

/** Where the reading of a range stands, over as many subscriptions as it takes. */
class RangeReader {
  readonly #deps: RangeDeps;
  readonly #range: StreamRange;
  readonly #signal: AbortSignal;
  readonly #batcher: StreamBatcher;
  #next: StreamStart;
  #prefetch: number;
  #jumps: { fromOffset: number; toOffset: number }[] = [];
  #bytes = 0;
  #messages = 0;
  #isAtEnd = false;

  constructor(deps: RangeDeps, range: StreamRange, signal: AbortSignal) {
    this.#deps = deps;
    this.#range = range;
    this.#signal = signal;
    this.#next = range.start;
    this.#prefetch = deps.settings.prefetch;
    const { source, partition, skipItems = 0 } = range;
    // Whose events they may be is for whoever takes them in to say.
    const limits = deps.settings.message;
    this.#batcher = new StreamBatcher({ source, partition, limits, writesFor: "any" });
    this.#batcher.skipItems(skipItems);
  }

  get isDone(): boolean {
    return this.#isAtEnd && !this.#batcher.hasRest && this.#jumps.length === 0;
  }

  /** Reads with one subscription, to the end of the range or of the subscription. */
  async *readOn(): AsyncGenerator<StreamBatch, void, undefined> {
    await this.#judgeJumps();
    if (this.isDone) return;
    await this.#checkEnds();
    const { stream } = this.#range;
    const { bufferBytesMax, batchEventsMax: itemsMax } = this.#deps.settings;
    const ask = { stream, start: this.#next, prefetch: this.#prefetch, bufferBytesMax };
    await using subscription = await subscribeStream(this.#deps.connection, ask, this.#signal);
    const shift = (): ConsumeMessage | undefined => this.#shift(subscription);
    while (!this.isDone) {
      if (!this.#batcher.hasRest && !(await this.#wait(subscription))) return;
      const batch = await this.#batcher.take(shift, { itemsMax, nowMs: this.#deps.clock.now() });
      if (batch !== undefined) {
        yield batch;
        if (batch.completed) subscription.ack(batch.completed);
        this.#signal.throwIfAborted();
      }
      await this.#judgeJumps();
    }
  }

  /** Otherwise the broker would keep silent until the stream, made anew, gets as far. */
  async #checkEnds(): Promise<void> {
    const { stream, toOffset } = this.#range;
    const ends = await readStreamEnds(this.#deps.connection, stream, this.#signal);
    if (ends !== null && ends.last >= toOffset) return;
    throw new StreamAnew(
      `The stream "${stream}" does not reach offset ${toOffset} any more: it was deleted and made anew.`,
    );
  }

  /** Whether there is a message; false when there is none from the time on at which the range begins. */
  async #wait({ buffer }: StreamSubscription): Promise<boolean> {
    const isByTime = typeof this.#next === "object";
    const patience = isByTime ? AbortSignal.timeout(SILENCE_MS) : undefined;
    const signal = patience ? AbortSignal.any([this.#signal, patience]) : this.#signal;
    try {
      await buffer.wait(signal);
    } catch (error) {
      if (error instanceof BufferFull) this.#prefetch = this.#prefetchThatFits();
      if (patience?.aborted !== true || this.#signal.aborted) throw error;
      this.#isAtEnd = true;
      return false;
    }
    return true;
  }

  #prefetchThatFits(): number {
    const bytesMean = Math.max(1, this.#bytes / Math.max(1, this.#messages));
    return Math.max(1, Math.floor(this.#deps.settings.bufferBytesMax / bytesMean / 2));
  }

  #shift({ buffer }: StreamSubscription): ConsumeMessage | undefined {
    if (this.#isAtEnd) return undefined;
    const message = buffer.shift();
    if (message === undefined) return undefined;
    const offset = offsetOf(message);
    const { toOffset } = this.#range;
    if (typeof this.#next === "number" && offset > this.#next)
      this.#jumps.push({ fromOffset: this.#next, toOffset: Math.min(offset - 1, toOffset) });
    this.#next = offset + 1;
    this.#bytes += message.content.length;
    this.#messages++;
    this.#isAtEnd = offset >= toOffset;
    return offset > toOffset ? undefined : message;
  }

  /**
   * Offsets that did not come: records of the broker's own, or messages that retention has taken away. It takes whole
   * segments, so a single offset is never that.
   */
  async #judgeJumps(): Promise<void> {
    for (let jump = this.#jumps[0]; jump !== undefined; jump = this.#jumps[0]) {
      const { fromOffset, toOffset } = jump;
      const ends =
        toOffset > fromOffset
          ? await readStreamEnds(this.#deps.connection, this.#range.stream, this.#signal)
          : null;
      this.#jumps.shift();
      const lastGone = Math.min(toOffset, (ends?.first ?? 0) - 1);
      if (lastGone > fromOffset) this.#deps.onGap({ fromOffset, toOffset: lastGone });
    }
  }
}
