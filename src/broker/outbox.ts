import type { ConfirmChannel, Message, Options } from "amqplib";
import type { BrokerConnection } from "./connection.ts";
import { createDeferred } from "./deferred.ts";
import { ProducerFault } from "./producer-fault.ts";

/** One message on its way to the broker. */
export type OutgoingMessage = {
  /** Unique among this producer's messages; the same at every attempt. */
  id: string;
  exchange: string;
  routingKey: string;
  body: Buffer;
  contentType: string;
  contentEncoding: string | undefined;
  correlationId: string | undefined;
  headers: Readonly<Record<string, unknown>>;
  /** Called once, as soon as it is confirmed or given up. */
  onSettled: () => void;
};

export type OutboxOptions = {
  /** A message not confirmed for so long is given up, ms; undefined: never. */
  deliverMsMax: number | undefined;
  /** A message for which there is no stream, queue or exchange for so long is given up, ms. */
  unroutableMsMax: number;
  /** 0 ≤ random() < 1: spreads what many senders retry. */
  random: () => number;
};

type Entry = {
  message: OutgoingMessage;
  promise: Promise<void>;
  isSettled: boolean;
  /** Handed to the broker, and since then neither returned nor refused. */
  isMaybeDelivered: boolean;
  isReturned: boolean;
  /** What the broker last said about it, when it has nowhere to put it. */
  lastFault: ProducerFault | undefined;
  /** When it said so first, by performance.now(). */
  unroutableSinceMs: number | undefined;
  /** Once only: later calls do nothing. */
  settle: (fault?: ProducerFault) => void;
};

/** What is with the broker and not confirmed yet. More than this, and the AMQP library would hold it: it has no bound of its own. */
const UNCONFIRMED_BYTES_MAX = 8 * 1024 * 1024;
const UNCONFIRMED_MAX = 2000;
const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 10_000;
/** How often to look whether a blocked broker takes messages again. */
const BLOCKED_LOOK_MS = 100;

/** Of the reasons to close a channel, those that concern what was published: not found, no permission, unacceptable. */
const NOT_FOUND = 404;
const ACCESS_REFUSED = 403;
const PRECONDITION_FAILED = 406;

/**
 * Delivers messages at least once over a connection that comes and goes: one that is not confirmed is published again,
 * the same bytes, until it is, or until its time is over. Holds no more than what it was given and is not settled.
 */
export class Outbox implements AsyncDisposable {
  readonly #connection: BrokerConnection;
  readonly #options: OutboxOptions;
  readonly #pending = new Set<Entry>();
  /** To be published again, before the others. */
  readonly #again = new Set<Entry>();
  readonly #waiting = new Set<Entry>();
  /** By message id. Those given up meanwhile stay until the broker answers: they take up its window. */
  readonly #unconfirmed = new Map<string, Entry>();
  #unconfirmedBytes = 0;
  #channel: ConfirmChannel | undefined;
  /** Why the broker closed the channel, when it was for what was published. */
  #channelFault: ProducerFault | undefined;
  #endChannel: () => void = () => undefined;
  #isWritable = true;
  #isPumpDue = false;
  #pause: NodeJS.Timeout | undefined;
  #pauseMs = RETRY_MS_MIN;
  #look: NodeJS.Timeout | undefined;
  readonly #ending = new AbortController();
  readonly #running: Promise<void>;

  constructor(connection: BrokerConnection, options: OutboxOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#running = this.#run();
  }

  /** Resolves when the broker has confirmed the message; rejects with a ProducerFault when it is given up. */
  deliver(message: OutgoingMessage): Promise<void> {
    const entry = this.#createEntry(message);
    if (this.#ending.signal.aborted) {
      entry.settle(closedFault(entry));
      return entry.promise;
    }
    this.#pending.add(entry);
    this.#waiting.add(entry);
    this.#pumpSoon();
    return entry.promise;
  }

  /** Resolves when everything given until now is confirmed or given up. */
  async flush(): Promise<void> {
    await Promise.allSettled([...this.#pending].map(({ promise }) => promise));
  }

  /** Gives up what is not confirmed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    clearTimeout(this.#pause);
    clearTimeout(this.#look);
    for (const entry of this.#pending) entry.settle(closedFault(entry));
    // The channel goes with the connection: a broker that does not answer would keep its own close waiting.
    this.#channel = undefined;
    this.#endChannel();
    await this.#running;
  }

  #createEntry(message: OutgoingMessage): Entry {
    let timer: NodeJS.Timeout | undefined;
    const { promise, resolve, reject } = createDeferred<void>();
    const entry: Entry = {
      message,
      promise,
      isSettled: false,
      isMaybeDelivered: false,
      isReturned: false,
      lastFault: undefined,
      unroutableSinceMs: undefined,
      settle: (fault) => {
        if (entry.isSettled) return;
        entry.isSettled = true;
        clearTimeout(timer);
        this.#pending.delete(entry);
        this.#again.delete(entry);
        this.#waiting.delete(entry);
        message.onSettled();
        if (fault === undefined) resolve();
        else reject(fault);
      },
    };
    const { deliverMsMax } = this.#options;
    if (deliverMsMax !== undefined) {
      timer = setTimeout(() => {
        entry.settle(entry.lastFault ?? timeoutFault(entry, deliverMsMax));
      }, deliverMsMax);
    }
    return entry;
  }

  /** Keeps a channel open as long as there is a connection. */
  async #run(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      try {
        const channel = await this.#connection.openConfirmChannel(signal);
        await this.#use(channel);
      } catch {
        // The connection went away while the channel was being opened; it tells its owner itself.
        await waitMs(RETRY_MS_MIN, signal);
      }
    }
  }

  /** Resolves when the channel is closed. */
  #use(channel: ConfirmChannel): Promise<void> {
    return new Promise((resolve) => {
      this.#endChannel = resolve;
      this.#channelFault = undefined;
      this.#isWritable = true;
      channel.on("error", (error) => {
        this.#channelFault = faultOfChannel(error);
      });
      channel.on("return", (message) => this.#noteReturn(message));
      channel.on("drain", () => {
        this.#isWritable = true;
        this.#pumpSoon();
      });
      channel.on("close", () => this.#loseChannel(channel));
      if (this.#ending.signal.aborted) {
        resolve();
        return;
      }
      this.#channel = channel;
      this.#pumpSoon();
    });
  }

  #loseChannel(channel: ConfirmChannel): void {
    if (this.#channel !== channel) return;
    this.#channel = undefined;
    // The library has told every unconfirmed message by now; a channel that was lost unseen leaves some.
    for (const entry of this.#unconfirmed.values()) this.#settleAnswer(entry, new Error("lost"));
    this.#endChannel();
  }

  /** Once for all that happens in one turn: answers come by the dozen. */
  #pumpSoon(): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    queueMicrotask(() => {
      this.#isPumpDue = false;
      this.#pump();
    });
  }

  /** Publishes as much as broker and window take. */
  #pump(): void {
    for (;;) {
      const channel = this.#channel;
      if (channel === undefined || !this.#isWritable || this.#pause !== undefined) return;
      const [entry] = this.#again.size > 0 ? this.#again : this.#waiting;
      if (entry === undefined || !this.#hasWindowFor(entry)) return;
      if (this.#connection.isBlocked) {
        this.#lookAgain();
        return;
      }
      this.#publish(channel, entry);
    }
  }

  #hasWindowFor({ message }: Entry): boolean {
    if (this.#unconfirmed.size === 0) return true;
    return (
      this.#unconfirmed.size < UNCONFIRMED_MAX &&
      this.#unconfirmedBytes + message.body.length <= UNCONFIRMED_BYTES_MAX
    );
  }

  #lookAgain(): void {
    clearTimeout(this.#look);
    this.#look = setTimeout(() => this.#pump(), BLOCKED_LOOK_MS);
  }

  #publish(channel: ConfirmChannel, entry: Entry): void {
    const { message } = entry;
    entry.isReturned = false;
    try {
      this.#isWritable = channel.publish(
        message.exchange,
        message.routingKey,
        message.body,
        publishOptions(message),
        (error: unknown) => {
          if (this.#channel === channel) this.#settleAnswer(entry, error);
        },
      );
    } catch (error) {
      if (error instanceof Error && error.name === "IllegalOperationError") {
        // Closed without an event of ours: the entry stays where it is, for the next channel.
        this.#loseChannel(channel);
        return;
      }
      entry.settle(
        new ProducerFault("refused", `This cannot be put into a message: ${String(error)}`, {
          cause: error,
        }),
      );
      return;
    }
    this.#again.delete(entry);
    this.#waiting.delete(entry);
    entry.isMaybeDelivered = true;
    this.#unconfirmed.set(message.id, entry);
    this.#unconfirmedBytes += message.body.length;
  }

  /** The broker returns what it cannot route, and confirms it afterwards all the same. */
  #noteReturn({ properties }: Message): void {
    const id: unknown = properties.messageId;
    const entry = typeof id === "string" ? this.#unconfirmed.get(id) : undefined;
    if (entry !== undefined) entry.isReturned = true;
  }

  /** Confirmed (`error` null), nacked, or the channel is gone. */
  #settleAnswer(entry: Entry, error: unknown): void {
    if (!this.#unconfirmed.delete(entry.message.id)) return;
    this.#unconfirmedBytes -= entry.message.body.length;
    this.#pumpSoon();
    if (entry.isSettled) return;
    if (error === null && !entry.isReturned) {
      this.#pauseMs = RETRY_MS_MIN;
      entry.settle();
      return;
    }
    if (error === null) entry.isMaybeDelivered = false;
    const fault = error === null ? unroutableFault(entry.message) : this.#channelFault;
    if (fault !== undefined && !this.#hasPatience(entry, fault)) {
      entry.settle(fault);
      return;
    }
    entry.lastFault = fault;
    this.#again.add(entry);
    this.#backOff();
  }

  /** A broker that starts takes connections before it knows all its streams: what has no place now may have one soon. */
  #hasPatience(entry: Entry, { code }: ProducerFault): boolean {
    entry.unroutableSinceMs ??= performance.now();
    const sinceMs = performance.now() - entry.unroutableSinceMs;
    return code === "unroutable" && sinceMs < this.#options.unroutableMsMax;
  }

  /** Nothing is published for a while, longer each time until a message is confirmed. */
  #backOff(): void {
    if (this.#pause !== undefined || this.#ending.signal.aborted) return;
    const ms = this.#pauseMs * (0.5 + this.#options.random() / 2);
    this.#pauseMs = Math.min(RETRY_MS_MAX, this.#pauseMs * 2);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#pump();
    }, ms);
  }
}

/** Mandatory: what has nowhere to go comes back instead of vanishing. */
const publishOptions = (message: OutgoingMessage): Options.Publish => ({
  persistent: true,
  mandatory: true,
  messageId: message.id,
  contentType: message.contentType,
  ...(message.contentEncoding === undefined ? {} : { contentEncoding: message.contentEncoding }),
  ...(message.correlationId === undefined ? {} : { correlationId: message.correlationId }),
  headers: message.headers,
});

const placeOf = ({ exchange, routingKey }: OutgoingMessage): string =>
  exchange === ""
    ? `a stream or queue "${routingKey}"`
    : `anything bound to exchange "${exchange}" for routing key "${routingKey}"`;

const unroutableFault = (message: OutgoingMessage): ProducerFault =>
  new ProducerFault(
    "unroutable",
    `The broker does not have ${placeOf(message)}, so this was not delivered. ` +
      "Check the name and the virtual host; Tallystick declares what it consumes when it starts.",
  );

const closedFault = ({ isMaybeDelivered }: Entry): ProducerFault =>
  new ProducerFault(
    "closed",
    isMaybeDelivered
      ? "The producer was closed before the broker confirmed this: it may be delivered. Send it again with the same event ids."
      : "The producer was closed before this could be delivered.",
    { isMaybeDelivered },
  );

function timeoutFault({ isMaybeDelivered }: Entry, deliverMsMax: number): ProducerFault {
  const said = isMaybeDelivered
    ? `The broker did not confirm this within ${deliverMsMax} ms: it may be delivered.`
    : `The broker could not take this within ${deliverMsMax} ms.`;
  return new ProducerFault("timeout", `${said} Send it again with the same event ids.`, {
    isMaybeDelivered,
  });
}

/** The fault behind a channel that the broker closed; undefined when it is none of what was published. */
function faultOfChannel(error: Error): ProducerFault | undefined {
  const code = "code" in error ? error.code : undefined;
  const options = { isMaybeDelivered: true, cause: error };
  if (code === NOT_FOUND) {
    return new ProducerFault(
      "unroutable",
      "The exchange to publish to does not exist. Check its name and the virtual host.",
      options,
    );
  }
  if (code === ACCESS_REFUSED) {
    return new ProducerFault(
      "refused",
      "The broker's user may not write there. Give it the permission to write to the exchange.",
      options,
    );
  }
  if (code === PRECONDITION_FAILED) {
    return new ProducerFault("refused", `The broker refuses a message: ${error.message}`, options);
  }
  return undefined;
}

/** Waits; over at once when the signal is aborted. */
async function waitMs(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}
