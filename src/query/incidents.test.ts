import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { OUTCOMES } from "#contract";
import {
  fixedClock,
  type SampleEvent,
  type TestDatabase,
  testDatabase,
  writeSample,
} from "#harness";
import { listIncidents } from "./index.ts";

const HOUR_MS = 3_600_000;
const FROM = Date.parse("2026-11-14T00:00:00Z");
const UNTIL = Date.parse("2026-11-20T00:00:00Z");
const clock = fixedClock("2026-11-20T00:00:00Z");
const WEEK = { orgId: "acme", start: "2026-11-13", end: "2026-11-20", timeZone: "UTC" };
/** Two hours in which what a test plants is called. */
const PLANTED = {
  from: Date.parse("2026-11-17T10:00:00Z"),
  until: Date.parse("2026-11-17T12:00:00Z"),
};

let db: TestDatabase;
before(async () => {
  db = await testDatabase();
  await writeSample(db.database, createCalls(), new Date(UNTIL));
});
after(async () => await db[Symbol.asyncDispose]());

const isPlanted = (at: number): boolean => at >= PLANTED.from && at < PLANTED.until;

type Caller = { org: string; model: string; client: string; latencyMs: number };

const anEvent = (
  at: number,
  { org, model, client, latencyMs }: Caller,
  [outcome, requests]: readonly [string, number],
): SampleEvent => ({
  org,
  model,
  client,
  actor: "",
  at: new Date(at),
  outcome: OUTCOMES.findIndex((name) => name === outcome),
  currency: client === "batch" ? "EUR" : "USD",
  requests,
  tokens: [100, 0, 0, 0, 20, 0],
  costNano: outcome === "success" ? 5_000_000 : null,
  latencyMs,
  errorCode: "",
});

/** A quarter of an hour of one client's calls of one model: most answered, a few not. */
function* quarterOf(
  at: number,
  caller: Caller & { failed: [string, number] },
): Generator<SampleEvent> {
  for (let i = 0; i < 6; i++)
    yield anEvent(at, { ...caller, latencyMs: caller.latencyMs + i }, ["success", 50]);
  yield anEvent(at, { ...caller, latencyMs: 40 }, caller.failed);
}

/**
 * acme: `web` sends broken calls of `chat` for two hours. globex: `slow` answers `batch` five times slower for as long.
 * initech: calls of eight models, too few of each to judge, fail together. hooli: one of twenty latencies is long, and
 * then all are; of fifty calls one reports its own, and of ten then.
 */
function createCalls(): SampleEvent[] {
  const events: SampleEvent[] = [];
  for (let at = FROM; at < UNTIL; at += HOUR_MS / 4) {
    const isNow = isPlanted(at);
    events.push(
      ...quarterOf(at, {
        org: "acme",
        model: "chat",
        client: "web",
        latencyMs: 500,
        failed: ["client", isNow ? 200 : 2],
      }),
      ...quarterOf(at, {
        org: "acme",
        model: "embed",
        client: "batch",
        latencyMs: 50,
        failed: ["capacity", 2],
      }),
      ...quarterOf(at, {
        org: "globex",
        model: "slow",
        client: "batch",
        latencyMs: isNow ? 5000 : 1000,
        failed: ["upstream", 2],
      }),
      ...quarterOf(at, {
        org: "globex",
        model: "fast",
        client: "web",
        // Slower too, but not by enough to be hit.
        latencyMs: isNow ? 100 : 90,
        failed: ["upstream", 2],
      }),
    );
    for (let i = 0; i < 20; i++) {
      const usualMs = i === 0 ? 900 : 100;
      const caller = { org: "hooli", model: "think", client: "app" };
      const latencyMs = isNow ? 1000 : usualMs;
      events.push(anEvent(at, { ...caller, latencyMs }, ["success", isNow ? 10 : 50]));
    }
    for (let i = 0; i < 8; i++) {
      const small = { org: "initech", model: `small-${i}`, client: "app", latencyMs: 300 };
      const [failed, answered] = [isNow ? 7 : 1, isNow ? 13 : 19];
      events.push(
        anEvent(at, small, ["success", answered]),
        anEvent(at, small, ["internal", failed]),
      );
    }
  }
  return events;
}

test("errors that are the callers' own are said to be, by class and client, with what they cost", async () => {
  const { incidents } = await listIncidents(db.database, clock, WEEK);
  const [incident, ...more] = incidents;
  assert.deepEqual(more, []);
  assert.ok(incident);
  const { id, peak, models, clients, errorClasses, ...rest } = incident;
  assert.match(id, /^[0-9a-f]{16}$/);
  assert.deepEqual(rest, {
    kind: "error_rate",
    start: "2026-11-17T10:00:00Z",
    end: "2026-11-17T12:00:00Z",
    isOpen: false,
    cause: "client",
    affected: {
      requests: 8 * 500,
      errors: 8 * 200,
      slow: null,
      cost: { amount: "0.24", currency: "USD" },
      otherCosts: [],
    },
  });
  assert.deepEqual(peak, {
    start: "2026-11-17T10:00:00Z",
    modelId: "chat",
    isWholeOrg: false,
    value: 0.4,
    baseline: 0.006623,
    magnitude: 60.4,
  });
  const part = {
    requests: 4000,
    observed: 1600,
    expected: 26.49,
    excess: 1573.51,
    share: 1,
    isOther: false,
  };
  assert.deepEqual(models, [{ modelId: "chat", ...part }]);
  assert.deepEqual(clients, [{ clientId: "web", ...part }]);
  assert.equal(errorClasses[0]?.errorClass, "client");
  assert.equal(errorClasses[0]?.observed, 1600);
});

test("slow calls are counted against the model's usual p95, and laid to the client that has them", async () => {
  const { incidents } = await listIncidents(db.database, clock, { ...WEEK, orgId: "globex" });
  const [incident, ...more] = incidents;
  assert.deepEqual(more, []);
  assert.ok(incident);
  assert.deepEqual(
    [incident.kind, incident.start, incident.end, incident.cause, incident.errorClasses],
    ["latency", "2026-11-17T10:00:00Z", "2026-11-17T12:00:00Z", null, []],
  );
  assert.equal(incident.peak.modelId, "slow");
  assert.ok(Math.abs(incident.peak.value - 5005) <= 50);
  assert.ok(Math.abs(incident.peak.baseline - 1005) <= 10);
  assert.equal(incident.affected.slow, 8 * 6);
  assert.equal(incident.affected.requests, 8 * 302);
  assert.deepEqual(incident.models.map(({ modelId, observed }) => [modelId, observed]).toSorted(), [
    ["fast", 48],
    ["slow", 48],
  ]);
  assert.deepEqual(incident.affected.otherCosts, [{ amount: "0.24", currency: "EUR" }]);
  assert.deepEqual(
    incident.clients?.map(({ clientId, observed }) => [clientId, observed]),
    [["batch", 48]],
  );
});

test("a client's usual share of slow calls is one of the calls that report a latency", async () => {
  const { incidents } = await listIncidents(db.database, clock, { ...WEEK, orgId: "hooli" });
  assert.deepEqual(
    incidents.map(({ kind, clients }) => [kind, clients]),
    [
      [
        "latency",
        [
          {
            clientId: "app",
            requests: 8 * 200,
            observed: 8 * 20,
            expected: 8,
            excess: 152,
            share: 1,
            isOther: false,
          },
        ],
      ],
    ],
  );
});

test("what takes a little from each of many small models shows for the org as a whole", async () => {
  const { incidents } = await listIncidents(db.database, clock, { ...WEEK, orgId: "initech" });
  const [incident, ...more] = incidents;
  assert.deepEqual(more, []);
  assert.ok(incident);
  assert.deepEqual(
    [incident.kind, incident.start, incident.end, incident.cause],
    ["error_rate", "2026-11-17T10:00:00Z", "2026-11-17T12:00:00Z", "service"],
  );
  const { modelId, isWholeOrg, value, baseline } = incident.peak;
  assert.deepEqual([modelId, isWholeOrg, value, baseline], [null, true, 0.35, 0.05]);
  assert.equal(incident.affected.requests, 8 * 8 * 20);
  assert.equal(incident.models.length, 8);
  assert.equal(incident.models[0]?.share, 0.125);
});

test("one kind alone, another zone's clock, another org: the same incidents", async () => {
  const kinds = async (orgId: string, kind?: "error_rate" | "latency") =>
    (await listIncidents(db.database, clock, { ...WEEK, orgId, kind })).incidents.map(
      (one) => one.kind,
    );
  assert.deepEqual(await kinds("acme", "latency"), []);
  assert.deepEqual(await kinds("acme", "error_rate"), ["error_rate"]);
  assert.deepEqual(await kinds("globex", "error_rate"), []);
  const countIn = async (window: { start: string; end: string }) =>
    (await listIncidents(db.database, clock, { ...WEEK, ...window })).incidents.length;
  assert.equal(await countIn({ start: "2026-11-16", end: "2026-11-17T10:00:00Z" }), 0);
  assert.equal(await countIn({ start: "2026-11-17T11:45:00Z", end: "2026-11-18" }), 1);
  assert.equal(await countIn({ start: "2026-11-17T12:00:00Z", end: "2026-11-18" }), 0);
  const berlin = { ...WEEK, timeZone: "Europe/Berlin" };
  const [utc] = (await listIncidents(db.database, clock, WEEK)).incidents;
  const [local] = (await listIncidents(db.database, clock, berlin)).incidents;
  assert.deepEqual([local?.id, local?.start], [utc?.id, "2026-11-17T11:00:00+01:00"]);
});

test("nothing is called an incident before all of it is counted by both consumers", async () => {
  for (const consumer of ["usage", "people"]) {
    const countedTo = async (ms: number) => {
      await db.database
        .sql`update fold_state set complete_through = ${new Date(ms)} where consumer = ${consumer}`;
      return await listIncidents(db.database, clock, WEEK);
    };
    const early = await countedTo(PLANTED.from + HOUR_MS / 2 - 1);
    assert.deepEqual(early.incidents, []);
    const { incidents, freshness } = await countedTo(PLANTED.from + HOUR_MS / 2);
    assert.deepEqual([incidents[0]?.isOpen, incidents[0]?.end], [true, "2026-11-17T10:30:00Z"]);
    assert.equal(freshness.completeThrough, "2026-11-17T10:30:00.000Z");
    const [over] = (await countedTo(UNTIL)).incidents;
    assert.deepEqual([over?.isOpen, over?.id], [false, incidents[0]?.id]);
  }
});

test("a window whose quarters of an hour are no longer all kept is refused, not answered in part", async () => {
  const [org] = await db.database.sql<{
    id: number;
  }>`select id from org where external_id = 'acme'`;
  await db.database
    .sql`insert into purged (what, org_id, day) values ('15m', ${org?.id}, '2026-11-12')`;
  await assert.rejects(() => listIncidents(db.database, clock, WEEK), {
    name: "Failure",
    code: "unsupported_granularity",
    message: /2026-11-12 .* begins at 2026-11-15T00:00:00Z or later/,
  });
  const later = { ...WEEK, start: "2026-11-15" };
  assert.equal((await listIncidents(db.database, clock, later)).incidents.length, 1);
  await db.database.sql`delete from purged`;
});

test("before anything was counted, and in an org without calls, there is none", async () => {
  await using empty = await testDatabase();
  await empty.database.sql`insert into org (external_id) values ('new')`;
  const { incidents, window } = await listIncidents(empty.database, clock, {
    ...WEEK,
    orgId: "new",
  });
  assert.deepEqual([incidents, window.granularity], [[], "15m"]);
});
