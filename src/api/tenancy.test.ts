import assert from "node:assert/strict";
import test from "node:test";
import { anEvent, faultProxy, type FaultProxy } from "#harness";
import { openDatabase } from "#store";
import type { Problem } from "./problem.ts";
import { type IngestAnswer, testApi, type TestApi } from "./test-api.ts";

const DAY = "start=2026-11-20T00:00:00Z&end=2026-11-21T00:00:00Z";
const JSON_TYPE = { "content-type": "application/json" };

type AuditPage = {
  items: { seq: number; actor: string; action: string; target: string; requestId: string }[];
  nextCursor: string | null;
};

const post = (api: TestApi, path: string, body: unknown, method = "POST", key?: string) =>
  api.ask<Record<string, unknown> & Problem>(path, {
    method,
    headers: JSON_TYPE,
    body: JSON.stringify(body),
    ...(key !== undefined && { key }),
  });

/** What an org's audit log says, oldest first, without the reading of the log itself. */
async function auditOf(api: TestApi, place: string): Promise<AuditPage["items"]> {
  const { status, body, text } = await api.ask<AuditPage>(`/analytics/v1/${place}/audit?limit=500`);
  assert.equal(status, 200, text);
  return body.items.toReversed().filter(({ target }) => !/^list(?:Org|System)Audit/.test(target));
}

test("S15: whoever belongs to no org is in the org's audit log with each read, by parameter names only; its own people are not", async () => {
  await using api = await testApi();
  await api.send([anEvent()]);
  await api.fold();
  const own = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  const finance = await api.keyFor({ orgId: null, roles: ["finance"] });
  const before = (await auditOf(api, "orgs/acme")).length;
  const url = `/analytics/v1/orgs/acme/usage?${DAY}&actorId=somebody`;
  assert.equal((await api.ask(url, { key: own })).status, 200);
  assert.equal((await auditOf(api, "orgs/acme")).length, before);
  const read = await api.ask(url, { key: finance, headers: { "x-request-id": "read-1" } });
  assert.equal(read.status, 200);
  const entries = (await auditOf(api, "orgs/acme")).slice(before);
  assert.deepEqual(
    entries.map(({ action, target, requestId }) => ({ action, target, requestId })),
    [{ action: "org.read", target: "getUsage?actorId&end&start", requestId: "read-1" }],
  );

  const systemBefore = (await auditOf(api, "system")).length;
  assert.equal((await api.ask(`/analytics/v1/system/orgs?${DAY}`, { key: finance })).status, 200);
  const [entry, ...more] = (await auditOf(api, "system")).slice(systemBefore);
  assert.deepEqual([entry?.action, entry?.target], ["system.read", "getTopOrgs?end&start"]);
  assert.equal(more.length, 0);
  assert.equal((await auditOf(api, "orgs/acme")).length, before + 1);
});

test("every way to read an org from outside of it leaves a trace there", async () => {
  await using api = await testApi();
  await api.send([anEvent(), { ...anEvent(), requests: -1 }]);
  await api.declareTags("acme", ["team"]);
  await api.fold();
  const page = await api.ask<{ items: { id: number }[] }>("/analytics/v1/orgs/acme/quarantine");
  const id = page.body.items[0]?.id;
  for (const path of [
    "",
    "/usage",
    "/models",
    "/users",
    "/clients",
    "/tags?tagKey=team",
    "/reliability",
    "/freshness",
    "/quarantine",
    `/quarantine/${id}`,
    "/keys",
  ]) {
    const before = (await auditOf(api, "orgs/acme")).length;
    assert.equal((await api.ask(`/analytics/v1/orgs/acme${path}`)).status, 200, path);
    const entries = (await auditOf(api, "orgs/acme")).slice(before);
    assert.ok(entries.length >= 1, path);
    assert.ok(
      entries.every(({ action }) => action === "org.read"),
      path,
    );
  }
});

test("what is done to an org's quarantine is in its audit log, whoever did it", async () => {
  await using api = await testApi();
  await api.send([{ ...anEvent(), requests: -1 }]);
  const own = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  const before = (await auditOf(api, "orgs/acme")).length;
  for (const what of ["replay", "drop"]) {
    const path = `/analytics/v1/orgs/acme/quarantine/${what}`;
    assert.equal((await api.ask(path, { method: "POST", key: own })).status, 200);
  }
  assert.deepEqual(
    (await auditOf(api, "orgs/acme")).slice(before).map(({ action }) => action),
    ["quarantine.replay", "quarantine.drop"],
  );
});

test("history and the quarantine of no org are the operator's: backfill takes system:write", async () => {
  await using api = await testApi();
  const producer = await api.keyFor({ orgId: "acme", roles: ["producer"] });
  const admin = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  const sent = await post(api, "/analytics/v1/events?backfill=true", [anEvent()], "POST", producer);
  assert.deepEqual([sent.status, sent.body.code], [403, "forbidden"]);
  const replayed = await api.ask("/analytics/v1/orgs/acme/quarantine/replay?backfill=true", {
    method: "POST",
    key: admin,
  });
  assert.equal(replayed.status, 403);
});

test("a producer's events count for its own org only, and others' go to the quarantine of no org", async () => {
  await using api = await testApi();
  const key = await api.keyFor({ orgId: "acme", roles: ["producer"] });
  const batch = [anEvent({ event_id: "mine" }), anEvent({ event_id: "theirs", org_id: "globex" })];
  const rules = (query: string) =>
    api.ask<IngestAnswer>(`/analytics/v1/events${query}`, {
      method: "POST",
      headers: JSON_TYPE,
      body: JSON.stringify(batch),
      key,
    });
  for (const query of ["?dryRun=true", ""]) {
    const { status, body } = await rules(query);
    assert.equal(status, 207);
    assert.deepEqual(
      body.results.map((result) => [result.status, result.code ?? null, result.pointer ?? null]),
      [
        ["accepted", null, null],
        ["rejected", "org_forbidden", "/org_id"],
      ],
    );
  }
  assert.equal((await api.ask("/analytics/v1/orgs/globex/usage")).status, 404, "not even made");
  const none = await api.ask<{ items: { code: string }[] }>("/analytics/v1/system/quarantine");
  assert.deepEqual(
    none.body.items.map(({ code }) => code),
    ["org_forbidden"],
  );
});

test("an Idempotency-Key is its sender's own: another's of the same name neither gets the answer nor hears of it", async () => {
  await using api = await testApi();
  const send = async (orgId: string, eventId: string) =>
    await api.ask<IngestAnswer>("/analytics/v1/events", {
      method: "POST",
      headers: { ...JSON_TYPE, "idempotency-key": "same" },
      body: JSON.stringify([anEvent({ org_id: orgId, event_id: eventId })]),
      key: await api.keyFor({ orgId, roles: ["producer"] }),
    });
  assert.equal((await send("acme", "a")).status, 200);
  const other = await send("globex", "b");
  assert.deepEqual([other.status, other.body.results[0]?.eventId], [200, "b"]);
});

test("S8: suspended and active again, at once in this process; a deleted org is gone for its people and for staff", async () => {
  await using api = await testApi();
  await api.send([anEvent()]);
  await api.fold();
  const engineer = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  const producer = await api.keyFor({ orgId: "acme", roles: ["producer"] });
  const usage = "/analytics/v1/orgs/acme/usage";
  const statuses = async () => [
    (await api.ask(usage, { key: engineer })).status,
    (await api.ask("/analytics/v1/me", { key: engineer })).status,
    (await post(api, "/analytics/v1/events", [anEvent()], "POST", producer)).status,
    (await api.ask(usage)).status,
  ];
  assert.deepEqual(await statuses(), [200, 200, 200, 200]);
  await api.setStatus("acme", "suspended");
  assert.deepEqual(await statuses(), [403, 200, 403, 200]);
  const staffSent = await api.send([anEvent()]);
  assert.equal(staffSent.body.results[0]?.code, "org_suspended");
  await api.setStatus("acme", "active");
  assert.deepEqual(await statuses(), [200, 200, 200, 200]);
  await api.setStatus("acme", "deleted");
  assert.deepEqual(await statuses(), [401, 401, 401, 404]);
  const reborn = await post(api, "/analytics/v1/admin/orgs", { orgId: "acme" });
  assert.deepEqual([reborn.status, reborn.body.code], [409, "already_exists"]);
});

test("S19: the ETag of one org's answer is of no use for another's", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  await api.createOrg("globex");
  const headers = { accept: "text/csv" };
  const path = (orgId: string) => `/analytics/v1/orgs/${orgId}/usage?${DAY}`;
  const one = await api.ask(path("acme"), { headers });
  const etag = one.headers.get("etag") ?? "";
  assert.equal(
    (await api.ask(path("acme"), { headers: { ...headers, "if-none-match": etag } })).status,
    304,
  );
  const other = await api.ask(path("globex"), { headers: { ...headers, "if-none-match": etag } });
  assert.deepEqual(
    [other.status, other.text],
    [200, one.text],
    "the same table, told all the same",
  );
  assert.match(one.headers.get("vary") ?? "", /Authorization, Cookie/);
});

test("S1: an org of others is refused without a question to the database", async () => {
  const { promise: proxied, resolve } = Promise.withResolvers<FaultProxy>();
  await using api = await testApi({
    reach: async (db) => {
      const proxy = await faultProxy({ upstreamPort: Number(new URL(db.url).port) });
      resolve(proxy);
      return await openDatabase({
        url: proxy.through(db.url),
        ownerConnectionsMax: 2,
        apiConnectionsMax: 2,
        ownerStatementMsMax: 5000,
        apiStatementMsMax: 900,
        connectMsMax: 5000,
        onIdleError: () => undefined,
      });
    },
  });
  await using proxy = await proxied;
  const key = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  const unused = await api.keyFor({ orgId: "globex", roles: ["engineer"] });
  const ask = (orgId: string) => api.ask<Problem>(`/analytics/v1/orgs/${orgId}/usage`, { key });
  assert.equal((await ask("acme")).status, 200);
  proxy.refuse();
  assert.equal((await ask("globex")).status, 404);
  assert.equal((await ask("never-was")).status, 404);
  const own = await ask("acme");
  assert.equal(own.status, 503, "its own takes the database");
  const stranger = await api.ask<Problem>("/analytics/v1/orgs/acme/usage", { key: unused });
  assert.equal(stranger.status, 503);
  assert.ok(
    "freshness" in own.body && !("freshness" in stranger.body),
    "nobody yet hears of no org",
  );
  proxy.heal();
});
