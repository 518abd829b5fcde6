import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Channel,
  type ChannelModel,
  type ConfirmChannel,
  connect,
  credentials,
  IllegalOperationError,
} from "amqplib";
import { orAborted } from "./abortable.ts";
import { type BrokerAddress, parseBrokerUrl } from "./broker-address.ts";
import {
  type ConnectionFault,
  ConnectTimeout,
  describeConnectFault,
  describeLoss,
  findReplyCode,
} from "./connection-fault.ts";
import { createDeferred, type Deferred } from "./deferred.ts";

export type { Channel, ConfirmChannel, ConsumeMessage } from "amqplib";

export type BrokerState =
  /** `product` and `version` as the broker gives them, for example "RabbitMQ" and "3.10.8". */
  | { state: "connected"; product: string; version: string }
  /** `reason` is a sentence for a person, without credentials. */
  | { state: "unreachable"; reason: string };

/** One connection that is opened again whenever it ends. Disposing closes it, at any moment, within 2 s. */
export type BrokerConnection = AsyncDisposable & {
  readonly state: BrokerState;
  /**
   * Opens a channel on the live connection, waiting for one to exist. Rejects with the signal's reason when that is
   * aborted, with BrokerClosed when the connection is disposed. Listen to the channel's "error" (unheard, it ends the
   * process) and "close" at once, without awaiting anything in between: both may come with the next packet.
   */
  openChannel(signal?: AbortSignal): Promise<Channel>;
  /** The same, for a channel whose publishes are confirmed. */
  openConfirmChannel(signal?: AbortSignal): Promise<ConfirmChannel>;
  /**
   * Calls back with every change of state, once per change: failures in a row for the same kind of reason are one.
   * Returns the way to stop that.
   */
  onStateChange(listener: (state: BrokerState) => void): () => void;
  /**
   * The AMQP reply code (541: an error of the broker's own) with which the broker closed the connection the last time;
   * undefined while there is one, and when it ended otherwise. Known before the channels' "close".
   */
  readonly lossCode: number | undefined;
  /** Whether the broker takes no publishes at present (an alarm for memory or disk; it tells publishers only). */
  readonly isBlocked: boolean;
};

export type BrokerConnectionOptions = {
  /** amqp:// or amqps:// URL with credentials. Certificates are verified. */
  url: string;
  /** Shown by the broker's management as the connection's name. */
  name: string;
  /** A silent peer is noticed within twice this time; at least 2 (heartbeats have whole seconds). */
  heartbeatSeconds: number;
  /** Time for one attempt: name service, TCP, TLS and AMQP handshake together. */
  connectMsMax: number;
  /** 0 ≤ random() < 1, for the jitter of the waits between attempts. */
  random: () => number;
};

/** What waiting callers get when the connection is disposed. */
export class BrokerClosed extends Error {
  override name = "BrokerClosed";
  constructor() {
    super("The connection to the broker was closed.");
  }
}

const WAIT_MS = 250;
const WAIT_MS_MAX = 10_000;
/** A connection that lived shorter does not reset the back-off: a broker that drops us at once is not hammered. */
const STABLE_MS_MIN = 1000;
const CLOSE_MS_MAX = 2000;

/**
 * Connects to a broker in the background. Never throws for an unreachable one: it keeps trying (250 ms doubling to
 * 10 s, jittered) until disposed. Throws a TypeError when the URL is none.
 */
export function connectBroker(options: BrokerConnectionOptions): BrokerConnection {
  const address = parseBrokerUrl(options.url);
  const status = createStatus();
  const closing = new AbortController();
  const supervised = supervise({ address, options, status, closing: closing.signal });
  return {
    get state() {
      return status.state;
    },
    get lossCode() {
      return status.lossCode;
    },
    get isBlocked() {
      return status.live?.isBlocked === true;
    },
    openChannel: (signal) =>
      openOnLive(status, (model) => model.createChannel(), closing.signal, signal),
    openConfirmChannel: (signal) =>
      openOnLive(status, (model) => model.createConfirmChannel(), closing.signal, signal),
    onStateChange: (listener) => {
      // An entry of its own per call: the same function may listen twice.
      const entry = { listener };
      status.listeners.add(entry);
      return () => void status.listeners.delete(entry);
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort(new BrokerClosed());
      await supervised;
    },
  };
}

/** An open connection of amqplib. */
type Live = {
  model: ChannelModel;
  isBlocked: boolean;
  /** Resolves when the connection is of no use any more. Never rejects. */
  lost: Promise<ConnectionFault>;
  /** Declares it lost. */
  lose: (error: unknown) => void;
  /** Ends the socket at once. */
  cut: () => void;
};

type Status = {
  state: BrokerState;
  live: Live | undefined;
  lossCode: number | undefined;
  /** Resolves with the next live connection; a new promise takes its place when that is lost. */
  arrival: Deferred<Live>;
  listeners: Set<{ listener: (state: BrokerState) => void }>;
  connected(live: Live): void;
  failed(fault: ConnectionFault): void;
  closed(): void;
};

function createStatus(): Status {
  let faultKind: string | undefined;
  const tell = (state: BrokerState): void => {
    status.state = state;
    for (const { listener } of status.listeners) listener(state);
  };
  const status: Status = {
    state: { state: "unreachable", reason: "The broker was not tried yet." },
    live: undefined,
    lossCode: undefined,
    arrival: createDeferred<Live>(),
    listeners: new Set(),
    connected: (live) => {
      const { product, version } = live.model.connection.serverProperties;
      faultKind = undefined;
      status.lossCode = undefined;
      status.live = live;
      status.arrival.resolve(live);
      tell({ state: "connected", product, version });
    },
    failed: (fault) => {
      if (faultKind === fault.kind) return;
      faultKind = fault.kind;
      tell({ state: "unreachable", reason: fault.reason });
    },
    closed: () => {
      status.live = undefined;
      status.state = { state: "unreachable", reason: new BrokerClosed().message };
    },
  };
  return status;
}

type Supervision = {
  address: BrokerAddress;
  options: BrokerConnectionOptions;
  status: Status;
  closing: AbortSignal;
};

/** Connects, waits for the end of that, waits a while, connects again, until closing is aborted. */
async function supervise(the: Supervision): Promise<void> {
  const { status, closing, options } = the;
  for (let failures = 0; !closing.aborted;) {
    const live = await openLive(the);
    if (live !== undefined) {
      const openedAt = performance.now();
      const fault = await stayLive(live, the);
      if (fault === undefined) break;
      if (performance.now() - openedAt >= STABLE_MS_MIN) failures = 0;
      status.failed(fault);
    }
    const ceiling = Math.min(WAIT_MS_MAX, WAIT_MS * 2 ** Math.min(failures++, 10));
    // Half of the wait is sure, half is chance: many clients that lost one broker do not come back together.
    const waitMs = ceiling / 2 + (options.random() * ceiling) / 2;
    await delay(waitMs, undefined, { signal: closing }).catch(() => undefined);
  }
  status.closed();
}

/** Tells of the connection and waits for its end: a fault, or undefined when we closed it. */
async function stayLive(live: Live, the: Supervision): Promise<ConnectionFault | undefined> {
  const { status, closing } = the;
  if (!closing.aborted) status.connected(live);
  const fault = await orAborted(live.lost, closing).catch(() => undefined);
  if (fault === undefined) await closeLive(live);
  return fault;
}

/** One attempt. Undefined when it failed (the status was told) or we are closing. */
async function openLive(the: Supervision): Promise<Live | undefined> {
  const { address, options, status, closing } = the;
  const socket = new AbortController();
  const timer = setTimeout(() => socket.abort(new ConnectTimeout()), options.connectMsMax);
  const onClosing = (): void => socket.abort(closing.reason);
  closing.addEventListener("abort", onClosing, { once: true });
  try {
    const opening = openModel(address, options, socket.signal);
    const model = await orAborted(opening, socket.signal, (late) => late.close());
    return watchModel(model, the, socket);
  } catch (error) {
    if (!closing.aborted) {
      status.failed(describeConnectFault(error, address, options.connectMsMax));
    }
    return undefined;
  } finally {
    clearTimeout(timer);
    closing.removeEventListener("abort", onClosing);
  }
}

function openModel(
  address: BrokerAddress,
  options: BrokerConnectionOptions,
  signal: AbortSignal,
): Promise<ChannelModel> {
  const url = new URL(address.bareUrl);
  // amqplib notices silence after two to three intervals: two thirds of the interval make that twice what was asked.
  url.searchParams.set(
    "heartbeat",
    String(Math.max(1, Math.floor((options.heartbeatSeconds * 2) / 3))),
  );
  const socketOptions = {
    noDelay: true,
    keepAlive: true,
    // Given on to the socket: the only way to end an attempt, or a close that is not answered.
    signal,
    // Not in the URL: amqplib does not decode what is not ASCII there.
    credentials: credentials.plain(address.username, address.password),
    clientProperties: {
      product: "tallystick",
      connection_name: options.name,
      // amqplib's own, which would be read as ours.
      version: undefined,
      information: undefined,
    },
  };
  return connect(url.href, socketOptions);
}

/** Listens to an open connection. Its end clears `status.live` in the same turn: nobody opens a channel on the dead. */
function watchModel(model: ChannelModel, the: Supervision, socket: AbortController): Live {
  const { address, status } = the;
  const lost = createDeferred<ConnectionFault>();
  let isLost = false;
  const live: Live = {
    model,
    isBlocked: false,
    lost: lost.promise,
    lose: (error) => {
      if (isLost) return;
      isLost = true;
      if (status.live === live) {
        status.live = undefined;
        status.lossCode = findReplyCode(error);
        status.arrival = createDeferred<Live>();
      }
      lost.resolve(describeLoss(error, address));
      // A moment for our answer to the broker's close; a socket to a silent peer would stay for minutes.
      setTimeout(live.cut, 1000).unref();
    },
    cut: () => socket.abort(),
  };
  model.on("error", live.lose);
  model.on("close", live.lose);
  model.on("blocked", () => (live.isBlocked = true));
  model.on("unblocked", () => (live.isBlocked = false));
  return live;
}

/** Closes with the broker's consent if it answers in time, else without. */
async function closeLive(live: Live): Promise<void> {
  const ended = new AbortController();
  try {
    await Promise.race([
      live.model.close(),
      once(live.model, "close", { signal: ended.signal }),
      delay(CLOSE_MS_MAX, undefined, { signal: ended.signal }),
    ]);
  } catch {
    // It was closed already, or it failed while closing: either way it is gone.
  } finally {
    ended.abort();
    live.cut();
  }
}

async function openOnLive<C extends Channel>(
  status: Status,
  open: (model: ChannelModel) => Promise<C>,
  closing: AbortSignal,
  signal: AbortSignal | undefined,
): Promise<C> {
  const stop = signal === undefined ? closing : AbortSignal.any([closing, signal]);
  for (;;) {
    const live = status.live ?? (await orAborted(status.arrival.promise, stop));
    try {
      const channel = await orAborted(open(live.model), stop, (late) => late.close());
      if (status.live === live) return channel;
    } catch (error) {
      // A connection closed in the very packet that opened it never emits "close": this is how that shows.
      if (error instanceof IllegalOperationError) live.lose(error);
      // The connection died meanwhile: the next one serves. Anything else (no channel is left) is the caller's.
      if (stop.aborted || status.live === live) throw error;
    }
  }
}
