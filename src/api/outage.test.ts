import assert from "node:assert/strict";
import test from "node:test";
import { anEvent, waitFor } from "#harness";
import type { Problem } from "./problem.ts";
import { testApi } from "./test-api.ts";

type Known = Problem & { freshness?: { completeThrough: string | null; asOf: string } };

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
