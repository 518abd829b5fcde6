import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import { testApi, type TestApi } from "./test-api.ts";

type Incidents = {
  orgId: string | null;
  pricing?: object;
  incidents: {
    id: string;
    kind: string;
    start: string;
    end: string;
    affected: { requests: number; cost?: { amount: string; currency: string } };
    clients: { clientId: string }[] | null;
  }[];
};

const PATH = "/analytics/v1/orgs/acme/incidents?start=2026-11-19&end=2026-11-20T12:00:00Z";
const HOUR_MS = 3_600_000;

/** Two days of calls of which few fail, but for half an hour. */
async function filledApi(): Promise<TestApi> {
  const api = await testApi();
  const events: object[] = [];
  for (let at = Date.parse("2026-11-18T08:00:00Z"); at < Date.parse("2026-11-20T11:45:00Z");) {
    const occurred_at = new Date(at).toISOString();
    const isBad = occurred_at.startsWith("2026-11-20T09:") && at % HOUR_MS < HOUR_MS / 2;
    const failed = { status: "error", error_class: "capacity", requests: isBad ? 150 : 3 };
    events.push(anEvent({ occurred_at, requests: 300, cost_estimate: "0.5", client_id: "=web" }));
    events.push(anEvent({ occurred_at, ...failed, client_id: "=web" }));
    at += HOUR_MS / 4;
  }
  assert.equal((await api.send(events)).status, 200);
  await api.fold();
  await api.database.sql`update fold_state set complete_through = '2026-11-20T12:00:00Z'`;
  return api;
}

test("an org's incidents, and all orgs', as JSON and as a table; a client's name is no formula", async () => {
  await using api = await filledApi();
  const { status, body, text } = await api.ask<Incidents>(`${PATH}&timeZone=UTC`);
  assert.equal(status, 200, text);
  assert.equal(body.orgId, "acme");
  const [incident, ...more] = body.incidents;
  assert.deepEqual(more, []);
  assert.deepEqual(
    [incident?.kind, incident?.start, incident?.end],
    ["error_rate", "2026-11-20T09:00:00Z", "2026-11-20T09:30:00Z"],
  );
  assert.deepEqual(incident?.affected.cost, { amount: "1.00", currency: "USD" });
  assert.deepEqual(
    incident?.clients?.map(({ clientId }) => clientId),
    ["=web"],
  );
  const table = await api.ask(PATH, { headers: { accept: "text/csv" } });
  const [head, row, ...rest] = table.text.split("\r\n");
  assert.match(head ?? "", /^id,kind,start,end,isOpen,cause,.*,cost,currency$/);
  assert.match(
    row ?? "",
    /^"[0-9a-f]{16}","error_rate",.*,"'=web","capacity",900,300,,1\.00,"USD"$/,
  );
  assert.deepEqual(rest, [""]);
  const system = await api.ask<Incidents>(PATH.replace("orgs/acme", "system"));
  assert.deepEqual([system.status, system.body.orgId], [200, null]);
  assert.equal(system.body.incidents.length, 1);
  assert.notEqual(system.body.incidents[0]?.id, incident?.id);
  const pricing = { costBasis: "event_or_computed", bookVersion: 0 };
  assert.deepEqual([body.pricing, system.body.pricing], [pricing, pricing]);
  await api.database.sql`update org set cost_basis = 'computed' where external_id = 'acme'`;
  const computed = await api.ask<Incidents>(PATH);
  assert.deepEqual(computed.body.incidents[0]?.affected.cost, { amount: "0.00", currency: "USD" });
  assert.equal((await api.ask(`${PATH}&kind=latency`)).text.includes("error_rate"), false);
  assert.equal((await api.ask(`${PATH}&kind=outage`)).status, 400);
});

test("an engineer sees incidents without their cost, finance none, and nobody's are another org's", async () => {
  await using api = await filledApi();
  const engineer = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  const { status, text, body } = await api.ask<Incidents>(PATH, { key: engineer });
  assert.equal(status, 200);
  assert.equal(body.incidents.length, 1);
  assert.doesNotMatch(text, /cost|currency|amount/i);
  const table = await api.ask(PATH, { key: engineer, headers: { accept: "text/csv" } });
  assert.doesNotMatch(table.text, /cost|currency|USD/);
  const finance = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  assert.equal((await api.ask(PATH, { key: finance })).status, 403);
  const stranger = await api.keyFor({ orgId: "globex", roles: ["org_admin"] });
  assert.equal((await api.ask(PATH, { key: stranger })).status, 404);
  const own = await api.ask<Incidents>(PATH.replace("acme", "globex"), { key: stranger });
  assert.deepEqual(own.body.incidents, []);
});
