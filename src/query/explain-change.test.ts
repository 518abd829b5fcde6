import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { COST_BASES, type CostBasis, formatNano, parseNano } from "#contract";
import {
  createSample,
  fixedClock,
  type SampleEvent,
  type TestDatabase,
  testDatabase,
  writeSample,
} from "#harness";
import { getSpendChange, getUsage, type SpendChangeAnswer } from "./index.ts";
import { type Parts, PARTS, type Spend, type SpendPair, splitChanges } from "./spend-parts.ts";

const FROM = new Date("2026-09-20T00:00:00Z");
const TO = new Date("2026-11-20T00:00:00Z");
const clock = fixedClock(TO.toISOString());

let db: TestDatabase;
before(async () => {
  db = await testDatabase();
  await writeSample(db.database, createSample({ seed: 9, events: 700, from: FROM, to: TO }), TO);
});
after(async () => await db[Symbol.asyncDispose]());

const bases = fc.constantFrom(...COST_BASES);
const setBasis = (basis: CostBasis) =>
  db.database.sql`update org set cost_basis = ${basis} where external_id = 'acme'`;

type Explained = NonNullable<SpendChangeAnswer["explained"]>;
const nano = ({ amount }: { amount: string }) => parseNano(amount)?.nano ?? 0n;
const partsOf = ({ parts }: Pick<Explained, "parts">): Parts => ({
  requests: nano(parts.requests),
  tokensPerRequest: nano(parts.tokensPerRequest),
  modelMix: nano(parts.modelMix),
  price: nano(parts.price),
  modelsCame: nano(parts.modelsCame),
  modelsWent: nano(parts.modelsWent),
});

async function explain(ask: Parameters<typeof getSpendChange>[2]): Promise<Explained> {
  const { explained } = await getSpendChange(db.database, clock, ask);
  assert.ok(explained !== null);
  return explained;
}

/** Windows in the second half of the sample, so that there is something before them. */
const windows = fc
  .record({
    timeZone: fc.constantFrom("UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin"),
    from: fc.integer({ min: 32 * 96, max: 61 * 96 - 1 }),
    length: fc.integer({ min: 1, max: 32 * 96 }),
  })
  .map(({ timeZone, from, length }) => {
    const at = (quarters: number) => new Date(FROM.getTime() + quarters * 900_000).toISOString();
    return { timeZone, start: at(from), end: at(Math.min(from + length, 61 * 96)) };
  });
const filters = fc.record({
  modelIds: fc.option(fc.subarray(["model-0", "model-3", "never"]), { nil: undefined }),
  statuses: fc.option(fc.subarray(["success", "error"] as const), { nil: undefined }),
});

/** Rows and columns: parts of a row, models of a column, windows of a change. */
function assertAddsUp(explained: Explained): void {
  const rows = [explained, ...explained.models];
  for (const row of rows) {
    const parts = partsOf(row);
    assert.equal(
      PARTS.reduce((sum, part) => sum + parts[part], 0n),
      nano(row.change),
    );
    assert.equal(nano(row.change), nano(row.current.cost) - nano(row.previous.cost));
  }
  const columns: ((row: (typeof rows)[number]) => bigint)[] = [
    ...PARTS.map((part) => (row: (typeof rows)[number]) => partsOf(row)[part]),
    (row) => nano(row.change),
    ...(["current", "previous"] as const).flatMap((side) => [
      (row: (typeof rows)[number]) => nano(row[side].cost),
      (row: (typeof rows)[number]) => BigInt(row[side].pricedRequests),
      (row: (typeof rows)[number]) => BigInt(row[side].pricedTokens),
    ]),
  ];
  for (const column of columns) {
    const sum = explained.models.reduce((total, row) => total + column(row), 0n);
    assert.equal(sum, column(explained));
  }
}

test("parts, models and windows add up to the last billionth, and the spend is that of the usage report", async () => {
  await fc.assert(
    fc.asyncProperty(
      windows,
      filters,
      fc.integer({ min: 1, max: 6 }),
      bases,
      async (window, filter, limit, basis) => {
        await setBasis(basis);
        const ask = { orgId: "acme", ...window, ...filter };
        const explained = await explain({ ...ask, limit });
        assertAddsUp(explained);
        const named = explained.models.filter((model) => !model.isOther);
        assert.ok(named.length <= limit && explained.models.length <= named.length + 1);
        const { comparison } = await getUsage(db.database, clock, { ...ask, compare: "previous" });
        for (const side of ["current", "previous"] as const) {
          const { start, end, cost, otherCosts, pricedShare } = explained[side];
          const { totals, ...span } = comparison?.[side] ?? assert.fail("nothing to compare with");
          assert.deepEqual(
            { start, end, cost, otherCosts, pricedShare },
            {
              ...span,
              cost: totals.cost,
              otherCosts: totals.otherCosts,
              pricedShare: totals.pricedShare,
            },
          );
        }
      },
    ),
    { numRuns: 60 },
  );
});

type PlainRow = { model: string; side: string; requests: string; tokens: string; nano: string };

test("each model is split by its priced calls, tokens and cost as plain SQL finds them", async () => {
  await fc.assert(
    fc.asyncProperty(windows, bases, async (window, basis) => {
      await setBasis(basis);
      const explained = await explain({ orgId: "acme", ...window });
      const { current, previous } = explained;
      const rows = await db.database.sql<PlainRow>`
        select model, case when at >= ${current.start} then 'current' else 'previous' end as side,
               sum(requests)::text as requests, sum((select sum(t) from unnest(tokens) t))::text as tokens,
               sum(nano)::text as nano
          from sample_shown
         where org = 'acme' and basis = ${basis} and "shownCurrency" = 'USD' and nano is not null
           and (at >= ${current.start} and at < ${current.end} or at >= ${previous.start} and at < ${previous.end})
         group by 1, 2`;
      const spendOf = (model: string, side: string): Spend => {
        const row = rows.find((one) => one.model === model && one.side === side);
        return {
          requests: BigInt(row?.requests ?? 0),
          tokens: BigInt(row?.tokens ?? 0),
          nano: BigInt(row?.nano ?? 0),
        };
      };
      const names = [...new Set(rows.map(({ model }) => model))];
      const pairs = new Map<string, SpendPair>();
      for (const model of names) {
        const [previous, current] = [spendOf(model, "previous"), spendOf(model, "current")];
        pairs.set(model, { previous, current });
      }
      const expected = splitChanges(pairs);
      assert.deepEqual(explained.models.map(({ modelId }) => modelId).toSorted(), names.toSorted());
      for (const { modelId, basis, ...row } of explained.models) {
        const change = expected.get(modelId ?? "");
        assert.deepEqual([basis, partsOf(row)], [change?.basis, change?.parts]);
      }
    }),
    { numRuns: 25 },
  );
});

/** A day of one model: so many calls of so many tokens each, at a price for a token. */
const day = (date: string, model: string, calls: number, tokens: number, price: number | null) =>
  Array.from({ length: calls }, (_, i): SampleEvent => ({
    org: "acme",
    model,
    client: "web",
    actor: "",
    at: new Date(Date.parse(`${date}T08:00:00Z`) + i * 1000),
    outcome: 0,
    currency: "USD",
    requests: 1,
    tokens: [tokens, 0, 0, 0, 0, 0],
    costNano: price === null ? null : tokens * price,
    latencyMs: null,
    errorCode: "",
  }));

test("growth, a price cut, a model replaced and usage without a price are told apart", async () => {
  await using own = await testDatabase();
  const events = [
    ...day("2026-11-17", "steady", 10, 100, 2_000_000),
    ...day("2026-11-18", "steady", 20, 150, 1_000_000),
    ...day("2026-11-17", "old", 4, 50, 3_000_000),
    ...day("2026-11-18", "new", 4, 50, 1_000_000),
    ...day("2026-11-18", "unpriced", 8, 100, null),
  ];
  await writeSample(own.database, events, TO);
  const ask = { orgId: "acme", start: "2026-11-18", end: "2026-11-19", timeZone: "UTC" };
  const { explained } = await getSpendChange(own.database, clock, ask);
  assert.ok(explained !== null);
  // steady: 2 → 3, by 2 × (20/10) = 4 for calls, × 1.5 = 6 for their length, half of that for the price.
  assert.deepEqual(
    Object.fromEntries(Object.entries(partsOf(explained)).map(([k, v]) => [k, formatNano(v)])),
    {
      requests: "2.00",
      tokensPerRequest: "2.00",
      modelMix: "0.00",
      price: "-3.00",
      modelsCame: "0.20",
      modelsWent: "-0.60",
    },
  );
  assert.deepEqual(
    explained.models.map(({ modelId, basis, change }) => [modelId, basis, change.amount]),
    [
      ["steady", "tokens", "1.00"],
      ["old", "went", "-0.60"],
      ["new", "came", "0.20"],
    ],
  );
  assert.deepEqual(explained.current.pricedShare, { requests: 0.75, tokens: 0.8 });
  assert.deepEqual(explained.previous.pricedShare, { requests: 1, tokens: 1 });
  assert.equal(explained.change.amount, "0.60");
});

test("nothing elapsed is null, a model filter may leave nothing, and clients are no part of it", async () => {
  const future = { orgId: "acme", start: "2026-11-25", end: "2026-11-26", timeZone: "UTC" };
  assert.equal((await getSpendChange(db.database, clock, future)).explained, null);
  const none = await explain({
    orgId: "acme",
    start: "2026-11-10",
    end: "2026-11-12",
    modelIds: ["x"],
  });
  assert.deepEqual([none.models, none.change], [[], { amount: "0.00", currency: "USD" }]);
  const nobody = () => getSpendChange(db.database, clock, { orgId: "nobody" });
  await assert.rejects(nobody, { name: "Failure", code: "not_found" });
  const tooMany = () => getSpendChange(db.database, clock, { orgId: "acme", limit: 1001 });
  await assert.rejects(tooMany, { name: "Failure", code: "invalid_request" });
});
