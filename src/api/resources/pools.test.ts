import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import { neverCrash, silentLogger } from "#kernel";
import { startPoolRating } from "#rerating";
import type { Problem } from "../problem.ts";
import { testApi, type TestApi } from "../test-api.ts";

type Hour = Record<string, unknown>;
type Page = { items: Hour[]; nextCursor: string | null };

const PATH = "/analytics/v1/admin/pools";
const WINDOW = "start=2026-11-20T00:00:00Z&end=2026-11-20T11:00:00Z";

/** An hour's calls of two orgs, and a pool from an hour before on. */
async function withPool(api: TestApi): Promise<void> {
  const { status, text } = await api.ask("/analytics/v1/admin/prices", {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      pools: [
        { pool: "house", perHour: "0.10", from: "2026-11-20T09:00:00Z", models: ["house-*"] },
      ],
    }),
  });
  assert.equal(status, 200, text);
  const call = { model_id: "house-large", output_tokens: 0, occurred_at: "2026-11-20T10:30:00Z" };
  // In the order of their ids: who comes last takes what rounding leaves.
  const id = (last: number) => `00000000-0000-4000-8000-00000000000${last}`;
  await api.send([
    anEvent({ ...call, event_id: id(1), input_tokens: 100 }),
    anEvent({ ...call, event_id: id(2), input_tokens: 200, org_id: "globex" }),
  ]);
  await api.fold();
  await api.database.sql`update fold_state set complete_through = '2026-11-20T11:15:00Z'`;
  const { database, clock } = api;
  await using pools = startPoolRating({
    database,
    clock,
    logger: silentLogger,
    crash: neverCrash,
    intervalMs: 3_600_000,
  });
  await pools.run();
}

test("pools are listed by the hour with what was shared of them, and reports show each org its share", async () => {
  await using api = await testApi();
  await withPool(api);
  const { status, body, text } = await api.ask<Page>(`${PATH}?${WINDOW}`);
  assert.equal(status, 200, text);
  assert.equal(body.nextCursor, null);
  const common = { pool: "house", orgId: null, currency: "USD", cost: "0.10", isFinished: true };
  assert.deepEqual(
    body.items.map(({ ratedAt, ...hour }) => {
      assert.equal(ratedAt, new Date(api.clock.now()).toISOString());
      return hour;
    }),
    [
      {
        ...common,
        hour: "2026-11-20T09:00:00.000Z",
        shared: "0.00",
        tokens: 0,
        events: 0,
        isIdle: true,
      },
      {
        ...common,
        hour: "2026-11-20T10:00:00.000Z",
        shared: "0.10",
        tokens: 300,
        events: 2,
        isIdle: false,
      },
    ],
  );
  const first = await api.ask<Page>(`${PATH}?${WINDOW}&limit=1`);
  const second = await api.ask<Page>(
    `${PATH}?${WINDOW}&limit=1&cursor=${first.body.nextCursor ?? ""}`,
  );
  assert.deepEqual([...first.body.items, ...second.body.items], body.items);
  assert.equal(second.body.nextCursor, null);
  const half = "start=2026-11-20T09:00:00Z&end=2026-11-20T10:00:00Z";
  assert.deepEqual(
    (await api.ask<Page>(`${PATH}?${half}`)).body.items,
    body.items.slice(0, 1),
    "half-open",
  );

  const shares = [];
  for (const orgId of ["acme", "globex"]) {
    const usage = await api.ask<{ totals: { cost: { amount: string }; pricedShare: unknown } }>(
      `/analytics/v1/orgs/${orgId}/usage?start=2026-11-20T10:00:00Z&end=2026-11-20T11:00:00Z`,
    );
    shares.push(usage.body.totals.cost.amount);
  }
  assert.deepEqual(shares, ["0.033333333", "0.066666667"]);
});

test("who may see all orgs but no money sees no pools, and a window that is none is refused", async () => {
  await using api = await testApi();
  const refused = await api.ask<Problem>(
    `${PATH}?start=2026-11-20T00:00:00Z&end=2026-11-20T00:00:00Z`,
  );
  assert.deepEqual([refused.status, refused.body.errors[0]?.pointer], [400, "/query/end"]);
  const missing = await api.ask<Problem>(PATH);
  assert.equal(missing.status, 400);
  const key = await api.keyFor({ orgId: null, roles: ["finance"], scopes: ["system:read"] });
  const { status, text } = await api.ask<Problem>(`${PATH}?${WINDOW}`, { key });
  assert.deepEqual([status, /spend:read/.test(text)], [403, true], text);
});
