/**
 * Publishes usage events to a RabbitMQ (arguments: URL; "messages" of one event or "batches" of the producer module;
 * stream or queue). Started by the broker benches; ends with them.
 */
import { setTimeout as delay } from "node:timers/promises";
import { openProducer, type Producer } from "#broker";
import { systemClock } from "#kernel";
import { MessageEncoder } from "./amqp-wire.ts";
import { type Figures, serveParent } from "./child.ts";
import { quantile, readOwnCpuUs } from "./measure.ts";
import { lastMinutes, type Span, Traffic } from "./traffic.ts";
import { WirePublisher } from "./wire-publisher.ts";

/** Messages that are written to the socket in one piece. */
const PIECE_MESSAGES = 50;
const TICKS_PER_SECOND = 100;
const EVENTS_PER_TURN = 500;
/** Turns of the producer module that are not confirmed yet: well below what it buffers. */
const UNCONFIRMED_MAX = 40;

/** Events made before the clock starts, and the way they go. */
type Prepared = {
  /** Messages sent to the broker. */
  publish(): Promise<number>;
};

const [url, form, queue] = process.argv.slice(2);
if (url === undefined || queue === undefined || (form !== "messages" && form !== "batches"))
  throw new Error("usage: broker-publisher.ts URL messages|batches QUEUE");
await using scope = new AsyncDisposableStack();
const encoder = new MessageEncoder(queue, "application/json");
const wire = scope.use(await WirePublisher.open(url));
const producer = form === "batches" ? scope.use(openBatching(url, queue)) : undefined;
let prepared: Prepared | undefined;

await serveParent({
  prepare: async ({ events = 0, seed = 0 }) => {
    prepared = producer
      ? prepareBatches(producer, events, seed)
      : prepareMessages(pieces(events, seed));
    return {};
  },
  publish: async () => await timed(async () => (await prepared?.publish()) ?? 0),
  fill: async ({ events = 0, seed = 0 }) =>
    await timed(() => prepareMessages(pieces(events, seed)).publish()),
  pace: ({ perSecond = 0, seconds = 0, seed = 0, eventsPerMessage = 1 }) =>
    pace({ perSecond, seconds, seed, eventsPerMessage }),
});

/** Runs it until everything is confirmed: seconds, CPU and messages. */
async function timed(work: () => Promise<number>): Promise<Figures> {
  const cpuFrom = readOwnCpuUs();
  const fromMs = performance.now();
  const messages = await work();
  const seconds = (performance.now() - fromMs) / 1000;
  return { messages, seconds, cpuUs: readOwnCpuUs() - cpuFrom };
}

type Piece = { bytes: Buffer; messages: number };

function* pieces(events: number, seed: number): Generator<Piece> {
  const traffic = new Traffic(seed);
  const span = lastMinutes(systemClock.now());
  for (let at = 0; at < events; at += PIECE_MESSAGES) {
    const messages = Math.min(PIECE_MESSAGES, events - at);
    const lines = traffic.lines(messages, sliceOf(span, at / events, messages / events));
    yield { bytes: Buffer.concat(lines.map((line) => encoder.encode(line))), messages };
  }
}

function sliceOf({ fromMs, toMs }: Span, from: number, length: number): Span {
  const ms = toMs - fromMs;
  return { fromMs: fromMs + ms * from, toMs: fromMs + ms * (from + length) };
}

function prepareMessages(pieces: Iterable<Piece>): Prepared {
  return {
    publish: async () => {
      const before = wire.published;
      for (const { bytes, messages } of pieces) await wire.publish(bytes, messages);
      await wire.confirm();
      return wire.published - before;
    },
  };
}

function openBatching(url: string, stream: string): Producer {
  return openProducer({ url, target: { stream }, onFull: "wait" });
}

function prepareBatches(producer: Producer, events: number, seed: number): Prepared {
  const lines = new Traffic(seed).lines(events, lastMinutes(systemClock.now()));
  const objects = lines.map((line): object => JSON.parse(line));
  return {
    publish: async () => {
      // Events of one message share a promise.
      const messages = new Set<Promise<void>>();
      const unconfirmed: Promise<void>[] = [];
      for (const [i, event] of objects.entries()) {
        const confirmed = producer.send(event);
        messages.add(confirmed);
        if ((i + 1) % EVENTS_PER_TURN !== 0) continue;
        unconfirmed.push(confirmed);
        if (unconfirmed.length > UNCONFIRMED_MAX) await unconfirmed.shift();
      }
      await producer.flush();
      await Promise.all(messages);
      return messages.size;
    },
  };
}

type Pace = { perSecond: number; seconds: number; seed: number; eventsPerMessage: number };

/**
 * Publishes single events at a steady rate, those that are late at once. What is due at one moment, `eventsPerTick`, goes
 * together; the n-th of these (from 0) is due at `startMs` + n × `tickMs`. Times to confirmation count from then.
 */
async function pace({ perSecond, seconds, seed, eventsPerMessage }: Pace): Promise<Figures> {
  const traffic = new Traffic(seed);
  const eventsPerTick = Math.round(perSecond / TICKS_PER_SECOND);
  const tickMs = 1000 / TICKS_PER_SECOND;
  const cpuFrom = readOwnCpuUs();
  const startMs = systemClock.now();
  const confirmedMs: number[] = [];
  const confirmations: Promise<void>[] = [];
  for (let n = 0; n < seconds * TICKS_PER_SECOND; n++) {
    const dueMs = startMs + n * tickMs;
    const waitMs = dueMs - systemClock.now();
    if (waitMs > 0) await delay(waitMs);
    const lines = traffic.lines(eventsPerTick, { fromMs: dueMs - 1000, toMs: dueMs });
    const bodies = joinLines(lines, eventsPerMessage);
    await wire.publish(Buffer.concat(bodies.map((body) => encoder.encode(body))), bodies.length);
    const confirmed = wire.confirm();
    // Heard below; until then a failure is not to end the process.
    confirmations.push(confirmed.then(() => void confirmedMs.push(systemClock.now() - dueMs)));
    confirmations.at(-1)?.catch(() => undefined);
  }
  await Promise.all(confirmations);
  return {
    startMs,
    tickMs,
    eventsPerTick,
    cpuUs: readOwnCpuUs() - cpuFrom,
    confirmedP50Ms: quantile(confirmedMs, 0.5),
    confirmedP99Ms: quantile(confirmedMs, 0.99),
    confirmedWorstMs: quantile(confirmedMs, 1),
  };
}

/** Bodies of so many events each, one on each line. */
function joinLines(lines: readonly string[], eventsPerMessage: number): string[] {
  const bodies: string[] = [];
  for (let at = 0; at < lines.length; at += eventsPerMessage)
    bodies.push(lines.slice(at, at + eventsPerMessage).join("\n"));
  return bodies;
}
