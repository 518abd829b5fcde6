import type { Bench } from "./bench.ts";
import { median, timeSeconds } from "./measure.ts";
import { Random } from "./random.ts";
import { type Answered, ingestBodies, openService } from "./service.ts";
import { BODY_EVENTS, lastMinutes, type Span, Traffic } from "./traffic.ts";

const NAME = "duplicates";
/** Shares of the events received that were received before. */
const SHARES = [0, 0.005, 0.05, 1];
/** How far back a repeat reaches, events: into batches under way, and into those long committed. */
const REACH_EVENTS = 100_000;

/** Ingestion alone (no rollup) with events sent again within the run. */
export async function measureDuplicates(bench: Bench): Promise<void> {
  const { report, say, calibration } = bench;
  let perSecondWithout = 0;
  for (const share of SHARES) {
    const perSecond: number[] = [];
    for (let run = 0; run < bench.size.duplicatesRuns; run++)
      perSecond.push(await runOnce(bench, share, 200 + run));
    const speed = median(perSecond);
    say(`${NAME}, ${share * 100} %: ${Math.round(speed)} events/s`);
    if (share === 0) perSecondWithout = speed;
    const ratio =
      share === 0
        ? { value: speed / calibration, to: "calibration" }
        : { value: speed / perSecondWithout, to: "no duplicates" };
    report.add({
      bench: NAME,
      what: `${share * 100} % sent again, ingestion alone`,
      value: speed,
      unit: "events/s",
      ratio,
    });
  }
}

async function runOnce(
  { server, size, clock }: Bench,
  share: number,
  seed: number,
): Promise<number> {
  const traffic = new Traffic(seed);
  const span = lastMinutes(clock.now());
  await using db = await server.createDatabase();
  await using service = await openService(server, db, { rollup: "none" });
  await ingestBodies(service.ingestor, traffic.bodies(size.warmUpEvents, span));
  const bodies =
    share === 1
      ? traffic.bodies(size.duplicatesEvents, span)
      : mixBodies(traffic, { share, span, events: size.duplicatesEvents, seed });
  if (share === 1) await ingestBodies(service.ingestor, bodies);
  let answered: Answered | undefined;
  const seconds = await timeSeconds(async () => {
    answered = await ingestBodies(service.ingestor, bodies);
  });
  const events = bodies.length * BODY_EVENTS;
  const repeats = answered?.duplicate ?? 0;
  if (
    answered?.accepted !== events - repeats ||
    Math.abs(repeats / events - share) > share / 4 + 0.001
  ) {
    throw new Error(`expected ${share} of ${events} to be duplicates: ${JSON.stringify(answered)}`);
  }
  return events / seconds;
}

type Mix = { share: number; span: Span; events: number; seed: number };

/** New events, and among them this share of earlier ones, word for word. */
function mixBodies(traffic: Traffic, { share, span, events, seed }: Mix): Buffer[] {
  const random = new Random(seed);
  const sent: string[] = [];
  const bodies: Buffer[] = [];
  for (let at = 0; at < events; at += BODY_EVENTS) {
    const lines: string[] = [];
    for (let i = 0; i < BODY_EVENTS; i++) {
      const back = 1 + random.below(Math.min(REACH_EVENTS, sent.length));
      const earlier = random.chance(share) ? sent[sent.length - back] : undefined;
      const line =
        earlier ??
        traffic.line(span.fromMs + Math.floor(((span.toMs - span.fromMs) * (at + i)) / events));
      if (earlier === undefined) sent.push(line);
      lines.push(line);
    }
    bodies.push(Buffer.from(lines.join("\n"), "latin1"));
  }
  return bodies;
}
