/** Crossings of budgets, from events that are sent, through ingestion and rollups, to what is recorded of them. */
import assert from "node:assert/strict";
import test from "node:test";
import { type BudgetRecorder, startBudgetRecorder } from "#alerts";
import { anEvent } from "#harness";
import { createLogger } from "#kernel";
import { testApi, type TestApi } from "./test-api.ts";

type Threshold = {
  percent: number;
  isReached: boolean;
  crossedAt: string | null;
  crossedAtSpent: { amount: string } | null;
};

const PATH = "/analytics/v1/orgs/acme/budgets";
const DAY = 86_400_000;

const put = async (api: TestApi, id: string, body: object): Promise<void> => {
  const { status, text } = await api.ask(`${PATH}/${id}`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.equal(status, 200, text);
};

const spend = async (api: TestApi, occurred_at: string, cost_estimate: string): Promise<void> => {
  const { status, body } = await api.send([anEvent({ occurred_at, cost_estimate })]);
  assert.deepEqual([status, body.counts.accepted], [200, 1], JSON.stringify(body));
  await api.fold();
};

/** A recorder that does nothing by itself after its first look. */
const startRecorder = (api: TestApi, log: string[] = [], database = api.database): BudgetRecorder =>
  startBudgetRecorder({
    database,
    clock: api.clock,
    logger: createLogger("info", { write: (line) => void log.push(line) }),
    settings: { rawRetentionDays: 30 },
    intervalMs: DAY,
  });

/** What is recorded, as "percent at amount", by budget. */
async function crossings(api: TestApi, month = ""): Promise<Record<string, string[]>> {
  const query = month === "" ? "" : `?month=${month}`;
  const { body } = await api.ask<{ budgets: { budgetId: string; thresholds: Threshold[] }[] }>(
    `${PATH}${query}`,
  );
  return Object.fromEntries(
    body.budgets.map(({ budgetId, thresholds }) => [
      budgetId,
      thresholds.flatMap(({ percent, crossedAt, crossedAtSpent }) =>
        crossedAt === null ? [] : [`${percent} at ${crossedAtSpent?.amount}: ${crossedAt}`],
      ),
    ]),
  );
}

test("each threshold is recorded once, when spend is exactly there, with the time and the figures of then", async () => {
  await using api = await testApi();
  const log: string[] = [];
  await using recorder = startRecorder(api, log);
  await api.createOrg("acme");
  await put(api, "all", { amount: "10" });
  await put(api, "other", { amount: "1", modelId: "another-model" });
  await spend(api, "2026-11-20T10:00:00Z", "4.999999999");
  assert.equal(await recorder.run(), 0);
  await spend(api, "2026-11-20T10:00:01Z", "0.000000001");
  assert.equal(await recorder.run(), 1);
  assert.equal(await recorder.run(), 0);
  api.clock.advance(60_000);
  await spend(api, "2026-11-20T10:00:02Z", "5");
  assert.equal(await recorder.run(), 2);
  assert.deepEqual(await crossings(api), {
    all: [
      "50 at 5.00: 2026-11-20T12:00:00.000Z",
      "80 at 10.00: 2026-11-20T12:01:00.000Z",
      "100 at 10.00: 2026-11-20T12:01:00.000Z",
    ],
    other: [],
  });
  const told = log.map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    told.map(({ msg, orgId, budgetId, month, percent }) => [msg, orgId, budgetId, month, percent]),
    [50, 80, 100].map((percent) => [
      "A budget's threshold was crossed",
      "acme",
      "all",
      "2026-11",
      percent,
    ]),
  );
});

test("many processes at once record each threshold once", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  for (const id of ["a", "b", "c"]) await put(api, id, { amount: "10", thresholds: [10, 20, 30] });
  await spend(api, "2026-11-20T10:00:00Z", "100");
  const logs = Array.from({ length: 5 }, (): string[] => []);
  await using scope = new AsyncDisposableStack();
  const recorders = logs.map((log) => scope.use(startRecorder(api, log)));
  await Promise.all(recorders.map((recorder) => recorder.run()));
  // A first look by itself and the one asked for, of five: nine crossings are told all together.
  assert.equal(logs.flat().length, 9);
  const rows = await api.database.sql<{
    count: number;
  }>`select count(*) as count from budget_crossing`;
  assert.equal(rows[0]?.count, 9);
});

test("what was crossed stays recorded when the amount is raised, and a lower one is crossed at once", async () => {
  await using api = await testApi();
  await using recorder = startRecorder(api);
  await api.createOrg("acme");
  await put(api, "all", { amount: "10", thresholds: [50, 100] });
  await spend(api, "2026-11-20T10:00:00Z", "5");
  await recorder.run();
  await put(api, "all", { amount: "100", thresholds: [50, 100] });
  assert.equal(await recorder.run(), 0);
  const { all } = await crossings(api);
  assert.deepEqual(all, ["50 at 5.00: 2026-11-20T12:00:00.000Z"]);
  await put(api, "all", { amount: "5", thresholds: [50, 100] });
  assert.equal(await recorder.run(), 1);
  assert.equal((await crossings(api))["all"]?.length, 2);
});

test("late usage crosses the month it belongs to, by what the budget said in that month, and no month before the budget", async () => {
  await using api = await testApi();
  await using recorder = startRecorder(api);
  await api.createOrg("acme");
  api.clock.set("2026-11-29T12:00:00Z");
  await put(api, "all", { amount: "10", thresholds: [100] });
  await spend(api, "2026-11-29T10:00:00Z", "6");
  await spend(api, "2026-10-31T23:59:59Z", "50");
  assert.equal(await recorder.run(), 0);

  api.clock.set("2026-12-02T12:00:00Z");
  await put(api, "all", { amount: "5", thresholds: [100] });
  // November is judged by ten, not by five.
  assert.equal(await recorder.run(), 0);
  await spend(api, "2026-11-30T23:59:59Z", "4");
  assert.equal(await recorder.run(), 1);
  assert.deepEqual(await crossings(api, "2026-11"), {
    all: ["100 at 10.00: 2026-12-02T12:00:00.000Z"],
  });
  assert.deepEqual(await crossings(api), { all: [] });
  assert.deepEqual(await crossings(api, "2026-10"), {});
});

test("the month is the org's own, and a deleted budget leaves nothing", async () => {
  await using api = await testApi();
  await using recorder = startRecorder(api);
  await api.createOrg("acme");
  await api.ask("/analytics/v1/admin/orgs/acme", {
    method: "PATCH",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ timeZone: "Asia/Kathmandu" }),
  });
  await put(api, "all", { amount: "10", thresholds: [100] });
  await spend(api, "2026-10-31T18:14:59Z", "10");
  assert.equal(await recorder.run(), 0);
  await spend(api, "2026-10-31T18:15:00Z", "10");
  assert.equal(await recorder.run(), 1);

  await api.ask(`${PATH}/all`, { method: "DELETE" });
  const left = await api.database.sql<{ count: number }>`
    select (select count(*) from budget_crossing) + (select count(*) from budget_terms) as count`;
  assert.equal(left[0]?.count, 0);
  assert.equal(await recorder.run(), 0);
});

test("an org whose figures cannot be read keeps no other from being looked at", async () => {
  await using api = await testApi();
  await api.createOrg("ill");
  await api.createOrg("acme");
  await put(api, "all", { amount: "10", thresholds: [100] });
  await api.database.sql`
    insert into budget (org_id, budget_id, created_at, updated_at) values (1, 'all', now(), now())`;
  await spend(api, "2026-11-20T10:00:00Z", "10");
  const { database } = api;
  const log: string[] = [];
  await using recorder = startRecorder(api, log, {
    ...database,
    withOrg: (orgId, work) =>
      orgId === 1 ? Promise.reject(new Error("too slow")) : database.withOrg(orgId, work),
  });
  await recorder.run();
  assert.deepEqual((await crossings(api))["all"]?.length, 1);
  assert.match(log.join(""), /cannot be looked at/);
});
