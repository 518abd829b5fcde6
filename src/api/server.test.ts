import assert from "node:assert/strict";
import { connect } from "node:net";
import test from "node:test";
import { anEvent, waitFor } from "#harness";
import type { Problem } from "./problem.ts";
import { testApi, type TestApi } from "./test-api.ts";

/** Where a browser without a session finds its way in; pages, not data. */
const WAYS_IN = [
  "/sign-in",
  "/sign-in/link/{token}",
  "/sign-in/oidc",
  "/sign-in/oidc/callback",
  "/sign-out",
];
const KEYLESS = [
  "/health",
  "/ready",
  "/analytics/v1/status/healthz",
  "/analytics/v1/status/readyz",
];

/** A request as raw text; what came back until the connection closed. */
async function askRaw(api: TestApi, request: string): Promise<string> {
  const { hostname, port } = new URL(api.url);
  const socket = connect(Number(port), hostname, () => socket.write(request));
  let answer = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => (answer += chunk));
  socket.on("error", () => undefined);
  await new Promise((resolve) => socket.once("close", resolve));
  return answer;
}

test("every documented route but health, readiness and the ways in refuses a missing and a wrong key in the same words", async () => {
  await using api = await testApi();
  const { body: description } = await api.ask<{ paths: Record<string, Record<string, unknown>> }>(
    "/openapi.json",
  );
  for (const [path, operations] of Object.entries(description.paths)) {
    if (KEYLESS.includes(path) || WAYS_IN.includes(path)) continue;
    for (const method of Object.keys(operations)) {
      const url = path.replaceAll(/\{\w+\}/g, "1");
      const headers = { "x-request-id": "same" };
      const missing = await api.ask(url, { method: method.toUpperCase(), key: null, headers });
      const wrong = await api.ask(url, { method: method.toUpperCase(), key: "wrong", headers });
      assert.equal(missing.status, 401, `${method} ${path}`);
      assert.match(missing.headers.get("www-authenticate") ?? "", /Bearer/);
      assert.equal(wrong.text, missing.text);
    }
  }
});

test("health and readiness need no key", async () => {
  await using api = await testApi();
  for (const path of KEYLESS) assert.equal((await api.ask(path, { key: null })).status, 200, path);
});

test("S9: a key in the URL is refused with 400, valid or not, on every route", async () => {
  await using api = await testApi();
  for (const path of [
    "/analytics/v1/me?api_key=test-admin-key",
    "/analytics/v1/events?access_token=x",
    "/metrics?Token=1",
  ]) {
    const { status, body } = await api.ask<Problem>(path, {
      method: path.includes("events") ? "POST" : "GET",
    });
    assert.deepEqual([status, body.errors[0]?.code], [400, "key_in_url"], path);
    assert.ok(!api.log.join("").includes("test-admin-key"));
  }
});

test("who am I: the principal, its scopes and limits, and nothing else", async () => {
  await using api = await testApi();
  const { body } = await api.ask("/analytics/v1/me");
  assert.deepEqual(Object.keys(body), [
    "kind",
    "name",
    "roles",
    "scopes",
    "orgId",
    "writesFor",
    "expiresAt",
    "isSuspended",
    "isSession",
    "limits",
    "rateLimits",
  ]);
  assert.deepEqual(body["roles"], ["system_admin"]);
});

test("a problem carries its code, place and request id, and is no secret's leak", async () => {
  await using api = await testApi();
  const { status, body, headers } = await api.ask<Problem>("/nowhere", {
    headers: { "x-request-id": "req-1" },
  });
  assert.equal(status, 404);
  assert.equal(headers.get("content-type"), "application/problem+json; charset=utf-8");
  assert.equal(headers.get("x-request-id"), "req-1");
  assert.deepEqual(body, {
    type: "urn:tallystick:problem:not_found",
    title: "There is no such thing",
    status: 404,
    detail: "No such path, or not with this method.",
    code: "not_found",
    requestId: "req-1",
    errors: [],
  });
});

test("an answer that breaks is a 500 that says nothing, and is logged once under its request id", async () => {
  await using api = await testApi();
  await api.send([anEvent()]);
  await api.database.transaction((tx) =>
    tx.exec("drop table rollup_org_15m, rollup_org_hour, rollup_org_day cascade"),
  );
  const { status, body, text } = await api.ask<Problem>("/analytics/v1/orgs/acme/usage", {
    headers: { "x-request-id": "req-2" },
  });
  assert.deepEqual([status, body.code, body.requestId], [500, "internal_error", "req-2"]);
  assert.doesNotMatch(text, /rollup|select|relation|\/src\/|\.ts/i);
  const errors = api.log.filter((line) => line.includes('"error"') && line.includes("req-2"));
  assert.equal(errors.length, 1);
  assert.match(errors[0] ?? "", /rollup_org/);
});

test("every answer forbids sniffing, framing, referring and keeping", async () => {
  await using api = await testApi();
  for (const path of ["/health", "/analytics/v1/me", "/nowhere", "/docs", "/metrics"]) {
    const { headers } = await api.ask(path);
    assert.equal(headers.get("x-content-type-options"), "nosniff", path);
    assert.equal(headers.get("referrer-policy"), "no-referrer", path);
    assert.match(headers.get("content-security-policy") ?? "", /frame-ancestors 'none'/, path);
    assert.ok(headers.has("x-request-id"), path);
  }
  const { headers } = await api.ask("/analytics/v1/me");
  assert.equal(headers.get("cache-control"), "private, no-store");
  assert.match(headers.get("vary") ?? "", /Accept, Authorization/);
});

test("B41: odd paths are 400 or 404 problems, and none of them a 500", async () => {
  await using api = await testApi();
  const odd = [
    "%00",
    "..%2f..%2fetc%2fpasswd",
    "'%3B%20drop%20table%20org%3B--",
    "x".repeat(600),
    "x".repeat(5000),
    "%ff%fe",
    "%zz",
    "*",
    "%F0%9D%9F%99",
    "%2E%2E",
  ];
  for (const org of odd) {
    for (const rest of ["usage", "quarantine", "quarantine/1", "freshness", "models"]) {
      const { status, headers } = await api.ask(`/analytics/v1/orgs/${org}/${rest}`);
      assert.ok(status === 400 || status === 404, `${org}/${rest}: ${status}`);
      assert.match(headers.get("content-type") ?? "", /problem\+json/, `${org}/${rest}`);
    }
  }
  for (const id of ["0", "-1", "1.5", "%D9%A1", "9".repeat(30), "x"]) {
    const { status } = await api.ask(`/analytics/v1/system/quarantine/${id}`);
    assert.ok(status === 400 || status === 404, id);
  }
});

test("readiness tells each dependency's state, and fails first when the service is stopping", async () => {
  let isGood = true;
  const { promise: never } = Promise.withResolvers<{ ok: boolean; detail: string }>();
  const probes = {
    database: async () => ({ ok: isGood, detail: isGood ? "answers" : "does not answer" }),
  };
  await using api = await testApi({ probes });
  type Ready = { status: string; checks: Record<string, { ok: boolean; detail: string }> };
  const good = await api.ask<Ready>("/ready");
  assert.deepEqual(
    [good.status, good.body.status, good.body.checks["database"]?.ok],
    [200, "ready", true],
  );
  isGood = false;
  const bad = await api.ask<Ready>("/analytics/v1/status/readyz");
  assert.deepEqual(
    [bad.status, bad.body.status, bad.body.checks["database"]?.detail],
    [503, "not_ready", "does not answer"],
  );
  isGood = true;
  api.setReady(false);
  const stopping = await api.ask<Ready>("/ready");
  assert.deepEqual([stopping.status, stopping.body.status], [503, "shutting_down"]);
  assert.equal((await api.ask("/health")).status, 200);
  assert.equal((await api.send([anEvent()])).status, 200);

  await using hanging = await testApi({
    probes: { broken: () => Promise.reject(new Error("secret host")), silent: () => never },
  });
  const { status, text } = await hanging.ask("/ready");
  assert.equal(status, 503);
  assert.match(text, /no answer within/);
  assert.doesNotMatch(text, /secret host/);
});

test("metrics time requests by route template, never by org or path", async () => {
  await using api = await testApi();
  await api.ask("/analytics/v1/orgs/some-org/usage");
  await api.ask("/nowhere/else");
  const { text, headers } = await api.ask("/metrics");
  assert.match(headers.get("content-type") ?? "", /^text\/plain/);
  assert.match(
    text,
    /http_request_duration_seconds_count\{method="GET",route="\/analytics\/v1\/orgs\/:orgId\/usage",status="404"\} 1/,
  );
  assert.match(text, /route="unmatched",status="404"\} 1/);
  assert.doesNotMatch(text, /some-org|nowhere/);
});

test("the docs page opens in a browser, with the key as the password, and loads nothing from elsewhere", async () => {
  await using api = await testApi();
  const asBrowser = (path: string, password: string) => {
    const authorization = `Basic ${Buffer.from(`me:${password}`).toString("base64")}`;
    return api.ask(path, { key: null, headers: { authorization, accept: "text/html,*/*;q=0.8" } });
  };
  const refused = await asBrowser("/docs", "wrong");
  assert.equal(refused.status, 401);
  assert.match(refused.headers.get("www-authenticate") ?? "", /^Basic realm=/);
  const page = await asBrowser("/docs", "test-admin-key");
  assert.equal(page.status, 200);
  assert.match(page.headers.get("content-security-policy") ?? "", /script-src 'self';/);
  const parts = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, part = ""]) => part);
  assert.ok(parts.length >= 5);
  for (const part of parts)
    assert.equal((await asBrowser(part, "test-admin-key")).status, 200, part);
  assert.doesNotMatch(page.text, /https?:\/\//);
  assert.doesNotMatch(page.text, /<script>|<style>/);
  const setup = await asBrowser("/docs/static/swagger-initializer.js", "test-admin-key");
  assert.match(setup.text, /openapi\.json/);
  assert.equal((await asBrowser("/openapi.json", "test-admin-key")).status, 200);
  assert.equal((await asBrowser("/analytics/v1/me", "test-admin-key")).status, 401);
});

test("HEAD answers as GET does, without the body", async () => {
  await using api = await testApi();
  const { status, text, headers } = await api.ask("/analytics/v1/me", { method: "HEAD" });
  assert.deepEqual([status, text], [200, ""]);
  assert.ok(Number(headers.get("content-length")) > 50);
});

test("B39: what is no HTTP, too large a head, and a wrong length get an answer and a closed connection", async () => {
  await using api = await testApi();
  assert.match(await askRaw(api, "nonsense\r\n\r\n"), /^HTTP\/1\.1 400 .*problem\+json/s);
  assert.match(
    await askRaw(api, `GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ${"x".repeat(20_000)}\r\n\r\n`),
    /^HTTP\/1\.1 431 /,
  );
  assert.match(
    await askRaw(
      api,
      "POST /analytics/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    /^HTTP\/1\.1 400 /,
  );
});

test("B39: pipelined requests are answered in order", async () => {
  await using api = await testApi();
  const get = (id: string, connection: string) =>
    `GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: ${id}\r\nConnection: ${connection}\r\n\r\n`;
  const answers = await askRaw(
    api,
    get("one", "keep-alive") + get("two", "keep-alive") + get("three", "close"),
  );
  assert.deepEqual(
    [...answers.matchAll(/x-request-id: (\w+)/gi)].map((match) => match[1]),
    ["one", "two", "three"],
  );
});

test("disposing answers what is under way and does not wait for connections that ask nothing", async () => {
  const api = await testApi();
  const { hostname, port } = new URL(api.url);
  const silent = connect(Number(port), hostname);
  const slow = connect(Number(port), hostname);
  silent.on("error", () => undefined);
  slow.on("error", () => undefined);
  const body = JSON.stringify([anEvent()]);
  slow.write(
    `POST /analytics/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-admin-key\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${body.length}\r\n\r\n${body.slice(0, 5)}`,
  );
  let answer = "";
  slow.setEncoding("utf8").on("data", (chunk: string) => (answer += chunk));
  await waitFor(async () => (await api.ask("/metrics")).status === 200);
  await waitFor(() => slow.bytesWritten > 100 && !silent.connecting);
  const disposed = api[Symbol.asyncDispose]();
  slow.write(body.slice(5));
  const startMs = performance.now();
  await disposed;
  assert.match(answer, /^HTTP\/1\.1 200 /);
  assert.match(answer, /connection: close/i);
  assert.ok(performance.now() - startMs < 4000);
  await waitFor(() => silent.destroyed);
});
