import assert from "node:assert/strict";
import test from "node:test";
import { Failure } from "#contract";
import { createApiKey, formatApiKey } from "./api-key.ts";
import { ADMIN, createAuthenticator } from "./authenticator.ts";
import type { Principal } from "./principal.ts";
import { SCOPES } from "./scopes.ts";

const KEY = "tsk_7f3kQ";
const authenticator = createAuthenticator({ adminKey: KEY });
const basic = (password: string) => `Basic ${Buffer.from(`any:${password}`).toString("base64")}`;

async function refusal(authorization: string | undefined, allowBasic = false): Promise<string> {
  try {
    await authenticator.authenticate(authorization, { allowBasic });
  } catch (error) {
    assert.ok(error instanceof Failure);
    assert.equal(error.code, "unauthenticated");
    return error.message;
  }
  assert.fail("was let in");
}

test("the admin key lets its bearer in, with every scope and for every org", async () => {
  const principal = await authenticator.authenticate(`Bearer ${KEY}`);
  assert.deepEqual(principal.roles, ["system_admin"]);
  assert.deepEqual(principal.scopes, SCOPES);
  assert.equal(principal.orgId, null);
  assert.equal(principal.writesFor, "any");
  assert.equal(await authenticator.authenticate(`bearer  ${KEY}`), ADMIN);
});

test("no credential, a wrong one and one in another form are refused in the same words", async () => {
  const wrong = [
    undefined,
    "",
    "Bearer",
    "Bearer ",
    `Bearer ${KEY}x`,
    `Bearer ${KEY.toUpperCase()}`,
    `Bearer ${KEY} ${KEY}`,
    `Token ${KEY}`,
    KEY,
    basic(KEY),
    `Bearer ${"x".repeat(100_000)}`,
    `Bearer ${formatApiKey(createApiKey("live"))}`,
    "Bearer eyJhbGciOiJub25lIn0.e30.",
  ];
  const answers = await Promise.all(wrong.map((authorization) => refusal(authorization)));
  assert.equal(new Set(answers).size, 1);
});

test("HTTP Basic carries the key only where it is allowed", async () => {
  assert.equal(await authenticator.authenticate(basic(KEY), { allowBasic: true }), ADMIN);
  await refusal(basic("wrong"), true);
  await refusal(basic(""), true);
  await refusal("Basic !!!", true);
});

test("an empty admin key lets nobody in", async () => {
  const open = createAuthenticator({ adminKey: "" });
  const empty: [string | undefined, boolean][] = [
    ["Bearer ", false],
    [undefined, false],
    [basic(""), true],
  ];
  for (const [authorization, allowBasic] of empty) {
    await assert.rejects(
      async () => open.authenticate(authorization, { allowBasic }),
      (error: unknown) => error instanceof Failure && error.code === "unauthenticated",
    );
  }
});

test("a credential of either form goes to whom it is for, and to nobody else", async () => {
  const seen: string[] = [];
  const remember =
    (what: string) =>
    (credential: unknown): Promise<Principal> => {
      seen.push(`${what} ${JSON.stringify(credential)}`);
      return Promise.resolve(ADMIN);
    };
  const key = createApiKey("live");
  const both = createAuthenticator({
    adminKey: KEY,
    keys: { authenticate: remember("key") },
    tokens: { authenticate: remember("token") },
  });
  const token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";
  await both.authenticate(`Bearer ${formatApiKey(key)}`);
  await both.authenticate(`Bearer ${token}`);
  await both.authenticate(basic(formatApiKey(key)), { allowBasic: true });
  const expected = `key ${JSON.stringify(key)}`;
  assert.deepEqual(seen, [expected, `token ${JSON.stringify(token)}`, expected]);

  const damaged = formatApiKey(key).slice(0, -1);
  for (const neither of [damaged, `${token}.x`, "a.b", `${"a".repeat(9000)}.b.c`]) {
    await assert.rejects(async () => both.authenticate(`Bearer ${neither}`), Failure);
  }
  assert.equal(seen.length, 3);
});
