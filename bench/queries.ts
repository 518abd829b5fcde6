import {
  getReliability,
  getTopOrgs,
  getUsage,
  listIncidents,
  type ReliabilityQuestion,
  type UsageQuestion,
} from "#query";
import type { Bench } from "./bench.ts";
import { fillStore, DENSE_ORG, USUAL_ORG } from "./filled-store.ts";
import { quantile, timeSeconds } from "./measure.ts";
import { atMost } from "./report.ts";
import { MODELS } from "./traffic.ts";

const NAME = "queries";
const WEEK_MS_MAX = 50;
const TREND_MS_MAX = 200;
const TOP_ORGS_MS_MAX = 50;
const DAY_MS = 86_400_000;

/** Something asked, and the most its p95 may be, ms. */
type Question = { what: string; msMax: number | undefined; ask: () => Promise<unknown> };

/** Answers over a filled store, as the API gets them: statements, merging and formatting, without HTTP. Warm. */
export async function measureQueries(bench: Bench): Promise<void> {
  const { server, size, report, say } = bench;
  await using db = await server.createDatabase();
  let rows = 0;
  const fillSeconds = await timeSeconds(async () => {
    ({ rows } = await fillStore(db.database, size.queryFineOrgs));
  });
  say(`${NAME}: ${rows} rollup rows filled in ${Math.round(fillSeconds)} s`);
  report.add({ bench: NAME, what: "rollup rows in the store", value: rows, unit: "rows" });
  const questions = [
    ...listOrgQuestions({ ...bench, database: db.database, orgId: DENSE_ORG, who: "dense org" }),
    ...listOrgQuestions({ ...bench, database: db.database, orgId: USUAL_ORG, who: "usual org" }),
    {
      what: "top orgs over 30 days",
      msMax: TOP_ORGS_MS_MAX,
      ask: () => getTopOrgs(db.database, bench.clock, lastDays(bench, 30)),
    },
  ];
  for (const { what, msMax, ask } of questions) {
    const ms: number[] = [];
    for (let run = -2; run < size.queryRepeats; run++) {
      const seconds = await timeSeconds(ask);
      if (run >= 0) ms.push(seconds * 1000);
    }
    const [p50, p95] = [quantile(ms, 0.5), quantile(ms, 0.95)];
    const budget = msMax === undefined ? undefined : atMost(p95, msMax, "ms");
    report.add({
      bench: NAME,
      what: `${what}, p95`,
      value: p95,
      unit: "ms",
      also: { p50 },
      budget,
    });
    say(`${NAME}: ${what}: p50 ${p50.toFixed(1)} ms, p95 ${p95.toFixed(1)} ms`);
  }
}

type Asker = Pick<Bench, "clock"> & {
  database: Parameters<typeof getUsage>[0];
  orgId: string;
  who: string;
};

/** The questions of the page about one org. */
function listOrgQuestions({ database, clock, orgId, who }: Asker): Question[] {
  const usage = (what: string, msMax: number, question: UsageQuestion): Question => ({
    what: `${who}: ${what}`,
    msMax,
    ask: () => getUsage(database, clock, { orgId, ...question }),
  });
  const reliability = (what: string, msMax: number, question: ReliabilityQuestion): Question => ({
    what: `${who}: ${what}`,
    msMax,
    ask: () => getReliability(database, clock, { orgId, ...question }),
  });
  const byModel = { groupBy: "model", limit: MODELS } as const;
  const week = lastDays({ clock }, 7);
  const kathmandu = { ...week, timeZone: "Asia/Kathmandu" };
  const year = lastMonths(clock.now(), 13);
  return [
    usage("7 days by hour and model", WEEK_MS_MAX, { ...week, ...byModel, granularity: "hour" }),
    reliability("7 days by hour and model, percentiles", WEEK_MS_MAX, {
      ...week,
      ...byModel,
      granularity: "hour",
    }),
    usage("7 days by day and model, Asia/Kathmandu", WEEK_MS_MAX, {
      ...kathmandu,
      ...byModel,
      granularity: "day",
    }),
    reliability("7 days by day and model, percentiles, Asia/Kathmandu", WEEK_MS_MAX, {
      ...kathmandu,
      ...byModel,
      granularity: "day",
    }),
    reliability("7 days by hour and model, percentiles, Asia/Kathmandu", WEEK_MS_MAX, {
      ...kathmandu,
      ...byModel,
      granularity: "hour",
    }),
    usage("13 months by local day, America/New_York", TREND_MS_MAX, {
      ...year,
      timeZone: "America/New_York",
      granularity: "day",
    }),
    reliability("13 months by local day, percentiles, America/New_York", TREND_MS_MAX, {
      ...year,
      timeZone: "America/New_York",
      granularity: "day",
    }),
    usage("13 months by month and model", TREND_MS_MAX, {
      ...year,
      ...byModel,
      granularity: "month",
    }),
    reliability("13 months by month and model, percentiles", TREND_MS_MAX, {
      ...year,
      ...byModel,
      granularity: "month",
    }),
    reliability("24 hours by quarter, percentiles", WEEK_MS_MAX, {
      ...lastDays({ clock }, 1),
      granularity: "15m",
    }),
    {
      what: `${who}: incidents of 7 days`,
      msMax: WEEK_MS_MAX,
      ask: () => listIncidents(database, clock, { orgId, ...week }),
    },
  ];
}

/** Whole UTC days, which the store has, up to the last midnight. */
function lastDays({ clock }: Pick<Bench, "clock">, days: number): { start: string; end: string } {
  const endMs = Math.floor(clock.now() / DAY_MS) * DAY_MS;
  return {
    start: new Date(endMs - days * DAY_MS).toISOString(),
    end: new Date(endMs).toISOString(),
  };
}

/** From the first of the month so many months ago (dates: midnight in the zone asked for). */
function lastMonths(nowMs: number, months: number): { start: string; end: string } {
  const now = new Date(nowMs);
  const start = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - months + 1, 1));
  return { start: start.toISOString().slice(0, 10), end: now.toISOString().slice(0, 10) };
}
