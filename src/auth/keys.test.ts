import assert from "node:assert/strict";
import test from "node:test";
import { Failure } from "#contract";
import { fixedClock, testDatabase } from "#harness";
import { silentLogger } from "#kernel";
import type { Database } from "#store";
import { ADMIN } from "./authenticator.ts";
import type { Caller } from "./caller.ts";
import { openIdentity } from "./identity.ts";
import type { NewKey } from "./keys.ts";

const NOW = "2026-11-20T12:00:00Z";
const admin: Caller = { principal: ADMIN, requestId: "request-1" };

async function openAdministration(reach: (database: Database) => Database = (same) => same) {
  await using stack = new AsyncDisposableStack();
  const { database } = stack.use(await testDatabase());
  const clock = fixedClock(NOW);
  const orgsChanged: string[] = [];
  const identity = stack.use(
    openIdentity({
      database: reach(database),
      clock,
      logger: silentLogger,
      adminKey: "admin-key",
      keyEnvironment: "live",
      issuer: undefined,
      onOrgChange: (orgId) => void orgsChanged.push(orgId),
    }),
  );
  for (const orgId of ["acme", "globex"]) await identity.orgs.create(admin, { orgId });
  /** Somebody who came with a key like this one. */
  const callerWith = async (orgId: string | null, key: NewKey): Promise<Caller> => {
    const made = await identity.keys.create(admin, orgId, key);
    const principal = await identity.authenticator.authenticate(`Bearer ${made.key}`);
    return { principal, requestId: "request-2" };
  };
  /** What the log of an org ("*": of all) says, oldest first. */
  const auditOf = async (orgId: string) => {
    const rows = await database.sql<{ entry: string }>`
      select l.entry
        from audit_log l
        join org o on o.id = l.org_id
       where o.external_id = ${orgId}
       order by l.seq`;
    return rows.map(({ entry }): Record<string, unknown> => JSON.parse(entry));
  };
  const owned = stack.move();
  return {
    ...identity,
    database,
    clock,
    orgsChanged,
    callerWith,
    auditOf,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function fails(code: string, work: Promise<unknown>, about?: string): Promise<void> {
  const isIt = (error: unknown) => error instanceof Failure && error.code === code;
  await assert.rejects(work, isIt, about);
}

const DAY_MS = 86_400_000;

test("an org_admin makes, lists, renews and revokes keys of its own org, each told in the org's log", async () => {
  await using t = await openAdministration();
  const boss = await t.callerWith("acme", { name: "boss", roles: ["org_admin"] });
  const made = await t.keys.create(boss, "acme", {
    name: "gateway",
    roles: ["producer"],
    expiresAt: new Date(t.clock.now() + DAY_MS),
  });
  assert.equal(made.record.createdBy, boss.principal.id);
  t.clock.advance(1000);
  const next = await t.keys.rotate(boss, "acme", made.record.id, { overlapHours: 1 });
  assert.deepEqual(next.record.expiresAt, new Date(t.clock.now() + DAY_MS));
  const revoked = await t.keys.revoke(boss, "acme", made.record.id);
  assert.deepEqual(revoked.revokedAt, new Date(t.clock.now()));
  t.clock.advance(1000);
  assert.deepEqual(await t.keys.revoke(boss, "acme", made.record.id), {
    ...revoked,
    lastUsedAt: null,
  });

  const listed = await t.keys.list(boss, "acme", { limit: 10 });
  assert.deepEqual(
    listed.map(({ name, revokedAt }) => [name, revokedAt !== null]),
    [["gateway", false], ...listed.slice(1).map(({ name }) => [name, name === "gateway"] as const)],
  );
  const [first, ...rest] = listed;
  assert.deepEqual(await t.keys.list(boss, "acme", { limit: 10, before: first?.id }), rest);

  const told = (await t.auditOf("acme")).filter(({ actor }) => actor === boss.principal.id);
  assert.deepEqual(
    told.map(({ action, target, requestId }) => ({ action, target, requestId })),
    [
      { action: "key.create", target: made.record.id, requestId: "request-2" },
      { action: "key.rotate", target: made.record.id, requestId: "request-2" },
      { action: "key.revoke", target: made.record.id, requestId: "request-2" },
    ],
  );
  const log = JSON.stringify(await t.auditOf("acme"));
  for (const { key } of [made, next]) assert.equal(log.includes(key.split("_")[3] ?? ""), false);
});

test("nobody gives a key more than the own: no higher role, no other org, no orgs to write for, nothing beyond a cut key", async () => {
  await using t = await openAdministration();
  const boss = await t.callerWith("acme", { name: "boss", roles: ["org_admin"] });
  const clerk = await t.callerWith("acme", {
    name: "clerk",
    roles: ["org_admin"],
    scopes: ["keys:manage", "usage:read"],
  });
  const engineer = await t.callerWith("acme", { name: "grafana", roles: ["engineer"] });
  const staff = await t.callerWith(null, { name: "auditor", roles: ["finance"] });
  const key = (more: Partial<NewKey>): NewKey => ({ name: "new", roles: ["engineer"], ...more });

  await fails("invalid_request", t.keys.create(boss, "acme", key({ roles: ["system_admin"] })));
  await fails("invalid_request", t.keys.create(admin, "acme", key({ roles: ["system_admin"] })));
  await fails("invalid_request", t.keys.create(admin, null, key({ roles: ["org_admin"] })));
  await fails("invalid_request", t.keys.create(boss, "acme", key({ scopes: ["spend:read"] })));
  await fails("invalid_request", t.keys.create(boss, "acme", key({ roles: [] })));
  await fails("invalid_request", t.keys.create(admin, null, key({ writesFor: ["*"] })));
  await fails("invalid_request", t.keys.create(admin, null, key({ writesFor: [] })));
  await fails(
    "invalid_request",
    t.keys.create(boss, "acme", key({ expiresAt: new Date(t.clock.now()) })),
  );
  await fails("not_found", t.keys.create(boss, "globex", key({})));
  await fails("not_found", t.keys.create(admin, "nobody", key({})));
  await fails("forbidden", t.keys.create(boss, null, key({})));
  await fails("forbidden", t.keys.create(engineer, "acme", key({})));
  await fails("forbidden", t.keys.create(staff, "acme", key({})));
  await fails("forbidden", t.keys.create(staff, null, key({})));
  for (const writesFor of ["any", ["globex"], ["acme", "globex"]] as const) {
    const wide = key({ roles: ["producer"], writesFor });
    await fails("forbidden", t.keys.create(boss, "acme", wide), JSON.stringify(writesFor));
  }
  await fails("forbidden", t.keys.create(clerk, "acme", key({})));
  await fails("forbidden", t.keys.create(clerk, "acme", key({ roles: ["org_admin"] })));
  await t.keys.create(clerk, "acme", key({ scopes: ["usage:read"] }));
  await t.keys.create(boss, "acme", key({ roles: ["producer"], writesFor: ["acme"] }));
});

test("renewing a key takes the right to make it", async () => {
  await using t = await openAdministration();
  const boss = await t.callerWith("acme", { name: "boss", roles: ["org_admin"] });
  const clerk = await t.callerWith("acme", {
    name: "clerk",
    roles: ["org_admin"],
    scopes: ["keys:manage"],
  });
  const wide = await t.keys.create(admin, "acme", {
    name: "wide",
    roles: ["producer"],
    writesFor: ["acme", "globex"],
  });
  const rotate = (caller: Caller, orgId: string | null, keyId: string) =>
    t.keys.rotate(caller, orgId, keyId, { overlapHours: 1 });
  await fails("forbidden", rotate(boss, "acme", wide.record.id));
  await fails("forbidden", rotate(clerk, "acme", boss.principal.id));
  await rotate(boss, "acme", boss.principal.id);
  await t.keys.revoke(boss, "acme", wide.record.id);
  await fails("invalid_request", rotate(admin, "acme", wide.record.id));
});

test("a key of another org, of none, and one that is not there are the same to who asks", async () => {
  await using t = await openAdministration();
  const boss = await t.callerWith("acme", { name: "boss", roles: ["org_admin"] });
  const theirs = await t.keys.create(admin, "globex", { name: "theirs", roles: ["engineer"] });
  const staffs = await t.keys.create(admin, null, { name: "staff", roles: ["finance"] });
  const messages = new Set<string>();
  for (const id of [theirs.record.id, staffs.record.id, "nobody"]) {
    for (const work of [
      () => t.keys.revoke(boss, "acme", id),
      () => t.keys.rotate(boss, "acme", id, { overlapHours: 1 }),
      () => t.keys.list(boss, "acme", { limit: 10, before: id }),
    ]) {
      await assert.rejects(work(), (error: unknown) => {
        assert.ok(error instanceof Failure);
        messages.add(`${error.code}: ${error.message}`);
        return true;
      });
    }
  }
  assert.deepEqual(messages, new Set(["not_found: There is no such key."]));
  await fails("not_found", t.keys.revoke(boss, "globex", theirs.record.id));
  const names = (await t.keys.list(boss, "acme", { limit: 10 })).map(({ name }) => name);
  assert.deepEqual(names, ["boss"]);
});

test("staff's keys are told in the log of all orgs, and so is that staff looked at an org's", async () => {
  await using t = await openAdministration();
  await t.keys.create(admin, null, { name: "auditor", roles: ["finance"] });
  await t.keys.list(admin, null, { limit: 10 });
  await t.keys.list(admin, "acme", { limit: 10 });
  await t.orgs.get(admin, "acme");
  await t.orgs.list(admin, { limit: 10 });
  const actionsOf = async (orgId: string) =>
    (await t.auditOf(orgId)).map(({ action, target }) => `${String(action)} ${String(target)}`);
  const [made, ...reads] = await actionsOf("*");
  assert.match(made ?? "", /^key\.create /);
  assert.deepEqual(reads, ["system.read listAdminKeys", "system.read listAdminOrgs"]);
  assert.deepEqual(await actionsOf("acme"), [
    "org.create acme",
    "org.read listOrgKeys",
    "org.read getOrg",
  ]);
});

test("a change whose entry cannot be written does not happen", async () => {
  await using t = await openAdministration();
  const before = await t.keys.list(admin, "acme", { limit: 100 });
  await t.database.transaction((tx) =>
    tx.exec("revoke execute on function append_audit from tallystick_admin"),
  );
  const changes = [
    () => t.keys.create(admin, "acme", { name: "new", roles: ["engineer"] }),
    () => t.orgs.create(admin, { orgId: "new" }),
    () => t.orgs.update(admin, "acme", { name: "Acme" }),
    () => t.orgs.setStatus(admin, "acme", "deleted"),
    () => t.models.put(admin, "gpt", { displayName: "GPT", billingTier: null }),
  ];
  for (const change of changes) await assert.rejects(change(), /permission denied/);
  assert.deepEqual(await t.keys.list(admin, "acme", { limit: 100 }), before);
  const orgs = await t.orgs.list(admin, { limit: 100 });
  assert.deepEqual(
    orgs.map(({ orgId, name, status }) => ({ orgId, name, status })),
    ["acme", "globex"].map((orgId) => ({ orgId, name: null, status: "active" })),
  );
  assert.deepEqual(await t.models.list(admin, { limit: 100 }), []);
});

test("an org is made once, changed field by field, suspended and activated, and deleted for good", async () => {
  await using t = await openAdministration();
  const made = await t.orgs.create(admin, {
    orgId: "initech",
    name: "Initech",
    timeZone: "Europe/Berlin",
    currency: "EUR",
    billingContact: "bill@initech.example",
    entitlements: { seats: 5 },
  });
  assert.equal(made.status, "active");
  await fails("already_exists", t.orgs.create(admin, { orgId: "initech" }));
  t.clock.advance(1000);
  const changed = await t.orgs.update(admin, "initech", { name: null, entitlements: { seats: 6 } });
  assert.deepEqual(changed, {
    ...made,
    name: null,
    entitlements: { seats: 6 },
    updatedAt: new Date(t.clock.now()),
  });
  assert.deepEqual(await t.orgs.get(admin, "initech"), changed);

  await t.orgs.setStatus(admin, "initech", "suspended");
  await t.orgs.setStatus(admin, "initech", "suspended");
  assert.equal((await t.orgs.setStatus(admin, "initech", "active")).status, "active");
  const key = await t.keys.create(admin, "initech", { name: "a", roles: ["engineer"] });
  await t.orgs.setStatus(admin, "initech", "deleted");
  await t.orgs.setStatus(admin, "initech", "deleted");
  for (const work of [
    () => t.orgs.get(admin, "initech"),
    () => t.orgs.update(admin, "initech", { name: "again" }),
    () => t.orgs.setStatus(admin, "initech", "active"),
    () => t.keys.list(admin, "initech", { limit: 10 }),
    () => t.keys.create(admin, "initech", { name: "b", roles: ["engineer"] }),
  ]) {
    await fails("not_found", work());
  }
  await fails("already_exists", t.orgs.create(admin, { orgId: "initech" }));
  const [stored] = await t.database.sql<{ revoked: boolean }>`
    select revoked_at is not null as revoked from api_key where id = ${key.record.id}`;
  assert.equal(stored?.revoked, true);

  const told = await t.auditOf("initech");
  assert.deepEqual(
    told.filter(({ action }) => action !== "org.read").map(({ action }) => action),
    ["org.create", "org.update", "org.suspend", "org.activate", "key.create", "org.delete"],
  );
  assert.deepEqual(told.at(-1)?.["details"], { keysRevoked: 1, sessionsEnded: 0 });
  assert.equal(JSON.stringify(told).includes("bill@initech.example"), false);
  assert.ok(t.orgsChanged.filter((orgId) => orgId === "initech").length >= 4);
});

test("only a system_admin changes orgs, models and revocations", async () => {
  await using t = await openAdministration();
  const until = new Date(t.clock.now() + DAY_MS);
  const strangers = [
    await t.callerWith("acme", { name: "boss", roles: ["org_admin"] }),
    await t.callerWith(null, { name: "auditor", roles: ["finance", "engineer", "producer"] }),
  ];
  for (const caller of strangers) {
    await fails("forbidden", t.orgs.create(caller, { orgId: "new" }));
    await fails("forbidden", t.orgs.update(caller, "acme", { name: "Acme" }));
    await fails("forbidden", t.orgs.setStatus(caller, "acme", "suspended"));
    await fails("forbidden", t.models.put(caller, "m", { displayName: null, billingTier: null }));
    await fails(
      "forbidden",
      t.revocations.create(caller, {
        kind: "sub",
        value: "ann",
        until,
        issuer: "https://x.example",
      }),
    );
  }
  const [boss, auditor] = strangers;
  assert.ok(boss && auditor);
  await fails("forbidden", t.orgs.list(boss, { limit: 1 }));
  await fails("forbidden", t.revocations.list(boss, { limit: 1 }));
  await fails("not_found", t.orgs.get(boss, "globex"));
  await t.orgs.get(boss, "acme");
  assert.equal(
    (await t.auditOf("acme")).some(({ action }) => action === "org.read"),
    false,
  );
  await t.orgs.list(auditor, { limit: 1 });
});

test("a model is described in place of what was said before", async () => {
  await using t = await openAdministration();
  await fails("not_found", t.models.get(admin, "gpt-9"));
  await t.models.put(admin, "gpt-9", { displayName: "GPT 9", billingTier: "gold" });
  t.clock.advance(1000);
  await t.models.put(admin, "gpt-9", { displayName: "GPT-9", billingTier: null });
  assert.deepEqual(await t.models.get(admin, "gpt-9"), {
    modelId: "gpt-9",
    displayName: "GPT-9",
    billingTier: null,
    createdAt: new Date(NOW),
    updatedAt: new Date(t.clock.now()),
  });
  assert.deepEqual(
    (await t.auditOf("*")).map(({ action, target }) => [action, target]),
    [
      ["model.set", "gpt-9"],
      ["model.set", "gpt-9"],
    ],
  );
});

test("a revocation names its issuer and ends when its tokens do", async () => {
  await using t = await openAdministration();
  const issuer = "https://login.example";
  const until = new Date(t.clock.now() + DAY_MS);
  await fails("invalid_request", t.revocations.create(admin, { kind: "jti", value: "a", until }));
  await fails(
    "invalid_request",
    t.revocations.create(admin, { kind: "jti", value: "a", until: new Date(NOW), issuer }),
  );
  const made = await t.revocations.create(admin, { kind: "jti", value: "a", until, issuer });
  assert.deepEqual(await t.revocations.list(admin, { limit: 10 }), [made]);
  t.clock.advance(DAY_MS);
  assert.deepEqual(await t.revocations.list(admin, { limit: 10 }), []);
  assert.equal((await t.auditOf("*"))[0]?.["action"], "token.revoke");
});
