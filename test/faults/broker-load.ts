import { setTimeout as delay } from "node:timers/promises";
import { connect, type ChannelModel, type ConfirmChannel } from "amqplib";
import type { Traffic, TrafficRequest } from "./traffic.ts";

export type BrokerLoadOptions = {
  /** AMQP address; asked before each attempt, undefined while there is nothing to send to. */
  url: () => string | undefined;
  /** Names of queues and streams: each publisher sends to one, and they take turns. */
  targets: readonly string[];
  publishers?: number;
  eventsPerMessageMax?: number;
  /** Rest of a publisher between two messages, ms. */
  pauseMs?: number;
  /** How long one message is published again before the publisher gives up, ms. */
  patienceMs?: number;
};

/** Gateways at work. Disposing ends them at once, confirmed or not. */
export type BrokerLoad = AsyncDisposable & {
  readonly confirmedMessages: number;
  readonly confirmedEvents: number;
  /** Attempts without a confirm. */
  readonly unconfirmed: number;
  /** No new messages; resolves when each one begun is confirmed, throws when one was not in time. */
  stop(): Promise<void>;
};

/**
 * Starts gateways that publish to a broker with confirms, as real ones do: what is not confirmed is published again,
 * the same bytes, until it is. What they publish goes into `traffic`.
 */
export function startBrokerLoad(traffic: Traffic, options: BrokerLoadOptions): BrokerLoad {
  const { publishers = 4, eventsPerMessageMax = 20, pauseMs = 10, patienceMs = 120_000 } = options;
  const seen = { confirmedMessages: 0, confirmedEvents: 0, unconfirmed: 0 };
  const state = { isOn: true, isAbandoned: false };

  const deliver = async (publisher: Publisher, request: TrafficRequest): Promise<void> => {
    const startedMs = performance.now();
    for (let attempt = 0; performance.now() - startedMs < patienceMs; attempt++) {
      if (state.isAbandoned) return;
      if (await publisher.publish(request)) {
        traffic.noteConfirmed(request);
        seen.confirmedMessages++;
        seen.confirmedEvents += request.items.length;
        return;
      }
      seen.unconfirmed++;
      await delay(Math.min(500, 20 * 2 ** Math.min(attempt, 5)));
    }
    throw new Error(`a message was not confirmed within ${patienceMs} ms`);
  };
  const run = async (nth: number): Promise<void> => {
    const target = options.targets[nth % options.targets.length] ?? "";
    await using publisher = new Publisher(traffic, options.url, target);
    while (state.isOn) {
      await deliver(publisher, traffic.createRequest(eventsPerMessageMax));
      await delay(pauseMs);
    }
  };
  const running = Promise.all(Array.from({ length: publishers }, (_, nth) => run(nth)));
  // One that gave up is told by stop().
  running.catch(() => undefined);
  return {
    get confirmedMessages() {
      return seen.confirmedMessages;
    },
    get confirmedEvents() {
      return seen.confirmedEvents;
    },
    get unconfirmed() {
      return seen.unconfirmed;
    },
    stop: async () => {
      state.isOn = false;
      await running;
    },
    [Symbol.asyncDispose]: async () => {
      state.isOn = false;
      state.isAbandoned = true;
      await running.catch(() => undefined);
    },
  };
}

const CONFIRM_MS_MAX = 10_000;

/** One connection to the broker, opened again when it is lost. */
class Publisher implements AsyncDisposable {
  readonly #traffic: Traffic;
  readonly #url: () => string | undefined;
  readonly #target: string;
  #connection: ChannelModel | undefined;
  #channel: ConfirmChannel | undefined;

  constructor(traffic: Traffic, url: () => string | undefined, target: string) {
    this.#traffic = traffic;
    this.#url = url;
    this.#target = target;
  }

  /** Whether the broker confirmed it, as stored in the target. */
  async publish(request: TrafficRequest): Promise<boolean> {
    try {
      const channel = (this.#channel ??= await this.#open());
      if (channel === undefined) return false;
      this.#traffic.notePublished(request);
      return await confirmed(channel, this.#target, request);
    } catch {
      await this.#close();
      return false;
    }
  }

  async #open(): Promise<ConfirmChannel | undefined> {
    const url = this.#url();
    if (url === undefined) return undefined;
    const connection = await connect(url, { timeout: CONFIRM_MS_MAX });
    this.#connection = connection;
    connection.on("error", () => undefined);
    const channel = await connection.createConfirmChannel();
    channel.on("error", () => undefined);
    return channel;
  }

  async #close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#channel = undefined;
    // One whose peer is gone would wait for it to say goodbye.
    await Promise.race([connection?.close().catch(() => undefined), delay(500)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}

/** Publishes one message. Throws when the channel ends, or no confirm comes in time; false when nobody took it in. */
function confirmed(
  channel: ConfirmChannel,
  target: string,
  { body, contentType }: TrafficRequest,
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let isReturned = false;
    const onReturn = () => (isReturned = true);
    const onClose = () => settle(() => reject(new Error("the channel was closed")));
    const overdue = setTimeout(() => settle(() => reject(new Error("no confirm"))), CONFIRM_MS_MAX);
    const settle = (how: () => void) => {
      clearTimeout(overdue);
      channel.off("return", onReturn);
      channel.off("close", onClose);
      how();
    };
    channel.once("return", onReturn);
    channel.once("close", onClose);
    const options = { persistent: true, mandatory: true, contentType };
    channel.sendToQueue(target, Buffer.from(body), options, (error: unknown) =>
      settle(() => (error ? reject(new Error("not confirmed")) : resolve(!isReturned))),
    );
  });
}
