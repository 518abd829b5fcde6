import { Counter, Gauge, type Registry } from "prom-client";
import { type BrokerConnection, findPartitions, readStreamEnds } from "#broker";
import { type Logger, sleepMs } from "#kernel";
import type { Lane } from "#store";
import type { Ingestor } from "../ingestor.ts";
import { type HeldLane, LaneSharing } from "./lane-sharing.ts";
import { StreamConsumer, type StreamConsumerDeps } from "./stream-consumer.ts";
import { isUnreadable } from "./stream-unreadable.ts";

/** How one stream is being read by this process. Offsets are of messages; null: not known yet. */
export type StreamStatus = {
  stream: string;
  lastOffset: number | null;
  headOffset: number | null;
  /** Messages between the two; broker's own records count too, so it may stay a little above what is missing. */
  lagMessages: number | null;
  trouble: string | undefined;
};

/** The consumption of a stream or super stream. Disposing finishes the batches under way and gives the lanes back. */
export type StreamTransport = AsyncDisposable & {
  /** Name in the source table. */
  readonly source: string;
  /** The streams this process reads at present. */
  status(): StreamStatus[];
  /** Why none is read at all, in words; undefined when the streams are known. */
  readonly trouble: string | undefined;
};

export type StreamTransportDeps = Omit<
  StreamConsumerDeps,
  "onIncident" | "onEmptyOffsets" | "settings"
> & {
  /** To find the streams by. They are read over others, which break on what the broker cannot hand over. */
  connection: BrokerConnection;
  ingestor: Ingestor;
  registry: Registry;
  settings: StreamConsumerDeps["settings"] & {
    name: string;
    partitions: number | readonly string[] | undefined;
    managementUrl: string | undefined;
    brokerUrl: string;
    leaseSeconds: number;
    /** Time for batches under way when disposed, ms. */
    graceMs: number;
  };
};

/** Between two looks at who holds what. */
const SHARE_MS = 1000;
/** Between two looks at how far the streams reach. */
const HEAD_MS = 5000;
/** While the last messages cannot be read, the wait doubles up to this: each look costs pages of the broker's log. */
const HEAD_MS_MAX = 60_000;
/** Each takes a database connection while it commits. */
export const STREAMS_PER_PROCESS_MAX = 32;

/** Begins to consume in the background, whether the broker can be reached or not. */
export function startStreamTransport(deps: StreamTransportDeps): StreamTransport {
  return new SharedStreams(deps);
}

class SharedStreams implements StreamTransport {
  readonly source: string;
  readonly #deps: StreamTransportDeps;
  readonly #stopping = new AbortController();
  readonly #giveUp = new AbortController();
  readonly #readers = new Map<string, StreamReader>();
  readonly #metrics: ReturnType<typeof createStreamMetrics>;
  readonly #running: Promise<void>;
  #sharing: LaneSharing | undefined;
  #trouble: string | undefined = "the streams are not known yet";

  constructor(deps: StreamTransportDeps) {
    this.#deps = deps;
    this.source = `stream/${deps.settings.name}`;
    this.#metrics = createStreamMetrics(deps.registry, () => this.status());
    this.#running = this.#run();
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  status(): StreamStatus[] {
    return [...this.#readers.values()].map((reader) => reader.status());
  }

  /** Finds the streams, then shares them for as long as the process lives. */
  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const partitions = await this.#findPartitions();
    if (partitions === undefined) return;
    this.#sharing = new LaneSharing({
      database: this.#deps.database,
      transport: this.source,
      partitions,
      member: this.#deps.createId(),
      leaseSeconds: this.#deps.settings.leaseSeconds,
      lanesMax: STREAMS_PER_PROCESS_MAX,
      onClaimed: (lane, partition) => this.#open(lane, partition, partitions.indexOf(partition)),
    });
    let isWell = true;
    while (!signal.aborted) {
      try {
        await this.#sharing.share();
        if (!isWell) this.#deps.logger.info({ source: this.source }, "streams are shared again");
        isWell = true;
      } catch (error) {
        if (isWell) logTrouble(this.#deps.logger, this.source, error);
        isWell = false;
      }
      await sleepMs(SHARE_MS, signal).catch(() => undefined);
    }
  }

  async #findPartitions(): Promise<string[] | undefined> {
    const { connection, settings, logger } = this.#deps;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const question = {
          name: settings.name,
          partitions: settings.partitions,
          managementUrl: settings.managementUrl,
          url: settings.brokerUrl,
        };
        const found = await findPartitions(connection, question, signal);
        this.#trouble = undefined;
        return found;
      } catch (error) {
        if (signal.aborted) return undefined;
        const trouble = error instanceof Error ? error.message : String(error);
        if (trouble !== this.#trouble) logTrouble(logger, this.source, error);
        this.#trouble = trouble;
        await sleepMs(SHARE_MS * 2, signal).catch(() => undefined);
      }
    }
    return undefined;
  }

  #open(lane: Lane, stream: string, partition: number): HeldLane {
    const reader = new StreamReader(this.#deps, {
      lane,
      place: { stream, source: this.source, partition },
      until: this.#giveUp.signal,
      onIncident: (kind) => this.#metrics.incidents.inc({ stream, kind }),
      onEmptyOffsets: (count) => this.#metrics.emptyOffsets.inc({ stream }, count),
      onEnded: () => {
        this.#sharing?.forget(lane);
        if (this.#readers.get(stream) === reader) this.#readers.delete(stream);
      },
    });
    this.#readers.set(stream, reader);
    this.#deps.logger.info({ stream, source: this.source, epoch: lane.epoch }, "stream taken over");
    return reader;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const overdue = setTimeout(() => this.#giveUp.abort(), this.#deps.settings.graceMs);
    this.#stopping.abort();
    await this.#running;
    const readers = [...this.#readers.values()];
    for (const reader of readers) reader.leave();
    await Promise.all(readers.map((reader) => reader.ended));
    clearTimeout(overdue);
    // Without a database there is nothing to give back to: the leases run out.
    await this.#sharing?.[Symbol.asyncDispose]().catch(() => undefined);
  }
}

const logTrouble = (logger: Logger, source: string, error: unknown): void =>
  logger.warn({ err: error, source }, "streams are not consumed; tried again");

/** A stream being read under a lane, and how far it reaches. */
class StreamReader implements HeldLane {
  readonly lane: Lane;
  readonly ended: Promise<void>;
  readonly #consumer: StreamConsumer;
  readonly #stream: string;
  headOffset: number | null = null;
  isLeaving = false;
  #isEmpty = false;

  constructor(
    deps: StreamTransportDeps,
    work: {
      lane: Lane;
      place: { stream: string; source: string; partition: number };
      until: AbortSignal;
      onIncident: (kind: string) => void;
      onEmptyOffsets: (count: number) => void;
      onEnded: () => void;
    },
  ) {
    this.lane = work.lane;
    this.#stream = work.place.stream;
    const lane = deps.ingestor.openLane(work.lane, deps.settings.leaseSeconds);
    const onIncident = ({ kind }: { kind: string }) => work.onIncident(kind);
    this.#consumer = new StreamConsumer(
      { ...deps, onIncident, onEmptyOffsets: work.onEmptyOffsets },
      work.place,
      {
        lane,
        until: work.until,
      },
    );
    const reading = this.#consumer.run();
    const watching = new AbortController();
    // Not before: a look at a stream that is just being declared makes RabbitMQ 3.10 close the connection.
    const watched = Promise.race([this.#consumer.opened, reading]).then(() =>
      this.#watchHead(deps.connect, watching.signal),
    );
    this.ended = reading.then(async () => {
      watching.abort();
      await watched;
      await lane[Symbol.asyncDispose]();
      work.onEnded();
    });
  }

  status(): StreamStatus {
    const { lastOffset = null, trouble } = this.#consumer;
    const { headOffset } = this;
    const held = headOffset ?? (this.#isEmpty ? -1 : null);
    const lagMessages = held === null ? null : Math.max(0, held - (lastOffset ?? -1));
    return { stream: this.#stream, lastOffset, headOffset, lagMessages, trouble };
  }

  leave(): void {
    this.isLeaving = true;
    this.#consumer.leave();
  }

  lose(): void {
    if (!this.isLeaving) this.#consumer.noteLost();
    this.#consumer.leave();
  }

  async #watchHead(connect: StreamConsumerDeps["connect"], signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await using connection = connect(`looks at the end of ${this.#stream}`);
    for (let waitMs = HEAD_MS; !signal.aborted;) {
      try {
        const ends = await readStreamEnds(connection, this.#stream, signal);
        this.headOffset = ends?.last ?? null;
        this.#isEmpty = ends === null;
        waitMs = HEAD_MS;
      } catch (error) {
        // The consumer tells what is wrong with the stream; how far it reaches is simply not known.
        if (isUnreadable(error)) {
          [this.headOffset, this.#isEmpty] = [null, false];
          waitMs = Math.min(HEAD_MS_MAX, waitMs * 2);
        }
      }
      await sleepMs(waitMs, signal).catch(() => undefined);
    }
  }
}

function createStreamMetrics(registry: Registry, status: () => StreamStatus[]) {
  const registers = [registry];
  const labelNames = ["stream"] as const;
  new Gauge({
    name: "tallystick_stream_lag_messages",
    help: "Messages of a stream that this process reads and has not committed",
    labelNames,
    registers,
    collect() {
      this.reset();
      for (const { stream, lagMessages } of status())
        if (lagMessages !== null) this.set({ stream }, lagMessages);
    },
  });
  new Gauge({
    name: "tallystick_stream_offset",
    help: "Offset of the last message committed",
    labelNames,
    registers,
    collect() {
      this.reset();
      for (const { stream, lastOffset } of status())
        if (lastOffset !== null) this.set({ stream }, lastOffset);
    },
  });
  return {
    incidents: new Counter({
      name: "tallystick_stream_incidents_total",
      help: "Gaps and unreadable offsets found in streams, and streams found made anew",
      labelNames: ["stream", "kind"],
      registers,
    }),
    emptyOffsets: new Counter({
      name: "tallystick_stream_empty_offsets_total",
      help: "Offsets of a stream that came without a message: records of the broker's own, or compressed sub-batches that RabbitMQ 4 leaves out",
      labelNames,
      registers,
    }),
  };
}
