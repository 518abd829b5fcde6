import { type BrokerConnection, type ConsumeMessage, readFirstOffset } from "#broker";
import type { Clock, Crash, Logger } from "#kernel";
import { sleepMs } from "#kernel";
import { type Database, insertStreamIncident, type StreamIncident } from "#store";
import { LaneLost } from "../commit-batch.ts";
import type { PositionedLane } from "../ingestor.ts";
import type { WritableOrgs } from "../judge-org.ts";
import { correlationIdOf, type MessageLimits } from "./amqp-message.ts";
import { type StreamBatch, StreamBatcher } from "./stream-batch.ts";
import { parsePosition, type StreamPosition, UNKNOWN_DIGEST } from "./stream-position.ts";
import {
  gapBetween,
  isExpected,
  lookAtStream,
  recreated,
  type StreamRetention,
} from "./stream-start.ts";
import {
  BufferFull,
  offsetOf,
  subscribeStream,
  type StreamStart,
  type StreamSubscription,
} from "./stream-subscription.ts";
import {
  type Connect,
  findReadable,
  isUnreadable,
  probeStream,
  unreadableIncident,
  unreadableItem,
} from "./stream-unreadable.ts";

export type StreamConsumerDeps = {
  /** Each connection serves one stream: what the broker cannot hand over of it breaks the whole connection. */
  connect: Connect;
  database: Database;
  clock: Clock;
  logger: Logger;
  crash: Crash;
  createId: () => string;
  settings: {
    prefetch: number;
    bufferBytesMax: number;
    batchEventsMax: number;
    message: MessageLimits;
    /** Whose events are taken from the stream. */
    writesFor: WritableOrgs;
    retention: StreamRetention;
  };
  onIncident: (incident: StreamIncident) => void;
  /** So many offsets came without a message, and retention did not take them. */
  onEmptyOffsets: (count: number) => void;
};

/** What a consumer reads: a stream, its source in the ledger, and its number among the source's partitions. */
export type StreamPlace = { stream: string; source: string; partition: number };

const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 10_000;
/** A broker that fails on a message loses those before it, too, that it read in one go: so it is asked for fewer. */
const CAREFUL_PREFETCH = 128;
const CAREFUL_MS = 5000;

/**
 * Reads one stream from where its lane stands and commits what it reads, batch by batch, for as long as it holds the
 * lane. The position goes with the data; the broker's acks only let it send more.
 */
export class StreamConsumer {
  readonly #deps: StreamConsumerDeps;
  readonly #place: StreamPlace;
  readonly #lane: PositionedLane;
  /** Aborted: take nothing more, finish the batch under way. */
  readonly #leaving = new AbortController();
  /** Aborted: give up the batch under way, too. */
  readonly #until: AbortSignal;
  #prefetch: number;
  /** Bounds the prefetch after the broker failed on a message; at 1 it hands over chunk by chunk. */
  #prefetchCareful = Number.POSITIVE_INFINITY;
  /** A position whose message is not compared with its digest any more. */
  #uncheckedOffset: number | undefined;
  /** A position in a stream that is no more: the one that was made anew is read from its first message. */
  #outdated: string | null | undefined;
  #trouble: string | undefined = "not read yet";
  #lastOffset: number | undefined;
  readonly #opened = Promise.withResolvers<void>();

  constructor(
    deps: StreamConsumerDeps,
    place: StreamPlace,
    { lane, until }: { lane: PositionedLane; until: AbortSignal },
  ) {
    this.#deps = deps;
    this.#place = place;
    this.#lane = lane;
    this.#until = until;
    this.#prefetch = deps.settings.prefetch;
    const position = lane.lane?.position ?? null;
    if (position !== null) this.#lastOffset = parsePosition(position).offset;
  }

  /** Offset of the last message committed; undefined before the first. */
  get lastOffset(): number | undefined {
    return this.#lastOffset;
  }

  /** Resolves when the stream was there for the first time: found, or declared. It may not come to that. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  /** Why nothing is read at the moment, in words; undefined when all is well. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Takes nothing more; `run` resolves when the batch under way is committed. */
  leave(): void {
    this.#leaving.abort();
  }

  /** Tells operators that another process has the lane. */
  noteLost(): void {
    this.#deps.logger.warn({ ...this.#place }, "lease_lost: another process reads this stream on");
  }

  /** Resolves when it left, or lost the lane to another process. Never throws: whatever goes wrong is tried again. */
  async run(): Promise<void> {
    for (let failures = 0; !this.#leaving.signal.aborted && this.#lane.lane; failures++) {
      try {
        await this.#read(() => (failures = 0));
      } catch (error) {
        if (this.#leaving.signal.aborted) return;
        if (error instanceof LaneLost || this.#lane.lane === undefined) {
          this.noteLost();
          return;
        }
        if (error instanceof BufferFull) continue;
        this.#note(error);
        const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(failures, 10));
        await sleepMs(ceiling, this.#leaving.signal).catch(() => undefined);
      }
    }
  }

  /** One line of log for each change of what is wrong. */
  #note(error: unknown): void {
    const trouble = error instanceof Error ? error.message : String(error);
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    this.#deps.logger.warn({ err: error, ...this.#place }, "stream is not read; tried again");
  }

  /** Reads on, and passes over what the broker fails to deliver. Throws what else ends it. */
  async #read(onProgress: () => void): Promise<void> {
    try {
      await this.#consume(onProgress);
      this.#prefetchCareful = Number.POSITIVE_INFINITY;
    } catch (error) {
      if (!isUnreadable(error) || this.#leaving.signal.aborted) throw error;
      await this.#passUnreadable();
      onProgress();
    }
  }

  /** Reads until something ends it, which it throws; returns when it is to leave, or to begin again. */
  async #consume(onProgress: () => void): Promise<void> {
    const signal = this.#leaving.signal;
    const { connect, settings } = this.#deps;
    const { source, partition, stream } = this.#place;
    const position = this.#position();
    await using connection = connect(`reads ${stream}`);
    const ask = { stream, position, retention: settings.retention };
    const look = await lookAtStream({ connection, connect }, ask, signal);
    this.#opened.resolve();
    if (look.incident) await this.#noteIncident(look.incident);
    if (look.incident?.kind === "recreated") this.#outdated = this.#lane.lane?.position;
    const { message: limits, writesFor } = settings;
    const batcher = new StreamBatcher({ source, partition, limits, writesFor });
    await using opened = await this.#subscribe(connection, look.start);
    let subscription = opened;
    if (look.expected && !(await this.#skipTo(subscription, look.expected, batcher))) {
      await opened[Symbol.asyncDispose]();
      await this.#noteIncident(recreated(look.expected));
      this.#outdated = this.#lane.lane?.position;
      subscription = await this.#subscribe(connection, "first");
    }
    await using current = subscription;
    if (this.#trouble !== undefined) {
      this.#deps.logger.info(
        { ...this.#place, position: position?.offset ?? null },
        "stream is read",
      );
      this.#trouble = undefined;
    }
    await this.#commitAll(current, batcher, onProgress);
  }

  /**
   * The broker failed on a message, and the connection went with it. Asked for less and less, it hands over all it can;
   * what is left then cannot be read, and is committed as one rejection that names the offsets.
   */
  async #passUnreadable(): Promise<void> {
    const { signal } = this.#leaving;
    if (this.#prefetchCareful > 1) {
      this.#prefetchCareful = this.#prefetchCareful > CAREFUL_PREFETCH ? CAREFUL_PREFETCH : 1;
      return await sleepMs(RETRY_MS_MIN, signal);
    }
    this.#prefetchCareful = Number.POSITIVE_INFINITY;
    const { connect } = this.#deps;
    const { stream } = this.#place;
    const from = this.#nextOffset();
    const next = await findReadable(
      (offset) => probeStream(connect, { stream, offset }, signal),
      from,
    );
    if (next !== undefined) return await this.#passOver(from, next - 1);
    // Nothing is wrong behind the position: perhaps its own message is damaged by now, which nobody needs any more.
    if (from > 0) this.#uncheckedOffset = from - 1;
    await sleepMs(RETRY_MS_MIN, signal);
  }

  /** The offset behind all that was read of the stream; that of a message itself, when it was read in part. */
  #nextOffset(): number {
    const position = this.#position();
    if (position === undefined || this.#lane.lane?.position === this.#outdated) return 0;
    return position.offset + (position.itemsDone === null ? 1 : 0);
  }

  /** Commits that these offsets, both included, cannot be read. */
  async #passOver(fromOffset: number, toOffset: number): Promise<void> {
    const incident = unreadableIncident(fromOffset, toOffset);
    await this.#noteIncident(incident);
    const { source, partition } = this.#place;
    const about = { source, partition, receivedAtMs: this.#deps.clock.now() };
    const item = unreadableItem({ ...incident, toOffset }, about);
    const correlationId = this.#deps.createId();
    await this.#lane.commit([item], { correlationId, until: this.#until });
    this.#lastOffset = toOffset;
  }

  #position(): StreamPosition | undefined {
    const text = this.#lane.lane?.position ?? null;
    if (text === null) return undefined;
    const position = parsePosition(text);
    const isChecked = position.offset !== this.#uncheckedOffset;
    return isChecked ? position : { ...position, digest: UNKNOWN_DIGEST };
  }

  #subscribe(connection: BrokerConnection, start: StreamStart): Promise<StreamSubscription> {
    const { bufferBytesMax } = this.#deps.settings;
    const prefetch = Math.min(this.#prefetch, this.#prefetchCareful);
    const ask = { stream: this.#place.stream, start, prefetch, bufferBytesMax };
    return subscribeStream(connection, ask, this.#leaving.signal);
  }

  /** Leaves out what is committed already. False when the stream begins with something else than it should. */
  async #skipTo(
    { buffer, ack }: StreamSubscription,
    expected: StreamPosition,
    batcher: StreamBatcher,
  ): Promise<boolean> {
    await buffer.wait(this.#leaving.signal);
    const first = buffer.peek();
    if (first === undefined || offsetOf(first) > expected.offset)
      throw new Error("retention passed the stream's position while it was being opened");
    if (!isExpected(first, expected)) return false;
    if (expected.itemsDone === null) {
      buffer.shift();
      ack(first);
    } else batcher.skipItems(expected.itemsDone);
    return true;
  }

  /** Reads the next batch while the one before is being committed. */
  async #commitAll(
    subscription: StreamSubscription,
    batcher: StreamBatcher,
    onProgress: () => void,
  ): Promise<void> {
    const { clock, settings } = this.#deps;
    const { buffer } = subscription;
    let committed: Promise<void> = Promise.resolve();
    const position = this.#position();
    const taken = new TakenMessages(position?.offset);
    const isCareful = this.#prefetchCareful !== Number.POSITIVE_INFINITY;
    const untilMs = isCareful ? clock.now() + CAREFUL_MS : Number.POSITIVE_INFINITY;
    const shift = (): ConsumeMessage | undefined => taken.note(buffer.shift());
    try {
      while (!this.#leaving.signal.aborted && clock.now() < untilMs) {
        if (!batcher.hasRest) await buffer.wait(this.#leaving.signal);
        const limits = { itemsMax: settings.batchEventsMax, nowMs: clock.now() };
        const batch = await batcher.take(shift, limits);
        await committed;
        if (batch === undefined) continue;
        for (const jump of taken.jumps.splice(0)) await this.#judgeJump(jump);
        committed = this.#commit(subscription, batch).then(onProgress);
        // No more is to be waited for when it fails: its error is what ends the buffer.
        committed.catch((error: unknown) => buffer.close(error as Error));
      }
    } catch (error) {
      if (error instanceof BufferFull)
        this.#prefetch = Math.max(1, Math.floor(settings.bufferBytesMax / taken.bytesMean / 2));
      throw error;
    } finally {
      await committed;
    }
  }

  /**
   * Offsets that were passed over: records of the broker's own, or messages that retention took away from a reader that
   * was too slow, of which it says nothing, or the rest of a compressed batch.
   */
  async #judgeJump({ from, to }: { from: number; to: number }): Promise<void> {
    const position = this.#position();
    const isBehindUnreadable = position?.digest === UNKNOWN_DIGEST && position.offset === from - 1;
    // A beginning that cannot be read is not known; what is not told as unreadable is then told as gone.
    const first = await this.#findFirst(isBehindUnreadable ? 0 : Number.POSITIVE_INFINITY);
    const gap = gapBetween(from, Math.min(to, first - 1));
    if (gap) await this.#noteIncident(gap);
    if (isBehindUnreadable && first <= to) await this.#passOver(Math.max(from, first), to);
    else if (first <= to) this.#deps.onEmptyOffsets(to - Math.max(from, first) + 1);
  }

  /** The first offset kept, or what is to be taken for it when it cannot be read. */
  async #findFirst(ifUnreadable: number): Promise<number> {
    const { stream } = this.#place;
    await using connection = this.#deps.connect(`looks at the beginning of ${stream}`);
    try {
      return (await readFirstOffset(connection, stream, this.#leaving.signal)) ?? 0;
    } catch (error) {
      if (isUnreadable(error)) return ifUnreadable;
      throw error;
    }
  }

  async #commit(subscription: StreamSubscription, batch: StreamBatch): Promise<void> {
    const correlationId = correlationIdOf(batch.first) ?? this.#deps.createId();
    await this.#lane.commit(batch.items, { correlationId, until: this.#until });
    const last = batch.completed;
    if (last === undefined) return;
    this.#lastOffset = offsetOf(last);
    subscription.ack(last);
    this.#deps.crash("after_ack");
  }

  async #noteIncident(incident: StreamIncident): Promise<void> {
    const { database, logger } = this.#deps;
    const lane = this.#lane.lane;
    const noted = lane && (await insertStreamIncident(database.sql, lane, incident));
    if (noted === undefined) throw new LaneLost("lane lost");
    if (noted === "known") return;
    const { kind, fromOffset, toOffset } = incident;
    logger.error({ ...this.#place, fromOffset, toOffset }, `stream_${kind}: ${incident.detail}`);
    this.#deps.onIncident(incident);
  }
}

/** What was taken from the buffer: whether offsets were passed over, and how large messages are. */
class TakenMessages {
  /** Offsets that did not come, both included. */
  readonly jumps: { from: number; to: number }[] = [];
  #last: number | undefined;
  #bytes = 0;
  #count = 0;

  constructor(last: number | undefined) {
    this.#last = last;
  }

  note(message: ConsumeMessage | undefined): ConsumeMessage | undefined {
    if (message === undefined) return undefined;
    const offset = offsetOf(message);
    if (this.#last !== undefined && offset > this.#last + 1)
      this.jumps.push({ from: this.#last + 1, to: offset - 1 });
    this.#last = offset;
    this.#bytes += message.content.length;
    this.#count++;
    return message;
  }

  get bytesMean(): number {
    return Math.max(1, this.#bytes / Math.max(1, this.#count));
  }
}
