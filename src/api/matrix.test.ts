import assert from "node:assert/strict";
import test from "node:test";
import manifest from "../../package.json" with { type: "json" };
import { ROLES_OF, scopesOf } from "#auth";
import { routesOf, type RouteScope } from "./access.ts";
import { describedDependencies } from "./document.ts";
import type { Problem } from "./problem.ts";
import { createServer } from "./server.ts";
import { type Answer, testApi, type TestApi } from "./test-api.ts";

/** own: about the org in the path. system: about all orgs. self: about the caller, or about no org. */
type About = "own" | "system" | "self" | "public";
type Line = readonly [
  scope: RouteScope,
  about: About,
  /** Status for whoever is let in; 200 when left out. Changes are asked for with a body that no route takes. */
  reached?: number,
];

/** Every route there is. A new one has to be put here by hand, by somebody who thinks about who may use it. */
const ROUTES: Record<string, Line> = {
  "GET /health": ["public", "public"],
  "GET /ready": ["public", "public"],
  "GET /analytics/v1/status/healthz": ["public", "public"],
  "GET /analytics/v1/status/readyz": ["public", "public"],
  "GET /sign-in": ["public", "public"],
  "POST /sign-in": ["public", "public", 415],
  "GET /sign-in/link/:token": ["public", "public"],
  "POST /sign-in/link/:token": ["public", "public", 415],
  "GET /sign-in/oidc": ["public", "public", 404],
  "GET /sign-in/oidc/callback": ["public", "public", 404],
  "POST /sign-out": ["public", "public", 415],
  "POST /analytics/v1/sign-in-links": ["self:read", "self", 415],
  "GET /metrics": ["metrics:read", "self"],
  "GET /openapi.json": ["docs:read", "self"],
  "GET /docs": ["docs:read", "self"],
  "GET /docs/": ["docs:read", "self"],
  "GET /docs/json": ["docs:read", "self"],
  "GET /docs/yaml": ["docs:read", "self"],
  "GET /docs/static/index.html": ["docs:read", "self"],
  "GET /docs/static/swagger-initializer.js": ["docs:read", "self"],
  "GET /docs/static/*": ["docs:read", "self"],
  "GET /analytics/v1/me": ["self:read", "self"],
  "POST /analytics/v1/events": ["events:write", "self", 415],

  "GET /analytics/v1/orgs/:orgId": ["org:read", "own"],
  "PATCH /analytics/v1/orgs/:orgId": ["system:write", "own", 400],
  "GET /analytics/v1/orgs/:orgId/usage": ["usage:read", "own"],
  "GET /analytics/v1/orgs/:orgId/models": ["usage:read", "own"],
  "GET /analytics/v1/orgs/:orgId/users": ["usage:read", "own"],
  "GET /analytics/v1/orgs/:orgId/clients": ["usage:read", "own"],
  // Without a tag key it refuses whoever is let in.
  "GET /analytics/v1/orgs/:orgId/tags": ["usage:read", "own", 400],
  "GET /analytics/v1/orgs/:orgId/spend/change": ["spend:read", "own"],
  "GET /analytics/v1/orgs/:orgId/spend/unpriced": ["spend:read", "own"],
  "GET /analytics/v1/orgs/:orgId/freshness": ["usage:read", "own"],
  "GET /analytics/v1/orgs/:orgId/reliability": ["reliability:read", "own"],
  "GET /analytics/v1/orgs/:orgId/incidents": ["reliability:read", "own"],
  "GET /api/v1/analytics/orgs/:orgId/usage": ["usage:read", "own"],
  "GET /api/v1/analytics/orgs/:orgId/models": ["usage:read", "own"],
  "GET /api/v1/analytics/orgs/:orgId/users": ["usage:read", "own"],
  "GET /analytics/v1/orgs/:orgId/quarantine": ["quarantine:read", "own"],
  "GET /analytics/v1/orgs/:orgId/quarantine/:id": ["quarantine:read", "own", 404],
  "POST /analytics/v1/orgs/:orgId/quarantine/:id/replay": ["quarantine:write", "own", 404],
  "POST /analytics/v1/orgs/:orgId/quarantine/:id/drop": ["quarantine:write", "own", 404],
  "POST /analytics/v1/orgs/:orgId/quarantine/replay": ["quarantine:write", "own"],
  "POST /analytics/v1/orgs/:orgId/quarantine/drop": ["quarantine:write", "own"],
  "GET /analytics/v1/orgs/:orgId/keys": ["keys:manage", "own"],
  "POST /analytics/v1/orgs/:orgId/keys": ["keys:manage", "own", 400],
  "POST /analytics/v1/orgs/:orgId/keys/:keyId/rotate": ["keys:manage", "own", 400],
  "DELETE /analytics/v1/orgs/:orgId/keys/:keyId": ["keys:manage", "own", 404],
  "GET /analytics/v1/orgs/:orgId/budgets": ["spend:read", "own"],
  "PUT /analytics/v1/orgs/:orgId/budgets/:budgetId": ["budgets:manage", "own", 400],
  "DELETE /analytics/v1/orgs/:orgId/budgets/:budgetId": ["budgets:manage", "own", 404],
  "GET /analytics/v1/orgs/:orgId/audit": ["audit:read", "own"],
  "GET /analytics/v1/orgs/:orgId/prices": ["spend:read", "own"],

  // Without a time they refuse whoever is let in.
  "GET /v1/organization/usage/completions": ["usage:read", "self", 400],
  "GET /v1/organization/costs": ["spend:read", "self", 400],

  "GET /analytics/v1/system/usage": ["system:read", "system"],
  "GET /api/v1/analytics/system/usage": ["system:read", "system"],
  "GET /analytics/v1/system/orgs": ["system:read", "system"],
  "GET /analytics/v1/system/freshness": ["system:read", "system"],
  "GET /analytics/v1/system/incidents": ["system:read", "system"],
  "GET /analytics/v1/system/unpriced": ["system:read", "system"],
  "GET /analytics/v1/system/audit": ["audit:read", "system"],
  "GET /analytics/v1/system/quarantine": ["system:write", "system"],
  "GET /analytics/v1/system/quarantine/:id": ["system:write", "system", 404],
  "POST /analytics/v1/system/quarantine/:id/replay": ["system:write", "system", 404],
  "POST /analytics/v1/system/quarantine/:id/drop": ["system:write", "system", 404],
  "POST /analytics/v1/system/quarantine/replay": ["system:write", "system"],
  "POST /analytics/v1/system/quarantine/drop": ["system:write", "system"],
  "GET /analytics/v1/admin/orgs": ["system:read", "system"],
  "POST /analytics/v1/admin/orgs": ["system:write", "system", 400],
  "GET /analytics/v1/admin/orgs/:orgId": ["system:read", "system"],
  "PATCH /analytics/v1/admin/orgs/:orgId": ["system:write", "system", 400],
  "GET /analytics/v1/admin/keys": ["system:write", "system"],
  "POST /analytics/v1/admin/keys": ["system:write", "system", 400],
  "POST /analytics/v1/admin/keys/:keyId/rotate": ["system:write", "system", 400],
  "DELETE /analytics/v1/admin/keys/:keyId": ["system:write", "system", 404],
  "GET /analytics/v1/admin/models": ["system:read", "system"],
  "GET /analytics/v1/admin/models/:modelId": ["system:read", "system", 404],
  "PUT /analytics/v1/admin/models/:modelId": ["system:write", "system", 400],
  "PUT /analytics/v1/admin/budgets": ["budgets:manage", "system", 400],
  "GET /analytics/v1/admin/prices": ["system:read", "system"],
  "PUT /analytics/v1/admin/prices": ["system:write", "system", 400],
  // Without a time it refuses whoever is let in.
  "GET /analytics/v1/admin/pools": ["system:read", "system", 400],
  "GET /analytics/v1/admin/reratings": ["system:read", "system"],
  "POST /analytics/v1/admin/reratings": ["system:write", "system", 400],
  "GET /analytics/v1/admin/reratings/:reratingId": ["system:read", "system", 404],
  "GET /analytics/v1/admin/reratings/:reratingId/lines": ["system:read", "system", 404],
  "POST /analytics/v1/admin/reratings/:reratingId/apply": ["system:write", "system", 404],
  "POST /analytics/v1/admin/reratings/:reratingId/undo": ["system:write", "system", 404],
  "POST /analytics/v1/admin/reratings/:reratingId/cancel": ["system:write", "system", 404],
  "GET /analytics/v1/admin/revocations": ["system:write", "system"],
  "POST /analytics/v1/admin/revocations": ["system:write", "system", 400],
};

type Situation = "own" | "foreign" | "unknown" | "suspended" | "deleted" | "staff" | "nobody";
type Caller = {
  situation: Situation;
  role: string;
  key: string | null;
  /** The org in the path. */
  orgId: string;
  scopes: readonly string[];
};

function expectedStatus([scope, about, reached = 200]: Line, caller: Caller): number {
  const { situation, scopes } = caller;
  if (about === "public") return reached;
  if (situation === "nobody" || situation === "deleted") return 401;
  if (situation === "suspended") return scope === "self:read" ? reached : 403;
  if (!scopes.includes(scope)) return 403;
  if (situation === "staff") return reached;
  if (about === "system") return 403;
  if (about === "own" && situation !== "own") return 404;
  return reached;
}

function pathOf(url: string, orgId: string): string {
  return url
    .replace(":orgId", orgId)
    .replace(":id", "1")
    .replace(":token", "no-such-token")
    .replace(":keyId", "000000000000")
    .replace(":budgetId", "no-such-budget")
    .replace(":reratingId", "999")
    .replace(":modelId", "no-such-model")
    .replace("*", "index.css");
}

async function ask(api: TestApi, route: string, caller: Caller): Promise<Answer<Problem>> {
  const [method = "", url = ""] = route.split(" ");
  const hasBody =
    method === "PATCH" || method === "PUT" || (method === "POST" && !takesNoBody(url));
  return await api.ask<Problem>(pathOf(url, caller.orgId), {
    method,
    key: caller.key,
    headers: {
      "x-request-id": "same",
      // Events of that kind would go to quarantine, where others of this test look.
      ...(hasBody && {
        "content-type": url.endsWith("/events") ? "text/plain" : "application/json",
      }),
    },
    ...(hasBody && { body: '{"noSuchField":1}' }),
  });
}

const takesNoBody = (url: string): boolean => /\/quarantine\/|\/(?:apply|undo)$/.test(url);

/** Every kind of caller there is, each with a key of its own. */
async function listCallers(api: TestApi): Promise<Caller[]> {
  const callers: Caller[] = [
    { situation: "nobody", role: "", key: null, orgId: "acme", scopes: [] },
    { situation: "nobody", role: "", key: "wrong", orgId: "acme", scopes: [] },
  ];
  // What each role may do is held to by its own table, beside the roles.
  for (const role of ROLES_OF.org) {
    const scopes = scopesOf([role], "org");
    const key = await api.keyFor({ orgId: "acme", roles: [role] });
    callers.push({ situation: "own", role, key, orgId: "acme", scopes });
    callers.push({ situation: "foreign", role, key, orgId: "globex", scopes });
    callers.push({ situation: "unknown", role, key, orgId: "never-was", scopes });
    const paused = await api.keyFor({ orgId: "paused", roles: [role] });
    callers.push({ situation: "suspended", role, key: paused, orgId: "paused", scopes });
    const gone = await api.keyFor({ orgId: "gone", roles: [role] });
    callers.push({ situation: "deleted", role, key: gone, orgId: "gone", scopes });
  }
  for (const role of ROLES_OF.system) {
    const scopes = scopesOf([role], "system");
    const key = await api.keyFor({ orgId: null, roles: [role] });
    callers.push({ situation: "staff", role, key, orgId: "acme", scopes });
  }
  await api.createOrg("globex");
  await api.setStatus("paused", "suspended");
  await api.setStatus("gone", "deleted");
  return callers;
}

/** A few at a time: so many that answers still come in time. */
async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (let i = 0; i < items.length; i += 6) await Promise.all(items.slice(i, i + 6).map(work));
}

/** In OpenAI's shape it lies one level deeper. */
const codeOf = (body: Partial<Problem> & { error?: { code?: unknown } }): unknown =>
  body.code ?? body.error?.code;

/** SQL, stacks, files and drivers: what an answer about a failure must not hold. */
const INSIDE =
  /\bselect\b|\binsert\b|\n\s+at |node_modules|\.ts\b|\.js:|\/src\/|postgres|ECONN|relation |row-level/i;

test("every route of the server has a line in this table, and every line a route", async () => {
  const server = await createServer(describedDependencies(manifest.version), () => false);
  const routes = routesOf(server)
    .flatMap(({ method, url }) => [method].flat().map((each) => `${each} ${url}`))
    // What answers HEAD is the GET route itself.
    .filter((route) => !route.startsWith("HEAD "));
  await server.close();
  // The same route by its other name, which the server does not list.
  const listed = Object.keys(ROUTES).filter((route) => route !== "GET /docs");
  assert.deepEqual([...new Set(routes)].toSorted(), listed.toSorted());
});

test("S1, S4: each route answers each kind of caller as the table says, and no refusal shows what is inside", async () => {
  await using api = await testApi();
  const callers = await listCallers(api);
  const wrong: string[] = [];
  for (const caller of callers) {
    await eachOf(Object.entries(ROUTES), async ([route, line]) => {
      const expected = expectedStatus(line, caller);
      const { status, body, text } = await ask(api, route, caller);
      const who = `${caller.situation} ${caller.role}: ${route}`;
      if (status !== expected) wrong.push(`${who}: ${status}, not ${expected}: ${text}`);
      if (status < 400) return;
      if (INSIDE.test(text)) wrong.push(`${who} shows what is inside: ${text}`);
      if (line[1] === "public") return;
      const code = codeOf(body);
      if (typeof code !== "string") wrong.push(`${who} is no problem: ${text}`);
      const isSuspended = caller.situation === "suspended";
      if (status === 403 && isSuspended !== (code === "org_suspended"))
        wrong.push(`${who}: ${code}`);
    });
  }
  assert.deepEqual(wrong, []);
});

test("S1: HEAD asks for the same as GET", async () => {
  await using api = await testApi();
  const callers = (await listCallers(api)).filter(({ role }) => role !== "org_admin");
  for (const caller of callers) {
    for (const [route, line] of Object.entries(ROUTES)) {
      const expected = expectedStatus(line, caller);
      // What is let in is the same handler; what is refused must be so by either name.
      if (!route.startsWith("GET ") || expected < 400) continue;
      const { status } = await ask(api, route.replace("GET", "HEAD"), caller);
      assert.equal(status, expected, `${caller.situation} ${caller.role}: HEAD ${route}`);
    }
  }
});

test("S1: an org of others, one that was deleted and one that never was are the same to a stranger, byte for byte", async () => {
  await using api = await testApi();
  const callers = (await listCallers(api)).filter(({ situation }) => situation === "own");
  for (const caller of callers) {
    for (const [route, [scope, about]] of Object.entries(ROUTES)) {
      if (about !== "own" || !caller.scopes.includes(scope)) continue;
      const answers = await Promise.all(
        ["globex", "gone", "never-was"].map((orgId) => ask(api, route, { ...caller, orgId })),
      );
      const texts = answers.map(({ text }) => text.replaceAll(/globex|gone|never-was/g, "?"));
      assert.equal(new Set(texts).size, 1, `${caller.role} ${route}: ${texts.join("\n")}`);
      const headers = answers.map((answer) =>
        JSON.stringify([...answer.headers].filter(([name]) => name !== "date")),
      );
      assert.equal(new Set(headers).size, 1, `${caller.role} ${route}: ${headers.join("\n")}`);
      assert.equal(answers[0]?.body.detail, "There is no such org.");
    }
  }
});

test("S3: no change takes an org, a role, an id or a time of making that is not its own to say", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  const bodies: Record<string, Record<string, unknown>> = {
    "POST /analytics/v1/orgs/acme/keys": { name: "k", roles: ["engineer"] },
    "POST /analytics/v1/orgs/acme/keys/000000000000/rotate": {},
    "POST /analytics/v1/admin/keys": { name: "k", roles: ["finance"] },
    "POST /analytics/v1/admin/keys/000000000000/rotate": {},
    "PATCH /analytics/v1/orgs/acme": { name: "A" },
    "PATCH /analytics/v1/admin/orgs/acme": { name: "A" },
    "POST /analytics/v1/admin/orgs": { orgId: "new" },
    "PUT /analytics/v1/orgs/acme/budgets/all": { amount: "10" },
    "PUT /analytics/v1/admin/models/m": { displayName: "M" },
    "PUT /analytics/v1/admin/budgets": { orgs: [] },
    "PUT /analytics/v1/admin/prices": { prices: [] },
    "POST /analytics/v1/admin/reratings": {
      start: "2026-11-01T00:00:00Z",
      end: "2026-11-20T00:00:00Z",
      reason: "a test",
    },
    "POST /analytics/v1/admin/revocations": {
      kind: "jti",
      value: "x",
      until: "2026-12-01T00:00:00Z",
    },
  };
  const withBody = Object.keys(ROUTES).filter(
    (route) =>
      /^(?:POST|PUT|PATCH) /.test(route) &&
      !/quarantine|sign-|events$|\/(?:apply|undo|cancel)$/.test(route),
  );
  assert.equal(Object.keys(bodies).length, withBody.length);
  for (const [route, body] of Object.entries(bodies)) {
    const [method = "", path = ""] = route.split(" ");
    for (const field of ["org_id", "role", "id", "createdAt", "createdBy", "secret"]) {
      const { status, body: problem } = await api.ask<Problem>(path, {
        method,
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...body, [field]: "x" }),
      });
      assert.deepEqual([status, problem.errors[0]?.pointer], [400, `/body/${field}`], route);
    }
  }
});
