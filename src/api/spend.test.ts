import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import type { Problem } from "./problem.ts";
import { withoutSpend } from "./spend.ts";
import { testApi, type TestApi } from "./test-api.ts";

const DAY = "start=2026-11-20T00:00:00Z&end=2026-11-21T00:00:00Z";
const MONEY = /cost|currency|price|amount/i;

async function filledApi(): Promise<TestApi> {
  const api = await testApi();
  await api.createOrg("acme");
  await api.declareTags("acme", ["team"]);
  await api.send([
    anEvent({ cost_estimate: "0.25", metadata: { team: "search" } }),
    anEvent({ model_id: "chat-large", cost_estimate: "1.5" }),
  ]);
  await api.fold();
  return api;
}

/** The names of all members of an answer, at any depth, sorted. */
function namesIn(answer: unknown, names = new Set<string>()): string[] {
  if (Array.isArray(answer)) for (const item of answer) namesIn(item, names);
  else if (typeof answer === "object" && answer !== null) {
    for (const [name, value] of Object.entries(answer)) {
      names.add(name);
      namesIn(value, names);
    }
  }
  return [...names].toSorted();
}

const REPORTS = [
  `usage?${DAY}&groupBy=model&compare=previous`,
  `models?${DAY}`,
  `users?${DAY}`,
  `clients?${DAY}`,
  `tags?${DAY}&tagKey=team`,
];

test("without spend:read no answer tells money, in JSON or CSV, and nothing else is missing", async () => {
  await using api = await filledApi();
  const engineer = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  const finance = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  for (const report of REPORTS) {
    const path = `/analytics/v1/orgs/acme/${report}`;
    const whole = await api.ask(path, { key: finance });
    const cut = await api.ask(path, { key: engineer });
    assert.deepEqual([whole.status, cut.status], [200, 200], report);
    assert.match(whole.text, MONEY, report);
    assert.doesNotMatch(cut.text, MONEY, report);
    const { freshness: _, ...expected } = Object(withoutSpend(whole.body));
    const { freshness, ...rest } = cut.body;
    assert.deepEqual(rest, expected, report);
    assert.ok(freshness !== undefined);
    assert.notEqual(whole.headers.get("etag"), cut.headers.get("etag"));
    assert.equal(whole.headers.get("tallystick-cost-basis"), "event_or_computed");
    assert.doesNotMatch([...cut.headers.keys()].join(), MONEY, report);

    const csv = { accept: "text/csv" };
    const wholeTable = await api.ask(path, { key: finance, headers: csv });
    const cutTable = await api.ask(path, { key: engineer, headers: csv });
    assert.match(wholeTable.text, MONEY, report);
    assert.doesNotMatch(cutTable.text, MONEY, report);
    assert.match(cutTable.text, /totalTokens/);
  }
});

test("S3: the members of an answer are these, by role", async () => {
  await using api = await filledApi();
  const path = `/analytics/v1/orgs/acme/usage?${DAY}`;
  const counted = [
    "cacheReadTokens",
    "cacheWrite1hTokens",
    "cacheWrite5mTokens",
    "checkedAt",
    "checkedHours",
    "closedHours",
    "complete",
    "completeThrough",
    "differingHours",
    "end",
    "errors",
    "freshness",
    "granularity",
    "inputTokens",
    "lagSeconds",
    "lastAggregatedAt",
    "lastIngestedAt",
    "lastOccurredAt",
    "orgId",
    "outputTokens",
    "reasoningTokens",
    "reconciliation",
    "requests",
    "series",
    "start",
    "state",
    "timeZone",
    "totalTokens",
    "totals",
    "window",
  ];
  const spent = [
    "amount",
    "bookVersion",
    "cost",
    "costBasis",
    "currency",
    "otherCosts",
    "pricedShare",
    "pricing",
    "tokens",
  ];
  for (const [role, names] of [
    ["engineer", counted],
    ["finance", [...counted, ...spent].toSorted()],
    ["org_admin", [...counted, ...spent].toSorted()],
  ] as const) {
    const { body } = await api.ask(path, {
      key: await api.keyFor({ orgId: "acme", roles: [role] }),
    });
    assert.deepEqual(namesIn(body), names, role);
  }
});

test("without spend:read nothing is ranked by money", async () => {
  await using api = await filledApi();
  const engineer = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  for (const report of ["usage", "models", "tags", "reliability"]) {
    const key = report === "tags" ? "&tagKey=team" : "";
    const path = `/analytics/v1/orgs/acme/${report}?${DAY}${key}&orderBy=cost`;
    const { status, body } = await api.ask<Problem>(path, { key: engineer });
    assert.deepEqual([status, body.code], [403, "forbidden"], report);
    assert.equal(body.errors[0]?.pointer, "/query/orderBy");
    assert.equal((await api.ask(path)).status, 200, report);
  }
  const staff = await api.keyFor({ orgId: null, roles: ["engineer"] });
  const { status, text } = await api.ask(`/analytics/v1/orgs/acme/usage?${DAY}`, { key: staff });
  assert.equal(status, 200);
  assert.doesNotMatch(text, MONEY);
});
