import { setTimeout as delay } from "node:timers/promises";
import { MIB } from "./broker-backlog.ts";
import {
  type BrokerBench,
  brokerCpuBetween,
  type ConsumingService,
  declarePlace,
  type Place,
  startConsumingService,
  startPublisher,
} from "./broker-rig.ts";
import type { Figures } from "./child.ts";
import { quantile } from "./measure.ts";
import { atMost, type Row } from "./report.ts";
import { SeriesSampler } from "./sampling.ts";

const NAME = "broker paced";
const EVENTS_PER_SECOND = 15_000;
const POLL_MS = 20;
const SAY_MS = 60_000;
const MEMORY_MIB_MAX = 350;

/** So many events were seen as committed at this moment (ms, the publisher's clock), warm-up not counted. */
type Seen = { atMs: number; committed: number };

type Watched = { seen: Seen[]; memory: SeriesSampler };

/** A message carries one event, or what a gateway that batches gathers in 10 ms at this rate. */
export type PacedForm = "messages" | "batches";
const EVENTS_PER_MESSAGE: Record<PacedForm, number> = { messages: 1, batches: 150 };

/**
 * Events through the stream at the rate of the expected bursts: how far behind the service is, in time and in
 * messages, and what it needs of memory. An event's time counts from when it was due to be published until a reader
 * of the database sees that it was committed.
 */
export async function measureBrokerPaced(bench: BrokerBench, form: PacedForm): Promise<void> {
  const { size, say } = bench;
  await using scope = new AsyncDisposableStack();
  const place: Place = { kind: "stream", name: `bench-paced-${form}` };
  scope.use(await declarePlace(bench, place));
  const publisher = scope.use(await startPublisher(bench, "messages", place));
  const service = scope.use(await startConsumingService(bench, place));
  await publisher.ask("fill", { events: size.warmUpEvents, seed: 900 });
  await service.waitUntilVisible(size.warmUpEvents);

  const watching = new AbortController();
  const watched = watch(bench, service, watching.signal);
  // Heard below; until then a failure is not to end the process, which has servers to stop.
  watched.catch(() => undefined);
  const before = service.readCpu();
  const pace = {
    perSecond: EVENTS_PER_SECOND,
    seconds: size.brokerPacedSeconds,
    seed: 901,
    eventsPerMessage: EVENTS_PER_MESSAGE[form],
  };
  const startedMs = performance.now();
  const sent = await publisher.ask("pace", pace);
  const wallMs = performance.now() - startedMs;
  const used = brokerCpuBetween(before, service.readCpu());
  await service.waitUntilVisible(size.warmUpEvents + EVENTS_PER_SECOND * size.brokerPacedSeconds);
  watching.abort();
  const { seen, memory } = await watched;

  const add = adder(bench, form);
  reportTimes(bench, add, listLagsMs(seen, sent), sent);
  reportMessages(bench, add, seen, sent);
  reportMemory(bench, add, memory, service.readMemory()?.peakBytes);
  const { service: serviceUs, ...others } = { ...used, publisher: sent["cpuUs"] ?? 0 };
  const cores = (us: number): number => us / 1000 / wallMs;
  if (serviceUs !== undefined)
    add("CPU of the service", {
      value: cores(serviceUs),
      unit: "cores",
      also: Object.fromEntries(Object.entries(others).map(([name, us]) => [name, cores(us)])),
    });
  say(`${NAME}: done`);
}

/** Looks at what is committed and at the memory of the service, over and over. */
async function watch(
  { size, clock, say }: BrokerBench,
  service: ConsumingService,
  signal: AbortSignal,
): Promise<Watched> {
  const seen: Seen[] = [];
  const memory = new SeriesSampler();
  for (let saidMs = clock.now(); !signal.aborted;) {
    const { received } = await service.readProgress();
    const [atMs, committed] = [clock.now(), received - size.warmUpEvents];
    seen.push({ atMs, committed });
    memory.sample(() => service.readMemory()?.residentBytes);
    if (atMs - saidMs > SAY_MS) {
      saidMs = atMs;
      say(`${NAME}: ${committed} events committed`);
    }
    await delay(POLL_MS);
  }
  return { seen, memory };
}

type Ticks = { startMs: number; tickMs: number; eventsPerTick: number };

const ticksOf = ({ startMs = 0, tickMs = 1, eventsPerTick = 0 }: Figures): Ticks => ({
  startMs,
  tickMs,
  eventsPerTick,
});

/** For each tick of the publisher the time until its events were seen as committed. */
function listLagsMs(seen: readonly Seen[], sent: Figures): number[] {
  const { startMs, tickMs, eventsPerTick } = ticksOf(sent);
  const lags: number[] = [];
  for (const { atMs, committed } of seen)
    while ((lags.length + 1) * eventsPerTick <= committed)
      lags.push(Math.max(0, atMs - startMs - lags.length * tickMs));
  return lags;
}

type Add = (what: string, row: Pick<Row, "value" | "unit" | "also" | "budget">) => void;

const adder =
  ({ report, size }: BrokerBench, form: PacedForm): Add =>
  (what, row) =>
    report.add({
      bench: NAME,
      what: `${what}, ${EVENTS_PER_SECOND / 1000} k events/s for ${size.brokerPacedSeconds} s, ${form === "messages" ? "an event" : `${EVENTS_PER_MESSAGE[form]} events`} a message`,
      ...row,
    });

function reportTimes(
  { report }: BrokerBench,
  add: Add,
  lagsMs: readonly number[],
  sent: Figures,
): void {
  const { tickMs } = ticksOf(sent);
  add("published to committed, p99", {
    value: quantile(lagsMs, 0.99),
    unit: "ms",
    also: {
      p50: quantile(lagsMs, 0.5),
      p95: quantile(lagsMs, 0.95),
      worst: quantile(lagsMs, 1),
    },
  });
  const { confirmedP50Ms = 0, confirmedP99Ms = 0, confirmedWorstMs = 0 } = sent;
  add("published to confirmed, p99", {
    value: confirmedP99Ms,
    unit: "ms",
    also: { p50: confirmedP50Ms, worst: confirmedWorstMs },
  });
  const points = lagsMs.map((lagMs, n) => [(n * tickMs) / 1000, lagMs] as const);
  report.addSeries({ bench: NAME, what: "published to committed", unit: "ms", points });
}

function reportMessages(
  { report, size }: BrokerBench,
  add: Add,
  seen: readonly Seen[],
  sent: Figures,
): void {
  const { startMs, tickMs, eventsPerTick } = ticksOf(sent);
  const points = seen.flatMap(({ atMs, committed }) => {
    const seconds = (atMs - startMs) / 1000;
    if (seconds < 0 || seconds > size.brokerPacedSeconds) return [];
    const due = (Math.floor((atMs - startMs) / tickMs) + 1) * eventsPerTick;
    return [[seconds, Math.max(0, due - committed)] as const];
  });
  const lags = points.map(([, lag]) => lag);
  const quarter = (from: number): readonly number[] =>
    lags.slice(Math.floor(lags.length * from), Math.floor(lags.length * (from + 0.25)));
  add("messages behind, p99", {
    value: quantile(lags, 0.99),
    unit: "messages",
    also: {
      p50: quantile(lags, 0.5),
      worst: quantile(lags, 1),
      "p50 of the second quarter": quantile(quarter(0.25), 0.5),
      "p50 of the last quarter": quantile(quarter(0.75), 0.5),
    },
  });
  report.addSeries({ bench: NAME, what: "messages behind", unit: "messages", points });
}

function reportMemory(
  { report }: BrokerBench,
  add: Add,
  memory: SeriesSampler,
  peakBytes: number | undefined,
): void {
  if (peakBytes === undefined) return;
  const points = memory.points.map(([at, bytes]) => [at, bytes / MIB] as const);
  report.addSeries({ bench: NAME, what: "memory of the service", unit: "MiB", points });
  const peak = peakBytes / MIB;
  add("memory of the service, at its highest", {
    value: peak,
    unit: "MiB",
    also: memory.quarters(MIB),
    budget: atMost(peak, MEMORY_MIB_MAX, "MiB"),
  });
}
