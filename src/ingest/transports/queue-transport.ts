import { Gauge, type Registry } from "prom-client";
import { ensureQueue, type BrokerConnection, type Channel, type ConsumeMessage } from "#broker";
import type { ParsedItem } from "#contract";
import { type Crash, type Logger, sleepMs } from "#kernel";
import type { Ingestor } from "../ingestor.ts";
import type { WritableOrgs } from "../judge-org.ts";
import { correlationIdOf, type MessageLimits, readMessage } from "./amqp-message.ts";
import { BufferFull, MessageBuffer } from "./message-buffer.ts";

/** The consumption of a queue. Disposing acks what is committed and leaves the rest to others. */
export type QueueTransport = AsyncDisposable & {
  /** Name in the source table. */
  readonly source: string;
  /** Consumers that are at work. */
  readonly consumers: number;
  /** Messages delivered and not acknowledged yet. */
  readonly unacked: number;
  /** Why a consumer is not at work, in words; undefined when all are. */
  readonly trouble: string | undefined;
};

export type QueueTransportDeps = {
  connection: BrokerConnection;
  ingestor: Ingestor;
  logger: Logger;
  registry: Registry;
  crash: Crash;
  createId: () => string;
  settings: {
    name: string;
    workers: number;
    /** Messages each worker may hold. */
    prefetch: number;
    bufferBytesMax: number;
    batchEventsMax: number;
    message: MessageLimits;
    /** Whose events are taken from the queue. */
    writesFor: WritableOrgs;
    /** Time for batches under way when disposed, ms. */
    graceMs: number;
  };
};

const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 10_000;

/** Begins to consume in the background, whether the broker can be reached or not. */
export function startQueueTransport(deps: QueueTransportDeps): QueueTransport {
  const source = `queue/${deps.settings.name}`;
  const stopping = new AbortController();
  const giveUp = new AbortController();
  const declare = shareWhileUnderWay(() => declareQueue(deps, stopping.signal));
  const how = { source, declare, stopping: stopping.signal, until: giveUp.signal };
  const workers = Array.from({ length: deps.settings.workers }, () => new QueueWorker(deps, how));
  const running = workers.map((worker) => worker.run());
  const sum = (count: (worker: QueueWorker) => number) =>
    workers.reduce((total, worker) => total + count(worker), 0);
  const transport: QueueTransport = {
    source,
    get consumers() {
      return sum((worker) => (worker.trouble === undefined ? 1 : 0));
    },
    get unacked() {
      return sum((worker) => worker.unacked);
    },
    get trouble() {
      return workers.find((worker) => worker.trouble !== undefined)?.trouble;
    },
    [Symbol.asyncDispose]: async () => {
      const overdue = setTimeout(() => giveUp.abort(), deps.settings.graceMs);
      stopping.abort();
      await Promise.all(running);
      clearTimeout(overdue);
    },
  };
  new Gauge({
    name: "tallystick_queue_unacked_messages",
    help: "Messages of the queue delivered to this process and not acknowledged yet",
    registers: [deps.registry],
    collect() {
      this.set(transport.unacked);
    },
  });
  return transport;
}

async function declareQueue(
  { connection, settings: { name } }: QueueTransportDeps,
  signal: AbortSignal,
): Promise<void> {
  const deadLetter = { exchange: `${name}.dead-letter`, queue: `${name}.dead-letter` };
  await ensureQueue(connection, { name, deadLetter }, signal);
}

/**
 * Has several callers at the same time wait for one call. A consumer that comes while another declares the queue would
 * make RabbitMQ 3.10 close the connection.
 */
function shareWhileUnderWay(work: () => Promise<void>): () => Promise<void> {
  let underWay: Promise<void> | undefined;
  return () =>
    (underWay ??= work().finally(() => {
      underWay = undefined;
    }));
}

/**
 * One consumer of the queue: takes what was delivered, commits it, and only then acknowledges it. What is not
 * acknowledged comes again, and is a duplicate then. A message never goes back to the queue for what is in it: what
 * cannot be read is acknowledged once it is in quarantine.
 */
class QueueWorker {
  readonly #deps: QueueTransportDeps;
  readonly #source: string;
  readonly #declare: () => Promise<void>;
  readonly #stopping: AbortSignal;
  readonly #until: AbortSignal;
  #trouble: string | undefined = "not consumed yet";
  #unacked = 0;
  /** Lowered when messages turn out to be larger than expected. */
  #prefetch: number;

  constructor(
    deps: QueueTransportDeps,
    how: {
      source: string;
      declare: () => Promise<void>;
      stopping: AbortSignal;
      until: AbortSignal;
    },
  ) {
    this.#deps = deps;
    this.#prefetch = deps.settings.prefetch;
    this.#source = how.source;
    this.#declare = how.declare;
    this.#stopping = how.stopping;
    this.#until = how.until;
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  get unacked(): number {
    return this.#unacked;
  }

  async run(): Promise<void> {
    for (let failures = 0; !this.#stopping.aborted; failures++) {
      try {
        await this.#consume(() => (failures = 0));
      } catch (error) {
        if (this.#stopping.aborted) return;
        if (error instanceof BufferFull) continue;
        this.#note(error);
        const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(failures, 10));
        await sleepMs(ceiling, this.#stopping).catch(() => undefined);
      } finally {
        this.#unacked = 0;
      }
    }
  }

  /** One line of log for each change of what is wrong. */
  #note(error: unknown): void {
    const trouble = error instanceof Error ? error.message : String(error);
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    this.#deps.logger.warn(
      { err: error, source: this.#source },
      "queue is not consumed; tried again",
    );
  }

  async #consume(onProgress: () => void): Promise<void> {
    const { connection, settings } = this.#deps;
    await this.#declare();
    const channel = await connection.openChannel(this.#stopping);
    const buffer = new MessageBuffer(settings.bufferBytesMax);
    channel.on("error", (error: Error) => buffer.close(error));
    channel.on("close", () => buffer.close(new Error("the channel was closed")));
    try {
      await this.#startConsuming(channel, buffer);
      this.#trouble = undefined;
      for (;;) {
        await buffer.wait(this.#stopping);
        await this.#commitSome(channel, buffer);
        onProgress();
      }
    } finally {
      // What was delivered and is not acknowledged goes back to the queue with this.
      await channel.close().catch(() => undefined);
    }
  }

  async #startConsuming(channel: Channel, buffer: MessageBuffer): Promise<void> {
    const { name, bufferBytesMax } = this.#deps.settings;
    await channel.prefetch(this.#prefetch);
    await channel.consume(
      name,
      (message) => {
        if (message === null) {
          buffer.close(new Error(`queue ${name} was deleted, or its consumers were cancelled`));
          return;
        }
        this.#unacked++;
        buffer.push(message);
        if (!buffer.isOverfull || buffer.isClosed) return;
        // Those that come now are delivered again, which some brokers count: half of what fitted is asked for next.
        this.#prefetch = Math.max(1, Math.floor(Math.min(this.#prefetch, buffer.length) / 2));
        buffer.close(new BufferFull(`more than ${bufferBytesMax} bytes of messages are waiting`));
      },
      { noAck: false },
    );
  }

  async #commitSome(channel: Channel, buffer: MessageBuffer): Promise<void> {
    const { ingestor, settings, createId, crash } = this.#deps;
    const items: ParsedItem[] = [];
    const places: string[] = [];
    let messages = 0;
    let last: ConsumeMessage | undefined;
    let correlationId: string | undefined;
    while (items.length < settings.batchEventsMax) {
      const message = buffer.shift();
      if (message === undefined) break;
      last = message;
      messages++;
      correlationId ??= correlationIdOf(message);
      for (const item of readMessage(message, settings.message)) {
        items.push(item);
        places.push(String(message.fields.deliveryTag));
      }
    }
    if (last === undefined) return;
    await ingestor.ingest(items, {
      source: this.#source,
      backfill: false,
      writesFor: settings.writesFor,
      correlationId: correlationId ?? createId(),
      places,
      until: this.#until,
    });
    channel.ack(last, true);
    this.#unacked -= messages;
    crash("after_ack");
  }
}
