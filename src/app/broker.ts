import { hostname } from "node:os";
import { connectBroker, type BrokerConnection } from "#broker";
import type { Config } from "#config";
import { sleepMs } from "#kernel";

const CONNECT_MS_MAX = 10_000;
const MESSAGE_EVENTS_MAX = 100_000;

/** Connects to the broker that the settings name, in the background. `purpose` is for people who look at connections. */
export const openBroker = (
  url: string,
  config: Config,
  random: () => number,
  purpose?: string,
): BrokerConnection =>
  connectBroker({
    url,
    name: ["tallystick", `${hostname()}/${process.pid}`, ...(purpose ? [purpose] : [])].join(" "),
    heartbeatSeconds: config.rabbitmqHeartbeatSeconds,
    connectMsMax: CONNECT_MS_MAX,
    random,
  });

/** How messages are taken and read, for every way of consuming them. */
export const messageSettings = (config: Config) => ({
  bufferBytesMax: config.brokerBufferBytesMax,
  batchEventsMax: config.ingestBatchEventsMax,
  message: { bytesMax: config.messageBytesMax, eventsMax: MESSAGE_EVENTS_MAX },
});

/** Waits for the first attempt to reach the broker, successful or not. Throws the signal's reason. */
export async function awaitBroker(
  connection: BrokerConnection,
  signal: AbortSignal,
): Promise<void> {
  const tried = new AbortController();
  const stopListening = connection.onStateChange(() => tried.abort());
  try {
    const until = AbortSignal.any([signal, tried.signal]);
    if (connection.state.state === "unreachable") await sleepMs(CONNECT_MS_MAX * 2, until);
  } catch (error) {
    if (!tried.signal.aborted) throw error;
  } finally {
    stopListening();
  }
}
