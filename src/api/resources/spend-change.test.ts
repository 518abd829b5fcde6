import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import type { Problem } from "../problem.ts";
import { testApi } from "../test-api.ts";

const PATH = "/analytics/v1/orgs/acme/spend/change";
const DAY = "start=2026-11-19&end=2026-11-20&timeZone=UTC";

type Money = { amount: string; currency: string };
type Change = { change: Money; parts: Record<string, Money> };
type Body = {
  explained: Change & {
    current: { start: string; cost: Money; pricedRequests: number };
    previous: { start: string; cost: Money; pricedRequests: number };
    models: (Change & { modelId: string; basis: string })[];
  };
};

const costing = (day: number, model_id: string, cost_estimate: string) =>
  anEvent({ occurred_at: `2026-11-${day}T10:00:00Z`, model_id, cost_estimate });

test("why spend changed is told with spend:read, as JSON and as CSV with the same numbers, and to nobody else", async () => {
  await using api = await testApi();
  await api.send([
    costing(18, "chat-large", "0.50"),
    costing(19, "chat-large", "0.25"),
    costing(19, "chat-large", "0.25"),
    costing(19, "=cmd()", "0.000000001"),
  ]);
  await api.fold();
  const finance = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const { status, body, text } = await api.ask<Body>(`${PATH}?${DAY}`, { key: finance });
  assert.equal(status, 200, text);
  const { explained } = body;
  assert.deepEqual(
    [explained.previous.start, explained.previous.cost.amount, explained.current.cost.amount],
    ["2026-11-18T00:00:00Z", "0.50", "0.500000001"],
  );
  assert.deepEqual(
    Object.entries(explained.parts).map(([part, { amount }]) => `${part} ${amount}`),
    [
      "requests 0.50",
      "tokensPerRequest 0.00",
      "modelMix 0.00",
      "price -0.50",
      "modelsCame 0.000000001",
      "modelsWent 0.00",
    ],
  );

  const csv = await api.ask(`${PATH}?${DAY}`, { key: finance, headers: { accept: "text/csv" } });
  assert.equal(csv.headers.get("content-disposition"), 'attachment; filename="spend-change.csv"');
  assert.deepEqual(csv.text.trimEnd().split("\r\n").slice(1), [
    `"'=cmd()",false,"came","USD",0.00,0.000000001,0.000000001,0.00,0.00,0.00,0.00,0.000000001,0.00,0,1,0,120`,
    `"chat-large",false,"tokens","USD",0.50,0.50,0.00,0.50,0.00,0.00,-0.50,0.00,0.00,1,2,120,240`,
  ]);

  const engineer = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  const refused = await api.ask<Problem>(`${PATH}?${DAY}`, { key: engineer });
  assert.deepEqual([refused.status, refused.body.code], [403, "forbidden"]);
});

test("what cannot be asked is a 400 that names the parameter", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  for (const [query, pointer] of [
    ["clientId=web", "/query/clientId"],
    ["limit=0", "/query/limit"],
    ["orderBy=cost", "/query/orderBy"],
    ["start=yesterday", "/query/start"],
  ]) {
    const { status, body } = await api.ask<Problem>(`${PATH}?${query}`);
    assert.deepEqual([status, body.errors[0]?.pointer], [400, pointer], query);
  }
});
