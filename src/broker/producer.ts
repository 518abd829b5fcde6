import { randomInt, randomUUID } from "node:crypto";
import { BufferRoom } from "./buffer-room.ts";
import { connectBroker, type BrokerConnection, type BrokerState } from "./connection.ts";
import { EventBatches, type BatchRoute } from "./event-batches.ts";
import { Outbox } from "./outbox.ts";
import { createRouter, type ProducerTarget, type Router } from "./producer-target.ts";
import { ProducerFault } from "./producer-fault.ts";

/** How events are published. Times in ms, sizes in bytes; what is left out has the default named. */
export type ProducerOptions = {
  /** `amqp://user:password@host:port/vhost`, or `amqps://…`. */
  url: string;
  /** Where messages go. */
  target: ProducerTarget;
  /** Shown for the connection in the broker's management page. Default "tallystick producer". */
  name?: string;
  /** Events of one message at most. Default 500. */
  itemsMax?: number;
  /** Events of one message together, unless a single one is larger. Default 256 KiB. */
  bytesMax?: number;
  /** How long an event waits for company. Default 20. */
  waitMsMax?: number;
  /** Waiting for confirmation at most, all messages together. Default 32 MiB. */
  bufferBytesMax?: number;
  /** When that is reached: "reject" with `buffer_full` at once (default), or "wait" until there is room. */
  onFull?: "reject" | "wait";
  /** One message at most; Tallystick reads no larger ones. Default 5 MiB. */
  messageBytesMax?: number;
  /** What is not confirmed by then is given up with `timeout`. Default: tried forever. */
  deliverMsMax?: number;
  /**
   * Where there is no stream, queue or exchange of that name, the message is tried again for so long and then given up
   * with `unroutable`. Default 10000: a broker that starts knows its streams a little late.
   */
  unroutableMsMax?: number;
  /** Every event is of this org: header `tallystick-org`. An event of another org goes to quarantine. */
  org?: string;
  /** Asked at each send for the W3C trace context of the moment. */
  traceparent?: () => string | undefined;
  /** Told when the broker is found and when it is lost. */
  onStateChange?: (state: BrokerState) => void;
  /** What disposing waits for confirmations. Default 5000. */
  closeMsMax?: number;
  /** One attempt to connect. Default 10000. */
  connectMsMax?: number;
  /** Default 10. */
  heartbeatSeconds?: number;
  /** 0 ≤ random() < 1: spreads reconnections. */
  random?: () => number;
};

/** What is known about one event beside itself. */
export type SendContext = {
  /** W3C trace context. A message carries that of its first event that has one. */
  traceparent?: string | undefined;
  /** As the option of the same name, for this event. */
  org?: string | undefined;
};

/** What is known about a ready-made body. */
export type BodyContext = {
  contentType: string;
  /** How `body` is compressed. */
  contentEncoding?: string | undefined;
  correlationId?: string | undefined;
  headers?: Readonly<Record<string, unknown>>;
};

/**
 * Publishes usage events to RabbitMQ so that each arrives at least once; Tallystick counts it once, by its `event_id`.
 * Everything rejects with a ProducerFault; sending again what was rejected is safe with the same ids.
 */
export type Producer = AsyncDisposable & {
  /** Resolves when the broker has confirmed the message that carries the event. */
  send(event: object, context?: SendContext): Promise<void>;
  /** Publishes one message with this body; resolves when the broker has confirmed it. */
  publish(body: Buffer, context: BodyContext): Promise<void>;
  /** Sends what is being gathered, and resolves when all handed over so far is confirmed or given up. */
  flush(): Promise<void>;
  /** Flushes for `closeMsMax` at most, gives up what is left with `closed`, and disconnects. Same as disposing. */
  close(): Promise<void>;
  /** Bytes not confirmed yet. */
  readonly pendingBytes: number;
  /** Why nothing can be delivered at the moment, in a sentence; undefined when nothing is known to be in the way. */
  readonly trouble: string | undefined;
};

const MIB = 1024 * 1024;
const MEDIA_TYPE = "application/x-ndjson";

/**
 * Starts publishing. Never waits for the broker: what is sent before it is found, or while it is away, is buffered.
 * Throws TypeError for options that cannot work.
 */
export const openProducer = (options: ProducerOptions): Producer => new BatchingProducer(options);

class BatchingProducer implements Producer {
  readonly #options: ProducerOptions;
  readonly #messageBytesMax: number;
  readonly #connection: BrokerConnection;
  readonly #outbox: Outbox;
  readonly #room: BufferRoom;
  readonly #batches: EventBatches;
  readonly #router: Router;
  readonly #idPrefix = randomUUID();
  #messages = 0;
  #lost: string | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: ProducerOptions) {
    const { random = () => randomInt(2 ** 32) / 2 ** 32 } = options;
    this.#options = options;
    this.#router = createRouter(options.target);
    this.#messageBytesMax = options.messageBytesMax ?? 5 * MIB;
    this.#room = new BufferRoom(options.bufferBytesMax ?? 32 * MIB);
    this.#connection = connectBroker({
      url: options.url,
      name: options.name ?? "tallystick producer",
      heartbeatSeconds: options.heartbeatSeconds ?? 10,
      connectMsMax: options.connectMsMax ?? 10_000,
      random,
    });
    this.#connection.onStateChange((state) => {
      this.#lost = state.state === "unreachable" ? state.reason : undefined;
      options.onStateChange?.(state);
    });
    this.#outbox = new Outbox(this.#connection, {
      deliverMsMax: options.deliverMsMax,
      unroutableMsMax: options.unroutableMsMax ?? 10_000,
      random,
    });
    this.#batches = new EventBatches({
      itemsMax: options.itemsMax ?? 500,
      bytesMax: Math.min(options.bytesMax ?? 256 * 1024, this.#messageBytesMax),
      waitMsMax: options.waitMsMax ?? 20,
      deliver: (body, route) =>
        this.#deliver(body, route.routingKey, {
          contentType: MEDIA_TYPE,
          headers: headersOf(route),
        }),
    });
  }

  get pendingBytes(): number {
    return this.#room.taken;
  }

  get trouble(): string | undefined {
    if (this.#lost !== undefined) return this.#lost;
    return this.#connection.isBlocked
      ? "The broker takes no messages: it is short of memory or disk space."
      : undefined;
  }

  // The promise of a whole message is handed to each of its senders: one of their own would cost more than the event.
  send(event: object, context: SendContext = {}): Promise<void> {
    const line = lineOf(event);
    if (line instanceof ProducerFault) return Promise.reject(line);
    const bytes = Buffer.byteLength(line) + 1;
    const refusal = this.#refuse(bytes);
    if (refusal !== undefined) return Promise.reject(refusal);
    const route: BatchRoute = {
      routingKey: this.#router.keyOf(textOf(event, "org_id")),
      org: context.org ?? this.#options.org,
      traceparent: context.traceparent ?? this.#options.traceparent?.(),
    };
    if (this.#room.tryEnter(bytes)) return this.#batches.add(line, bytes, route);
    return this.#enter(bytes).then(() => this.#batches.add(line, bytes, route));
  }

  async publish(body: Buffer, context: BodyContext): Promise<void> {
    const refusal = this.#refuse(body.length);
    if (refusal !== undefined) throw refusal;
    if (!this.#room.tryEnter(body.length)) await this.#enter(body.length);
    await this.#deliver(body, this.#router.nextKey(), context);
  }

  async flush(): Promise<void> {
    this.#batches.seal();
    await this.#outbox.flush();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#room.close(closedFault());
    let timer: NodeJS.Timeout | undefined;
    const overdue = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#options.closeMsMax ?? 5000);
    });
    await Promise.race([this.flush(), overdue]);
    clearTimeout(timer);
    await this.#outbox[Symbol.asyncDispose]();
    await this.#connection[Symbol.asyncDispose]();
  }

  /** What can be said before anything is taken in. */
  #refuse(bytes: number): ProducerFault | undefined {
    if (this.#closing !== undefined) return closedFault();
    const bytesMax = Math.min(this.#messageBytesMax, this.#options.bufferBytesMax ?? 32 * MIB);
    if (bytes <= bytesMax) return undefined;
    return new ProducerFault(
      "too_large",
      `${bytes} bytes are more than the ${bytesMax} that one message may have.`,
    );
  }

  async #enter(bytes: number): Promise<void> {
    if (this.#options.onFull !== "wait") throw this.#room.fullFault();
    await this.#room.enter(bytes, this.#options.deliverMsMax);
  }

  #deliver(body: Buffer, routingKey: string, context: BodyContext): Promise<void> {
    this.#messages += 1;
    return this.#outbox.deliver({
      id: `${this.#idPrefix}/${this.#messages}`,
      exchange: this.#router.exchange,
      routingKey,
      body,
      contentType: context.contentType,
      contentEncoding: context.contentEncoding,
      correlationId: context.correlationId,
      headers: context.headers ?? {},
      onSettled: () => this.#room.leave(body.length),
    });
  }
}

const closedFault = (): ProducerFault =>
  new ProducerFault("closed", "The producer is closed; nothing of this was sent.");

const headersOf = ({ org, traceparent }: BatchRoute): Record<string, string> => ({
  ...(org === undefined ? {} : { "tallystick-org": org }),
  ...(traceparent === undefined ? {} : { traceparent }),
});

const textOf = (event: object, field: string): string => {
  const value: unknown = Reflect.get(event, field);
  return typeof value === "string" ? value : "";
};

/** The event as one line of NDJSON, without its end; or why it can never be counted. */
function lineOf(event: object): string | ProducerFault {
  if (textOf(event, "event_id") === "") {
    return new ProducerFault(
      "invalid_event",
      "This event has no event_id. Give each call an id of its own where the call happens (the response id serves): " +
        "an id made up here would be another one when the event is sent again, and it would be counted twice.",
    );
  }
  try {
    return JSON.stringify(event);
  } catch (error) {
    return new ProducerFault("invalid_event", `This event is no JSON: ${String(error)}`, {
      cause: error,
    });
  }
}
