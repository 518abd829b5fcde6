import type { ConsumeMessage } from "#broker";
import type { ParsedItem } from "#contract";
import type { WritableOrgs } from "../judge-org.ts";
import type { BatchItem } from "../prepared-batch.ts";
import { readMessage, type MessageLimits } from "./amqp-message.ts";
import { digestOf, formatPosition } from "./stream-position.ts";
import { offsetOf } from "./stream-subscription.ts";

/** Items of one or more messages of a stream, with the last message they complete. */
export type StreamBatch = {
  items: BatchItem[];
  /** The last message that is wholly in this batch or an earlier one; undefined when none was completed. */
  completed: ConsumeMessage | undefined;
  first: ConsumeMessage;
};

type Source = {
  source: string;
  partition: number;
  limits: MessageLimits;
  /** Whose events are taken from the stream. */
  writesFor: WritableOrgs;
};

/** Messages read before the event loop gets its turn. */
const MESSAGES_PER_TURN = 256;
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Turns messages into batches of at most so many items; a message with more is spread over several. */
export class StreamBatcher {
  readonly #source: Source;
  /** Items of a message that did not fit any more. */
  #rest: { message: ConsumeMessage; items: BatchItem[] } | undefined;
  /** Items of the next message that were counted before this process read it. */
  #skip = 0;

  constructor(source: Source) {
    this.#source = source;
  }

  /** Leaves out the first items of the next message: they were committed before. */
  skipItems(count: number): void {
    this.#skip = count;
  }

  get hasRest(): boolean {
    return this.#rest !== undefined;
  }

  /** What is there, up to `itemsMax` items; undefined when nothing is. */
  async take(
    shift: () => ConsumeMessage | undefined,
    { itemsMax, nowMs }: { itemsMax: number; nowMs: number },
  ): Promise<StreamBatch | undefined> {
    const items: BatchItem[] = [];
    let [first, completed]: (ConsumeMessage | undefined)[] = [];
    for (let count = 1; items.length < itemsMax; count++) {
      const next = this.#rest ?? this.#read(shift(), nowMs);
      this.#rest = undefined;
      if (next === undefined) break;
      first ??= next.message;
      const room = itemsMax - items.length;
      if (next.items.length > room) {
        for (const item of next.items.slice(0, room)) items.push(item);
        this.#rest = { message: next.message, items: next.items.slice(room) };
        break;
      }
      for (const item of next.items) items.push(item);
      completed = next.message;
      if (count % MESSAGES_PER_TURN === 0) await nextTurn();
    }
    return first && { items, completed, first };
  }

  #read(message: ConsumeMessage | undefined, receivedAtMs: number) {
    if (message === undefined) return undefined;
    const parsed = readMessage(message, this.#source.limits);
    const skip = this.#skip;
    this.#skip = 0;
    const items = this.#itemsOf(message, parsed, receivedAtMs);
    // No fewer than were counted of it before, or it was read otherwise then (under other limits): it is taken whole,
    // and what was counted is recognised.
    return { message, items: skip < items.length ? items.slice(skip) : items };
  }

  #itemsOf(
    message: ConsumeMessage,
    parsed: readonly ParsedItem[],
    receivedAtMs: number,
  ): BatchItem[] {
    const offset = offsetOf(message);
    const { source, partition, writesFor } = this.#source;
    return parsed.map((item, i) => ({
      item,
      source,
      partition,
      place: String(offset),
      positionAfter: () =>
        formatPosition({
          offset,
          itemsDone: i + 1 === parsed.length ? null : i + 1,
          digest: digestOf(message.content),
        }),
      isBackfill: false,
      writesFor,
      receivedAtMs,
    }));
  }
}
