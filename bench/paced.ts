import { setTimeout as delay } from "node:timers/promises";
import { waitFor } from "#harness";
import { getFoldClaim, type Database } from "#store";
import type { Bench } from "./bench.ts";
import { cpuBetween, quantile } from "./measure.ts";
import { atMost, type Row } from "./report.ts";
import { type BenchService, ingestBody, ingestBodies, openService } from "./service.ts";
import { lastMinutes, Traffic } from "./traffic.ts";

const NAME = "paced";
const EVENTS_PER_SECOND = 15_000;
const BODIES_PER_SECOND = 100;
const DURABLE_P99_MS_MAX = 150;
const VISIBLE_P95_MS_MAX = 3000;
const POLL_MS = 20;
const VISIBLE_MS_MAX = 60_000;

type Sent = { arrivedMs: number; durableMs: number };
/** What the answers claim, each time it changed: complete through one instant, seen at another (ms, same clock). */
type Claim = { throughMs: number; seenMs: number };

/**
 * A steady stream at the rate of the expected bursts, rollup in the same process: how long until an event is safe, and
 * until it is seen.
 */
export async function measurePaced(bench: Bench): Promise<void> {
  const { server, size, clock, report, say } = bench;
  await using db = await server.createDatabase();
  await using service = await openService(server, db, { rollup: "same process" });
  await ingestBodies(
    service.ingestor,
    new Traffic(400).bodies(size.warmUpEvents, lastMinutes(clock.now())),
  );
  await service.foldAll();

  const watching = new AbortController();
  const claims: Claim[] = [];
  const watched = watchClaims(db.database, { clock, claims, signal: watching.signal });
  watched.catch(() => undefined);
  const before = await service.readCpu();
  const startedMs = performance.now();
  const { sent, makingMs } = await send(service, bench);
  const wallMs = performance.now() - startedMs;
  const cpu = cpuBetween(before, await service.readCpu());
  await waitUntilVisible(claims, sent);
  watching.abort();
  await watched;

  const durableMs = sent.map(({ arrivedMs, durableMs }) => durableMs - arrivedMs);
  const visibleMs = listVisibleMs(sent, claims);
  const cores = ((cpu.nodeUs + (cpu.postgresUs ?? 0)) / 1000 - makingMs) / wallMs;
  const add = (what: string, row: Pick<Row, "value" | "unit" | "also" | "budget">): void =>
    report.add({
      bench: NAME,
      what: `${what}, ${EVENTS_PER_SECOND / 1000} k events/s for ${size.pacedSeconds} s`,
      ...row,
    });
  const p99 = quantile(durableMs, 0.99);
  add("arrival to durable, p99", {
    value: p99,
    unit: "ms",
    also: {
      p50: quantile(durableMs, 0.5),
      p95: quantile(durableMs, 0.95),
      worst: quantile(durableMs, 1),
    },
    budget: atMost(p99, DURABLE_P99_MS_MAX, "ms"),
  });
  const p95 = quantile(visibleMs, 0.95);
  add("answered to visible, p95", {
    value: p95,
    unit: "ms",
    also: { p50: quantile(visibleMs, 0.5), worst: quantile(visibleMs, 1) },
    budget: atMost(p95, VISIBLE_P95_MS_MAX, "ms"),
  });
  add("CPU of ingestion, rollup and PostgreSQL", { value: cores, unit: "cores" });
  say(
    `${NAME}: durable p99 ${Math.round(p99)} ms, visible p95 ${Math.round(p95)} ms, ${cores.toFixed(2)} cores`,
  );
}

/** Sends bodies when they are due, late ones at once; an arrival is when it was due. `makingMs`: spent on making events. */
async function send(
  { ingestor }: BenchService,
  { size, clock }: Bench,
): Promise<{ sent: Sent[]; makingMs: number }> {
  const traffic = new Traffic(401);
  const events = EVENTS_PER_SECOND / BODIES_PER_SECOND;
  const startMs = clock.now();
  const answers: Promise<Sent>[] = [];
  let makingMs = 0;
  for (let n = 0; n < size.pacedSeconds * BODIES_PER_SECOND; n++) {
    const arrivedMs = startMs + (n * 1000) / BODIES_PER_SECOND;
    const waitMs = arrivedMs - clock.now();
    if (waitMs > 0) await delay(waitMs);
    const madeFromMs = performance.now();
    const body = traffic.body(events, { fromMs: arrivedMs - 1000, toMs: arrivedMs });
    makingMs += performance.now() - madeFromMs;
    const answer = ingestBody(ingestor, body).then(() => ({ arrivedMs, durableMs: clock.now() }));
    // Heard below; until then a failure is not to end the process, which has a server to stop.
    answer.catch(() => undefined);
    answers.push(answer);
  }
  return { sent: await Promise.all(answers), makingMs };
}

/** Looks at what answers claim to be complete through, over and over. */
async function watchClaims(
  database: Database,
  { clock, claims, signal }: { clock: Bench["clock"]; claims: Claim[]; signal: AbortSignal },
): Promise<void> {
  while (!signal.aborted) {
    const { completeThroughUs } = await getFoldClaim(database.sql, "usage");
    const throughMs = (completeThroughUs ?? 0) / 1000;
    if (throughMs > (claims.at(-1)?.throughMs ?? 0))
      claims.push({ throughMs, seenMs: clock.now() });
    await delay(POLL_MS);
  }
}

async function waitUntilVisible(claims: readonly Claim[], sent: readonly Sent[]): Promise<void> {
  const lastMs = Math.max(...sent.map(({ durableMs }) => durableMs));
  const isVisible = (): boolean => (claims.at(-1)?.throughMs ?? 0) >= lastMs;
  await waitFor(isVisible, { msMax: VISIBLE_MS_MAX, what: "the last events to become visible" });
}

/** For each body the time from its answer until a claim covered that. */
function listVisibleMs(sent: readonly Sent[], claims: readonly Claim[]): number[] {
  let at = 0;
  return sent
    .toSorted((a, b) => a.durableMs - b.durableMs)
    .flatMap(({ durableMs }) => {
      while (at < claims.length && (claims[at]?.throughMs ?? 0) < durableMs) at++;
      const claim = claims[at];
      return claim ? [Math.max(0, claim.seenMs - durableMs)] : [];
    });
}
