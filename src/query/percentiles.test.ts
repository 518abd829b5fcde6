import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { FIRST_ERROR_OUTCOME, type Granularity, OUTCOMES } from "#contract";
import { createSample, fixedClock, type TestDatabase, testDatabase, writeSample } from "#harness";
import type { Latency, ReliabilityGroup } from "./answers.ts";
import { getReliability } from "./index.ts";
import { type Grouping, GROUPINGS } from "./questions.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Fourteen months, so that windows of thirteen lie at any quarter of an hour. */
const FROM = Date.parse("2025-09-20T00:00:00Z");
const TO = Date.parse("2026-11-20T00:00:00Z");
/** A day of much traffic, so that windows of an hour hold enough calls to have a 99th percentile. */
const BUSY_DAY = Date.parse("2026-03-29T00:00:00Z");
const clock = fixedClock(new Date(TO).toISOString());
const PERCENTILES = [50, 90, 95, 99, 99.9];
const SHARES = [0.5, 0.9, 0.95, 0.99, 0.999];

let db: TestDatabase;
before(async () => {
  db = await testDatabase();
  const span = (from: number, to: number) => ({ from: new Date(from), to: new Date(to) });
  const sample = [
    ...createSample({ seed: 11, events: 4000, ...span(FROM, TO) }),
    ...createSample({ seed: 12, events: 3000, ...span(BUSY_DAY, BUSY_DAY + DAY_MS) }),
  ];
  await writeSample(db.database, sample, new Date(TO));
});
after(async () => await db[Symbol.asyncDispose]());

type Spread = { hours: number; granularity: Granularity; near: "busy" | "any" };
const SPREADS: readonly Spread[] = [
  { hours: 1, granularity: "15m", near: "busy" },
  { hours: 1, granularity: "hour", near: "any" },
  { hours: 24, granularity: "hour", near: "busy" },
  { hours: 7 * 24, granularity: "hour", near: "any" },
  { hours: 31 * 24, granularity: "day", near: "any" },
  { hours: 92 * 24, granularity: "week", near: "any" },
  { hours: 395 * 24, granularity: "month", near: "any" },
];

/** A window of the spread that begins at any quarter of an hour at which it fits. */
const windowOf = ({ hours, granularity, near }: Spread) => {
  const [from, to] = near === "busy" ? [BUSY_DAY, BUSY_DAY + DAY_MS] : [FROM, TO];
  const quarters = (to - from - hours * HOUR_MS) / 900_000;
  return fc.integer({ min: 0, max: quarters }).map((quarter) => {
    const start = from + quarter * 900_000;
    return {
      granularity,
      start: new Date(start).toISOString(),
      end: new Date(start + hours * HOUR_MS).toISOString(),
    };
  });
};

type Exact = { key: string | null; count: number; percentiles: number[] | null };

/** The same percentiles from the single calls, by SQL: of all, or of each group. */
const readExact = async (
  span: { start: string; end: string },
  by: Grouping | undefined,
): Promise<Exact[]> =>
  await db.database.sql<Exact>`
  select case ${by ?? ""} when 'model' then model when 'client' then client when 'actor' then actor
                          when 'tag:team' then nullif(team, '(none)')
                          when 'status' then outcome::text
                          when 'errorClass' then greatest(outcome, 1)::text else '' end as key,
         count("latencyMs")::int4 as count,
         percentile_disc(${SHARES}::float8[]) within group (order by "latencyMs") as percentiles
    from sample_event
   where org = 'acme' and at >= ${span.start} and at < ${span.end}
   group by 1`;

/** A group's key as `readExact` words it. */
function keyOf(group: ReliabilityGroup): string | null {
  const { status, errorClass, tag } = group;
  if (tag !== undefined) return tag;
  if (errorClass === undefined) return group.modelId ?? group.clientId ?? group.actorId ?? "";
  if (status === undefined && errorClass === null) return String(FIRST_ERROR_OUTCOME - 1);
  return String(
    OUTCOMES.findIndex((name, outcome) =>
      outcome < FIRST_ERROR_OUTCOME ? name === status : name === errorClass,
    ),
  );
}

function assertClose(latency: Latency | null, exact: Exact | undefined): void {
  assert.equal(latency?.count, exact?.count ?? 0);
  for (const [i, percent] of PERCENTILES.entries()) {
    const answered: number | null | undefined = latency?.percentilesMs[`p${percent}`];
    const value = exact?.percentiles?.[i] ?? null;
    if (value === null) assert.equal(answered, null);
    else
      assert.ok(
        Math.abs((answered ?? Number.NaN) - value) * 100 <= value,
        `p${percent}: ${answered}, exactly ${value}`,
      );
  }
}

for (const spread of SPREADS) {
  for (const groupBy of [undefined, ...GROUPINGS, "tag:team"] as const) {
    test(`percentiles are within 1 % of exact SQL: ${spread.hours} h by ${spread.granularity} (${spread.near}), grouped by ${groupBy ?? "nothing"}`, async () => {
      const zones = fc.constantFrom("UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin");
      await fc.assert(
        fc.asyncProperty(windowOf(spread), zones, async (window, timeZone) => {
          const answer = await getReliability(db.database, clock, {
            orgId: "acme",
            ...window,
            timeZone,
            ...(groupBy === undefined ? {} : { groupBy }),
            percentiles: PERCENTILES,
          });
          assertClose(answer.totals.latency, (await readExact(window, undefined))[0]);
          for (const bucket of answer.series.slice(0, 3))
            assertClose(bucket.latency, (await readExact(bucket, undefined))[0]);
          if (groupBy === undefined) return;
          const exact = await readExact(window, groupBy);
          assert.deepEqual(
            answer.groups?.map(keyOf).toSorted(),
            exact.map(({ key }) => key).toSorted(),
          );
          for (const group of answer.groups ?? [])
            assertClose(
              group.latency,
              exact.find(({ key }) => key === keyOf(group)),
            );
        }),
        { numRuns: 4 },
      );
    });
  }
}
