import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test from "node:test";
import { Failure } from "#contract";
import { fixedClock, testDatabase, type TestDatabase } from "#harness";
import {
  expireApiKey,
  insertApiKey,
  insertOrg,
  listAudit,
  revokeApiKey,
  setOrgStatus,
  upsertTokenRevocation,
  type Database,
} from "#store";
import { ADMIN } from "./authenticator.ts";
import type { Principal } from "./principal.ts";
import { scopesOf, type Role } from "./scopes.ts";
import { createSessions, type Sessions } from "./sessions.ts";
import { createSignInLinks } from "./sign-in-links.ts";

const NOW = "2026-11-20T12:00:00Z";
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const SETTINGS = { sessionHours: 12, sessionIdleMinutes: 60 };

/** An org with keys of it, and sessions in two processes. */
async function setUp() {
  const db = await testDatabase();
  const clock = fixedClock(NOW);
  const at = new Date(clock.now());
  const orgId = await insertOrg(db.database.sql, {
    externalId: "acme",
    name: null,
    billingContact: null,
    timeZone: "UTC",
    currency: "USD",
    entitlements: {},
    at,
  });
  assert.ok(orgId !== undefined);
  const questions = { count: 0 };
  const open = (): Sessions =>
    createSessions({
      database: countChanges(db.database, questions),
      clock,
      createId: randomUUID,
      settings: SETTINGS,
    });
  const addKey = async (id: string, role: Role = "org_admin"): Promise<Principal> => {
    await insertApiKey(db.database.sql, {
      id,
      orgId,
      name: `the key ${id}`,
      roles: [role],
      scopes: null,
      writesFor: null,
      environment: "live",
      secretHash: Buffer.alloc(32, id),
      createdAt: at,
      createdBy: "test",
      expiresAt: null,
      replaces: null,
    });
    return aPrincipal({ id, roles: [role], scopes: scopesOf([role], "org") });
  };
  return {
    db,
    clock,
    orgId,
    questions,
    sessions: open(),
    elsewhere: open(),
    links: createSignInLinks({ database: db.database, clock }),
    addKey,
    [Symbol.asyncDispose]: () => db[Symbol.asyncDispose](),
  };
}

const aPrincipal = (about: Partial<Principal>): Principal => ({
  ...ADMIN,
  name: "a name",
  orgId: "acme",
  writesFor: [],
  ...about,
});

function countChanges(database: Database, questions: { count: number }): Database {
  return {
    ...database,
    change: (orgId, work) => {
      questions.count++;
      return database.change(orgId, work);
    },
  };
}

const begin = async (sessions: Sessions, principal: Principal, replaces?: string) =>
  (await sessions.open({ principal, requestId: "r" }, { by: "key", replaces })).token;

async function isIn(sessions: Sessions, token: string): Promise<boolean> {
  try {
    await sessions.authenticate(token);
    return true;
  } catch (error) {
    assert.ok(error instanceof Failure && error.code === "unauthenticated", String(error));
    return false;
  }
}

const dumpOf = async (db: TestDatabase): Promise<string> =>
  JSON.stringify([
    await db.database.sql<{ row: string }>`select s::text as row from browser_session s`,
    await db.database.sql<{ row: string }>`select l::text as row from sign_in_link l`,
    await db.database.sql<{ row: string }>`select a::text as row from audit_log a`,
  ]);

test("a session stands for whoever signed in, and its token is stored nowhere", async () => {
  await using t = await setUp();
  const key = await t.addKey("key000000001", "engineer");
  const opened = await t.sessions.open(
    { principal: key, requestId: "r" },
    { by: "key", replaces: undefined },
  );

  const principal = await t.elsewhere.authenticate(opened.token);

  assert.equal(opened.seconds, 12 * 3600);
  assert.deepEqual(principal, {
    ...key,
    session: opened.id,
    expiresAt: new Date(t.clock.now() + 12 * HOUR),
  });
  assert.match(opened.token, /^[\w-]{43}$/);
  assert.ok(!(await dumpOf(t.db)).includes(opened.token));
  assert.equal(await isIn(t.sessions, `${opened.token.slice(0, -1)}_`), false);
});

test("a session that is known costs the database nothing, for half a minute", async () => {
  await using t = await setUp();
  const token = await begin(t.sessions, await t.addKey("key000000001"));
  await Promise.all([1, 2, 3].map(async () => await t.sessions.authenticate(token)));
  const before = t.questions.count;

  t.clock.advance(29_000);
  for (let i = 0; i < 100; i++) assert.ok(!(t.sessions.authenticate(token) instanceof Promise));
  assert.equal(t.questions.count, before);
  t.clock.advance(1000);
  await Promise.all([1, 2, 3].map(async () => await t.sessions.authenticate(token)));
  assert.equal(t.questions.count, before + 1);
});

test("a session ends after its time, however busy, and sooner when nobody uses it", async () => {
  await using t = await setUp();
  const principal = await t.addKey("key000000001");
  const busy = await begin(t.sessions, principal);
  const idle = await begin(t.sessions, principal);

  t.clock.advance(59 * MINUTE);
  assert.ok(await isIn(t.sessions, busy));
  t.clock.advance(MINUTE);
  assert.equal(await isIn(t.elsewhere, idle), false);
  for (let i = 2; i <= 23; i++) {
    assert.ok(await isIn(i % 2 === 0 ? t.sessions : t.elsewhere, busy), `after ${i} half hours`);
    t.clock.advance(30 * MINUTE);
  }
  t.clock.set("2026-11-20T23:59:59.999Z");
  assert.ok(await isIn(t.sessions, busy));
  t.clock.set("2026-11-21T00:00:00Z");
  assert.equal(await isIn(t.sessions, busy), false);
});

test("use that was answered from memory keeps a session from being idle", async () => {
  await using t = await setUp();
  const token = await begin(t.sessions, await t.addKey("key000000001"));
  await t.sessions.authenticate(token);
  t.clock.advance(29_000);
  await t.sessions.authenticate(token);
  t.clock.advance(HOUR - 15_000);
  assert.ok(await isIn(t.sessions, token));
});

test("a clock that is set back does not make a session last longer", async () => {
  await using t = await setUp();
  const token = await begin(t.sessions, await t.addKey("key000000001"));
  await t.sessions.authenticate(token);
  const principal = await t.elsewhere.authenticate(token);
  await t.elsewhere.close({ principal, requestId: "r" }, { isEverywhere: false });
  t.clock.advance(-HOUR);
  assert.equal(await isIn(t.sessions, token), false);
});

test("S8: what ends a key, a subject or an org ends its sessions in every process within 30 s", async () => {
  await using t = await setUp();
  const { sql } = t.db.database;
  const now = () => new Date(t.clock.now());
  const revokeSubject = () =>
    upsertTokenRevocation(sql, {
      kind: "sub",
      issuer: "https://issuer.example",
      value: "ann",
      until: new Date(t.clock.now() + HOUR),
      createdAt: now(),
      createdBy: "test",
    });
  const ends: [string, Principal, () => Promise<unknown>][] = [
    [
      "the key is revoked",
      await t.addKey("key000000001"),
      () => revokeApiKey(sql, { orgId: t.orgId, id: "key000000001", at: now() }),
    ],
    [
      "the key expires sooner",
      await t.addKey("key000000002"),
      () => expireApiKey(sql, { orgId: t.orgId, id: "key000000002", at: now() }),
    ],
    [
      "all tokens of the subject are revoked",
      aPrincipal({ kind: "token", id: "https://issuer.example#ann" }),
      revokeSubject,
    ],
    [
      "the org is deleted",
      await t.addKey("key000000003"),
      () => setOrgStatus(sql, t.orgId, { status: "deleted", at: now() }),
    ],
  ];
  const bystander = await begin(t.sessions, ADMIN);
  for (const [what, whose, end] of ends) {
    const token = await begin(t.sessions, whose);
    assert.ok(await isIn(t.sessions, token), what);
    t.clock.advance(1000);
    await end();
    t.clock.advance(30_000);
    assert.equal(await isIn(t.sessions, token), false, what);
    assert.equal(await isIn(t.elsewhere, token), false, what);
    assert.ok(await isIn(t.sessions, bystander), what);
    if (whose.kind === "key") {
      await assert.rejects(begin(t.sessions, whose), { code: "unauthenticated" }, what);
    }
  }
});

test("S8: a suspended org's sessions may know themselves and nothing else, until it is active again", async () => {
  await using t = await setUp();
  const { sql } = t.db.database;
  const key = await t.addKey("key000000001");
  const token = await begin(t.sessions, key);
  const setStatus = (status: "suspended" | "active") =>
    setOrgStatus(sql, t.orgId, { status, at: new Date(t.clock.now()) });

  await setStatus("suspended");
  t.clock.advance(30_000);
  const { scopes, isSuspended } = await t.sessions.authenticate(token);
  assert.deepEqual({ scopes, isSuspended }, { scopes: ["self:read"], isSuspended: true });
  await assert.rejects(begin(t.sessions, key), { code: "org_suspended" });

  await setStatus("active");
  t.clock.advance(30_000);
  assert.deepEqual((await t.sessions.authenticate(token)).scopes, key.scopes);
});

test("S8: in the process that is told of a change it is in force at once", async () => {
  await using t = await setUp();
  const token = await begin(t.sessions, await t.addKey("key000000001"));
  await t.sessions.authenticate(token);
  await revokeApiKey(t.db.database.sql, {
    orgId: t.orgId,
    id: "key000000001",
    at: new Date(t.clock.now()),
  });
  assert.ok(await isIn(t.sessions, token));
  t.sessions.forget();
  assert.equal(await isIn(t.sessions, token), false);
});

test("an answer that was under way when a change was told is not remembered", async () => {
  await using t = await setUp();
  const token = await begin(t.sessions, await t.addKey("key000000001"));
  const asked = Promise.resolve(t.sessions.authenticate(token));
  t.sessions.forget();
  await asked;
  const before = t.questions.count;
  await t.sessions.authenticate(token);
  assert.equal(t.questions.count, before + 1);
});

test("a key that is gone altogether lets nobody in", async () => {
  await using t = await setUp();
  await assert.rejects(begin(t.sessions, aPrincipal({ id: "key000000009" })), {
    code: "unauthenticated",
  });
  await assert.rejects(begin(t.sessions, { ...ADMIN, orgId: "nowhere" }), {
    code: "unauthenticated",
  });
});

test("signing in ends the session that the browser had, and no other", async () => {
  await using t = await setUp();
  const principal = await t.addKey("key000000001");
  const [first, other] = [await begin(t.sessions, principal), await begin(t.sessions, principal)];
  assert.ok(await isIn(t.sessions, first));
  const second = await begin(t.sessions, await t.addKey("key000000002"), first);
  assert.notEqual(second, first);
  assert.deepEqual(
    await Promise.all([first, second, other].map((token) => isIn(t.sessions, token))),
    [false, true, true],
  );
});

test("signing out ends one session; everywhere, all of this person and of nobody else", async () => {
  await using t = await setUp();
  const ann = await t.addKey("key000000001");
  const bob = await begin(t.sessions, await t.addKey("key000000002"));
  const [one, two, three] = [
    await begin(t.sessions, ann),
    await begin(t.sessions, ann),
    await begin(t.sessions, ann),
  ];
  const close = async (token: string, isEverywhere: boolean) => {
    const principal = await t.sessions.authenticate(token);
    return await t.sessions.close({ principal, requestId: "r" }, { isEverywhere });
  };
  assert.equal(await close(one, false), 1);
  assert.deepEqual([await isIn(t.sessions, one), await isIn(t.sessions, two)], [false, true]);
  assert.equal(await close(two, true), 2);
  assert.deepEqual(await Promise.all([two, three, bob].map((token) => isIn(t.sessions, token))), [
    false,
    false,
    true,
  ]);
});

test("what signs in and out is told in the audit log of the org, or of all orgs", async () => {
  await using t = await setUp();
  const token = await begin(t.sessions, await t.addKey("key000000001"));
  const principal = await t.sessions.authenticate(token);
  await t.sessions.close({ principal, requestId: "r" }, { isEverywhere: false });
  await t.sessions.close({ principal, requestId: "r" }, { isEverywhere: false });
  await begin(t.sessions, ADMIN);
  await t.links.create({ principal: ADMIN, requestId: "r" });

  const actionsOf = async (orgId: number) =>
    (await listAudit(t.db.database.sql, { orgId, beforeSeq: 100, limit: 100 })).map(
      ({ action, actor }) => `${actor} ${action}`,
    );
  assert.deepEqual(await actionsOf(t.orgId), [
    "key000000001 session.end",
    "key000000001 session.start",
  ]);
  assert.deepEqual(await actionsOf(0), [
    "admin-key sign_in_link.create",
    "admin-key session.start",
  ]);
});

test("what was stored by another version, or by hand, lets nobody in", async () => {
  await using t = await setUp();
  const token = await begin(t.sessions, ADMIN);
  const stored = [
    `{}`,
    `"admin"`,
    `{"kind":"key","id":"admin-key","name":"x","roles":["emperor"],"scopes":[],"orgId":null,"writesFor":"any","expiresAt":null}`,
    `{"kind":"key","id":"admin-key","name":"x","roles":[],"scopes":[],"orgId":null,"writesFor":"any","expiresAt":null}`,
  ];
  for (const json of stored) {
    await t.db.database.sql`update browser_session set principal = ${json}::jsonb`;
    assert.equal(await isIn(t.sessions, token), false, json);
  }
});

test("a link signs in once: of many that try at the same time, one gets in", async () => {
  await using t = await setUp();
  const { path, expiresAt } = await t.links.create({ principal: ADMIN, requestId: "r" });
  const token = path.replace("/sign-in/link/", "");
  assert.deepEqual(expiresAt, new Date(t.clock.now() + 15 * MINUTE));
  assert.ok(!(await dumpOf(t.db)).includes(token));

  const tries = await Promise.allSettled(Array.from({ length: 8 }, () => t.links.take(token)));
  const taken = tries.filter((one) => one.status === "fulfilled");
  assert.deepEqual(
    taken.map(({ value }) => value),
    [ADMIN],
  );
  await assert.rejects(t.links.take(token), { code: "unauthenticated" });
});

test("a link that is too old, was never made, or whose key was revoked meanwhile signs nobody in", async () => {
  await using t = await setUp();
  const principal = await t.addKey("key000000001");
  const make = async () =>
    (await t.links.create({ principal, requestId: "r" })).path.replace("/sign-in/link/", "");
  const [old, young] = [await make(), await make()];
  await revokeApiKey(t.db.database.sql, {
    orgId: t.orgId,
    id: principal.id,
    at: new Date(t.clock.now()),
  });
  t.clock.advance(15 * MINUTE - 1);
  await assert.rejects(begin(t.sessions, await t.links.take(young)), { code: "unauthenticated" });
  t.clock.advance(1);
  await assert.rejects(t.links.take(old), { code: "unauthenticated" });
  await assert.rejects(t.links.take("x".repeat(43)), { code: "unauthenticated" });
});
