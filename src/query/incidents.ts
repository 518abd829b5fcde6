import { ALL_ORGS, Failure, QUARTER_HOUR_MS } from "#contract";
import type { Clock } from "#kernel";
import { type Database, listConsumerProgress, listPurgedDays } from "#store";
import type { Freshness, Pricing, Reconciliation, WindowAnswer } from "./answers.ts";
import { describeIncident, type Incident } from "./incident-answer.ts";
import { findSpikes, type SeriesMap, type Spike } from "./incident-detector.ts";
import { BASELINE_MS, readSeries } from "./incident-reading.ts";
import { INCIDENT_KINDS, type IncidentKind } from "./incident-series.ts";
import { planOf } from "./plan.ts";
import type { Filters, WindowQuestion } from "./questions.ts";
import { EVERY_ORG, moneyFrameOf, type Reading, withReading } from "./reading.ts";

const DAY_MS = 86_400_000;
/** Looked at beyond both ends of a window, so that what begins or ends outside it is found whole. */
const MARGIN_MS = 2 * DAY_MS;
const INCIDENTS_MAX = 50;

type IncidentsAnswer = {
  orgId: string | null;
  window: WindowAnswer;
  /** The newest first. */
  incidents: Incident[];
  /** Older ones of the window that are left out. */
  omitted: number;
  pricing: Pricing;
  freshness: Freshness;
  reconciliation: Reconciliation;
};

/**
 * Which incidents: those that overlap the window, of one kind or (left out) of both. They are found model by model: a
 * filter that is not kept per model is refused.
 */
type IncidentsQuestion = Omit<WindowQuestion, "granularity"> &
  Pick<Filters, "clientIds" | "actorIds" | "tags"> & {
    kind?: IncidentKind | undefined;
  };

/**
 * An org's incidents over a window, found in quarters of an hour of which everything is counted. Every window shows
 * the same of an incident that is over. Throws Failure as `getUsage` does; `unsupported_granularity` when quarters of
 * an hour of the window, or of two days around it, are no longer kept.
 */
export const listIncidents = (
  database: Database,
  clock: Clock,
  question: IncidentsQuestion & { orgId: string },
): Promise<IncidentsAnswer> => answerIncidents(database, clock, question);

/** As `listIncidents`, of all orgs' calls together. */
export const listSystemIncidents = (
  database: Database,
  clock: Clock,
  question: IncidentsQuestion,
): Promise<IncidentsAnswer> => answerIncidents(database, clock, { ...question, orgId: EVERY_ORG });

async function answerIncidents(
  database: Database,
  clock: Clock,
  question: IncidentsQuestion & { orgId: string | typeof EVERY_ORG },
): Promise<IncidentsAnswer> {
  const scope = question.orgId === EVERY_ORG ? "system" : "org";
  const plan = planOf({ ...question, groupBy: "model" }, scope, "path");
  const ask = { ...question, granularity: "15m", plan } as const;
  return await withReading({ database, clock }, ask, async (read) => {
    const reading = await withBothConsumers(read);
    const found = await findIncidents(reading, question.kind);
    const shown = found.spikes.slice(0, INCIDENTS_MAX);
    const incidents: Incident[] = [];
    for (const spike of shown)
      incidents.push(await describeIncident(reading, { series: found.series, spike }));
    const frame = await moneyFrameOf(reading);
    return {
      orgId: question.orgId,
      window: frame.window,
      incidents,
      omitted: found.spikes.length - shown.length,
      pricing: frame.pricing,
      freshness: frame.freshness,
      reconciliation: frame.reconciliation,
    };
  });
}

/** Incidents rest on models and on clients: complete is what both consumers have counted. */
async function withBothConsumers(reading: Reading): Promise<Reading> {
  const progress = (await listConsumerProgress(reading.tx.sql)).toSorted(
    (a, b) => (a.completeThrough?.getTime() ?? 0) - (b.completeThrough?.getTime() ?? 0),
  )[0];
  const completeThroughMs = progress?.completeThrough?.getTime() ?? null;
  return { ...reading, progress, completeThroughMs };
}

async function findIncidents(
  reading: Reading,
  kind: IncidentKind | undefined,
): Promise<{ series: SeriesMap; spikes: Spike[] }> {
  const { window, completeThroughMs } = reading;
  const completeMs = Math.floor((completeThroughMs ?? 0) / QUARTER_HOUR_MS) * QUARTER_HOUR_MS;
  const startMs = window.startMs - MARGIN_MS;
  const endMs = Math.min(window.endMs + MARGIN_MS, completeMs);
  if (endMs <= window.startMs) return { series: new Map(), spikes: [] };
  await requireQuarters(reading, { startMs, endMs });
  const series = await readSeries(reading, { startMs, endMs });
  const range = { from: startMs / QUARTER_HOUR_MS, until: endMs / QUARTER_HOUR_MS };
  const spikes = INCIDENT_KINDS.filter((one) => kind === undefined || one === kind)
    .flatMap((one) => findSpikes(series, one, range))
    .filter(
      ({ from, until }) =>
        from * QUARTER_HOUR_MS < window.endMs && until * QUARTER_HOUR_MS > window.startMs,
    )
    .toSorted((a, b) => b.from - a.from || (a.kind < b.kind ? -1 : 1));
  return { series, spikes };
}

/** Refuses what cannot be looked into in full: a part of it would show other incidents than there were. */
async function requireQuarters(
  { tx, org }: Reading,
  { startMs, endMs }: { startMs: number; endMs: number },
): Promise<void> {
  const quarterDays: string[] = [];
  for (let dayMs = startMs - (startMs % DAY_MS); dayMs < endMs; dayMs += DAY_MS)
    quarterDays.push(new Date(dayMs).toISOString().slice(0, 10));
  const [purged] = await listPurgedDays(tx.sql, {
    orgId: org.id === ALL_ORGS ? null : org.id,
    start: new Date(startMs - BASELINE_MS),
    end: new Date(endMs),
    quarterDays,
  });
  if (purged === undefined) return;
  const backMs = MARGIN_MS + (purged.what === "all" ? BASELINE_MS : 0);
  const from = new Date(Date.parse(purged.day) + DAY_MS + backMs).toISOString().slice(0, 10);
  const message =
    `incidents are found in figures by the quarter of an hour, from two days before the window on, and those of the ` +
    `hours of four weeks before; of ${purged.day} they are no longer kept: ask for a window that begins at ` +
    `${from}T00:00:00Z or later`;
  throw new Failure("unsupported_granularity", message, {
    details: [{ pointer: "/query/start", code: "unsupported_granularity", message }],
  });
}
