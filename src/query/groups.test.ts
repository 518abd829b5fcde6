import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { COST_BASES, type CostBasis, formatNano, parseNano } from "#contract";
import { createSample, fixedClock, type TestDatabase, testDatabase, writeSample } from "#harness";
import type { GroupKey, Measures, ReliabilityMeasures } from "./answers.ts";
import { getBreakdown, getReliability, getSystemUsage, getTopOrgs, getUsage } from "./index.ts";
import {
  ERROR_CLASSES,
  GROUPINGS,
  type Grouping,
  isByTag,
  type Order,
  ORDERS,
  STATUSES,
} from "./questions.ts";

const FROM = new Date("2026-10-20T00:00:00Z");
const TO = new Date("2026-11-20T00:00:00Z");
const DAYS = 31;
const clock = fixedClock(TO.toISOString());

let db: TestDatabase;
before(async () => {
  db = await testDatabase();
  await writeSample(db.database, createSample({ seed: 5, events: 500, from: FROM, to: TO }), TO);
});
after(async () => await db[Symbol.asyncDispose]());

const windows = fc
  .record({
    timeZone: fc.constantFrom("UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham"),
    granularity: fc.constantFrom("hour", "day", "week"),
    from: fc.integer({ min: 0, max: DAYS * 96 - 1 }),
    length: fc.integer({ min: 1, max: DAYS * 96 }),
  })
  .map(({ from, length, ...rest }) => {
    const at = (quarters: number) => new Date(FROM.getTime() + quarters * 900_000).toISOString();
    return { ...rest, start: at(from), end: at(from + length) };
  });

const optional = <T>(values: readonly T[]) =>
  fc.option(fc.subarray([...values], { minLength: 1 }), { nil: undefined });
const outcomes = { statuses: optional(STATUSES), errorClasses: optional(ERROR_CLASSES) };
/** The filter that may go with a grouping: its own members, or any of one dimension when it is by outcome. */
const FILTERS = {
  model: fc.record({ ...outcomes, modelIds: optional(["model-0", "model-3", "never"]) }),
  client: fc.record({ ...outcomes, clientIds: optional(["web", "(app)", "(none)"]) }),
  actor: fc.record({ ...outcomes, actorIds: optional(["actor-1", "actor-6", "(none)"]) }),
  tag: fc.record({
    ...outcomes,
    tags: optional(["team=search", "team=", "team=never", "team=(none)", "team=(other)"]),
  }),
};
const filtersFor = (grouping: Grouping) => {
  if (grouping === "status" || grouping === "errorClass")
    return fc.oneof(FILTERS.model, FILTERS.client, FILTERS.actor, FILTERS.tag);
  return isByTag(grouping) ? FILTERS.tag : FILTERS[grouping];
};
const shown = fc.record({
  limit: fc.integer({ min: 1, max: 8 }),
  orderBy: fc.constantFrom(...ORDERS),
});

const bases = fc.constantFrom(...COST_BASES);
const setBasis = (basis: CostBasis) =>
  db.database.sql`update org set cost_basis = ${basis} where external_id = 'acme'`;

const nano = (amount: string) => parseNano(amount)?.nano ?? 0n;
const currenciesOf = ({ cost, otherCosts }: Measures) => [
  [cost.currency, cost.amount] as const,
  ...otherCosts.map((other) => [other.currency, other.amount] as const),
];

/** Exact figures by name, so that sums can be compared whole; what is 0 is left out. */
function sumUsageOf(parts: readonly Measures[]): Record<string, string> {
  const sums = new Map<string, bigint>();
  const add = (name: string, value: bigint) => sums.set(name, (sums.get(name) ?? 0n) + value);
  for (const part of parts) {
    for (const [name, value] of Object.entries(part))
      if (typeof value === "number") add(name, BigInt(value));
    for (const [currency, amount] of currenciesOf(part)) add(currency, nano(amount));
  }
  return Object.fromEntries([...sums].filter(([, sum]) => sum !== 0n).map(([k, v]) => [k, `${v}`]));
}

type Calls = Pick<ReliabilityMeasures, "requests" | "errors" | "cancelled" | "errorsByClass"> & {
  latency: ReliabilityMeasures["latency"] | null;
};
function sumCallsOf(parts: readonly Calls[]): Record<string, number> {
  const sum = (of: (part: Calls) => number) => parts.reduce((total, part) => total + of(part), 0);
  return {
    requests: sum((part) => part.requests),
    errors: sum((part) => part.errors),
    cancelled: sum((part) => part.cancelled),
    ...Object.fromEntries(
      ERROR_CLASSES.map((name) => [name, sum((part) => part.errorsByClass[name])]),
    ),
  };
}

/** The first so many, the largest first, and the rest in one row at the end; a cap on names may make one of itself. */
function assertRanked<Group extends GroupKey>(
  groups: readonly Group[],
  { limit, hasCap }: { limit: number; hasCap: boolean },
  measure: (group: Group) => bigint,
): void {
  const named = groups.filter((group) => !group.isOther);
  assert.ok(named.length <= limit && groups.length <= named.length + 1);
  if (groups.length > named.length) {
    assert.equal(groups.at(-1)?.isOther, true);
    if (!hasCap) assert.equal(named.length, limit);
  }
  const sizes = named.map(measure);
  assert.deepEqual(
    sizes,
    sizes.toSorted((a, b) => (a > b ? -1 : a < b ? 1 : 0)),
  );
  const names = groups.map(({ modelId, clientId, actorId, tag, status, errorClass, isOther }) =>
    JSON.stringify([modelId, clientId, actorId, tag, status, errorClass, isOther]),
  );
  assert.equal(new Set(names).size, names.length);
}

for (const groupBy of [...GROUPINGS, "tag:team"] as const) {
  test(`by ${groupBy}: the groups and the row of others add up to the total, whatever the filter, zone, window and basis of cost`, async () => {
    await fc.assert(
      fc.asyncProperty(windows, filtersFor(groupBy), shown, bases, async (...made) => {
        const [window, filter, top, basis] = made;
        await setBasis(basis);
        const ask = { orgId: "acme", ...window, ...filter, ...top, groupBy };
        const usage = await getUsage(db.database, clock, ask);
        const groups = usage.groups ?? [];
        assert.deepEqual(sumUsageOf(groups), sumUsageOf([usage.totals]));
        assert.deepEqual(sumUsageOf(groups.flatMap(({ series }) => series)), sumUsageOf(groups));
        assertRanked(groups, { limit: top.limit, hasCap: isByTag(groupBy) }, (group) =>
          top.orderBy === "cost" ? nano(group.cost.amount) : BigInt(group[top.orderBy]),
        );

        const calls = await getReliability(db.database, clock, ask);
        assert.deepEqual(sumCallsOf(calls.groups ?? []), sumCallsOf([calls.totals]));
        assert.deepEqual(
          calls.groups?.map(({ requests }) => requests),
          groups.map(({ requests }) => requests),
        );
        const latencies = (calls.groups ?? []).map(({ latency }) => latency);
        if (latencies.every((latency) => latency !== null)) {
          const count = latencies.reduce((sum, latency) => sum + latency.count, 0);
          assert.equal(count, calls.totals.latency.count);
        }
      }),
      { numRuns: 30 },
    );
  });
}

test("breakdowns and all orgs together add up as well, whatever the filter, zone, window and basis of cost", async () => {
  const systemGroupings = fc.constantFrom("model", "status", "errorClass");
  await fc.assert(
    fc.asyncProperty(
      windows,
      shown,
      systemGroupings,
      bases,
      fc.record(FILTERS),
      async (window, top, groupBy, basis, filters) => {
        await setBasis(basis);
        const { granularity: _, ...span } = window;
        for (const by of ["model", "client", "actor", "tag:team"] as const) {
          const filter = filters[isByTag(by) ? "tag" : by];
          const ask = { orgId: "acme", ...span, ...filter, ...top };
          const answer = await getBreakdown(db.database, clock, { ...ask, by });
          assert.deepEqual(sumUsageOf(answer.groups), sumUsageOf([answer.totals]));
          const usage = await getUsage(db.database, clock, { ...ask, groupBy: by });
          assert.deepEqual(
            answer.groups.map(({ share: _share, change: _change, ...group }) => group),
            usage.groups?.map(({ series: _series, ...group }) => group),
          );
        }
        const all = await getSystemUsage(db.database, clock, { ...window, ...top, groupBy });
        assert.deepEqual(sumUsageOf(all.groups ?? []), sumUsageOf([all.totals]));
      },
    ),
    { numRuns: 20 },
  );
});

test("by error class: one row per class, one for what did not fail, and the figures are those of plain SQL", async () => {
  await setBasis("event_or_computed");
  const ask = { orgId: "acme", start: FROM.toISOString(), end: TO.toISOString(), timeZone: "UTC" };
  const { groups } = await getUsage(db.database, clock, { ...ask, groupBy: "errorClass" });
  const names = ["", "", "client", "capacity", "upstream", "policy", "internal"];
  const rows = await db.database.sql<{ name: string; requests: number; nano: string }>`
    select (${names}::text[])[outcome + 1] as name, sum(requests)::int8 as requests,
           coalesce(sum(nano) filter (where "shownCurrency" = 'USD'), 0)::text as nano
      from sample_shown where org = 'acme' and basis = 'event_or_computed' group by 1 order by 2 desc`;
  assert.equal(rows.length, 6);
  assert.deepEqual(
    groups?.map(({ errorClass, requests, cost, isOther }) => ({
      errorClass,
      requests,
      cost: cost.amount,
      isOther,
    })),
    rows.map(({ name, requests, nano: sum }) => ({
      errorClass: name === "" ? null : name,
      requests,
      cost: formatNano(BigInt(sum)),
      isOther: false,
    })),
  );
  const failed = await getUsage(db.database, clock, {
    ...ask,
    groupBy: "errorClass",
    orderBy: "errors",
    statuses: ["error"],
    limit: 2,
  });
  assert.deepEqual(
    failed.groups?.map(({ isOther }) => isOther),
    [false, false, true],
  );
  assert.equal(failed.groups?.at(-1)?.errorClass, null);
  assert.equal(failed.groups?.at(-1)?.status, undefined);
});

/** All pages of a report, one after the other: each adds up to the totals; what they show by themselves. */
async function readPages<Row extends GroupKey & Measures>(
  readPage: (cursor: string | undefined) => Promise<{
    rows: Row[];
    totals: Measures;
    nextCursor: string | null;
  }>,
): Promise<Row[]> {
  const shown: Row[] = [];
  for (let cursor: string | null | undefined; cursor !== null;) {
    const page = await readPage(cursor);
    assert.deepEqual(sumUsageOf(page.rows), sumUsageOf([page.totals]));
    shown.push(...page.rows.filter((row) => !row.isOther));
    cursor = page.nextCursor;
  }
  return shown;
}

async function assertPagesAreTheWhole(orders: readonly Order[]): Promise<void> {
  const window = { start: FROM.toISOString(), end: TO.toISOString(), timeZone: "UTC" };
  for (const orderBy of orders) {
    for (const by of ["model", "client", "actor", "tag:team"] as const) {
      const ask = { orgId: "acme", ...window, by, orderBy };
      const whole = await getBreakdown(db.database, clock, { ...ask, limit: 100 });
      assert.equal(whole.nextCursor, null);
      const pages = await readPages(async (cursor) => {
        const page = await getBreakdown(db.database, clock, { ...ask, limit: 2, cursor });
        return { rows: page.groups, ...page };
      });
      assert.deepEqual(
        pages,
        whole.groups.filter((group) => !group.isOther),
      );
    }
    const orgs = await readPages(async (cursor) => {
      const ask = { ...window, orderBy, limit: 1, cursor };
      const page = await getTopOrgs(db.database, clock, ask);
      return { rows: page.orgs, ...page };
    });
    const whole = await getTopOrgs(db.database, clock, { ...window, orderBy });
    assert.deepEqual(orgs, whole.orgs);
  }
}

test("pages of a breakdown, one after the other, are the whole of it, and each adds up to the totals", async () => {
  await setBasis("event_or_computed");
  await assertPagesAreTheWhole(ORDERS);
});

test("a cursor of another org, report or order is refused, and so is what is none", async () => {
  const window = { start: FROM.toISOString(), end: TO.toISOString(), timeZone: "UTC" };
  const ask = { orgId: "acme", ...window, by: "model", limit: 1 } as const;
  const { nextCursor: cursor } = await getBreakdown(db.database, clock, ask);
  assert.ok(cursor !== null);
  const asks = [
    { ...ask, orgId: "globex", cursor },
    { ...ask, by: "client", cursor },
    { ...ask, orderBy: "cost", cursor },
    ...["x", `${cursor}x`, cursor.slice(1), ""].map((broken) => ({ ...ask, cursor: broken })),
  ] as const;
  for (const one of asks)
    await assert.rejects(() => getBreakdown(db.database, clock, one), {
      code: "invalid_request",
      details: [
        { pointer: "/query/cursor", code: "invalid_cursor", message: "Start again without it." },
      ],
    });
  await assert.rejects(() => getTopOrgs(db.database, clock, { ...window, cursor }), {
    code: "invalid_request",
  });
});

test("whether groups are ranked before they are read, or after, for their members are few, they are the same", async () => {
  const start = new Date(TO.getTime() - 30 * 86_400_000).toISOString();
  const ask = { orgId: "acme", start, end: TO.toISOString(), timeZone: "UTC" };
  const listGroups = async (granularity: "15m" | "day") => {
    const found: unknown[] = [];
    for (const orderBy of ["errors", "cost"] as const) {
      for (const groupBy of ["actor", "model"] as const) {
        const top = { groupBy, orderBy, granularity, limit: 2 };
        const { groups = [] } = await getUsage(db.database, clock, { ...ask, ...top });
        assert.equal(groups.length, 3);
        found.push(groups.map((group) => ({ ...group, series: [] })));
        const calls = await getReliability(db.database, clock, { ...ask, ...top });
        found.push(calls.groups);
      }
    }
    return found;
  };
  const ofFew = await listGroups("day");
  assert.deepEqual(await listGroups("15m"), ofFew);
  await db.database.sql`
    insert into dictionary (org_id, kind, value)
    select org.id, kind, 'idle-' || n
      from org, generate_series(1, 3) as kind, generate_series(1, 10000) as n
     where external_id = 'acme'`;
  assert.deepEqual(await listGroups("day"), ofFew);
  await assertPagesAreTheWhole(["requests", "cost"]);
});
