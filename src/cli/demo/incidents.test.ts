import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Registry } from "prom-client";
import { parseUsageEvents } from "#contract";
import { fixedClock, testDatabase, type TestDatabase } from "#harness";
import { openIngestor } from "#ingest";
import { neverCrash, silentLogger } from "#kernel";
import { listIncidents, listSystemIncidents } from "#query";
import { startRollup } from "#rollup";
import { createTraffic, nothingExpected } from "./traffic.ts";
import { DEMO_ORGS } from "./world.ts";

const DAY_MS = 86_400_000;
/** The same hour of two weeks before, for what happens at the end of them. */
const DAYS = 17;
const START = Date.parse("2026-11-05T00:00:00Z");
const NOW = "2026-11-21T12:07:00Z";
const clock = fixedClock(NOW);
const BODY_EVENTS = 8000;
const iso = (ms: number): string => new Date(ms).toISOString().replace(".000Z", "Z");
const WINDOW = { start: iso(START), end: iso(START + DAYS * DAY_MS), timeZone: "UTC" };

const traffic = createTraffic({ seed: 1, startMs: START, days: DAYS, callsPerSecond: 50 });
let db: TestDatabase;
before(async () => {
  db = await testDatabase();
  await load(db);
});
after(async () => await db[Symbol.asyncDispose]());

/** Takes the sample's month in and folds it, as the service does. */
async function load({ database }: TestDatabase): Promise<void> {
  const deps = {
    database,
    clock,
    logger: silentLogger,
    registry: new Registry(),
    crash: neverCrash,
    random: () => 0.5,
  };
  const members = {
    orgsMax: 100,
    registersOrgs: true,
    modelsMax: 1000,
    clientsMax: 1000,
    actorsMax: 1000,
    errorCodesMax: 1000,
    tagValuesMax: 100,
  };
  const settings = {
    lanes: 1,
    batchEventsMax: 10_000,
    pendingEventsMax: 50_000,
    pendingBytesMax: 64 * 2 ** 20,
    waitMsMax: 20_000,
    rawRetentionDays: DAYS,
    futureToleranceSeconds: 300,
    leaseSeconds: 60,
    members,
    keys: { partitionKeysMax: 12_000_000, windowHours: 48 },
  };
  await using ingestor = await openIngestor({ ...deps, settings });
  await using rollup = await startRollup({
    ...deps,
    settings: { foldIntervalMs: 600_000, peopleFoldIntervalMs: 600_000 },
  });
  const context = {
    source: "demo",
    backfill: false,
    writesFor: "any",
    correlationId: "x",
  } as const;
  let text = "";
  let events = 0;
  const flush = async (): Promise<void> => {
    const items = parseUsageEvents(Buffer.from(text), "ndjson", { eventsMax: events });
    [text, events] = ["", 0];
    await ingestor.ingest(items, context);
  };
  const range = { fromMs: START, untilMs: Date.parse(NOW) };
  for (const chunk of traffic.history(range, nothingExpected())) {
    if (events + chunk.events > BODY_EVENTS) await flush();
    text += chunk.text;
    events += chunk.events;
  }
  await flush();
  for (const consumer of ["usage", "people"] as const) {
    for (let hasMore = true; hasMore;) {
      const fold = await rollup.foldOnce(consumer);
      hasMore = fold.state === "standby" || fold.hasMore;
    }
  }
  await database.sql`update fold_state set complete_through = ${new Date(NOW)}`;
}

test("the sample's two incidents are found, with window, model, client and class, and no other in any org", async () => {
  for (const { id: orgId } of DEMO_ORGS) {
    const { incidents, omitted } = await listIncidents(db.database, clock, { ...WINDOW, orgId });
    const planned = traffic.incidents.filter((one) => one.orgId === orgId);
    assert.deepEqual(
      incidents.map((one) => ({
        kind: one.kind,
        start: one.start,
        end: one.end,
        isOpen: one.isOpen,
        cause: one.cause,
        modelId: one.peak.modelId,
        model: one.models[0]?.modelId,
        errorClass: one.errorClasses[0]?.errorClass,
      })),
      planned.map((one) => ({
        kind: one.kind === "errors" ? "error_rate" : "latency",
        start: iso(one.start),
        end: iso(one.end),
        isOpen: false,
        cause: one.kind === "errors" ? "service" : null,
        modelId: one.modelId,
        model: one.modelId,
        errorClass: one.kind === "errors" ? "capacity" : undefined,
      })),
      orgId,
    );
    assert.equal(omitted, 0);
    const [incident] = incidents;
    const [plan] = planned;
    if (incident === undefined || plan === undefined) continue;
    assert.ok((incident.models[0]?.share ?? 0) > 0.8, JSON.stringify(incident.models));
    assert.ok((incident.peak.magnitude ?? 0) >= 2);
    assert.ok(incident.affected.requests > 1000);
    assert.ok(Number(incident.affected.cost.amount) > 0);
    if (plan.clientId !== null) assert.equal(incident.clients?.[0]?.clientId, plan.clientId);
  }
});

test("what is found is the same twice, and in every window that it touches", async () => {
  for (const { orgId, start, end } of traffic.incidents) {
    const whole = await listIncidents(db.database, clock, { ...WINDOW, orgId });
    const again = await listIncidents(db.database, clock, { ...WINDOW, orgId });
    assert.deepEqual(again.incidents, whole.incidents);
    for (const [from, until] of [
      [start - DAY_MS, start + 900_000],
      [end - 900_000, end + 900_000],
      [start + 900_000, end - 900_000],
      [start, end],
    ] as const) {
      const window = { start: iso(from), end: iso(until), timeZone: "UTC" };
      const part = await listIncidents(db.database, clock, { ...window, orgId });
      assert.deepEqual(part.incidents, whole.incidents, JSON.stringify(window));
    }
    for (const [from, until] of [
      [start - DAY_MS, start],
      [end, end + DAY_MS],
    ] as const) {
      const window = { start: iso(from), end: iso(until), timeZone: "UTC" };
      const beside = await listIncidents(db.database, clock, { ...window, orgId });
      assert.deepEqual(beside.incidents, []);
    }
  }
});

test("all orgs together show what is large enough to show, by model and without clients", async () => {
  const { orgId, incidents } = await listSystemIncidents(db.database, clock, WINDOW);
  assert.equal(orgId, null);
  for (const { clients, models } of incidents) {
    assert.equal(clients, null);
    assert.ok(traffic.incidents.some((one) => one.modelId === models[0]?.modelId));
  }
});
