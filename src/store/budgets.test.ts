import assert from "node:assert/strict";
import test from "node:test";
import { testDatabase } from "#harness";
import { insertBudgetCrossings, listBudgets, upsertBudgets } from "./budgets.ts";

const at = new Date("2026-11-20T12:00:00Z");

test("a budget says in each month what was said last by then, and nothing before it was made", async () => {
  await using db = await testDatabase();
  const { sql } = db.database;
  const [org] = await sql<{
    id: number;
  }>`insert into org (external_id) values ('acme') returning id`;
  const orgId = org?.id ?? 0;
  const all = { budgetId: "all", name: null, model: null, thresholds: [50] };
  for (const [month, amountNano] of [
    ["2026-10", 10n],
    ["2027-01", 30n],
    ["2026-12", 20n],
    ["2026-12", 25n],
  ] as const)
    await upsertBudgets(sql, { orgId, month, at, budgets: [{ ...all, amountNano }] });
  const said = async (month: string) =>
    (await listBudgets(sql, { orgId, budgetId: "all", month, limit: 9 })).map(
      ({ amountNano }) => amountNano,
    );
  assert.deepEqual(
    await Promise.all(["2026-09", "2026-10", "2026-11", "2026-12", "2027-02"].map(said)),
    [[], ["10"], ["10"], ["25"], ["30"]],
  );
});

test("a crossing of a budget that was changed or deleted since it was looked at is not recorded", async () => {
  await using db = await testDatabase();
  const { sql } = db.database;
  const [org] = await sql<{
    id: number;
  }>`insert into org (external_id) values ('acme') returning id`;
  const orgId = org?.id ?? 0;
  const of = (budgetId: string, thresholds: number[]) => ({
    budgetId,
    name: null,
    model: null,
    amountNano: 20n,
    thresholds,
  });
  const budgets = [of("raised", [50]), of("retuned", [80]), of("same", [50])];
  await upsertBudgets(sql, { orgId, month: "2026-11", at, budgets });
  const seen = (budgetId: string, amountNano = 20n) => ({
    budgetId,
    percent: 50,
    spentNano: 10n,
    amountNano,
  });
  const crossings = [seen("raised", 10n), seen("retuned"), seen("same"), seen("deleted")];
  const found = { orgId, month: "2026-11", at, crossings };
  const recorded = await insertBudgetCrossings(sql, found);
  assert.deepEqual(recorded, [{ budgetId: "same", percent: 50 }]);
  assert.deepEqual(await insertBudgetCrossings(sql, found), []);
});
