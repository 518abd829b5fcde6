import assert from "node:assert/strict";
import test from "node:test";
import { ADMIN } from "#auth";
import { openBrowser, type BrowserAnswer, type TestBrowser } from "#harness";
import { testApi, type TestApi } from "../test-api.ts";

const ME = "/analytics/v1/me";
const TLS = "https://tallystick.example";
const KEYS = "/analytics/v1/orgs/acme/keys";

const meOf = async (browser: TestBrowser): Promise<{ status: number; roles?: string[] }> => {
  const { status, text } = await browser.get(ME);
  return status === 200 ? { status, roles: JSON.parse(text).roles } : { status };
};

/** A browser that has signed in with a new key of an org. */
async function signIn(api: TestApi, role = "org_admin", orgId: string | null = "acme") {
  const key = await api.keyFor({ orgId, roles: [role] });
  const browser = openBrowser(api.url);
  const answer = await browser.submit("/sign-in", { key });
  assert.equal(answer.status, 303, answer.text);
  return { browser, key, keyId: key.split("_")[2] ?? "", answer };
}

async function makeLink(api: TestApi, key: string): Promise<string> {
  const { status, body } = await api.ask<{ path: string }>("/analytics/v1/sign-in-links", {
    method: "POST",
    key,
  });
  assert.equal(status, 201);
  return body.path;
}

test("a key typed into the page becomes a session, in a cookie that scripts and other sites do not get", async () => {
  await using api = await testApi();
  const { browser, answer } = await signIn(api);

  assert.equal(answer.location, "/sign-in");
  assert.equal(answer.setCookies.length, 1);
  const [, ...attributes] = answer.setCookies[0]?.split("; ") ?? [];
  assert.match(answer.setCookies[0] ?? "", /^__Host-tallystick=[\w-]{43};/);
  assert.deepEqual(attributes.toSorted(), [
    "HttpOnly",
    "Max-Age=43200",
    "Path=/",
    "SameSite=Lax",
    "Secure",
  ]);
  assert.deepEqual(await meOf(browser), { status: 200, roles: ["org_admin"] });
  assert.match(
    (await browser.get("/sign-in")).text,
    /You are signed in[\s\S]*acme[\s\S]*org_admin/,
  );
});

test("a wrong key is refused on the page, is not repeated there, and begins nothing", async () => {
  await using api = await testApi();
  const { key } = await signIn(api);
  const wrong = [
    "",
    "wrong<script>",
    `${key.slice(0, -1)}_`,
    key.replace("tally_live", "tally_test"),
    "x".repeat(9000),
    "eyJhbGciOiJub25lIn0.e30.",
  ];
  for (const text of wrong) {
    const browser = openBrowser(api.url);
    const answer = await browser.submit("/sign-in", { key: text });
    assert.equal(answer.status, 401, text.slice(0, 50));
    assert.match(answer.text, /not known here/);
    assert.ok(text === "" || !answer.text.includes(text));
    assert.deepEqual(answer.setCookies, []);
  }
  assert.ok(!api.log.join("").includes("wrong<script>"));
});

test("a form with other fields, twice the same one, or of another kind is refused", async () => {
  await using api = await testApi();
  const browser = openBrowser(api.url);
  const { key } = await signIn(api);
  assert.equal((await browser.submit("/sign-in", { key, role: "system_admin" })).status, 400);
  assert.equal((await browser.submit("/sign-in", {})).status, 400);
  assert.equal((await browser.submit(`/sign-in?key=${key}`, {})).status, 400);
  const raw = (body: string, type: string) =>
    fetch(`${api.url}/sign-in`, {
      method: "POST",
      body,
      headers: { "content-type": type, origin: api.url },
    });
  const form = "application/x-www-form-urlencoded";
  assert.equal((await raw(`key=${key}&key=${key}`, form)).status, 400);
  assert.equal((await raw(`key=${key}&__proto__=x`, form)).status, 400);
  assert.equal((await raw(JSON.stringify({ key }), "application/json")).status, 415);
  assert.equal((await raw(`key=${key}`, "text/plain")).status, 415);
  assert.equal((await raw(`key=${"x".repeat(17_000)}`, form)).status, 413);
});

test("S18: every form refuses other sites, and none of them signs anybody in or out", async () => {
  await using api = await testApi();
  const { browser, key } = await signIn(api);
  const link = await makeLink(api, key);
  const foreign = [
    { origin: "https://elsewhere.example", "sec-fetch-site": "cross-site" },
    { origin: "https://elsewhere.example", "sec-fetch-site": "same-origin" },
    { origin: "null", "sec-fetch-site": "cross-site" },
    { origin: api.url, "sec-fetch-site": "same-site" },
  ];
  for (const headers of foreign) {
    for (const [path, form] of [
      ["/sign-in", { key }],
      [link, {}],
      ["/sign-out", { everywhere: "true" }],
    ] as const) {
      const victim = path === "/sign-out" ? browser : openBrowser(api.url);
      const answer = await victim.submit(path, form, headers);
      assert.equal(answer.status, 403, path);
      assert.deepEqual(answer.setCookies, []);
    }
  }
  assert.equal((await meOf(browser)).status, 200);
  assert.equal((await openBrowser(api.url).submit(link)).status, 303, "the link is still good");
});

test("S18: a change by cookie needs the header and this origin; with a key it needs neither", async () => {
  await using api = await testApi();
  const { browser, key } = await signIn(api);
  const body = JSON.stringify({ name: "one more", roles: ["engineer"] });
  const create = async (headers: Record<string, string>) =>
    (
      await fetch(api.url + KEYS, {
        method: "POST",
        body,
        headers: { "content-type": "application/json", ...headers },
      })
    ).status;
  const cookie = [...browser.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  const csrf = { "tallystick-csrf": "1" };
  assert.equal(await create({ cookie, origin: api.url, ...csrf }), 201);
  assert.equal(await create({ cookie, origin: api.url }), 403);
  assert.equal(await create({ cookie, ...csrf }), 403);
  assert.equal(await create({ cookie, origin: "https://elsewhere.example", ...csrf }), 403);
  assert.equal(await create({ authorization: `Bearer ${key}` }), 201);
  // The header counts, never the cookie beside it: a wrong key is not made good by a session.
  assert.equal(await create({ cookie, origin: api.url, ...csrf, authorization: "Bearer x" }), 401);
});

test("a session that somebody planted in the browser is never taken over", async () => {
  await using api = await testApi();
  const { browser: attacker } = await signIn(api, "engineer");
  const planted = [...attacker.cookies.values()][0] ?? "";
  const key = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  for (const value of [planted, "A".repeat(43), "x"]) {
    const victim = openBrowser(api.url);
    victim.cookies.set("__Host-tallystick", value);
    await victim.submit("/sign-in", { key });
    assert.notEqual(victim.cookies.get("__Host-tallystick"), value);
    assert.deepEqual((await meOf(victim)).roles, ["org_admin"]);
  }
  assert.equal((await meOf(attacker)).status, 401, "what was there before has ended");
});

test("signing out ends the session at the service, not only in the browser; everywhere ends all", async () => {
  await using api = await testApi();
  const { browser, key } = await signIn(api);
  const other = openBrowser(api.url);
  await other.submit("/sign-in", { key });
  const copies = new Map(browser.cookies);

  const answer = await browser.submit("/sign-out");
  assert.deepEqual([answer.status, answer.location], [303, "/sign-in"]);
  assert.equal(browser.cookies.size, 0);
  assert.match((await browser.get("/sign-in")).text, /API key/);
  for (const [name, value] of copies) browser.cookies.set(name, value);
  assert.equal((await meOf(browser)).status, 401);
  assert.equal((await meOf(other)).status, 200);

  const third = openBrowser(api.url);
  await third.submit("/sign-in", { key });
  assert.equal((await third.submit("/sign-out", { everywhere: "true" })).status, 303);
  assert.equal((await meOf(other)).status, 401);
  assert.equal((await openBrowser(api.url).submit("/sign-out")).status, 303, "nobody is signed in");
});

test("S8: revoking a key or an org ends its browser sessions here at once", async () => {
  await using api = await testApi();
  const one = await signIn(api);
  const two = await signIn(api);
  const staff = await signIn(api, "system_admin", null);
  const { status } = await api.ask(`${KEYS}/${one.keyId}`, { method: "DELETE" });
  assert.ok(status < 300);
  assert.equal((await meOf(one.browser)).status, 401);
  assert.equal((await meOf(two.browser)).status, 200);

  await api.setStatus("acme", "suspended");
  assert.equal((await two.browser.get("/analytics/v1/orgs/acme/freshness")).status, 403);
  assert.equal((await openBrowser(api.url).submit("/sign-in", { key: two.key })).status, 403);
  await api.setStatus("acme", "deleted");
  assert.equal((await meOf(two.browser)).status, 401);
  assert.equal((await meOf(staff.browser)).status, 200);
});

test("a session ends after 12 hours, and after one without a request", async () => {
  await using api = await testApi();
  const { browser } = await signIn(api);
  api.clock.advance(59 * 60_000);
  assert.equal((await meOf(browser)).status, 200);
  api.clock.advance(60 * 60_000);
  assert.equal((await meOf(browser)).status, 401);
});

test("a one-time link: looking at it costs nothing, the button signs in, a second time does not", async () => {
  await using api = await testApi();
  const key = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const link = await makeLink(api, key);
  for (let i = 0; i < 3; i++) {
    const preview = await openBrowser(api.url).get(link);
    assert.equal(preview.status, 200);
    assert.deepEqual(preview.setCookies, []);
    assert.ok(!preview.text.includes(link.split("/").at(-1) ?? link));
  }
  const browser = openBrowser(api.url);
  assert.equal((await browser.submit(link)).location, "/sign-in");
  assert.deepEqual((await meOf(browser)).roles, ["finance"]);

  const replayed = await openBrowser(api.url).submit(link);
  assert.equal(replayed.status, 401);
  assert.match(replayed.text, /used before or is too old/);
  const late = await makeLink(api, key);
  api.clock.advance(15 * 60_000);
  assert.equal((await openBrowser(api.url).submit(late)).status, 401);
  assert.equal((await openBrowser(api.url).submit("/sign-in/link/x")).status, 401);
});

test("a session makes no links: whoever got hold of one could make it last for ever", async () => {
  await using api = await testApi();
  const { browser } = await signIn(api);
  const cookie = [...browser.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  const answer = await fetch(`${api.url}/analytics/v1/sign-in-links`, {
    method: "POST",
    headers: { cookie, origin: api.url, "tallystick-csrf": "1" },
  });
  assert.equal(answer.status, 403);
  assert.match(await answer.text(), /not with a session/);
});

test("after signing in the browser goes to a path of this service, and nowhere else", async () => {
  await using api = await testApi();
  const { key } = await signIn(api);
  const goTo = async (to: string) => {
    const page = await openBrowser(api.url).get(`/sign-in?return=${encodeURIComponent(to)}`);
    assert.equal(page.status, 200);
    const answer = await openBrowser(api.url).submit("/sign-in", { key, return: to });
    assert.equal(answer.status, 303);
    return new URL(answer.location ?? "", TLS);
  };
  const there = await goTo("/usage?range=7d&modelId=a%2Fb");
  assert.equal(there.href, `${TLS}/usage?range=7d&modelId=a%2Fb`);
  for (const to of [
    "https://elsewhere.example",
    "//elsewhere.example",
    "/\\elsewhere.example",
    "/.//elsewhere.example",
    "/\t/elsewhere.example",
    "javascript:alert(1)",
    "elsewhere.example",
    "/a\r\nset-cookie: x=1",
    "",
  ]) {
    assert.equal((await goTo(to)).href, `${TLS}/sign-in`, JSON.stringify(to));
  }
});

test("what is asked for, and what things are called, cannot write the page", async () => {
  await using api = await testApi();
  const attack = `"><script>alert(1)</script><x y='`;
  const page = await openBrowser(api.url).get(
    `/sign-in?return=${encodeURIComponent(`/a?b=${attack.replaceAll(" ", "")}`)}`,
  );
  assert.ok(!page.text.includes("<script"));
  const { key } = await api.identity.keys.create({ principal: ADMIN, requestId: "r" }, null, {
    name: attack,
    roles: ["system_admin"],
  });
  const browser = openBrowser(api.url);
  await browser.submit("/sign-in", { key });
  const { text } = await browser.get("/sign-in");
  assert.ok(!text.includes("<script"));
  assert.match(text, /&quot;&gt;&lt;script&gt;/);
});

const POLICY =
  /^default-src 'none'; style-src 'sha256-[\w+/]{43}='; img-src data:; form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'$/;

test("S18: every page allows nothing but its own style, and tells browsers to keep it to itself", async () => {
  await using api = await testApi({ extend: () => ({ publicUrl: TLS }) });
  const browser = openBrowser(api.url);
  const from = { origin: TLS };
  const key = await api.keyFor({ orgId: null, roles: ["system_admin"] });
  const pages: Record<string, BrowserAnswer> = {
    "sign in": await browser.get("/sign-in?return=/usage"),
    link: await browser.get("/sign-in/link/x"),
    "wrong key": await browser.submit("/sign-in", { key: "x" }, from),
    "used link": await browser.submit("/sign-in/link/x", {}, from),
    "foreign form": await browser.submit(
      "/sign-in",
      { key },
      { origin: "https://elsewhere.example" },
    ),
    "no provider": await browser.get("/sign-in/oidc"),
    "no attempt": await browser.get("/sign-in/oidc/callback?code=x&state=y"),
    "bad form": await browser.submit("/sign-in", {}, from),
  };
  await browser.submit("/sign-in", { key }, from);
  pages["signed in"] = await browser.get("/sign-in");
  for (const [name, { headers, text }] of Object.entries(pages)) {
    assert.equal(headers.get("content-type"), "text/html; charset=utf-8", name);
    assert.match(headers.get("content-security-policy") ?? "", POLICY, name);
    const kept = ["cross-origin-opener-policy", "referrer-policy", "cross-origin-resource-policy"];
    assert.deepEqual(
      kept.map((header) => headers.get(header)),
      ["same-origin", "same-origin", "same-origin"],
      name,
    );
    assert.equal(headers.get("x-content-type-options"), "nosniff", name);
    assert.equal(headers.get("cache-control"), "no-store", name);
    assert.match(headers.get("strict-transport-security") ?? "", /^max-age=(\d{8,})/, name);
    assert.ok(!/<script|\son\w+=|style="|javascript:/i.test(text), name);
    assert.match(text, /<html lang="en">/, name);
  }
  const redirect = await browser.submit("/sign-in", { key }, from);
  assert.match(redirect.headers.get("strict-transport-security") ?? "", /max-age/);
});

test("behind TLS a page of the same host without it is a foreign one", async () => {
  await using api = await testApi({ extend: () => ({ publicUrl: TLS }) });
  const key = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  const browser = openBrowser(api.url);
  const { host } = new URL(api.url);
  for (const origin of [api.url, `http://${host}`, "http://tallystick.example"]) {
    assert.equal((await browser.submit("/sign-in", { key }, { origin })).status, 403, origin);
  }
  assert.equal((await browser.submit("/sign-in", { key }, { origin: TLS })).status, 303);
});

test("S10: guessing keys on the page comes to an end, and leaves those alone who know theirs", async () => {
  const rates = { address: 0, failedLogin: 5, key: 0, org: 0, events: 0 };
  await using api = await testApi({ limits: { rates } });
  const { key } = await signIn(api);
  const guess = (text: string) => openBrowser(api.url).submit("/sign-in", { key: text });
  for (let i = 0; i < 5; i++) assert.equal((await guess(`guess ${i}`)).status, 401);
  const refused = await guess("guess 6");
  assert.equal(refused.status, 429);
  assert.ok(Number(refused.headers.get("retry-after")) > 0);
  assert.match(refused.headers.get("content-type") ?? "", /text\/html/);
  assert.equal((await openBrowser(api.url).submit("/sign-in/link/guess")).status, 429);
  assert.equal((await guess(key)).status, 303);
});

test("S17: neither keys nor tokens of sessions and links are logged, measured or stored", async () => {
  await using api = await testApi();
  const { browser, key } = await signIn(api);
  const link = await makeLink(api, key);
  await openBrowser(api.url).submit(link);
  await openBrowser(api.url).submit("/sign-in", { key: "canary-of-a-wrong-key" });
  await openBrowser(api.url).submit("/sign-in/link/canary-of-a-wrong-link");
  const planted = openBrowser(api.url);
  planted.cookies.set("__Host-tallystick", "canary-of-a-wrong-cookie-".padEnd(43, "x"));
  await planted.get(ME);

  const { text: metrics } = await api.ask("/metrics");
  const { sql } = api.database;
  const rows = [
    ...(await sql<{ row: string }>`select s::text as row from browser_session s`),
    ...(await sql<{ row: string }>`select l::text as row from sign_in_link l`),
    ...(await sql<{ row: string }>`select a::text as row from audit_log a`),
    ...(await sql<{ row: string }>`select k::text as row from api_key k`),
  ];
  const told = [...api.log, metrics, JSON.stringify(rows)].join("\n");
  assert.match(told, /signed in/);
  const session = browser.cookies.get("__Host-tallystick") ?? "";
  for (const secret of [
    key.split("_")[3] ?? key,
    session,
    link.split("/").at(-1) ?? link,
    "canary",
  ])
    assert.ok(secret.length > 5 && !told.includes(secret), secret);
});
