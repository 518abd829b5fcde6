import {
  type BrokerBench,
  type ConsumingService,
  declarePlace,
  type Place,
  startConsumingService,
  startPublisher,
} from "./broker-rig.ts";
import { SeriesSampler } from "./sampling.ts";
import { atMost } from "./report.ts";

const NAME = "broker backlog";
const MEMORY_MIB_MAX = 350;
export const MIB = 2 ** 20;

/**
 * A stream that is full when the service starts: what it needs of memory while it catches up, and how fast that goes.
 */
export async function measureBrokerBacklog(bench: BrokerBench): Promise<void> {
  const { size, say } = bench;
  const events = size.brokerBacklogEvents;
  await using scope = new AsyncDisposableStack();
  const place: Place = { kind: "stream", name: "bench-backlog" };
  scope.use(await declarePlace(bench, place));
  await fill(bench, place, events);
  const service = scope.use(await startConsumingService(bench, place));
  const caughtUp = await catchUp(service, events, say);
  reportBacklog(bench, caughtUp, service.readMemory()?.peakBytes);
}

/** The publisher's process ends with this: the machine is the service's then. */
async function fill(bench: BrokerBench, place: Place, events: number): Promise<void> {
  await using publisher = await startPublisher(bench, "messages", place);
  const { seconds = 0, cpuUs = 0 } = await publisher.ask("fill", { events, seed: 800 });
  bench.say(
    `${NAME}: ${events} events published, ${Math.round(events / seconds)} a second; the publisher made and sent them with ${(cpuUs / 1e6 / seconds).toFixed(2)} cores`,
  );
}

type CaughtUp = {
  seconds: number;
  memory: SeriesSampler;
  lag: SeriesSampler;
  standstillSeconds: number;
};

async function catchUp(
  service: ConsumingService,
  events: number,
  say: BrokerBench["say"],
): Promise<CaughtUp> {
  const memory = new SeriesSampler();
  const lag = new SeriesSampler();
  const startedMs = performance.now();
  let saidMs = startedMs;
  let [standstillSeconds, movedMs, lastLag] = [0, startedMs, events];
  await service.waitUntilVisible(events, ({ received }) => {
    const nowMs = performance.now();
    const left = events - received;
    if (left < lastLag) {
      standstillSeconds = Math.max(standstillSeconds, (nowMs - movedMs) / 1000);
      [movedMs, lastLag] = [nowMs, left];
    }
    lag.sample(() => left);
    memory.sample(() => service.readMemory()?.residentBytes);
    if (nowMs - saidMs < SAY_MS) return;
    saidMs = nowMs;
    say(`${NAME}: ${left} events left`);
  });
  const seconds = (performance.now() - startedMs) / 1000;
  return { seconds, memory, lag, standstillSeconds };
}

const SAY_MS = 30_000;

function reportBacklog(
  { report, size, calibration, say }: BrokerBench,
  { seconds, memory, lag, standstillSeconds }: CaughtUp,
  peakBytes: number | undefined,
): void {
  const events = size.brokerBacklogEvents;
  const perSecond = events / seconds;
  const what = `${events / 1e6} M events waiting`;
  report.add({
    bench: NAME,
    what: `${what}: from the start until all are rolled up`,
    value: perSecond,
    unit: "events/s",
    ratio: { value: perSecond / calibration, to: "calibration" },
  });
  report.add({
    bench: NAME,
    what: `${what}: longest time in which the backlog did not shrink`,
    value: standstillSeconds,
    unit: "s",
  });
  report.addSeries({
    bench: NAME,
    what: "events not committed",
    unit: "events",
    points: lag.points,
  });
  say(`${NAME}: ${Math.round(perSecond)} events/s`);
  if (peakBytes === undefined) return;
  const mib = memory.points.map(([at, bytes]) => [at, bytes / MIB] as const);
  report.addSeries({ bench: NAME, what: "memory of the service", unit: "MiB", points: mib });
  const peak = peakBytes / MIB;
  report.add({
    bench: NAME,
    what: `${what}: memory of the service, at its highest`,
    value: peak,
    unit: "MiB",
    also: memory.quarters(MIB),
    budget: atMost(peak, MEMORY_MIB_MAX, "MiB"),
  });
}
