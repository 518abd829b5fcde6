import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import type { Problem } from "../problem.ts";
import { testApi, type TestApi } from "../test-api.ts";

type Money = { amount: string; currency: string };
type State = {
  budgetId: string;
  modelId: string | null;
  amount: Money;
  spent: Money;
  otherCosts: Money[];
  pricedShare: { requests: number | null };
  share: number;
  burnPerDay: Money | null;
  daysLeft: string | null;
  expected: Money | null;
  thresholds: { percent: number; isReached: boolean; crossedAt: string | null }[];
};
type Answer = {
  month: string;
  window: { start: string; end: string; timeZone: string };
  budgets: State[];
};
type Terms = { budgetId: string; name: string | null; amount: Money; thresholds: number[] };

const PATH = "/analytics/v1/orgs/acme/budgets";

const put = <Body = Terms>(api: TestApi, id: string, body: unknown, key?: string) =>
  api.ask<Body>(`${PATH}/${id}`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...(key !== undefined && { key }),
  });

const costing = (occurred_at: string, cost_estimate: string | undefined, rest: object = {}) =>
  anEvent({ occurred_at, cost_estimate, ...rest });

/** acme, whose November of Kathmandu lasts from 31 October 18:15 to 30 November 18:15 UTC. */
async function acmeInKathmandu(api: TestApi, events: unknown[]): Promise<void> {
  await api.ask("/analytics/v1/admin/orgs", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ orgId: "acme", timeZone: "Asia/Kathmandu" }),
  });
  const { status, text } = await api.send(events);
  assert.equal(status, 200, text);
  await api.fold();
}

const audited = async (api: TestApi): Promise<string[]> => {
  const rows = await api.database.withOrg(
    1,
    ({ sql }) => sql<{ entry: string }>`
      select entry from audit_log where org_id = 1 and action like 'budget.%' order by seq`,
  );
  return rows.map(({ entry }) => {
    const { action, target, details } = JSON.parse(entry) as Record<string, unknown>;
    return JSON.stringify([action, target, details]);
  });
};

test("a budget shows exactly what its org or model spent in the month of the org's zone, and where that leads", async () => {
  await using api = await testApi();
  await acmeInKathmandu(api, [
    costing("2026-10-31T18:14:59Z", "1000"),
    costing("2026-10-31T18:15:00Z", "30.000000001"),
    costing("2026-11-18T10:00:00Z", "10"),
    costing("2026-11-19T10:00:00Z", "5.5", { model_id: "chat-small" }),
    costing("2026-11-19T11:00:00Z", undefined, { model_id: "chat-small" }),
    costing("2026-11-19T12:00:00Z", "7", { currency: "EUR" }),
  ]);
  await put(api, "all", { amount: "60" });
  await put(api, "small", { amount: "5.50", modelId: "chat-small", thresholds: [100, 101] });
  await put(api, "unused", { amount: "1", modelId: "never-used" });

  const finance = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const { status, body, text } = await api.ask<Answer>(PATH, { key: finance });
  assert.equal(status, 200, text);
  assert.deepEqual(
    [body.month, body.window.start, body.window.end],
    ["2026-11", "2026-11-01T00:00:00+05:45", "2026-12-01T00:00:00+05:45"],
  );
  const [all, small, unused] = body.budgets;
  assert.ok(all && small && unused);
  assert.deepEqual([all.spent, all.share], [{ amount: "45.500000001", currency: "USD" }, 0.758333]);
  assert.deepEqual(all.otherCosts, [{ amount: "7.00", currency: "EUR" }]);
  assert.equal(all.pricedShare.requests, 0.8);
  // The first of the last seven days with usage began on 18 November at 12:00: 15.5 in three days.
  assert.deepEqual(
    [all.burnPerDay?.amount, all.daysLeft, all.expected?.amount],
    ["5.166666667", "2.80", "98.512152779"],
  );
  assert.deepEqual(
    all.thresholds.map(({ percent, isReached, crossedAt }) => [percent, isReached, crossedAt]),
    [
      [50, true, null],
      [80, false, null],
      [100, false, null],
    ],
  );
  assert.deepEqual([small.spent.amount, small.share, small.daysLeft], ["5.50", 1, "0.00"]);
  assert.deepEqual(
    small.thresholds.map(({ isReached }) => isReached),
    [true, false],
  );
  assert.deepEqual(
    [unused.spent.amount, unused.burnPerDay?.amount, unused.daysLeft, unused.expected?.amount],
    ["0.00", "0.00", null, "0.00"],
  );

  const usage = await api.ask<{ totals: { cost: Money } }>(
    "/analytics/v1/orgs/acme/usage?start=2026-11-01&end=2026-12-01",
  );
  assert.deepEqual(usage.body.totals.cost, all.spent);
  const october = await api.ask<Answer>(`${PATH}?month=2026-10`);
  assert.deepEqual(october.body.budgets, [], "there was no budget in October");
  const csv = await api.ask(PATH, { headers: { accept: "text/csv" } });
  assert.equal(
    csv.text.split("\r\n")[1],
    '"all",,,"USD",60.00,45.500000001,0.758333,5.166666667,2.80,98.512152779,50,0.8',
  );
});

test("an org without usage has a budget of which nothing burns", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  await put(api, "all", { amount: "60" });
  const { body } = await api.ask<Answer>(PATH);
  const [all] = body.budgets;
  assert.deepEqual(
    [all?.spent.amount, all?.share, all?.burnPerDay, all?.daysLeft, all?.expected],
    ["0.00", 0, null, null, null],
  );
});

test("budgets are made, changed and deleted by the org's administrator, and each change is audited once", async () => {
  await using api = await testApi();
  const admin = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  const made = await put(api, "all", { amount: "60", thresholds: [100, 50, 100] }, admin);
  assert.equal(made.status, 200, made.text);
  assert.deepEqual(made.body.thresholds, [50, 100]);
  const again = await put(api, "all", { amount: "60.00", thresholds: [50, 100] }, admin);
  assert.deepEqual(again.body, made.body);
  const changed = await put(api, "all", {
    amount: "70",
    name: "Everything",
    thresholds: [50, 100],
  });
  assert.deepEqual([changed.body.amount.amount, changed.body.name], ["70.00", "Everything"]);

  const other = await put<Problem>(api, "all", { amount: "70", modelId: "chat-large" });
  assert.deepEqual([other.status, other.body.code], [409, "already_exists"]);
  const gone = await api.ask<Terms>(`${PATH}/all`, { method: "DELETE", key: admin });
  assert.deepEqual([gone.status, gone.body], [200, changed.body]);
  const twice = await api.ask<Problem>(`${PATH}/all`, { method: "DELETE", key: admin });
  assert.deepEqual([twice.status, twice.body.code], [404, "not_found"]);
  assert.deepEqual(await audited(api), [
    '["budget.set","all",{"changed":["name","amount","thresholds"],"modelId":null}]',
    '["budget.set","all",{"changed":["name","amount"],"modelId":null}]',
    '["budget.delete","all",null]',
  ]);
});

test("who may read spend may not change budgets, and an engineer sees none", async () => {
  await using api = await testApi();
  const finance = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const engineer = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  assert.equal((await put(api, "all", { amount: "1" }, finance)).status, 403);
  assert.equal((await api.ask(`${PATH}/all`, { method: "DELETE", key: finance })).status, 403);
  assert.equal((await api.ask(PATH, { key: engineer })).status, 403);
});

test("what is no budget is a 400 that names the place", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  const wrong: [string, object, string][] = [
    ["all", {}, "/body/amount"],
    ["all", { amount: 5 }, "/body/amount"],
    ["all", { amount: "0" }, "/body/amount"],
    ["all", { amount: "-1" }, "/body/amount"],
    ["all", { amount: "1,5" }, "/body/amount"],
    ["all", { amount: "1.0000000001" }, "/body/amount"],
    ["all", { amount: "1", thresholds: [] }, "/body/thresholds"],
    ["all", { amount: "1", thresholds: [0] }, "/body/thresholds/0"],
    ["all", { amount: "1", thresholds: [12.5] }, "/body/thresholds/0"],
    ["-all", { amount: "1" }, "/params/budgetId"],
  ];
  for (const [id, body, pointer] of wrong) {
    const { status, body: problem } = await put<Problem>(api, id, body);
    assert.deepEqual([status, problem.errors[0]?.pointer], [400, pointer], JSON.stringify(body));
  }
  const { status, body } = await api.ask<Problem>(`${PATH}?month=2026-13`);
  assert.deepEqual([status, body.errors[0]?.pointer], [400, "/query/month"]);
});

test("an org has at most 200 budgets, and those it has can still be changed", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  await put(api, "first", { amount: "1" });
  await api.database.sql`
    insert into budget (org_id, budget_id, created_at, updated_at)
    select 1, 'b' || n, now(), now() from generate_series(1, 198) n`;
  assert.equal((await put(api, "last", { amount: "1" })).status, 200);
  const { status, body } = await put<Problem>(api, "more", { amount: "1" });
  assert.deepEqual([status, body.errors[0]?.code], [400, "too_many_budgets"]);
  assert.equal((await put(api, "first", { amount: "2" })).status, 200);
});
