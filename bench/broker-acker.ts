/**
 * A consumer that only acknowledges, to compare with (arguments: URL, "stream" or "queue", name, consumers, prefetch of
 * each). Started by broker-speed.ts; ends with it.
 */
import { type Channel, connect, type ConsumeMessage } from "amqplib";
import { type Figures, serveParent } from "./child.ts";
import { readOwnCpuUs } from "./measure.ts";

const [url, kind, name, consumers, prefetch] = process.argv.slice(2);
if (url === undefined || name === undefined || (kind !== "stream" && kind !== "queue"))
  throw new Error("usage: broker-acker.ts URL stream|queue NAME CONSUMERS PREFETCH");
const connection = await connect(url);

await serveParent({
  consume: ({ messages = 0, from = 0 }) => consume(messages, from),
});
await connection.close();

/** Takes so many messages, of a stream from an offset on, and acknowledges them. */
async function consume(messages: number, from: number): Promise<Figures> {
  const cpuFrom = readOwnCpuUs();
  const fromMs = performance.now();
  const channels: Channel[] = [];
  const taken = Promise.withResolvers<void>();
  let left = messages;
  const onMessage = (): void => {
    left--;
    if (left === 0) taken.resolve();
  };
  for (let n = 0; n < Number(consumers); n++) {
    const channel = await connection.createChannel();
    channel.on("error", taken.reject);
    channels.push(channel);
    await startConsuming(channel, from, onMessage);
  }
  await taken.promise;
  // The last acks go out with the end of this turn.
  await new Promise((resolve) => setImmediate(resolve));
  const seconds = (performance.now() - fromMs) / 1000;
  const cpuUs = readOwnCpuUs() - cpuFrom;
  for (const channel of channels) await channel.close();
  return { seconds, cpuUs };
}

async function startConsuming(
  channel: Channel,
  from: number,
  onMessage: () => void,
): Promise<void> {
  await channel.prefetch(Number(prefetch));
  let last: ConsumeMessage | undefined;
  const ackAll = (): void => {
    if (last) channel.ack(last, true);
    last = undefined;
  };
  const take = (message: ConsumeMessage | null): void => {
    if (!message) return;
    // All that came with one turn of the event loop are acknowledged together.
    if (!last) setImmediate(ackAll);
    last = message;
    onMessage();
  };
  const isStream = kind === "stream";
  await channel.consume(name ?? "", take, {
    noAck: false,
    ...(isStream && { arguments: { "x-stream-offset": { "!": "long", value: from } } }),
  });
}
