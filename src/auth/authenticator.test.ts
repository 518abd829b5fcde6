import assert from "node:assert/strict";
import test from "node:test";
import { Failure } from "#contract";
import { createAuthenticator, SCOPES } from "./authenticator.ts";

const KEY = "tsk_7f3kQ";
const authenticator = createAuthenticator({ adminKey: KEY });
const basic = (password: string) => `Basic ${Buffer.from(`any:${password}`).toString("base64")}`;

function refusal(authorization: string | undefined, allowBasic = false): string {
  try {
    authenticator.authenticate(authorization, { allowBasic });
  } catch (error) {
    assert.ok(error instanceof Failure);
    assert.equal(error.code, "unauthenticated");
    return error.message;
  }
  assert.fail("was let in");
}

test("the admin key lets its bearer in, with every scope", () => {
  const principal = authenticator.authenticate(`Bearer ${KEY}`);
  assert.equal(principal.role, "system_admin");
  assert.deepEqual(principal.scopes, SCOPES);
  assert.equal(authenticator.authenticate(`bearer  ${KEY}`).role, "system_admin");
});

test("no key, a wrong key and a key in another form are refused in the same words", () => {
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
  ];
  assert.equal(new Set(wrong.map((authorization) => refusal(authorization))).size, 1);
});

test("HTTP Basic carries the key only where it is allowed", () => {
  assert.equal(authenticator.authenticate(basic(KEY), { allowBasic: true }).role, "system_admin");
  refusal(basic("wrong"), true);
  refusal(basic(""), true);
  refusal("Basic !!!", true);
});

test("an empty admin key lets nobody in", () => {
  const open = createAuthenticator({ adminKey: "" });
  assert.throws(() => open.authenticate("Bearer "), Failure);
  assert.throws(() => open.authenticate(undefined), Failure);
  assert.throws(() => open.authenticate(basic(""), { allowBasic: true }), Failure);
});
