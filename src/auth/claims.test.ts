import assert from "node:assert/strict";
import test from "node:test";
import { Failure } from "#contract";
import { type Claims, type ClaimSettings, principalOfClaims } from "./claims.ts";

const SETTINGS: ClaimSettings = {
  issuer: "https://login.example",
  orgClaim: "org",
  rolesClaim: "roles",
  roleMap: new Map(),
};
const about = { subject: "ann", expiresAt: new Date("2026-11-20T13:00:00Z") };
const principalOf = (claims: Claims, settings: Partial<ClaimSettings> = {}) =>
  principalOfClaims(claims, { ...SETTINGS, ...settings }, about);
const isForbidden = (error: unknown) => error instanceof Failure && error.code === "forbidden";

test("roles are read from a list or a text, and what is none of ours is left out", () => {
  const forms = [
    ["finance", "engineer"],
    "finance engineer",
    "finance,engineer",
    "x finance engineer",
  ];
  for (const roles of forms) {
    assert.deepEqual(principalOf({ org: "acme", roles }).roles, ["finance", "engineer"]);
  }
});

test("claims are found by name, dots and all, or by path, and never in what every object has", () => {
  const claims = {
    "https://acme.example/org": "by name",
    realm_access: { roles: ["engineer"], org: "by path" },
  };
  const settings = { rolesClaim: "realm_access.roles" };
  const orgBy = (orgClaim: string) => principalOf(claims, { ...settings, orgClaim }).orgId;
  assert.equal(orgBy("https://acme.example/org"), "by name");
  assert.equal(orgBy("realm_access.org"), "by path");
  for (const path of ["constructor.name", "__proto__.x", "realm_access.roles.length", "a.b.c"]) {
    assert.throws(() => orgBy(path), isForbidden, path);
  }
});

test("with a map only what it names is a role", () => {
  const roleMap = new Map([
    ["Billing Team", "system:finance"],
    ["devs", "engineer"],
    ["root", "system_admin"],
    ["typo", "system:org_admin"],
  ]);
  const rolesOf = (roles: unknown) => {
    const { roles: held, orgId } = principalOf({ org: "acme", roles }, { roleMap });
    return { held, orgId };
  };
  assert.deepEqual(rolesOf(["devs"]), { held: ["engineer"], orgId: "acme" });
  assert.deepEqual(rolesOf(["Billing Team"]), { held: ["finance"], orgId: null });
  assert.deepEqual(rolesOf(["root"]), { held: ["system_admin"], orgId: null });
  for (const role of ["engineer", "system_admin", "system:finance", "typo", "toString"]) {
    assert.throws(() => rolesOf([role]), isForbidden, role);
  }
});

test("a role of all orgs does not carry the roles of one org along", () => {
  const both = principalOf({ org: "acme", roles: ["org_admin", "engineer", "system:finance"] });
  assert.equal(both.orgId, null);
  assert.deepEqual(both.roles, ["finance"]);
  assert.ok(both.scopes.includes("system:read"));
  for (const scope of ["reliability:read", "keys:manage"] as const) {
    assert.equal(both.scopes.includes(scope), false);
  }
});

test("a producer writes for its org, and one of all orgs for any", () => {
  assert.deepEqual(principalOf({ org: "acme", roles: ["producer"] }).writesFor, ["acme"]);
  assert.equal(principalOf({ roles: ["system:producer"] }).writesFor, "any");
  assert.deepEqual(principalOf({ roles: ["system:engineer"] }).writesFor, []);
});

test("a name is text of one line, or the subject", () => {
  const nameOf = (claims: Claims) =>
    principalOf({ org: "acme", roles: "engineer", ...claims }).name;
  assert.equal(nameOf({ name: "Ann Lee", email: "ann@acme.example" }), "Ann Lee");
  assert.equal(nameOf({ name: "two\nlines", email: "ann@acme.example" }), "ann@acme.example");
  assert.equal(nameOf({ name: ["Ann"], email: "" }), "ann");
});
