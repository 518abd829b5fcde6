import { parseUsageEvents } from "#contract";
import { applyPrices, priceList } from "#pricing";
import type { Database } from "#store";
import type { Bench } from "./bench.ts";
import { cpuBetween, type CpuReading, median, readOwnCpuUs } from "./measure.ts";
import { atLeast, atMost } from "./report.ts";
import { assertAllAccepted, ingestBodies, openService, type RollupPlace } from "./service.ts";
import { BODY_EVENTS, lastMinutes, modelName, Traffic, WORLD } from "./traffic.ts";

const NAME = "whole path";
const SHARE_OF_CALIBRATION_MIN = 0.18;
const RAW_BYTES_MAX = 190;
const KEY_BYTES_MAX = 115;
/** Where events are folded when every one of them is rated. */
const RATED_PLACE = "own process";
const PLACES = ["same process", "own process"] as const satisfies RollupPlace[];

type Bytes = { raw: number; keys: number; wal: number };
type Run = { perSecond: number; cpu: CpuReading; bytes: Bytes };

/**
 * Events in memory as NDJSON → parsed → committed → in every rollup, everything on. With the rollup in the process
 * that ingests and in one of its own: the better one is what a service can do.
 */
export async function measureWholePath(bench: Bench): Promise<void> {
  measureParsing(bench);
  const runs: Record<(typeof PLACES)[number], Run[]> = { "same process": [], "own process": [] };
  const rated: Run[] = [];
  for (let n = 0; n < bench.size.wholePathRuns; n++) {
    const say = (what: string, { perSecond }: Run): void =>
      bench.say(
        `${NAME}, ${what}, ${n + 1}/${bench.size.wholePathRuns}: ${Math.round(perSecond)} events/s`,
      );
    for (const place of PLACES) {
      const run = await runOnce(bench, { place, seed: 100 + n, isRated: false });
      runs[place].push(run);
      say(`rollup in ${place}`, run);
    }
    const run = await runOnce(bench, { place: RATED_PLACE, seed: 100 + n, isRated: true });
    rated.push(run);
    say("every event rated", run);
  }
  const speed = (place: (typeof PLACES)[number]): number =>
    median(runs[place].map((run) => run.perSecond));
  const [best, other] = PLACES.toSorted((a, b) => speed(b) - speed(a));
  if (best === undefined || other === undefined) throw new Error("two places were measured");
  reportSpeed(bench, `committed and rolled up, rollup in ${best}`, {
    perSecond: speed(best),
    isHeadline: true,
  });
  reportSpeed(bench, `the same, rollup in ${other}`, {
    perSecond: speed(other),
    isHeadline: false,
  });
  for (const place of PLACES) reportCpu(bench, place, runs[place]);
  reportBytes(bench, runs[best]);
  reportRated(bench, rated, runs[RATED_PLACE]);
}

/** Parsing alone, on one core. */
function measureParsing({ size, clock, report, say }: Bench): void {
  const bodies = new Traffic(2).bodies(
    Math.min(size.wholePathEvents, 200_000),
    lastMinutes(clock.now()),
  );
  const usPerEvent: number[] = [];
  for (let run = 0; run < 3; run++) {
    const from = readOwnCpuUs();
    for (const body of bodies) parseUsageEvents(body, "ndjson", { eventsMax: BODY_EVENTS });
    usPerEvent.push((readOwnCpuUs() - from) / (bodies.length * BODY_EVENTS));
  }
  const bytes = bodies.reduce((sum, body) => sum + body.length, 0) / (bodies.length * BODY_EVENTS);
  report.add({ bench: NAME, what: "size of an event", value: bytes, unit: "bytes" });
  report.add({ bench: NAME, what: "parse only, CPU", value: median(usPerEvent), unit: "µs/event" });
  say(`parsing: ${median(usPerEvent).toFixed(2)} µs/event`);
}

async function runOnce(
  { server, size, clock }: Bench,
  { place, seed, isRated }: { place: RollupPlace; seed: number; isRated: boolean },
): Promise<Run> {
  const traffic = new Traffic(seed);
  await using db = await server.createDatabase();
  if (isRated) await applyBook(db.database, clock.now());
  await using service = await openService(server, db, { rollup: place });
  await ingestBodies(service.ingestor, traffic.bodies(size.warmUpEvents, lastMinutes(clock.now())));
  await service.foldAll();

  const bodies = traffic.bodies(size.wholePathEvents, lastMinutes(clock.now()));
  const events = bodies.length * BODY_EVENTS;
  await db.database.sql`checkpoint`;
  const bytesBefore = await readBytes(db.database);
  const cpuBefore = await service.readCpu();
  const startedMs = performance.now();
  const answered = await ingestBodies(service.ingestor, bodies);
  await service.foldAll();
  const seconds = (performance.now() - startedMs) / 1000;
  const cpu = cpuBetween(cpuBefore, await service.readCpu());
  const bytesAfter = await readBytes(db.database);
  assertAllAccepted(answered, events);
  await assertAllFolded(db.database);
  const per = (us: number | null): number | null => us && us / events;
  return {
    perSecond: events / seconds,
    cpu: {
      nodeUs: cpu.nodeUs / events,
      rollupUs: per(cpu.rollupUs),
      postgresUs: per(cpu.postgresUs),
    },
    bytes: {
      raw: (bytesAfter.raw - bytesBefore.raw) / events,
      keys: (bytesAfter.keys - bytesBefore.keys) / events,
      wal: (bytesAfter.wal - bytesBefore.wal) / events,
    },
  };
}

/** A price for each model, and a thousand of models that nobody calls. */
async function applyBook(database: Database, nowMs: number): Promise<void> {
  const models = [
    ...Array.from({ length: WORLD.models }, (_, model) => modelName(model)),
    ...Array.from({ length: 1000 }, (_, other) => `other-${other}`),
  ];
  const perMillion = { input: "2.5", cacheRead: "1.25", output: "10" };
  const list = priceList.parse({ prices: models.map((model) => ({ model, perMillion })) });
  const did = { actor: "bench", actorName: "bench", requestId: "bench", at: new Date(nowMs) };
  await applyPrices(database, { layer: "own", list }, did);
}

async function readBytes(database: Database): Promise<Bytes> {
  const [row] = await database.sql<Bytes>`
    select (select coalesce(sum(pg_total_relation_size(inhrelid)), 0)::int8
              from pg_inherits where inhparent = 'usage_event'::regclass) as raw,
           (select coalesce(sum(pg_total_relation_size(('event_key_' || no)::regclass)), 0)::int8
              from event_key_partition) as keys,
           pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8 as wal`;
  if (!row) throw new Error("the server does not know its sizes");
  return row;
}

/** The clock stopped at the right moment: rollups of every dimension count what raw holds. */
async function assertAllFolded(database: Database): Promise<void> {
  const [row] = await database.sql<{ raw: number; models: number; actors: number }>`
    select (select count(*) from usage_event) as raw,
           (select sum(requests)::int8 from rollup_model_day where org_id > 0) as models,
           (select sum(requests)::int8 from rollup_actor_day) as actors`;
  if (!row || row.raw !== row.models || row.raw !== row.actors) {
    throw new Error(`raw and rollups differ: ${JSON.stringify(row)}`);
  }
}

function reportSpeed(
  { report, calibration }: Bench,
  what: string,
  { perSecond, isHeadline }: { perSecond: number; isHeadline: boolean },
): void {
  const ratio = perSecond / calibration;
  report.add({
    bench: NAME,
    what,
    value: perSecond,
    unit: "events/s",
    ratio: { value: ratio, to: "calibration" },
    budget: isHeadline ? atLeast(ratio, SHARE_OF_CALIBRATION_MIN) : undefined,
  });
}

function reportCpu({ report }: Bench, place: RollupPlace, runs: readonly Run[]): void {
  const add = (part: string, pick: (cpu: CpuReading) => number | null): void => {
    const values = runs.flatMap(({ cpu }) => pick(cpu) ?? []);
    if (values.length === 0) return;
    report.add({
      bench: NAME,
      what: `CPU of ${part}, rollup in ${place}`,
      value: median(values),
      unit: "µs/event",
    });
  };
  add(place === "same process" ? "ingestion and rollup" : "ingestion", (cpu) => cpu.nodeUs);
  add("the rollup", (cpu) => cpu.rollupUs);
  add("PostgreSQL", (cpu) => cpu.postgresUs);
}

/** What rating costs: the same events without a price book and with one. */
function reportRated(
  { report, calibration }: Bench,
  rated: readonly Run[],
  unrated: readonly Run[],
): void {
  const of = (runs: readonly Run[], pick: (run: Run) => number): number => median(runs.map(pick));
  const speed = of(rated, (run) => run.perSecond);
  const common = { bench: NAME, ratio: { value: speed / calibration, to: "calibration" as const } };
  report.add({
    ...common,
    what: `every event rated, rollup in ${RATED_PLACE}`,
    value: speed,
    unit: "events/s",
  });
  const added = (what: string, unit: string, pick: (run: Run) => number): void =>
    report.add({ bench: NAME, what, value: of(rated, pick) - of(unrated, pick), unit });
  added("rating adds, CPU of ingestion", "µs/event", ({ cpu }) => cpu.nodeUs);
  added("rating adds, CPU of the rollup", "µs/event", ({ cpu }) => cpu.rollupUs ?? 0);
  added("rating adds, CPU of PostgreSQL", "µs/event", ({ cpu }) => cpu.postgresUs ?? 0);
  added("rating adds, raw with indexes", "bytes/event", ({ bytes }) => bytes.raw);
}

function reportBytes({ report }: Bench, runs: readonly Run[]): void {
  const raw = median(runs.map(({ bytes }) => bytes.raw));
  const keys = median(runs.map(({ bytes }) => bytes.keys));
  const wal = median(runs.map(({ bytes }) => bytes.wal));
  const unit = "bytes/event";
  report.add({
    bench: NAME,
    what: "raw with indexes",
    value: raw,
    unit,
    budget: atMost(raw, RAW_BYTES_MAX),
  });
  report.add({
    bench: NAME,
    what: "key ledger",
    value: keys,
    unit,
    budget: atMost(keys, KEY_BYTES_MAX),
  });
  report.add({ bench: NAME, what: "write-ahead log, rollups included", value: wal, unit });
}
