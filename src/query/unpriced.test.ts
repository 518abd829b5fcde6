import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { COST_BASES, type CostBasis } from "#contract";
import {
  createSample,
  fixedClock,
  type SampleEvent,
  type TestDatabase,
  testDatabase,
  writeSample,
} from "#harness";
import { getSystemUnpriced, getUnpriced, getUsage } from "./index.ts";

const FROM = new Date("2026-10-01T00:00:00Z");
const TO = new Date("2026-11-20T00:00:00Z");
const DAYS = 50;
const clock = fixedClock(TO.toISOString());

let db: TestDatabase;
before(async () => {
  db = await testDatabase();
  await writeSample(db.database, createSample({ seed: 3, events: 600, from: FROM, to: TO }), TO);
});
after(async () => await db[Symbol.asyncDispose]());

const CLASSES = [
  "inputTokens",
  "cacheReadTokens",
  "cacheWrite5mTokens",
  "cacheWrite1hTokens",
  "outputTokens",
  "reasoningTokens",
] as const;

const windows = fc
  .record({
    timeZone: fc.constantFrom("UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin"),
    from: fc.integer({ min: 0, max: DAYS * 96 - 1 }),
    length: fc.integer({ min: 1, max: DAYS * 96 }),
  })
  .map(({ timeZone, from, length }) => {
    const at = (quarters: number) => new Date(FROM.getTime() + quarters * 900_000).toISOString();
    return { timeZone, start: at(from), end: at(from + length) };
  });
const bases = fc.constantFrom(...COST_BASES);
const setBasis = (basis: CostBasis) =>
  db.database.sql`update org set cost_basis = ${basis} where external_id = 'acme'`;

type PlainRow = {
  model: string;
  allRequests: number;
  requests: number;
  tokens: number[];
  since: string | null;
};

/** The same by plain SQL over the events; `org` null: of all. */
const countPlainly = (
  org: string | null,
  { start, end, basis }: { start: string; end: string; basis: CostBasis },
): Promise<PlainRow[]> => db.database.sql<PlainRow>`
  with chosen as (
    select *, at >= ${start} and at < ${end} as within
      from sample_shown
     where basis = ${basis} and (${org}::text is null or org = ${org})
  )
  select model, sum(requests) filter (where within)::int8 as "allRequests",
         coalesce(sum(requests) filter (where within and nano is null), 0)::int8 as requests,
         (select array_agg((select coalesce(sum(c.tokens[i]), 0)::int4 from chosen c
                             where c.within and c.nano is null and c.model = chosen.model) order by i)
            from generate_series(1, 6) i) as tokens,
         to_char(min(date_trunc('day', at, 'UTC')) filter (where nano is null and at < ${end}) at time zone 'UTC',
                 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as since
    from chosen
   group by model
  having bool_or(within)`;

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
const ratio = (part: number, whole: number) =>
  whole === 0 ? null : Math.round((part / whole) * 1_000_000) / 1_000_000;

test("what has no cost is what plain SQL finds, by model and class, and is what the priced share leaves", async () => {
  await fc.assert(
    fc.asyncProperty(windows, bases, async (window, basis) => {
      await setBasis(basis);
      const answer = await getUnpriced(db.database, clock, { orgId: "acme", ...window });
      const plain = await countPlainly("acme", { ...window, basis });
      const allRequests = sum(plain.map((row) => row.allRequests));
      assert.equal(answer.allRequests, allRequests);
      const unpriced = plain.filter(({ requests }) => requests > 0);
      assert.deepEqual(
        answer.models.map(({ modelId }) => modelId).toSorted(),
        unpriced.map(({ model }) => model).toSorted(),
      );
      for (const row of answer.models) {
        const expected = unpriced.find(({ model }) => model === row.modelId);
        assert.ok(expected);
        assert.deepEqual(
          [row.requests, row.totalTokens, row.since, row.share],
          [
            expected.requests,
            sum(expected.tokens),
            expected.since,
            ratio(expected.requests, allRequests),
          ],
        );
        const classes = CLASSES.map((name) => row[name]);
        if (classes.some((count) => count !== null)) assert.deepEqual(classes, expected.tokens);
        else assert.notEqual(basis, "computed", "rows of the price book are never mixed");
      }
      const { totals } = await getUsage(db.database, clock, { orgId: "acme", ...window });
      const { pricedShare } = totals;
      const left = (of: number, all: number) => ratio(all - of, all);
      assert.equal(left(answer.totals.requests, totals.requests), pricedShare.requests);
      assert.equal(left(answer.totals.totalTokens, totals.totalTokens), pricedShare.tokens);
      assert.deepEqual(answer.pricing, { costBasis: basis, bookVersion: 0 });
    }),
    { numRuns: 60 },
  );
});

test("all orgs together are the orgs added up on the default basis, and a row of the others keeps the columns whole", async () => {
  await fc.assert(
    fc.asyncProperty(windows, bases, fc.integer({ min: 1, max: 4 }), async (...made) => {
      const [window, ofAcme, limit] = made;
      await setBasis(ofAcme);
      const answer = await getSystemUnpriced(db.database, clock, { ...window, limit });
      const plain = await countPlainly(null, { ...window, basis: "event_or_computed" });
      assert.equal(answer.pricing.costBasis, "event_or_computed");
      assert.equal(answer.totals.requests, sum(plain.map(({ requests }) => requests)));
      assert.ok(answer.models.filter(({ isOther }) => !isOther).length <= limit);
      for (const column of ["requests", "totalTokens"] as const)
        assert.equal(sum(answer.models.map((row) => row[column])), answer.totals[column]);
      const requests = answer.models.filter(({ isOther }) => !isOther).map((row) => row.requests);
      assert.deepEqual(
        requests,
        requests.toSorted((a, b) => b - a),
      );
    }),
    { numRuns: 25 },
  );
});

const event = (at: string, over: Partial<SampleEvent> = {}): SampleEvent => ({
  org: "acme",
  model: "house",
  client: "web",
  actor: "",
  at: new Date(at),
  outcome: 0,
  currency: "USD",
  requests: 1,
  tokens: [100, 10, 1, 0, 50, 5],
  costNano: null,
  latencyMs: null,
  errorCode: "",
  ...over,
});

test("since when is told from before the window, classes where only the total is known are null, and nothing is nothing", async () => {
  await using own = await testDatabase();
  const sample = [
    event("2026-09-03T10:00:00Z"),
    event("2026-11-12T10:00:00Z", { requests: 2 }),
    event("2026-11-12T10:00:00Z", { model: "half" }),
    event("2026-11-12T10:01:00Z", { model: "half", costNano: 5, tokens: [7, 0, 0, 0, 0, 0] }),
    event("2026-11-12T10:01:00Z", { model: "full", rated: { nano: 5, currency: "USD" } }),
  ];
  await writeSample(own.database, sample, TO);
  const ask = { orgId: "acme", start: "2026-11-10", end: "2026-11-15", timeZone: "UTC" };
  const { models, totals, allRequests } = await getUnpriced(own.database, clock, ask);
  assert.equal(allRequests, 5);
  assert.deepEqual([totals.requests, totals.share, totals.inputTokens], [3, 0.6, null]);
  const shown = models.map((row) => [row.modelId, row.since, row.totalTokens, row.outputTokens]);
  assert.deepEqual(shown, [
    ["house", "2026-09-03T00:00:00Z", 166, 50],
    ["half", "2026-11-12T00:00:00Z", 166, null],
  ]);
  const none = await getUnpriced(own.database, clock, { ...ask, start: "2026-11-14" });
  assert.deepEqual(
    [none.models, none.allRequests, none.totals.share, none.totals.inputTokens],
    [[], 0, null, 0],
  );
  const nobody = () => getUnpriced(own.database, clock, { ...ask, orgId: "nobody" });
  await assert.rejects(nobody, { name: "Failure", code: "not_found" });
});
