import Fastify from "fastify";
import assert from "node:assert/strict";
import test from "node:test";
import { Failure } from "#contract";
import { refuseCrossSite, refuseForeignOrigin, sessionCookieOf } from "./cookies.ts";

const TOKEN = "A".repeat(43);

/** What the checks say of a request with these headers. */
async function judge(
  publicUrl: string | undefined,
  headers: Record<string, string>,
  method: "GET" | "POST" | "PATCH" | "DELETE" = "POST",
): Promise<{ form: boolean; api: boolean; cookie: string | undefined }> {
  const server = Fastify();
  const passes = (check: () => void): boolean => {
    try {
      check();
      return true;
    } catch (error) {
      assert.ok(error instanceof Failure && error.code === "cross_site");
      return false;
    }
  };
  server.route({
    method: ["GET", "POST", "PATCH", "DELETE"],
    url: "/",
    handler: async (request) => ({
      form: passes(() => refuseForeignOrigin(request, publicUrl)),
      api: passes(() => refuseCrossSite(request, publicUrl)),
      cookie: sessionCookieOf(request),
    }),
  });
  const answer = await server.inject({ method, url: "/", headers });
  return answer.json();
}

const HERE = "https://tallystick.example";
const HOST = { host: "tallystick.example" };

test("S18: a form passes from a page of this service and from nowhere else", async () => {
  const own: [string | undefined, Record<string, string>][] = [
    [HERE, { ...HOST, origin: HERE }],
    [HERE, { ...HOST, origin: HERE, "sec-fetch-site": "same-origin" }],
    [HERE, { ...HOST, "sec-fetch-site": "same-origin" }],
    // A proxy may call the service by another name.
    [HERE, { host: "10.0.0.7:8080", origin: HERE }],
    ["http://127.0.0.1:8080", { host: "127.0.0.1:8080", origin: "http://127.0.0.1:8080" }],
    ["http://127.0.0.1:8080", { host: "localhost:8080", origin: "http://localhost:8080" }],
    [undefined, { host: "localhost:8080", origin: "http://localhost:8080" }],
  ];
  for (const [publicUrl, headers] of own) {
    assert.ok((await judge(publicUrl, headers)).form, JSON.stringify([publicUrl, headers]));
  }
  const foreign: [string | undefined, Record<string, string>][] = [
    [HERE, HOST],
    [HERE, { ...HOST, origin: "null" }],
    [HERE, { ...HOST, origin: "null", "sec-fetch-site": "same-origin" }],
    [HERE, { ...HOST, origin: "https://elsewhere.example" }],
    [HERE, { ...HOST, origin: "https://elsewhere.example", "sec-fetch-site": "same-origin" }],
    [HERE, { ...HOST, origin: "https://tallystick.example.elsewhere.example" }],
    [HERE, { ...HOST, origin: "https://sub.tallystick.example" }],
    [HERE, { ...HOST, origin: "https://tallystick.example:8443" }],
    [HERE, { ...HOST, origin: `${HERE}/` }],
    // The same host without TLS: whoever sits in between can write that page.
    [HERE, { ...HOST, origin: "http://tallystick.example" }],
    [HERE, { ...HOST, origin: HERE, "sec-fetch-site": "same-site" }],
    [HERE, { ...HOST, origin: HERE, "sec-fetch-site": "cross-site" }],
    [HERE, { ...HOST, origin: HERE, "sec-fetch-site": "none" }],
    [HERE, { ...HOST, "sec-fetch-site": "cross-site" }],
    [undefined, { host: "localhost:8080", origin: "http://localhost:9090" }],
    [undefined, { host: "localhost:8080", origin: "https://localhost:8080" }],
    [undefined, { host: "localhost:8080", referer: "http://localhost:8080/sign-in" }],
  ];
  for (const [publicUrl, headers] of foreign) {
    assert.ok(!(await judge(publicUrl, headers)).form, JSON.stringify([publicUrl, headers]));
  }
});

test("S18: a change by cookie needs the header as well; what only reads needs neither", async () => {
  const own = { ...HOST, origin: HERE };
  for (const method of ["POST", "PATCH", "DELETE"] as const) {
    assert.ok((await judge(HERE, { ...own, "tallystick-csrf": "1" }, method)).api);
    assert.ok(!(await judge(HERE, own, method)).api);
    assert.ok(!(await judge(HERE, { ...own, "tallystick-csrf": "0" }, method)).api);
    assert.ok(!(await judge(HERE, { ...HOST, "tallystick-csrf": "1" }, method)).api);
  }
  assert.ok((await judge(HERE, HOST, "GET")).api);
});

test("a session's token is read from one cookie of its name, and only when it could be one", async () => {
  const cookieOf = async (cookie: string) => (await judge(HERE, { cookie })).cookie;
  assert.equal(await cookieOf(`__Host-tallystick=${TOKEN}`), TOKEN);
  assert.equal(await cookieOf(`a=b;__Host-tallystick=${TOKEN} ; c=d`), TOKEN);
  for (const cookie of [
    "",
    "__Host-tallystick=",
    `__Host-tallystick="${TOKEN}"`,
    `__Host-tallystick=${TOKEN}A`,
    `__Host-tallystick=${TOKEN.slice(1)}`,
    `__Host-tallystick=${TOKEN.slice(1)}%41`,
    `__host-tallystick=${TOKEN}`,
    `tallystick=${TOKEN}`,
    `x__Host-tallystick=${TOKEN}`,
    `__Host-tallystick=${TOKEN}; __Host-tallystick=${TOKEN.replace("A", "B")}`,
    `__Host-tallystick=${TOKEN}; x=${"y".repeat(8192)}`,
  ]) {
    assert.equal(await cookieOf(cookie), undefined, cookie.slice(0, 80));
  }
});
