import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { COST_BASES, type CostBasis, formatNano, type Granularity, parseNano } from "#contract";
import { createSample, fixedClock, type TestDatabase, testDatabase, writeSample } from "#harness";
import type { ErrorCodeCount, Measures } from "./answers.ts";
import { getBreakdown, getReliability, getSystemUsage, getTopOrgs, getUsage } from "./index.ts";
import type { Filters, Grouping, UsageQuestion } from "./questions.ts";

const FROM = new Date("2026-09-20T00:00:00Z");
const TO = new Date("2026-11-20T00:00:00Z");
const clock = fixedClock(TO.toISOString());
const ZONES = [
  "UTC",
  "Asia/Kathmandu",
  "Asia/Kolkata",
  "America/St_Johns",
  "Australia/Lord_Howe",
  "Europe/Berlin",
  "Pacific/Chatham",
];

const SAMPLE = createSample({ seed: 7, events: 900, from: FROM, to: TO });
let db: TestDatabase;
before(async () => {
  db = await testDatabase();
  await writeSample(db.database, SAMPLE, TO);
});
after(async () => await db[Symbol.asyncDispose]());

/** A window of whole quarters inside the sample, not longer than the granularity allows. */
const windows = fc
  .record({
    timeZone: fc.constantFrom(...ZONES),
    granularity: fc.constantFrom<Granularity>("15m", "hour", "day", "week", "month"),
    from: fc.integer({ min: 0, max: 60 * 96 - 1 }),
    length: fc.integer({ min: 1, max: 60 * 96 }),
  })
  .map(({ timeZone, granularity, from, length }) => {
    const at = (quarters: number) => new Date(FROM.getTime() + quarters * 900_000).toISOString();
    return {
      timeZone,
      granularity,
      start: at(from),
      end: at(from + (granularity === "15m" ? Math.min(length, 500) : length)),
    };
  });

const failedAt = fc
  .constantFrom(...SAMPLE.filter(({ org, outcome }) => org === "acme" && outcome >= 2))
  .map(({ at }) => Math.floor(at.getTime() / 900_000) * 900_000);
/** A window that begins and ends with a quarter of an hour in which calls failed. */
const windowsOfFailures = fc
  .record({ timeZone: fc.constantFrom(...ZONES), one: failedAt, other: failedAt })
  .map(({ timeZone, one, other }) => ({
    timeZone,
    granularity: "day" as const,
    start: new Date(Math.min(one, other)).toISOString(),
    end: new Date(Math.max(one, other) + 900_000).toISOString(),
  }));

const outcomes = {
  statuses: fc.option(fc.subarray(["success", "cancelled", "error"] as const), { nil: undefined }),
  errorClasses: fc.option(fc.subarray(["client", "upstream", "internal"] as const), {
    nil: undefined,
  }),
};
/** Filters and a grouping that belong to one dimension. */
const shapes = fc.oneof(
  fc.record({
    ...outcomes,
    modelIds: fc.option(fc.subarray(["model-0", "model-3", "never"]), { nil: undefined }),
    groupBy: fc.constantFrom<Grouping | undefined>("model", "status", "errorClass", undefined),
  }),
  fc.record({
    ...outcomes,
    clientIds: fc.option(fc.subarray(["web", "(app)", "(none)"]), { nil: undefined }),
    groupBy: fc.constantFrom<Grouping | undefined>("client", "status", "errorClass"),
  }),
  fc.record({
    ...outcomes,
    actorIds: fc.option(fc.subarray(["actor-1", "actor-6", "(none)"]), { nil: undefined }),
    groupBy: fc.constantFrom<Grouping | undefined>("actor", "status", "errorClass"),
  }),
  fc.record({
    ...outcomes,
    tags: fc.option(
      fc.subarray(["team=search", "team=", "team=never", "team=(none)", "team=(other)"]),
      { nil: undefined },
    ),
    groupBy: fc.constantFrom<Grouping | undefined>("tag:team", "status", "errorClass"),
  }),
);

const bases = fc.constantFrom(...COST_BASES);
const setBasis = (basis: CostBasis) =>
  db.database.sql`update org set cost_basis = ${basis} where external_id = 'acme'`;

/** The same question in plain SQL over the events themselves. */
async function countPlainly(
  org: string | null,
  ask: Filters & { start: string; end: string; basis?: CostBasis },
): Promise<Measures> {
  const teams =
    ask.tags === undefined || ask.tags.length === 0
      ? null
      : ask.tags.map((tag) => tag.slice("team=".length));
  const wanted = (list: readonly string[] | undefined) =>
    list === undefined || list.length === 0
      ? null
      : list.map((word) => (word === "(none)" ? "" : word));
  const names = ["success", "cancelled", "client", "capacity", "upstream", "policy", "internal"];
  const [row] = await db.database.sql<Record<string, string>>`
    with chosen as (
      select *, (${names}::text[])[outcome + 1] as name, (select sum(t) from unnest(tokens) t) as total
        from sample_shown
       where basis = ${ask.basis ?? "event_or_computed"}
         and (${org}::text is null or org = ${org})
         and at >= ${ask.start} and at < ${ask.end}
         and (${wanted(ask.modelIds)}::text[] is null or model = any(${wanted(ask.modelIds)}::text[]))
         and (${wanted(ask.clientIds)}::text[] is null or client = any(${wanted(ask.clientIds)}::text[]))
         and (${wanted(ask.actorIds)}::text[] is null or actor = any(${wanted(ask.actorIds)}::text[]))
         and (${teams}::text[] is null or team = any(${teams}::text[]))
    )
    select coalesce(sum(requests), 0)::text as requests,
           coalesce(sum(requests) filter (where outcome >= 2), 0)::text as errors,
           coalesce(sum(tokens[1]), 0)::text as t1, coalesce(sum(tokens[2]), 0)::text as t2, coalesce(sum(tokens[3]), 0)::text as t3,
           coalesce(sum(tokens[4]), 0)::text as t4, coalesce(sum(tokens[5]), 0)::text as t5, coalesce(sum(tokens[6]), 0)::text as t6,
           coalesce(sum(total), 0)::text as total,
           coalesce(sum(nano) filter (where "shownCurrency" = 'USD'), 0)::text as usd,
           sum(nano) filter (where "shownCurrency" = 'EUR')::text as eur,
           round(sum(requests) filter (where nano is not null)::numeric / nullif(sum(requests), 0), 6)::text as priced,
           round(coalesce(sum(total) filter (where nano is not null), 0)::numeric / nullif(sum(total), 0), 6)::text as "pricedTokens"
      from chosen
     where (${wanted(ask.statuses)}::text[] is null
            or case when outcome >= 2 then 'error' else name end = any(${wanted(ask.statuses)}::text[]))
       and (${wanted(ask.errorClasses)}::text[] is null or name = any(${wanted(ask.errorClasses)}::text[]))`;
  assert.ok(row);
  const { requests, errors, t1, t2, t3, t4, t5, t6, total, usd, eur, priced, pricedTokens } = row;
  const n = (text: string | undefined) => Number(text);
  return {
    requests: n(requests),
    errors: n(errors),
    inputTokens: n(t1),
    cacheReadTokens: n(t2),
    cacheWrite5mTokens: n(t3),
    cacheWrite1hTokens: n(t4),
    outputTokens: n(t5),
    reasoningTokens: n(t6),
    totalTokens: n(total),
    cost: { amount: formatNano(BigInt(usd ?? 0)), currency: "USD" },
    otherCosts:
      eur === null || eur === undefined || eur === "0"
        ? []
        : [{ amount: formatNano(BigInt(eur)), currency: "EUR" }],
    pricedShare: {
      requests: requests === "0" ? null : n(priced ?? "0"),
      tokens: total === "0" ? null : n(pricedTokens ?? "0"),
    },
  };
}

/** The error codes of an answer, in its order, in plain SQL over the events themselves. */
async function listCodesPlainly(
  org: string,
  ask: Filters & { start: string; end: string },
): Promise<ErrorCodeCount[]> {
  const wanted = (list: readonly string[] | undefined) => (list?.length === 0 ? null : list);
  const classes = ["client", "capacity", "upstream", "policy", "internal"];
  return await db.database.sql<ErrorCodeCount>`
    select (${classes}::text[])[outcome - 1] as "errorClass", nullif("errorCode", '') as code,
           sum(requests)::int8 as requests, false as "isOther"
      from sample_event
     where org = ${org}
       and at >= ${ask.start} and at < ${ask.end}
       and outcome >= 2
       and (${wanted(ask.modelIds)}::text[] is null or model = any(${wanted(ask.modelIds)}::text[]))
       and (${wanted(ask.statuses)}::text[] is null or 'error' = any(${wanted(ask.statuses)}::text[]))
       and (${wanted(ask.errorClasses)}::text[] is null
            or (${classes}::text[])[outcome - 1] = any(${wanted(ask.errorClasses)}::text[]))
     group by outcome, code
     order by 3 desc, outcome, code`;
}

const COUNTS = [
  "requests",
  "errors",
  "inputTokens",
  "cacheReadTokens",
  "cacheWrite5mTokens",
  "cacheWrite1hTokens",
  "outputTokens",
  "reasoningTokens",
  "totalTokens",
] as const;

const nano = (amount: string) => parseNano(amount)?.nano ?? 0n;

function assertAddsUp(parts: readonly Measures[], whole: Measures): void {
  for (const count of COUNTS)
    assert.equal(
      parts.reduce((sum, part) => sum + part[count], 0),
      whole[count],
      count,
    );
  assert.equal(
    parts.reduce((sum, part) => sum + nano(part.cost.amount), 0n),
    nano(whole.cost.amount),
  );
  const euros = (one: Measures) =>
    nano(one.otherCosts.find((cost) => cost.currency === "EUR")?.amount ?? "0");
  assert.equal(
    parts.reduce((sum, part) => sum + euros(part), 0n),
    euros(whole),
  );
}

test("totals equal plain SQL over the events, and groups, series and totals add up, for any zone, window, filter, grouping and basis of cost", async () => {
  await fc.assert(
    fc.asyncProperty(
      windows,
      shapes,
      fc.integer({ min: 1, max: 8 }),
      bases,
      async (window, shape, limit, basis) => {
        await setBasis(basis);
        const answer = await getUsage(db.database, clock, {
          orgId: "acme",
          ...window,
          ...shape,
          limit,
        });
        assert.deepEqual(answer.totals, await countPlainly("acme", { ...window, ...shape, basis }));
        assert.deepEqual(answer.pricing, { costBasis: basis, bookVersion: 0 });
        assertAddsUp(answer.series, answer.totals);
        if (answer.groups === undefined) return;
        assertAddsUp(answer.groups, answer.totals);
        assert.ok(answer.groups.filter((group) => !group.isOther).length <= limit);
        for (const group of answer.groups) assertAddsUp(group.series, group);
        answer.series.forEach((bucket, i) =>
          assertAddsUp(answer.groups?.flatMap((group) => group.series[i] ?? []) ?? [], bucket),
        );
      },
    ),
    { numRuns: 90 },
  );
  await setBasis("event_or_computed");
});

test("each bucket holds what plain SQL finds between its bounds", async () => {
  await fc.assert(
    fc.asyncProperty(windows, async (window) => {
      const { series } = await getUsage(db.database, clock, { orgId: "acme", ...window });
      const rows = await db.database.sql<{ requests: number }>`
        select coalesce(sum(e.requests), 0)::int8 as requests
          from unnest(${series.map((bucket) => bucket.start)}::timestamptz[], ${series.map((bucket) => bucket.end)}::timestamptz[])
               with ordinality as b (starts, ends, no)
          left join sample_event e on e.org = 'acme' and e.at >= b.starts and e.at < b.ends
         group by b.no order by b.no`;
      assert.deepEqual(
        series.map((bucket) => bucket.requests),
        rows.map((row) => row.requests),
      );
    }),
    { numRuns: 25 },
  );
});

test("error codes equal plain SQL over the events, for any zone, window and filter", async () => {
  const filters = fc.record({
    ...outcomes,
    modelIds: fc.option(fc.subarray(["model-0", "model-3", "never"]), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(fc.oneof(windows, windowsOfFailures), filters, async (window, filter) => {
      const ask = { ...window, ...filter };
      const { errorsByCode } = await getReliability(db.database, clock, { orgId: "acme", ...ask });
      assert.deepEqual(errorsByCode, await listCodesPlainly("acme", ask));
    }),
    { numRuns: 60 },
  );
});

test("all orgs together are the orgs added up, and the ranking of orgs adds up to them, whatever the basis of one", async () => {
  await fc.assert(
    fc.asyncProperty(windows, fc.record(outcomes), bases, async (window, filters, basis) => {
      await setBasis(basis);
      const { granularity: _, ...span } = window;
      const plain = await countPlainly(null, { ...window, ...filters });
      const system = await getSystemUsage(db.database, clock, {
        ...window,
        ...filters,
        groupBy: "model",
        limit: 3,
      });
      assert.deepEqual(system.totals, plain);
      assert.equal(system.pricing.costBasis, "event_or_computed");
      assertAddsUp(system.groups ?? [], system.totals);
      const top = await getTopOrgs(db.database, clock, { ...span, ...filters, limit: 1 });
      assert.deepEqual(top.totals, plain);
      assertAddsUp(top.orgs, top.totals);
      assert.equal(top.pricing.costBasis, "event_or_computed");
    }),
    { numRuns: 25 },
  );
  await setBasis("event_or_computed");
});

test("a breakdown adds up, its shares too, and its changes are against the period before", async () => {
  const ask = { orgId: "acme", start: "2026-11-01", end: "2026-11-11", timeZone: "Asia/Kathmandu" };
  for (const by of ["model", "client", "actor"] as const) {
    const answer = await getBreakdown(db.database, clock, { ...ask, by, limit: 2 });
    assert.equal(answer.groups.length, 3);
    assert.deepEqual(
      answer.groups.map((group) => group.isOther),
      [false, false, true],
    );
    assertAddsUp(answer.groups, answer.totals);
    const shares = answer.groups.reduce((sum, group) => sum + (group.share.requests ?? 0), 0);
    assert.ok(Math.abs(shares - 1) < 0.000_01);
    assert.deepEqual(answer.comparedWith?.previous, {
      start: "2026-10-22T00:00:00+05:45",
      end: "2026-11-01T00:00:00+05:45",
    });
    const [first] = answer.groups;
    assert.ok(first);
    const filters = {
      modelIds: [first.modelId ?? "(none)"],
      clientIds: [first.clientId ?? "(none)"],
      actorIds: [first.actorId ?? "(none)"],
    };
    const only = { [`${by}Ids`]: filters[`${by}Ids`] };
    const past = await countPlainly("acme", {
      start: "2026-10-22T00:00:00+05:45",
      end: "2026-11-01T00:00:00+05:45",
      ...only,
    });
    assert.equal(
      first.change?.requests,
      Math.round(((first.requests - past.requests) / past.requests) * 1e6) / 1e6,
    );
  }
});

test("a running window is compared with the same elapsed part of the one before", async () => {
  const now = new Date("2026-11-10T11:07:00Z");
  const question: UsageQuestion = {
    start: "2026-11-01",
    end: "2026-12-01",
    timeZone: "UTC",
    compare: "previous",
  };
  const { comparison } = await getUsage(db.database, fixedClock(now.toISOString()), {
    orgId: "acme",
    ...question,
  });
  const current = { start: "2026-11-01T00:00:00Z", end: "2026-11-10T11:00:00Z" };
  const previous = { start: "2026-10-01T00:00:00Z", end: "2026-10-10T11:00:00Z" };
  assert.deepEqual(comparison?.current, {
    ...current,
    totals: await countPlainly("acme", current),
  });
  assert.deepEqual(comparison?.previous, {
    ...previous,
    totals: await countPlainly("acme", previous),
  });
});

test("errors by class and by code add up to the errors, in buckets, groups and totals", async () => {
  const ask = {
    orgId: "acme",
    start: "2026-10-01",
    end: "2026-11-15",
    timeZone: "America/St_Johns",
    groupBy: "model",
  } as const;
  const answer = await getReliability(db.database, clock, ask);
  const plain = await countPlainly("acme", {
    start: "2026-10-01T00:00:00-02:30",
    end: "2026-11-15T00:00:00-03:30",
  });
  assert.equal(answer.totals.errors, plain.errors);
  assert.equal(answer.totals.requests, plain.requests);
  assert.equal(answer.totals.errorRate, Math.round((plain.errors / plain.requests) * 1e6) / 1e6);
  for (const one of [answer.totals, ...answer.series, ...(answer.groups ?? [])]) {
    assert.equal(
      Object.values(one.errorsByClass).reduce((a, b) => a + b, 0),
      one.errors,
    );
  }
  assert.equal(
    answer.errorsByCode?.reduce((sum, code) => sum + code.requests, 0),
    plain.errors,
  );
  assert.ok(answer.errorsByCode?.some((code) => code.code === null && !code.isOther));
  assert.equal(
    (await getReliability(db.database, clock, { ...ask, groupBy: "client" })).errorsByCode,
    null,
  );
});
