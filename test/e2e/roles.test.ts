import assert from "node:assert/strict";
import { test } from "node:test";
import { loadConfig } from "#config";
import { anEvent, spawnService, testDatabase, waitFor } from "#harness";

const QUICK = { FOLD_INTERVAL_MS: "50", PEOPLE_FOLD_INTERVAL_MS: "50" };
const USAGE = "/analytics/v1/orgs/acme/usage?granularity=hour";

test("one process takes events in, another adds them up, a third answers; each does its role alone", async () => {
  await using db = await testDatabase();
  const start = (roles: string) =>
    spawnService({ databaseUrl: db.url, env: { ...QUICK, TALLYSTICK_ROLES: roles } });
  await using ingest = await start("ingest");
  await using rollup = await start("rollup, scheduler");
  await using api = await start("api");
  const { counts } = await ingest.send([anEvent({ event_id: "one", org_id: "acme" })]);
  assert.equal(counts.accepted, 1);
  await waitFor(
    async () => {
      const answer = await api.request(USAGE);
      if (answer.status !== 200) return false;
      const { totals } = (await answer.json()) as { totals: { requests: number } };
      return totals.requests === 1;
    },
    { what: "the event to be answered for" },
  );
  assert.equal((await ingest.request(USAGE)).status, 404);
  assert.equal((await rollup.request(USAGE)).status, 404);
  const post = { method: "POST", headers: { "content-type": "application/json" }, body: "[]" };
  assert.equal((await api.request("/analytics/v1/events", post)).status, 404);
  for (const service of [ingest, rollup, api]) {
    const ready = await service.request("/ready");
    assert.equal(ready.status, 200);
    assert.match(await ready.text(), service === rollup ? /leading/ : /another process's role/);
  }
});

test("roles are a list of known words, and one at least", () => {
  assert.deepEqual(loadConfig({ TALLYSTICK_ROLES: "rollup,api" }).config.roles, ["api", "rollup"]);
  assert.equal(loadConfig({}).config.roles.length, 4);
  for (const wrong of ["reader", "api,reader", ","])
    assert.throws(() => loadConfig({ TALLYSTICK_ROLES: wrong }), /TALLYSTICK_ROLES: expected/);
});
