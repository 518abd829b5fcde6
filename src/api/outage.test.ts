import assert from "node:assert/strict";
import test from "node:test";
import { anEvent, faultProxy, type FaultProxy, waitFor } from "#harness";
import { openDatabase } from "#store";
import type { Problem } from "./problem.ts";
import { testApi } from "./test-api.ts";

const PATHS = [
  "orgs/acme/usage",
  "orgs/acme/models",
  "orgs/acme/freshness",
  "system/orgs",
  "orgs/acme/quarantine",
];

async function apiThroughProxy() {
  const { promise: proxied, resolve } = Promise.withResolvers<FaultProxy>();
  const api = await testApi({
    reach: async (db) => {
      const proxy = await faultProxy({ upstreamPort: Number(new URL(db.url).port) });
      resolve(proxy);
      return await openDatabase({
        url: proxy.through(db.url),
        ownerConnectionsMax: 3,
        apiConnectionsMax: 3,
        ownerStatementMsMax: 5000,
        apiStatementMsMax: 900,
        connectMsMax: 5000,
        onIdleError: () => undefined,
      });
    },
  });
  const proxy = await proxied;
  await api.send([anEvent()]);
  await api.fold();
  for (const path of PATHS)
    assert.equal((await api.ask(`/analytics/v1/${path}`)).status, 200, path);
  return {
    api,
    proxy,
    [Symbol.asyncDispose]: async () => {
      proxy.heal();
      proxy.cut();
      await api[Symbol.asyncDispose]();
      await proxy[Symbol.asyncDispose]();
    },
  };
}

type Known = Problem & { freshness?: { completeThrough: string | null; asOf: string } };

/** Every read answers 503 within a second, with when to come back and how fresh the last answer was. */
async function assertHonest(
  api: Awaited<ReturnType<typeof testApi>>,
  codes: readonly string[],
): Promise<void> {
  for (const path of PATHS) {
    const startMs = performance.now();
    const { status, body, headers, text } = await api.ask<Known>(`/analytics/v1/${path}`);
    const tookMs = performance.now() - startMs;
    assert.equal(status, 503, `${path}: ${text}`);
    assert.ok(codes.includes(body.code), body.code);
    assert.ok(Number(headers.get("retry-after")) >= 1, path);
    assert.ok(tookMs < 1200, `${path} took ${tookMs} ms`);
    if (!path.includes("quarantine") || body.freshness !== undefined)
      assert.match(body.freshness?.asOf ?? "", /^2026-/, path);
    assert.doesNotMatch(text, /127\.0\.0\.1|ECONN|select|pg/i);
  }
}

test("NFR-006: with the database away, reads say so within a second and recover by themselves", async () => {
  await using t = await apiThroughProxy();
  t.proxy.refuse();
  await assertHonest(t.api, ["database_unavailable", "timeout"]);
  assert.equal((await t.api.ask("/health")).status, 200);
  t.proxy.heal();
  for (const path of PATHS)
    assert.equal((await t.api.ask(`/analytics/v1/${path}`)).status, 200, path);
});

test("NFR-006: with a database that is slow, reads answer within a second", async () => {
  await using t = await apiThroughProxy();
  t.proxy.delay(2000);
  await assertHonest(t.api, ["timeout", "database_unavailable"]);
});

test("NFR-006: with a database that swallows everything, reads answer within a second, and again when it is back", async () => {
  await using t = await apiThroughProxy();
  // As many at once as there are connections: each of them is lost.
  await Promise.all(PATHS.map((path) => t.api.ask(`/analytics/v1/${path}`)));
  t.proxy.blackhole();
  await Promise.all(PATHS.map((path) => t.api.ask(`/analytics/v1/${path}`)));
  await assertHonest(t.api, ["timeout", "database_unavailable", "overloaded"]);
  t.proxy.heal();
  await waitFor(async () => (await t.api.ask("/analytics/v1/orgs/acme/usage")).status === 200);
});

test("NFR-006: with the rollups locked, reads end at their time limit and the next ones work", async () => {
  await using api = await testApi();
  await api.send([anEvent()]);
  await api.fold();
  assert.equal((await api.ask("/analytics/v1/orgs/acme/usage")).status, 200);
  await api.database.transaction(async (tx) => {
    await tx.exec(
      "lock table rollup_org_15m, rollup_org_hour, rollup_org_day in access exclusive mode",
    );
    const startMs = performance.now();
    const { status, body, headers } = await api.ask<Known>("/analytics/v1/orgs/acme/usage");
    assert.deepEqual([status, body.code], [503, "timeout"]);
    assert.ok(performance.now() - startMs < 1200);
    assert.ok(headers.has("retry-after"));
    assert.match(body.freshness?.completeThrough ?? "", /^\d{4}-/);
  });
  assert.equal((await api.ask("/analytics/v1/orgs/acme/usage")).status, 200);
});

test("more reads at once than are allowed are shed at once, not queued", async () => {
  await using api = await testApi({ limits: { readsMax: 1 } });
  await api.send([anEvent()]);
  await api.fold();
  await api.database.transaction(async (tx) => {
    await tx.exec(
      "lock table rollup_org_15m, rollup_org_hour, rollup_org_day in access exclusive mode",
    );
    const answers = await Promise.all(
      [1, 2, 3].map(() => api.ask<Known>("/analytics/v1/orgs/acme/usage")),
    );
    assert.deepEqual(answers.map(({ body }) => body.code).toSorted(), [
      "overloaded",
      "overloaded",
      "timeout",
    ]);
  });
  // The one given up counts until the database has let go of it.
  await waitFor(async () => (await api.ask("/analytics/v1/orgs/acme/usage")).status === 200);
});
