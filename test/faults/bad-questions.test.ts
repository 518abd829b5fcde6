import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { anEvent, spawnService, testDatabase, type SpawnedService } from "#harness";

const scope = new AsyncDisposableStack();
let service: SpawnedService;

before(async () => {
  const db = scope.use(await testDatabase());
  service = scope.use(await spawnService({ databaseUrl: db.url }));
  const occurred_at = new Date().toISOString();
  await service.send([anEvent({ occurred_at }), anEvent({ occurred_at, org_id: "globex" })]);
  await service.send(
    ["acme", "acme", "globex"].map((org_id) => anEvent({ org_id, input_tokens: -1 })),
  );
});
after(() => scope.disposeAsync());

type Problem = { status: number; code: string; title: string; errors: { pointer: string }[] };

/** Asks, and fails unless the answer is a problem in the house's form, quickly given. */
async function ask(path: string): Promise<Problem> {
  const startedMs = performance.now();
  const answer = await service.request(path);
  const text = await answer.text();
  assert.match(answer.headers.get("content-type") ?? "", /problem\+json/, `${path}: ${text}`);
  assert.doesNotMatch(text, /select |relation|\.ts:|\/src\/|at Object/, path);
  assert.ok(performance.now() - startedMs < 3000, `${path} took too long`);
  return JSON.parse(text) as Problem;
}

const ORG = "/analytics/v1/orgs/acme";
const YEAR = "start=2025-11-20T00:00:00Z&end=2026-11-20T00:00:00Z";

test("B40: what cannot be answered is a 400 that names the parameter, on every report", async () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ["start=2026-11-21T00:00:00Z&end=2026-11-20T00:00:00Z", "invalid_request", "/query/end"],
    ["start=1980-01-01T00:00:00Z&end=2080-01-01T00:00:00Z", "range_too_large", "/query/start"],
    ["timeZone=Mars/Olympus", "unknown_zone", "/query/timeZone"],
    ["timeZone=GMT%2B5", "unknown_zone", "/query/timeZone"],
    ["limit=0", "invalid_request", "/query/limit"],
    ["limit=-1", "invalid_request", "/query/limit"],
    ["limit=1e9", "invalid_request", "/query/limit"],
    ["orderBy=secret", "invalid_request", "/query/orderBy"],
    ["start=2026-11-20T00:00:00Z&start=2026-11-19T00:00:00Z", "invalid_request", "/query/start"],
    ["sort=requests", "invalid_request", "/query/sort"],
  ];
  for (const report of ["usage", "reliability", "models", "users", "clients"]) {
    for (const [query, code, pointer] of cases) {
      const problem = await ask(`${ORG}/${report}?${query}`);
      const got = [problem.status, problem.code, problem.errors[0]?.pointer];
      assert.deepEqual(got, [400, code, pointer], `${report}?${query}`);
    }
  }
  for (const granularity of ["1s", "second", "0"])
    assert.equal((await ask(`${ORG}/usage?${YEAR}&granularity=${granularity}`)).status, 400);
  assert.equal((await ask(`${ORG}/usage?${YEAR}&granularity=15m`)).code, "range_too_large");
});

test("B40: a cursor that is broken, of another org's list or made up is refused", async () => {
  const list = async (org: string) =>
    (await service.get(`/analytics/v1/orgs/${org}/quarantine?limit=1`)) as {
      nextCursor: string | null;
    };
  const { nextCursor } = await list("acme");
  assert.ok(nextCursor);
  assert.equal((await service.request(`${ORG}/quarantine?cursor=${nextCursor}`)).status, 200);
  const foreign = `/analytics/v1/orgs/globex/quarantine?cursor=${nextCursor}`;
  const bad = [
    foreign,
    `${ORG}/quarantine?cursor=${nextCursor.slice(0, -2)}`,
    `${ORG}/quarantine?cursor=${nextCursor}A`,
    `${ORG}/quarantine?cursor=%00`,
    `${ORG}/quarantine?cursor=1'%20or%201=1`,
  ];
  for (const path of bad) {
    const problem = await ask(path);
    assert.deepEqual([problem.status, problem.errors[0]?.pointer], [400, "/query/cursor"], path);
  }
});

test("B41: paths with injections, dots, NUL, other digits or much too long are 400 or 404, never 500, and harm nothing", async () => {
  const odd = [
    "%00",
    "a%00b",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "'%3B%20drop%20table%20org%3B--",
    "1%20or%201%3D1",
    "%ff%fe",
    "%zz",
    "*",
    "x".repeat(5000),
    "__proto__",
    "constructor",
    "%F0%9D%9F%99",
  ];
  for (const org of odd) {
    for (const rest of ["usage", "models", "quarantine", "quarantine/1", "freshness"]) {
      const { status } = await ask(`/analytics/v1/orgs/${org}/${rest}`);
      assert.ok(status === 400 || status === 404, `${org.slice(0, 30)}/${rest}: ${status}`);
    }
  }
  for (const id of ["0", "-1", "1.5", "%D9%A1", "9".repeat(40), "1;select", "1%00"]) {
    const { status } = await ask(`${ORG}/quarantine/${id}`);
    assert.ok(status === 400 || status === 404, id);
  }
  for (const filter of ["modelId", "actorId", "clientId"]) {
    const value = encodeURIComponent("' or 1=1; drop table usage_event; --");
    const answer = await service.request(`${ORG}/usage?${filter}=${value}`);
    const { totals } = (await answer.json()) as { totals: { requests: number } };
    assert.deepEqual([answer.status, totals.requests], [200, 0]);
  }
  assert.equal((await service.request(`${ORG}/usage`)).status, 200);
  assert.doesNotMatch(service.stderr(), /"level":"?(error|50)/);
});
