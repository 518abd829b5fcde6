import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import type { Problem } from "./problem.ts";
import { testApi, type TestApi } from "./test-api.ts";

type Totals = {
  requests: number;
  errors: number;
  totalTokens: number;
  cost: { amount: string; currency: string };
};
type Usage = {
  orgId: string | null;
  window: { start: string; end: string; timeZone: string; granularity: string };
  totals: Totals;
  series: (Totals & { start: string; complete: boolean })[];
  groups?: (Totals & { modelId?: string | null })[];
  freshness: { completeThrough: string | null };
  reconciliation: { state: string };
};

const DAY = "start=2026-11-20T00:00:00Z&end=2026-11-21T00:00:00Z";
const REPORTS = ["usage", "reliability", "models", "users", "clients", "freshness"];

async function filledApi(): Promise<TestApi> {
  const api = await testApi();
  const answer = await api.send([
    anEvent({ model_id: "=cmd()", cost_estimate: "0.25" }),
    anEvent({ model_id: "chat-large", cost_estimate: "-1.5" }),
    anEvent({ status: "error", error_class: "capacity", latency_ms: 900 }),
    anEvent({ org_id: "other-org" }),
  ]);
  assert.equal(answer.status, 200);
  await api.fold();
  return api;
}

test("usage of an org: window, totals, series, freshness and reconciliation, under both names", async () => {
  await using api = await filledApi();
  const { status, body } = await api.ask<Usage>(
    `/analytics/v1/orgs/acme/usage?${DAY}&granularity=hour&timeZone=UTC`,
  );
  assert.equal(status, 200);
  assert.equal(body.orgId, "acme");
  assert.deepEqual(body.window.granularity, "hour");
  assert.deepEqual(
    [body.totals.requests, body.totals.errors, body.totals.totalTokens],
    [3, 1, 360],
  );
  assert.deepEqual(body.totals.cost, { amount: "-1.25", currency: "USD" });
  assert.equal(body.series.length, 24);
  assert.equal(body.series[10]?.requests, 3);
  assert.ok(body.freshness.completeThrough !== null);
  assert.ok(body.reconciliation.state.length > 0);
  const alias = await api.ask<Usage>(
    `/api/v1/analytics/orgs/acme/usage?${DAY}&granularity=hour&timeZone=UTC`,
  );
  assert.deepEqual(alias.body.totals, body.totals);
});

test("repeated parameters are a list, and filters narrow the answer", async () => {
  await using api = await filledApi();
  const requests = async (query: string) =>
    (await api.ask<Usage>(`/analytics/v1/orgs/acme/usage?${DAY}&${query}`)).body.totals.requests;
  assert.equal(await requests("modelId=chat-large"), 2);
  assert.equal(await requests("modelId=chat-large&modelId=%3Dcmd()"), 3);
  assert.equal(await requests("status=error"), 1);
  assert.equal(await requests("errorClass=capacity&errorClass=policy"), 1);
  const { body } = await api.ask<Usage>(
    `/analytics/v1/orgs/acme/usage?${DAY}&groupBy=model&limit=1`,
  );
  assert.equal(
    body.groups?.reduce((sum, group) => sum + group.requests, 0),
    body.totals.requests,
  );
});

test("every report of an org and of the system answers, as JSON and as CSV with the same numbers", async () => {
  await using api = await filledApi();
  for (const path of [
    ...REPORTS.map((name) => `orgs/acme/${name}`),
    "system/usage",
    "system/orgs",
    "system/freshness",
  ]) {
    const query = path.endsWith("freshness") ? "" : `?${DAY}`;
    const json = await api.ask(`/analytics/v1/${path}${query}`);
    assert.equal(json.status, 200, `${path}: ${json.text}`);
    const csv = await api.ask(`/analytics/v1/${path}${query}`, { headers: { accept: "text/csv" } });
    assert.equal(csv.status, 200, path);
    assert.match(csv.headers.get("content-type") ?? "", /^text\/csv/);
    assert.match(csv.headers.get("tallystick-complete-through") ?? "", /^\d{4}-/);
    assert.match(csv.text, /^[A-Za-z0-9,]+\r\n(?:[^\n]*\r\n)+$/, path);
  }
});

test("a breakdown comes in pages: what is not on one is in its row for the rest", async () => {
  await using api = await filledApi();
  type Page = {
    groups: { modelId: string | null; requests: number }[];
    nextCursor: string | null;
  };
  const readPage = async (cursor = "") => {
    const url = `/analytics/v1/orgs/acme/models?${DAY}&limit=1${cursor}`;
    const { status, body } = await api.ask<Page>(url);
    assert.equal(status, 200);
    return body;
  };
  const rowsOf = ({ groups }: Page) => groups.map(({ modelId, requests }) => [modelId, requests]);
  const first = await readPage();
  assert.deepEqual(rowsOf(first), [
    ["chat-large", 2],
    ["(other)", 1],
  ]);
  const second = await readPage(`&cursor=${first.nextCursor}`);
  assert.deepEqual(rowsOf(second), [
    ["=cmd()", 1],
    ["(other)", 2],
  ]);
  assert.equal(second.nextCursor, null);
  const foreign = `/analytics/v1/orgs/acme/clients?${DAY}&cursor=${first.nextCursor}`;
  const { status, body } = await api.ask<Problem>(foreign);
  assert.deepEqual([status, body.errors?.[0]?.pointer], [400, "/query/cursor"]);
});

test("S12: CSV disarms formulas in names and leaves negative amounts alone", async () => {
  await using api = await filledApi();
  const { text, headers } = await api.ask(`/analytics/v1/orgs/acme/models?${DAY}`, {
    headers: { accept: "text/csv" },
  });
  const [head = "", ...rows] = text.trimEnd().split("\r\n");
  assert.deepEqual(head.split(",").slice(0, 4), ["modelId", "isOther", "requests", "errors"]);
  assert.ok(
    rows.some((row) => row.startsWith(`"'=cmd()",false,1,`)),
    text,
  );
  assert.ok(
    rows.some((row) => row.includes(`,-1.50,"USD",`)),
    text,
  );
  assert.equal(headers.get("content-disposition"), 'attachment; filename="models.csv"');

  const grouped = await api.ask(`/analytics/v1/orgs/acme/usage?${DAY}&groupBy=status`, {
    headers: { accept: "text/csv" },
  });
  assert.match(grouped.text, /^status,errorClass,isOther,start,end,complete,requests/);
  const reliability = await api.ask(
    `/analytics/v1/orgs/acme/reliability?${DAY}&percentile=99.9&percentile=50`,
    { headers: { accept: "text/csv" } },
  );
  assert.match(reliability.text, /latencyMeanMs,(p50Ms,p99\.9Ms|p99\.9Ms,p50Ms)\r\n/);
});

test("what the client has already is 304 with current freshness, until something new is counted", async () => {
  await using api = await filledApi();
  const path = `/analytics/v1/orgs/acme/usage?${DAY}`;
  const first = await api.ask(path);
  const etag = first.headers.get("etag") ?? "";
  assert.equal(first.headers.get("cache-control"), "private, no-cache");
  assert.match(first.headers.get("vary") ?? "", /Accept, Authorization/);
  const again = await api.ask(path, { headers: { "if-none-match": `"x", ${etag}` } });
  assert.deepEqual([again.status, again.text, again.headers.get("etag")], [304, "", etag]);
  assert.match(again.headers.get("tallystick-complete-through") ?? "", /^\d{4}-/);

  const csv = await api.ask(path, { headers: { accept: "text/csv", "if-none-match": etag } });
  assert.equal(csv.status, 200);
  const other = await api.ask(path.replace("acme", "other-org"), {
    headers: { "if-none-match": etag },
  });
  assert.equal(other.status, 200);
  await api.send([anEvent()]);
  await api.fold();
  assert.equal((await api.ask(path, { headers: { "if-none-match": etag } })).status, 200);
});

test("HEAD of a report says how long it is, and with an ETag that there is nothing new", async () => {
  await using api = await filledApi();
  const path = `/analytics/v1/orgs/acme/usage?${DAY}`;
  const head = await api.ask(path, { method: "HEAD" });
  assert.deepEqual([head.status, head.text], [200, ""]);
  assert.ok(Number(head.headers.get("content-length")) > 500);
  const headers = { "if-none-match": head.headers.get("etag") ?? "" };
  assert.equal((await api.ask(path, { method: "HEAD", headers })).status, 304);
});

test("B40: what cannot be asked is a 400 problem that names the parameter", async () => {
  await using api = await filledApi();
  const cases: [string, string, string][] = [
    ["start=2026-11-21T00:00:00Z&end=2026-11-20T00:00:00Z", "invalid_request", "/query/end"],
    ["start=1926-11-20T00:00:00Z&end=2026-11-20T00:00:00Z", "invalid_request", "/query/start"],
    ["start=2010-11-20T00:00:00Z&end=2026-11-20T00:00:00Z", "range_too_large", "/query/start"],
    [
      "start=2025-11-20T00:00:00Z&end=2026-11-20T00:00:00Z&granularity=15m",
      "range_too_large",
      "/query/start",
    ],
    ["granularity=1s", "invalid_request", "/query/granularity"],
    ["timeZone=Mars/Olympus", "unknown_zone", "/query/timeZone"],
    ["timeZone=GMT%2B5", "unknown_zone", "/query/timeZone"],
    ["start=yesterday", "invalid_request", "/query/start"],
    ["start=2026-11-20T00:00:01Z", "invalid_request", "/query/start"],
    ["limit=0", "invalid_request", "/query/limit"],
    ["limit=-1", "invalid_request", "/query/limit"],
    ["limit=1e9", "invalid_request", "/query/limit"],
    ["limit=x", "invalid_request", "/query/limit"],
    ["orderBy=name", "invalid_request", "/query/orderBy"],
    ["groupBy=model&groupBy=client", "invalid_request", "/query/groupBy"],
    ["start=2026-11-20&start=2026-11-19", "invalid_request", "/query/start"],
    ["tz=UTC", "invalid_request", "/query/tz"],
    ["__proto__=1", "invalid_request", "/query/__proto__"],
    ["constructor=1", "invalid_request", "/query/constructor"],
    ["status=maybe", "invalid_request", "/query/status/0"],
    ["modelId=", "invalid_request", "/query/modelId/0"],
    ["compare=next", "invalid_request", "/query/compare"],
    [`modelId=${"x".repeat(600)}`, "invalid_request", "/query/modelId/0"],
    [
      Array.from({ length: 101 }, (_, i) => `modelId=${i}`).join("&"),
      "invalid_request",
      "/query/modelId",
    ],
  ];
  for (const [query, code, pointer] of cases) {
    const { status, body, text } = await api.ask<Problem>(`/analytics/v1/orgs/acme/usage?${query}`);
    assert.deepEqual(
      [status, body.code, body.errors[0]?.pointer],
      [400, code, pointer],
      `${query}: ${text}`,
    );
  }
});

test("an org nobody has heard of is 404, and so is the row of all orgs under an org's path", async () => {
  await using api = await filledApi();
  for (const name of REPORTS) {
    const { status, body } = await api.ask<Problem>(`/analytics/v1/orgs/nobody/${name}`);
    assert.deepEqual([status, body.code], [404, "not_found"], name);
    const all = await api.ask<Problem>(`/analytics/v1/orgs/*/${name}`);
    assert.ok(all.status === 404 || all.status === 400, name);
  }
});

test("an Accept header that nothing serves is 406", async () => {
  await using api = await filledApi();
  const { status, body } = await api.ask<Problem>("/analytics/v1/orgs/acme/usage", {
    headers: { accept: "image/png" },
  });
  assert.deepEqual([status, body.code], [406, "not_acceptable"]);
});

test("a demand for completeness that cannot be met yet is 409 with Retry-After", async () => {
  await using api = await filledApi();
  const { status, body, headers } = await api.ask<Problem>(
    "/analytics/v1/orgs/acme/usage?end=2199-01-01&start=2198-12-31&requireComplete=true",
  );
  assert.deepEqual([status, body.code], [409, "not_complete"]);
  assert.ok(Number(headers.get("retry-after")) >= 1);
});
