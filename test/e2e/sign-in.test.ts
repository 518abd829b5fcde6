import assert from "node:assert/strict";
import test from "node:test";
import {
  openBrowser,
  startTestIssuer,
  testService,
  type BrowserAnswer,
  type TestBrowser,
  type TestIssuer,
} from "#harness";
import { createLogger, systemClock } from "#kernel";

const ME = "/analytics/v1/me";

/** A service that lets people sign in at an identity provider, with an org of which events are known. */
async function setUp(env: Record<string, string> = {}) {
  await using scope = new AsyncDisposableStack();
  const issuer = scope.use(await startTestIssuer());
  const log: string[] = [];
  const service = scope.use(
    await testService({
      logger: createLogger("debug", { write: (line) => void log.push(line) }),
      env: {
        OIDC_ISSUER: issuer.url,
        OIDC_AUDIENCE: issuer.audience,
        OIDC_CLIENT_ID: issuer.client.id,
        OIDC_CLIENT_SECRET: issuer.client.secret,
        ...env,
      },
    }),
  );
  issuer.allowRedirectTo(`${service.url}/sign-in/oidc/callback`);
  issuer.signInAs({ sub: "ann", name: "Ann", org: "acme", roles: ["org_admin"] });
  await service.request("/analytics/v1/admin/orgs", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ orgId: "acme" }),
  });
  const owned = scope.move();
  return {
    issuer,
    service,
    log,
    browser: openBrowser(service.url),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Goes to the provider and comes back to where the provider sends the browser: the path there, not yet asked. */
async function goToProvider(
  { issuer, service }: { issuer: TestIssuer; service: { url: string } },
  browser: TestBrowser,
  returnPath = "/usage",
): Promise<string> {
  const begun = await browser.get(`/sign-in/oidc?return=${encodeURIComponent(returnPath)}`);
  assert.equal(begun.status, 303, begun.text);
  const back = await issuer.goThrough(begun.location ?? "");
  assert.ok(back.startsWith(`${service.url}/sign-in/oidc/callback?`), back);
  return back.slice(service.url.length);
}

const meOf = async (browser: TestBrowser): Promise<Record<string, unknown> | number> => {
  const { status, text } = await browser.get(ME);
  return status === 200 ? JSON.parse(text) : status;
};

const assertRefused = (answer: BrowserAnswer, status: number, browser: TestBrowser): void => {
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.headers.get("content-type") ?? "", /text\/html/);
  assert.equal(browser.cookies.has("__Host-tallystick"), false);
};

test("somebody signs in at the identity provider and comes back to what was asked for", async () => {
  await using t = await setUp();
  const page = await t.browser.get("/sign-in?return=/usage");
  assert.match(page.text, /Continue with 127\.0\.0\.1/);

  const begun = await t.browser.get("/sign-in/oidc?return=/usage%3Frange=7d");
  const asked = new URL(begun.location ?? "").searchParams;
  assert.equal(asked.get("response_type"), "code");
  assert.equal(asked.get("code_challenge_method"), "S256");
  for (const name of ["state", "nonce", "code_challenge"]) {
    assert.ok((asked.get(name) ?? "").length >= 43, name);
  }
  const attempt = begun.setCookies.find((line) => line.startsWith("__Host-tallystick-attempt="));
  assert.match(attempt ?? "", /; HttpOnly/);
  assert.match(attempt ?? "", /; Secure/);
  assert.ok(!(begun.location ?? "").includes(t.browser.cookies.get("__Host-tallystick-attempt")!));

  const back = await t.issuer.goThrough(begun.location ?? "");
  const done = await t.browser.get(back.slice(t.service.url.length));
  assert.deepEqual([done.status, done.location], [303, "/usage?range=7d"]);
  assert.equal(t.browser.cookies.has("__Host-tallystick-attempt"), false);
  const me = await meOf(t.browser);
  assert.ok(typeof me === "object");
  assert.deepEqual(
    [me["kind"], me["name"], me["orgId"], me["roles"], me["isSession"]],
    ["token", "Ann", "acme", ["org_admin"], true],
  );
  assert.equal((await t.browser.get("/analytics/v1/orgs/other/freshness")).status, 404);
  assert.equal((await t.browser.submit("/sign-out")).status, 303);
  assert.equal(await meOf(t.browser), 401);
});

test("an answer of the provider counts once, and only in the browser that began", async () => {
  await using t = await setUp();
  const stolen = await goToProvider(t, t.browser);
  const other = openBrowser(t.service.url);
  assertRefused(await other.get(stolen), 401, other);
  await goToProvider(t, other);
  assertRefused(await other.get(stolen), 401, other);

  const first = new Map(t.browser.cookies);
  assert.equal((await t.browser.get(stolen)).status, 303);
  for (const [name, value] of first) other.cookies.set(name, value);
  assertRefused(await other.get(stolen), 401, other);
});

test("state, nonce, verifier and code that were tampered with sign nobody in", async () => {
  await using t = await setUp();
  const { sql } = t.service.db.database;
  const change = (path: string, name: string, value: string | null): string => {
    const url = new URL(path, t.service.url);
    if (value === null) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
    return url.pathname + url.search;
  };
  const cases: Record<string, (path: string) => Promise<string> | string> = {
    "another state": (path) => change(path, "state", "x".repeat(43)),
    "no state": (path) => change(path, "state", null),
    "two states": (path) => `${path}&state=${"x".repeat(43)}`,
    "another code": (path) => change(path, "code", "x".repeat(43)),
    "no code": (path) => change(path, "code", null),
    "another issuer": (path) => change(path, "iss", "https://elsewhere.example"),
    "another nonce": async (path) => {
      await sql`update sign_in_attempt set nonce = 'another'`;
      return path;
    },
    "another verifier": async (path) => {
      await sql`update sign_in_attempt set verifier = ${"v".repeat(43)}`;
      return path;
    },
    "too late": async (path) => {
      await sql`update sign_in_attempt set expires_at = now() - interval '1 second'`;
      return path;
    },
  };
  for (const [what, tamper] of Object.entries(cases)) {
    const browser = openBrowser(t.service.url);
    const path = await goToProvider(t, browser);
    const answer = await browser.get(await tamper(path));
    assert.equal(answer.status, 401, what);
    assertRefused(answer, 401, browser);
  }
});

test("a page of elsewhere that sends the browser to the way back does not use up what it began", async () => {
  await using t = await setUp();
  const path = await goToProvider(t, t.browser);
  const attempt = t.browser.cookies.get("__Host-tallystick-attempt") ?? "";
  assertRefused(await t.browser.get("/sign-in/oidc/callback?code=x&state=y"), 401, t.browser);
  t.browser.cookies.set("__Host-tallystick-attempt", attempt);
  assert.equal((await t.browser.get(path)).status, 303);
});

test("what the provider refuses is told in our words, not in those of the address", async () => {
  await using t = await setUp();
  const path = await goToProvider(t, t.browser);
  const state = new URL(path, t.service.url).searchParams.get("state") ?? "";
  const words = "<b>Call this number</b>";
  const query = new URLSearchParams({
    error: "access_denied",
    error_description: words,
    iss: t.issuer.url,
    state,
  });
  const answer = await t.browser.get(`/sign-in/oidc/callback?${query}`);
  assertRefused(answer, 401, t.browser);
  assert.match(answer.text, /refused there/);
  assert.ok(!answer.text.includes("Call this number"));
});

test("a person without a role, or of an org that is not known here, is not let in", async () => {
  await using t = await setUp();
  t.issuer.signInAs({ sub: "bob", org: "acme", roles: ["emperor"] });
  assertRefused(await t.browser.get(await goToProvider(t, t.browser)), 403, t.browser);
  t.issuer.signInAs({ sub: "eve", org: "nowhere", roles: ["engineer"] });
  assertRefused(await t.browser.get(await goToProvider(t, t.browser)), 401, t.browser);
});

test("S8: a revoked subject is signed out in every browser; others are not", async () => {
  await using t = await setUp();
  const [second, bob] = [openBrowser(t.service.url), openBrowser(t.service.url)];
  for (const browser of [t.browser, second]) {
    assert.equal((await browser.get(await goToProvider(t, browser))).status, 303);
  }
  t.issuer.signInAs({ sub: "bob", org: "acme", roles: ["engineer"] });
  assert.equal((await bob.get(await goToProvider(t, bob))).status, 303);
  const until = new Date(systemClock.now() + 3_600_000).toISOString();
  const revoked = await t.service.request("/analytics/v1/admin/revocations", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ kind: "sub", value: "ann", until }),
  });
  assert.ok(revoked.ok, await revoked.text());
  assert.deepEqual([await meOf(t.browser), await meOf(second)], [401, 401]);
  assert.notEqual(await meOf(bob), 401);
});

test("while the provider is away people are told so, and keys still sign in", async () => {
  await using t = await setUp();
  const path = await goToProvider(t, t.browser);
  await t.issuer.stop();
  assertRefused(await t.browser.get(path), 503, t.browser);
  assert.match(t.log.join(""), /"code":"identity_unavailable".*"msg":"sign-in not completed"/);
  const { adminKey } = t.service;
  assert.equal((await t.browser.submit("/sign-in", { key: adminKey })).status, 303);
  await t.issuer.start();
  assert.equal((await openBrowser(t.service.url).get("/sign-in/oidc")).status, 303);
});

test("no code, verifier, nonce or token of a sign-in is logged", async () => {
  await using t = await setUp();
  const path = await goToProvider(t, t.browser);
  const { sql } = t.service.db.database;
  const [attempt] = await sql<{ nonce: string; verifier: string }>`
    select nonce, verifier from sign_in_attempt`;
  const code = new URL(path, t.service.url).searchParams.get("code") ?? "";
  await t.browser.get(path);
  await t.browser.get(path);
  const told = t.log.join("");
  const session = t.browser.cookies.get("__Host-tallystick") ?? "";
  for (const secret of [code, attempt!.nonce, attempt!.verifier, session]) {
    assert.ok(secret.length > 20 && !told.includes(secret));
  }
});

test("the link that a start prints signs in the administrator", async () => {
  await using t = await setUp();
  const link = (await t.service.app.makeSignInLink?.()) ?? "";
  assert.ok(link.startsWith(`${t.service.url}/sign-in/link/`));
  assert.equal((await t.browser.submit(link.slice(t.service.url.length))).status, 303);
  const me = await meOf(t.browser);
  assert.ok(typeof me === "object");
  assert.deepEqual(me["roles"], ["system_admin"]);
});
