import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import type { Problem } from "../problem.ts";
import { testApi } from "../test-api.ts";

const PATH = "/analytics/v1/orgs/acme/spend/unpriced";
const DAY = "start=2026-11-19&end=2026-11-20&timeZone=UTC";

type Row = { modelId: string | null; requests: number; since: string; inputTokens: number | null };
type Body = {
  orgId: string | null;
  allRequests: number;
  totals: { requests: number; totalTokens: number; share: number };
  models: Row[];
  sinceGranularity: string;
  pricing: { costBasis: string; bookVersion: number };
  freshness: { completeThrough: string | null };
};

test("what has no price is told by model, as JSON and as CSV, to those who see spend, until a price is there for it", async () => {
  await using api = await testApi();
  const call = (model_id: string, day: number, rest: object = {}) =>
    anEvent({ model_id, occurred_at: `2026-11-${day}T10:00:00Z`, ...rest });
  await api.send([
    call("=cmd()", 17),
    call("=cmd()", 19, { requests: 2 }),
    call("house", 19),
    call("paid", 19, { cost_estimate: "0.5" }),
  ]);
  await api.fold();
  const finance = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const { status, body, text } = await api.ask<Body>(`${PATH}?${DAY}`, { key: finance });
  assert.equal(status, 200, text);
  assert.deepEqual([body.orgId, body.allRequests, body.sinceGranularity], ["acme", 4, "day"]);
  const { requests, totalTokens, share } = body.totals;
  assert.deepEqual([requests, totalTokens, share], [3, 240, 0.75]);
  assert.deepEqual(
    body.models.map(({ modelId, requests: of, since }) => [modelId, of, since]),
    [
      ["=cmd()", 2, "2026-11-17T00:00:00Z"],
      ["house", 1, "2026-11-19T00:00:00Z"],
    ],
  );
  assert.deepEqual(body.pricing, { costBasis: "event_or_computed", bookVersion: 0 });
  assert.ok(body.freshness.completeThrough !== null);

  const csv = await api.ask(`${PATH}?${DAY}`, { key: finance, headers: { accept: "text/csv" } });
  assert.equal(csv.headers.get("content-disposition"), 'attachment; filename="unpriced.csv"');
  assert.deepEqual(csv.text.trimEnd().split("\r\n"), [
    "modelId,isOther,requests,share,totalTokens,inputTokens,cacheReadTokens,cacheWrite5mTokens,cacheWrite1hTokens,outputTokens,reasoningTokens,since",
    `"'=cmd()",false,2,0.5,120,100,0,0,0,20,0,2026-11-17T00:00:00Z`,
    `"house",false,1,0.25,120,100,0,0,0,20,0,2026-11-19T00:00:00Z`,
  ]);
  const other = await api.ask<Body>(`${PATH}?${DAY}&limit=1`, { key: finance });
  assert.deepEqual(
    other.body.models.map(({ modelId, requests: of }) => [modelId, of]),
    [
      ["=cmd()", 2],
      ["(other)", 1],
    ],
  );

  await api.send([call("house", 18, { org_id: "globex", requests: 5 })]);
  await api.fold();
  const staff = await api.keyFor({ orgId: null, roles: ["finance"] });
  const all = await api.ask<Body>(`/analytics/v1/system/unpriced?start=2026-11-17&end=2026-11-20`, {
    key: staff,
  });
  assert.deepEqual([all.body.orgId, all.body.allRequests, all.body.totals.requests], [null, 10, 9]);
  assert.deepEqual(
    all.body.models.map(({ modelId, requests: of, since }) => [modelId, of, since]),
    [
      ["house", 6, "2026-11-18T00:00:00Z"],
      ["=cmd()", 3, "2026-11-17T00:00:00Z"],
    ],
  );

  for (const roles of [["engineer"], ["producer"]]) {
    const key = await api.keyFor({ orgId: "acme", roles });
    const refused = await api.ask<Problem>(`${PATH}?${DAY}`, { key });
    assert.deepEqual([refused.status, refused.body.code], [403, "forbidden"]);
  }

  const headers = { "content-type": "application/json" };
  const prices = [{ model: "house", perMillion: { input: "1", output: "2" } }];
  await api.ask("/analytics/v1/admin/prices", {
    method: "PUT",
    headers,
    body: JSON.stringify({ prices }),
  });
  await api.send([call("house", 16), call("=cmd()", 16)]);
  await api.fold();
  const later = await api.ask<Body>(`${PATH}?start=2026-11-16&end=2026-11-17&timeZone=UTC`);
  assert.deepEqual(
    [later.body.models.map(({ modelId }) => modelId), later.body.pricing.bookVersion],
    [["=cmd()"], 1],
  );
});

test("what cannot be asked is a 400 that names the parameter", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  for (const [query, pointer] of [
    ["modelId=m", "/query/modelId"],
    ["limit=0", "/query/limit"],
    ["limit=1001", "/query/limit"],
    ["granularity=day", "/query/granularity"],
    ["start=yesterday", "/query/start"],
  ]) {
    const { status, body } = await api.ask<Problem>(`${PATH}?${query}`);
    assert.deepEqual([status, body.errors[0]?.pointer], [400, pointer], query);
  }
});
