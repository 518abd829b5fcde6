import {
  type BrokerBench,
  brokerCpuBetween,
  type ConsumingService,
  declarePlace,
  type Form,
  type Place,
  startConsumingService,
  startPublisher,
} from "./broker-rig.ts";
import { loadConfig } from "#config";
import { type Child, startChild } from "./child.ts";
import { median } from "./measure.ts";
import { atLeast } from "./report.ts";

const NAME = "broker";
const PER_SECOND_MIN = 40_000;
const SHARE_OF_ACKING_MIN = 0.5;

/** A way for events to come. Budgets are for the first: a stream of single events is what producers send most. */
type Way = { what: string; kind: Place["kind"]; form: Form; isHeadline?: boolean };
const WAYS: readonly Way[] = [
  { what: "stream, an event a message", kind: "stream", form: "messages", isHeadline: true },
  { what: "stream, batches of the producer", kind: "stream", form: "batches" },
  { what: "queue, an event a message", kind: "queue", form: "messages" },
];

type Run = {
  perSecond: number;
  publishedPerSecond: number;
  ackedPerSecond: number;
  /** µs an event, by process. */
  cpu: Record<string, number>;
};

/**
 * Publisher, RabbitMQ, service and PostgreSQL at once: from the first event published until the last is in every
 * rollup. Beside it a consumer that only acknowledges the same messages, which are there already.
 */
export async function measureBrokerSpeed(bench: BrokerBench): Promise<void> {
  for (const way of WAYS) reportWay(bench, way, await runWay(bench, way));
}

async function runWay(bench: BrokerBench, way: Way): Promise<Run[]> {
  const { size, say } = bench;
  await using scope = new AsyncDisposableStack();
  const place: Place = { kind: way.kind, name: `bench-${way.kind}-${way.form}` };
  scope.use(await declarePlace(bench, place));
  const publisher = scope.use(await startPublisher(bench, way.form, place));
  const service = scope.use(await startConsumingService(bench, place));
  const acking = await openAcking(bench, way, place);
  scope.use(acking);

  await publisher.ask("prepare", { events: size.warmUpEvents, seed: 700 });
  let { messages = 0 } = await publisher.ask("publish");
  await service.waitUntilVisible(size.warmUpEvents);
  const runs: Run[] = [];
  for (let n = 0; n < size.brokerRuns; n++) {
    const seed = 701 + n;
    const done = size.warmUpEvents + n * size.brokerEvents;
    const { published, ...run } = await runOnce(bench, { publisher, service, done, seed });
    const ackedPerSecond = await acking.run({ from: messages, messages: published, seed });
    messages += published;
    runs.push({ ...run, ackedPerSecond });
    say(
      `${NAME}, ${way.what}, ${n + 1}/${size.brokerRuns}: ${Math.round(run.perSecond)} events/s, only acknowledged ${Math.round(ackedPerSecond)}`,
    );
  }
  return runs;
}

/** `done`: events that the service has received before. */
async function runOnce(
  { size }: BrokerBench,
  {
    publisher,
    service,
    done,
    seed,
  }: { publisher: Child; service: ConsumingService; done: number; seed: number },
): Promise<Omit<Run, "ackedPerSecond"> & { published: number }> {
  const events = size.brokerEvents;
  await publisher.ask("prepare", { events, seed });
  await service.database.sql`checkpoint`;
  const before = service.readCpu();
  const startedMs = performance.now();
  const publishing = publisher.ask("publish");
  const [published] = await Promise.all([publishing, service.waitUntilVisible(done + events)]);
  const seconds = (performance.now() - startedMs) / 1000;
  const used = brokerCpuBetween(before, service.readCpu());
  const { messages = 0, seconds: publishSeconds = 0, cpuUs = 0 } = published;
  const cpu = Object.entries({ ...used, publisher: cpuUs });
  return {
    perSecond: events / seconds,
    publishedPerSecond: events / publishSeconds,
    cpu: Object.fromEntries(cpu.map(([name, us]) => [name, us / events])),
    published: messages,
  };
}

type Backlog = { from: number; messages: number; seed: number };
type Acking = AsyncDisposable & {
  /** Events a second. */
  run(backlog: Backlog): Promise<number>;
};

/** A stream is read again; a queue is empty by now, so that another one is filled with as much. */
async function openAcking(bench: BrokerBench, way: Way, place: Place): Promise<Acking> {
  await using scope = new AsyncDisposableStack();
  const { config } = loadConfig({});
  const { rabbit, size } = bench;
  const isQueue = way.kind === "queue";
  const source: Place = isQueue ? { ...place, name: `${place.name}-acked` } : place;
  if (isQueue) scope.use(await declarePlace(bench, source));
  const filler = isQueue ? scope.use(await startPublisher(bench, way.form, source)) : undefined;
  const consumers = isQueue ? config.consumerWorkers : 1;
  const prefetch = isQueue ? config.queuePrefetch : config.streamPrefetch;
  const acker = scope.use(
    await startChild(new URL("./broker-acker.ts", import.meta.url), [
      rabbit.url,
      way.kind,
      source.name,
      String(consumers),
      String(prefetch),
    ]),
  );
  const owned = scope.move();
  return {
    run: async ({ from, messages, seed }) => {
      await filler?.ask("fill", { events: messages, seed });
      const { seconds = 0 } = await acker.ask("consume", { from, messages });
      return size.brokerEvents / seconds;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function reportWay({ report, calibration }: BrokerBench, way: Way, runs: readonly Run[]): void {
  const middle = (pick: (run: Run) => number): number => median(runs.map(pick));
  const perSecond = middle((run) => run.perSecond);
  const acked = middle((run) => run.ackedPerSecond);
  const share = perSecond / acked;
  const { what, isHeadline = false } = way;
  report.add({
    bench: NAME,
    what: `${what}: published to rolled up`,
    value: perSecond,
    unit: "events/s",
    also: { "published and confirmed": middle((run) => run.publishedPerSecond) },
    ratio: { value: perSecond / calibration, to: "calibration" },
    budget: isHeadline ? atLeast(perSecond, PER_SECOND_MIN, "events/s") : undefined,
  });
  report.add({
    bench: NAME,
    what: `${what}: acknowledged by a consumer that stores nothing`,
    value: acked,
    unit: "events/s",
    ratio: { value: share, to: "it by the service" },
    budget: isHeadline ? atLeast(share, SHARE_OF_ACKING_MIN) : undefined,
  });
  const cpu = (name: string): number | undefined =>
    runs[0]?.cpu[name] === undefined ? undefined : middle((run) => run.cpu[name] ?? 0);
  const also = Object.fromEntries(
    ["broker", "PostgreSQL", "publisher"].flatMap((name) => {
      const value = cpu(name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
  const service = cpu("service");
  if (service !== undefined)
    report.add({
      bench: NAME,
      what: `${what}: CPU of the service`,
      value: service,
      unit: "µs/event",
      also,
    });
}
