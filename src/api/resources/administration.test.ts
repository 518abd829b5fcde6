import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import type { Problem } from "../problem.ts";
import { testApi, type TestApi } from "../test-api.ts";

type Key = {
  id: string;
  name: string;
  key?: string;
  roles: string[];
  scopes: string[] | null;
  orgId: string | null;
  writesFor: string[] | "any" | null;
  expiresAt: string | null;
  revokedAt: string | null;
  lastUsedAt: string | null;
  replaces: string | null;
};
type Page<Item> = { items: Item[]; nextCursor: string | null };
type Org = { orgId: string; name: string | null; status: string; entitlements: object } & Record<
  string,
  unknown
>;

const KEYS = "/analytics/v1/orgs/acme/keys";
const ORGS = "/analytics/v1/admin/orgs";

/** Sends JSON; without a body, none. */
const send = <Body = Problem>(
  api: TestApi,
  [method, path]: readonly [method: string, path: string],
  body?: unknown,
  key?: string,
) =>
  api.ask<Body>(path, {
    method,
    ...(body !== undefined && {
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    }),
    ...(key !== undefined && { key }),
  });

const me = async (api: TestApi, key: string | undefined): Promise<number> =>
  (await api.ask("/analytics/v1/me", { key: key ?? "none" })).status;

test("an org's administrator makes a key, uses it, has it replaced with an overlap, and revokes it", async () => {
  await using api = await testApi();
  const admin = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  const order = { name: "nightly report", roles: ["finance"], scopes: ["usage:read"] };
  const made = await send<Key>(api, ["POST", KEYS], order, admin);
  assert.equal(made.status, 201, made.text);
  assert.match(made.body.key ?? "", /^tally_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/);
  assert.deepEqual([made.body.orgId, made.body.replaces], ["acme", null]);
  const who = await api.ask("/analytics/v1/me", { key: made.body.key ?? "" });
  assert.deepEqual(
    [who.body["name"], who.body["scopes"], who.body["orgId"]],
    ["nightly report", ["usage:read", "self:read"], "acme"],
  );

  const path = `${KEYS}/${made.body.id}`;
  const next = await send<Key>(api, ["POST", `${path}/rotate`], { overlapHours: 2 }, admin);
  assert.deepEqual(
    [next.status, next.body.replaces, next.body.scopes],
    [201, made.body.id, ["usage:read"]],
  );
  assert.deepEqual([await me(api, made.body.key), await me(api, next.body.key)], [200, 200]);
  api.clock.advance(2 * 3_600_000 + 1);
  assert.deepEqual([await me(api, made.body.key), await me(api, next.body.key)], [401, 200]);

  const revoked = await send<Key>(api, ["DELETE", `${KEYS}/${next.body.id}`], undefined, admin);
  assert.equal(revoked.status, 200);
  assert.equal(await me(api, next.body.key), 401, "at once");
  const again = await send<Key>(api, ["DELETE", `${KEYS}/${next.body.id}`], undefined, admin);
  assert.equal(again.body.revokedAt, revoked.body.revokedAt, "safe to repeat");

  const listed = await api.ask<Page<Key>>(KEYS, { key: admin });
  assert.equal(listed.body.items.length, 3);
  assert.ok(listed.body.items.every((item) => !("key" in item)));
  const audit = await api.ask<Page<{ action: string; target: string }>>(
    "/analytics/v1/orgs/acme/audit",
    { key: admin },
  );
  assert.deepEqual(
    audit.body.items.map(({ action }) => action).filter((action) => action.startsWith("key.")),
    ["key.revoke", "key.rotate", "key.create", "key.create"],
  );
});

test("lists of keys and orgs come in pages without gap or repeat", async () => {
  await using api = await testApi();
  for (let i = 0; i < 5; i++) await api.keyFor({ orgId: `org-${i}`, roles: ["engineer"] });
  for (let i = 0; i < 4; i++) await api.keyFor({ orgId: "org-0", roles: ["engineer"] });
  const walk = async <Item>(path: string): Promise<Item[]> => {
    const items: Item[] = [];
    for (let cursor: string | null = ""; cursor !== null;) {
      const after: string = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const { body }: { body: Page<Item> } = await api.ask<Page<Item>>(`${path}?limit=2${after}`);
      assert.ok(body.items.length >= 1 && body.items.length <= 2);
      items.push(...body.items);
      cursor = body.nextCursor;
    }
    return items;
  };
  const keys = await walk<Key>("/analytics/v1/orgs/org-0/keys");
  assert.equal(new Set(keys.map(({ id }) => id)).size, 5);
  const orgs = await walk<Org>(ORGS);
  assert.deepEqual(
    orgs.map(({ orgId }) => orgId),
    ["org-0", "org-1", "org-2", "org-3", "org-4"],
  );
  const audit = await walk<{ seq: number }>("/analytics/v1/orgs/org-0/audit");
  assert.deepEqual(
    audit.map(({ seq }) => seq),
    audit.map((_, i) => audit.length - i),
  );
});

test("no key is given more than its maker may give, and a field that is wrong is named", async () => {
  await using api = await testApi();
  const admin = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  const limited = await api.keyFor({
    orgId: "acme",
    roles: ["org_admin"],
    scopes: ["keys:manage"],
  });
  const cases = [
    [admin, { name: "x", roles: ["system_admin"] }, 400, "/body/roles"],
    [admin, { name: "x", roles: ["engineer"], scopes: ["spend:read"] }, 400, "/body/scopes"],
    [admin, { name: "x", roles: ["producer"], writesFor: ["globex"] }, 403, undefined],
    [admin, { name: "x", roles: ["producer"], writesFor: "any" }, 403, undefined],
    [limited, { name: "x", roles: ["finance"] }, 403, undefined],
    [admin, { name: "x", roles: [] }, 400, "/body/roles"],
    [admin, { name: "x\ny", roles: ["engineer"] }, 400, "/body/name"],
    [
      admin,
      { name: "x", roles: ["engineer"], expiresAt: "2020-01-01T00:00:00Z" },
      400,
      "/body/expiresAt",
    ],
    [admin, { name: "x", roles: ["engineer"], expiresAt: "tomorrow" }, 400, "/body/expiresAt"],
  ] as const;
  for (const [key, body, status, pointer] of cases) {
    const answer = await send(api, ["POST", KEYS], body, key);
    assert.deepEqual(
      [answer.status, answer.body.errors[0]?.pointer],
      [status, pointer],
      answer.text,
    );
  }
});

test("the operator makes keys of no org: producers of several orgs, and finance of all", async () => {
  await using api = await testApi();
  const path = "/analytics/v1/admin/keys";
  const order = { name: "gateway", roles: ["producer"], writesFor: ["acme", "globex"] };
  const made = await send<Key>(api, ["POST", path], order);
  assert.deepEqual([made.status, made.body.orgId], [201, null], made.text);
  const events = ["acme", "globex", "initech"].map((org_id) => anEvent({ org_id }));
  const sent = await send<{ results: { status: string }[] }>(
    api,
    ["POST", "/analytics/v1/events"],
    events,
    made.body.key,
  );
  assert.deepEqual(
    sent.body.results.map(({ status }) => status),
    ["accepted", "accepted", "rejected"],
  );
  const listed = await api.ask<Page<Key>>(path);
  assert.deepEqual(listed.body.items[0]?.writesFor, ["acme", "globex"]);
});

test("an org is made, seen by its own people, changed, suspended and deleted", async () => {
  await using api = await testApi();
  const profile = {
    orgId: "acme",
    name: "Acme",
    timeZone: "Europe/Berlin",
    currency: "EUR",
    billingContact: "invoices@acme.example",
    entitlements: { plan: "pro", seats: 25 },
  };
  const made = await send<Org>(api, ["POST", ORGS], profile);
  assert.equal(made.status, 201, made.text);
  const other = await send<Org>(api, ["POST", ORGS], {
    orgId: "zeta",
    costBasis: "event",
    tagKeys: ["team"],
  });
  assert.deepEqual(other.body["tagKeys"], ["team"]);
  assert.equal(other.body["costBasis"], "event");
  const { createdAt, updatedAt, statusChangedAt, ...shown } = made.body;
  assert.deepEqual(shown, {
    ...profile,
    costBasis: "event_or_computed",
    tagKeys: [],
    status: "active",
  });
  assert.ok(createdAt && updatedAt && statusChangedAt === null);
  assert.equal((await send(api, ["POST", ORGS], profile)).body.code, "already_exists");

  const engineer = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  const own = await api.ask<Org>("/analytics/v1/orgs/acme", { key: engineer });
  assert.deepEqual([own.status, own.body.name], [200, "Acme"]);

  const change = {
    name: null,
    entitlements: { plan: "free" },
    costBasis: "computed",
    tagKeys: ["a"],
  };
  const changed = await send<Org>(api, ["PATCH", "/analytics/v1/orgs/acme"], change);
  assert.deepEqual(
    [changed.body.name, changed.body.entitlements, changed.body["timeZone"]],
    [null, { plan: "free" }, "Europe/Berlin"],
  );
  const admin = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  const seen = await api.ask<Org>("/analytics/v1/orgs/acme", { key: admin });
  assert.equal(seen.body["costBasis"], "computed");
  assert.deepEqual(seen.body["tagKeys"], ["a"]);
  const refusal = await send(
    api,
    ["PATCH", "/analytics/v1/orgs/acme"],
    { costBasis: "event" },
    admin,
  );
  assert.equal(refusal.status, 403, "an org does not choose what it is shown to owe");
  const audit = await api.ask<Page<{ action: string; details: object }>>(
    "/analytics/v1/orgs/acme/audit",
    { key: admin },
  );
  assert.deepEqual(audit.body.items.find(({ action }) => action === "org.update")?.details, {
    changed: ["name", "costBasis", "tagKeys", "entitlements"],
    costBasis: "computed",
    tagKeys: ["a"],
  });
  for (const [body, pointer] of [
    [{ timeZone: "Mars/Olympus" }, "/body/timeZone"],
    [{ currency: "USD" }, "/body/currency"],
    [{ costBasis: "both" }, "/body/costBasis"],
    [{ costBasis: null }, "/body/costBasis"],
    [{ tagKeys: ["a", "b", "c", "d", "e", "f"] }, "/body/tagKeys"],
    [{ tagKeys: ["a", "a"] }, "/body/tagKeys"],
    [{ tagKeys: ["a=b"] }, "/body/tagKeys/0"],
    [{ tagKeys: ["x".repeat(65)] }, "/body/tagKeys/0"],
    [{ tagKeys: null }, "/body/tagKeys"],
    [{ entitlements: { "1st": 1 } }, "/body/entitlements"],
    [{ entitlements: { nested: { a: 1 } } }, "/body/entitlements/nested"],
  ] as const) {
    const refused = await send(api, ["PATCH", "/analytics/v1/orgs/acme"], body);
    assert.equal(refused.status, 400);
    assert.match(refused.body.errors[0]?.pointer ?? "", new RegExp(`^${pointer}`));
  }

  const paused = await send<Org>(api, ["PATCH", `${ORGS}/acme`], {
    name: "Acme again",
    status: "suspended",
  });
  assert.deepEqual([paused.body.name, paused.body.status], ["Acme again", "suspended"]);
  assert.equal((await api.ask(KEYS, { key: engineer })).status, 403);
  const gone = await send<Org>(api, ["PATCH", `${ORGS}/acme`], { status: "deleted" });
  assert.equal(gone.body.status, "deleted");
  assert.equal((await send(api, ["PATCH", `${ORGS}/acme`], { status: "active" })).status, 404);
  assert.equal((await api.ask("/analytics/v1/orgs/acme")).status, 404);
  const listed = await api.ask<Page<Org>>(ORGS);
  assert.deepEqual(
    listed.body.items.map(({ orgId, status }) => [orgId, status]),
    [
      ["acme", "deleted"],
      ["zeta", "active"],
    ],
  );
});

test("a model is described, described anew, and listed", async () => {
  await using api = await testApi();
  const path = "/analytics/v1/admin/models/vendor%2Fchat-large";
  assert.equal((await api.ask(path)).status, 404);
  const put = await send<Record<string, unknown>>(api, ["PUT", path], {
    displayName: "Chat, large",
    billingTier: "premium",
  });
  assert.deepEqual([put.status, put.body["modelId"]], [200, "vendor/chat-large"]);
  const again = await send<Record<string, unknown>>(api, ["PUT", path], { displayName: "Large" });
  assert.deepEqual([again.body["displayName"], again.body["billingTier"]], ["Large", null]);
  const listed = await api.ask<Page<Record<string, unknown>>>("/analytics/v1/admin/models");
  assert.deepEqual(
    listed.body.items.map((item) => item["displayName"]),
    ["Large"],
  );
});

test("a token or subject is refused until its tokens have expired by themselves", async () => {
  await using api = await testApi();
  const path = "/analytics/v1/admin/revocations";
  const revocation = {
    kind: "sub",
    value: "somebody",
    issuer: "https://login.example",
    until: "2026-11-21T00:00:00Z",
  };
  const made = await send<Record<string, unknown>>(api, ["POST", path], revocation);
  assert.equal(made.status, 201, made.text);
  assert.equal(made.body["createdBy"], "admin-key");
  const listed = await api.ask<{ items: Record<string, unknown>[] }>(path);
  assert.deepEqual(
    listed.body.items.map(({ kind, value }) => [kind, value]),
    [["sub", "somebody"]],
  );
  const { issuer: _issuer, ...withoutIssuer } = revocation;
  const nobody = await send(api, ["POST", path], withoutIssuer);
  assert.deepEqual([nobody.status, nobody.body.errors[0]?.pointer], [400, "/body/issuer"]);
});
