import assert from "node:assert/strict";
import test from "node:test";
import { ROLES, ROLES_OF, SCOPES, scopesOf, type Role } from "./scopes.ts";

const OF_AN_ORG: Record<Role, string[]> = {
  org_admin: [
    "usage:read",
    "spend:read",
    "reliability:read",
    "quarantine:read",
    "quarantine:write",
    "keys:manage",
    "budgets:manage",
    "org:read",
    "audit:read",
    "docs:read",
    "self:read",
  ],
  engineer: [
    "usage:read",
    "reliability:read",
    "quarantine:read",
    "org:read",
    "docs:read",
    "self:read",
  ],
  finance: ["usage:read", "spend:read", "org:read", "docs:read", "self:read"],
  producer: ["events:write", "self:read"],
  // There is none of one org.
  system_admin: [],
};

test("each role of an org has these scopes and no other", () => {
  for (const role of ROLES) assert.deepEqual(scopesOf([role], "org"), OF_AN_ORG[role], role);
});

test("of all orgs, finance also reads the system's answers, a system_admin may everything, and an org_admin does not exist", () => {
  assert.deepEqual(scopesOf(["system_admin"], "system"), [...SCOPES]);
  assert.deepEqual(scopesOf(["finance"], "system").toSorted(), [
    ...OF_AN_ORG.finance.toSorted().filter((scope) => scope < "system"),
    "system:read",
    ...OF_AN_ORG.finance.toSorted().filter((scope) => scope > "system:read"),
  ]);
  assert.deepEqual(scopesOf(["engineer"], "system"), OF_AN_ORG.engineer);
  assert.deepEqual(scopesOf(["producer"], "system"), OF_AN_ORG.producer);
  assert.deepEqual(scopesOf(["org_admin"], "system"), []);
});

test("a limit takes scopes away and never adds one", () => {
  assert.deepEqual(scopesOf(["engineer"], "org", ["usage:read"]), ["usage:read", "self:read"]);
  assert.deepEqual(scopesOf(["engineer"], "org", ["spend:read", "system:write", "what"]), [
    "self:read",
  ]);
  assert.deepEqual(scopesOf(["engineer"], "org", []), ["self:read"]);
});

test("several roles add up", () => {
  assert.deepEqual(
    scopesOf(["finance", "producer"], "org"),
    SCOPES.filter(
      (scope) => OF_AN_ORG.finance.includes(scope) || OF_AN_ORG.producer.includes(scope),
    ),
  );
});

test("every role exists at some reach, and only there grants something", () => {
  for (const role of ROLES) {
    for (const reach of ["org", "system"] as const) {
      assert.equal(scopesOf([role], reach).length > 0, ROLES_OF[reach].includes(role));
    }
  }
});
