import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ALL_ORGS, coverSpan, type FailureCode } from "#contract";
import { createSample, fixedClock, type TestDatabase, testDatabase, writeSample } from "#harness";
import { arrangePieces, listTopErrorCodes, sumCalls, sumUsage } from "#store";
import {
  getBreakdown,
  getFreshness,
  getReliability,
  getSystemFreshness,
  getSystemUsage,
  getTopOrgs,
  getUsage,
} from "./index.ts";

const FROM = new Date("2026-11-10T00:00:00Z");
const TO = new Date("2026-11-20T00:00:00Z");
const NOON = "2026-11-19T12:00:00Z";
const clock = fixedClock(NOON);
const WEEK = { orgId: "acme", start: "2026-11-13", end: "2026-11-20", timeZone: "UTC" };

let db: TestDatabase;
before(async () => {
  db = await testDatabase();
  await writeSample(
    db.database,
    createSample({ seed: 11, events: 400, from: FROM, to: TO }),
    new Date(NOON),
  );
});
after(async () => await db[Symbol.asyncDispose]());

const refusesWith = (code: FailureCode, work: () => Promise<unknown>) =>
  assert.rejects(work, { name: "Failure", code });
const orgId = async (name: string): Promise<number> => {
  const [row] = await db.database.sql<{
    id: number;
  }>`select id from org where external_id = ${name}`;
  return row?.id ?? 0;
};

test("a bucket is complete when everything up to its end was counted, by the consumer the answer rests on", async () => {
  const completeOf = async (ask: object) =>
    (await getUsage(db.database, clock, { ...WEEK, ...ask })).series.map(
      (bucket) => bucket.complete,
    );
  assert.deepEqual(await completeOf({}), [true, true, true, true, true, true, false]);
  await db.database
    .sql`update fold_state set complete_through = '2026-11-15T12:00:00Z' where consumer = 'people'`;
  assert.deepEqual(await completeOf({ groupBy: "client" }), [
    true,
    true,
    false,
    false,
    false,
    false,
    false,
  ]);
  assert.deepEqual(await completeOf({ groupBy: "model" }), [
    true,
    true,
    true,
    true,
    true,
    true,
    false,
  ]);
  const people = await getBreakdown(db.database, clock, { ...WEEK, by: "actor" });
  assert.equal(people.freshness.completeThrough, "2026-11-15T12:00:00.000Z");
  await db.database.sql`update fold_state set complete_through = ${NOON}`;
});

test("an answer that must be complete is refused while it is not", async () => {
  await refusesWith("not_complete", () =>
    getUsage(db.database, clock, { ...WEEK, requireComplete: true }),
  );
  const past = { ...WEEK, end: "2026-11-19T12:00:00Z", requireComplete: true };
  assert.equal((await getUsage(db.database, clock, past)).series.at(-1)?.complete, true);
});

test("before anything was counted answers say so, and are empty rather than wrong", async () => {
  await using empty = await testDatabase();
  await empty.database
    .sql`insert into org (external_id, time_zone, currency) values ('new', 'Asia/Kathmandu', 'NPR')`;
  const usage = await getUsage(empty.database, clock, {
    orgId: "new",
    groupBy: "model",
    compare: "previous",
  });
  assert.equal(usage.window.timeZone, "Asia/Kathmandu");
  assert.equal(usage.series.length, 7);
  assert.deepEqual(usage.totals.cost, { amount: "0.00", currency: "NPR" });
  assert.deepEqual(usage.totals.pricedShare, { requests: null, tokens: null });
  assert.deepEqual(usage.groups, []);
  assert.equal(usage.comparison, null);
  assert.deepEqual(usage.freshness, {
    completeThrough: null,
    lagSeconds: null,
    lastOccurredAt: null,
    lastIngestedAt: null,
    lastAggregatedAt: null,
  });
  assert.equal(usage.reconciliation.state, "unchecked");
  const reliability = await getReliability(empty.database, clock, { orgId: "new" });
  assert.deepEqual(reliability.totals.latency, {
    count: 0,
    meanMs: null,
    percentilesMs: { p50: null, p90: null, p95: null, p99: null },
  });
  assert.equal(reliability.totals.errorRate, null);
});

test("pairs of dimensions that no rollup keeps are refused, and what works is said", async () => {
  const refused = (ask: object) => () => getUsage(db.database, clock, { ...WEEK, ...ask });
  await refusesWith("unsupported_combination", refused({ modelIds: ["a"], clientIds: ["b"] }));
  await refusesWith("unsupported_combination", refused({ modelIds: ["a"], groupBy: "actor" }));
  await assert.rejects(
    refused({ clientIds: ["a"], groupBy: "model" }),
    (error: Error & { details?: { pointer: string }[] }) => {
      assert.deepEqual(
        error.details?.map((detail) => detail.pointer),
        ["/query/clientId", "/query/groupBy"],
      );
      return /status and errorClass/.test(error.message);
    },
  );
  await getUsage(db.database, clock, {
    ...WEEK,
    modelIds: [],
    clientIds: ["web"],
    groupBy: "client",
  });
});

test("what is out of bounds is refused before anything is read", async () => {
  for (const limit of [0, -1, 1e9, 1.5, Number.NaN]) {
    await refusesWith("invalid_request", () =>
      getUsage(db.database, clock, { ...WEEK, groupBy: "model", limit }),
    );
  }
  for (const percentiles of [
    [0],
    [101],
    [-1],
    [Number.NaN],
    Array.from({ length: 11 }, (_, i) => i + 1),
  ]) {
    await refusesWith("invalid_request", () =>
      getReliability(db.database, clock, { ...WEEK, percentiles }),
    );
  }
  await refusesWith("range_too_large", () =>
    getUsage(db.database, clock, { ...WEEK, granularity: "hour", groupBy: "model", limit: 1000 }),
  );
  await refusesWith("unknown_zone", () =>
    getUsage(db.database, clock, { ...WEEK, timeZone: "GMT+5" }),
  );
});

test("an org that does not exist is not found, whatever it is called, and nobody is the org of all", async () => {
  for (const name of ["nobody", "*", "", "acme\0", "' or true --", "x".repeat(100_000)]) {
    await refusesWith("not_found", () => getUsage(db.database, clock, { ...WEEK, orgId: name }));
    await refusesWith("not_found", () => getFreshness(db.database, clock, { orgId: name }));
  }
  for (const modelIds of [["never"], ["\0"], ["' or true --"]]) {
    assert.equal((await getUsage(db.database, clock, { ...WEEK, modelIds })).totals.requests, 0);
  }
});

test("with another org's id in every statement, its rows are still not seen", async () => {
  const [own, other] = [await orgId("acme"), await orgId("globex")];
  const startMs = FROM.getTime() + 900_000;
  const pieces = arrangePieces([coverSpan({ startMs, endMs: TO.getTime() })]);
  const none = { by: "none", shown: [] } as const;
  const readAs = (reader: number, of: number) =>
    db.database.withOrg(reader, async ({ sql }) => {
      const ofAll = { orgId: of, modelIds: null, outcomes: null, limit: 10 };
      const found: unknown[] = await listTopErrorCodes(sql, { ...ofAll, pieces });
      if (of === reader) assert.ok(found.length > 0);
      for (const dimension of ["org", "model", "client", "actor"] as const) {
        const ask = {
          orgId: of,
          dimension,
          pieces,
          memberIds: null,
          outcomes: null,
          costBasis: "event",
        } as const;
        found.push(...(await sumUsage(sql, ask, none)), ...(await sumCalls(sql, ask, none, "all")));
      }
      return found.length;
    });
  assert.ok((await readAs(own, own)) > 0 && (await readAs(other, other)) > 0);
  assert.equal(await readAs(own, other), 0);
  assert.equal(await readAs(own, ALL_ORGS), 0);
});

test("quarters of an hour that retention has deleted are an honest refusal, and whole hours still work", async () => {
  const id = await orgId("acme");
  await db.database.sql`insert into purged (what, org_id, day) values ('15m', ${id}, '2026-11-14')`;
  const kathmandu = { ...WEEK, timeZone: "Asia/Kathmandu" };
  await refusesWith("unsupported_granularity", () => getUsage(db.database, clock, kathmandu));
  await refusesWith("unsupported_granularity", () => getReliability(db.database, clock, kathmandu));
  await refusesWith("unsupported_granularity", () =>
    getTopOrgs(db.database, clock, { start: "2026-11-14T00:15:00Z", end: "2026-11-20" }),
  );
  await refusesWith("unsupported_granularity", () =>
    getUsage(db.database, clock, { ...WEEK, granularity: "15m" }),
  );
  const berlin = await getUsage(db.database, clock, {
    ...WEEK,
    timeZone: "Europe/Berlin",
    granularity: "hour",
  });
  assert.equal(berlin.series.length, 168);
  await getUsage(db.database, clock, { ...kathmandu, start: "2026-11-16" });
  await getUsage(db.database, clock, { ...kathmandu, orgId: "globex" });
  await db.database.sql`delete from purged`;
});

test("days of which nothing is kept any more are an honest refusal to every org, and no zeros", async () => {
  await db.database
    .sql`insert into purged (what, org_id, day) values ('all', 0, '2026-11-12'), ('all', 0, '2026-11-13')`;
  const since = (start: string) => ({ ...WEEK, start });
  for (const start of ["2026-11-13", "2026-11-13T23:45:00Z", "2026-11-10"]) {
    const ask = since(start);
    await refusesWith("range_too_large", () => getUsage(db.database, clock, ask));
    await refusesWith("range_too_large", () => getReliability(db.database, clock, ask));
    await refusesWith("range_too_large", () => getSystemUsage(db.database, clock, ask));
    await refusesWith("range_too_large", () => getTopOrgs(db.database, clock, ask));
    await refusesWith("range_too_large", () =>
      getBreakdown(db.database, clock, { ...ask, by: "model" }),
    );
  }
  await refusesWith("range_too_large", () =>
    getUsage(db.database, clock, { ...since("2026-11-16"), compare: "previous" }),
  );
  await assert.rejects(() => getUsage(db.database, clock, WEEK), /begins at 2026-11-14T00:00:00Z/);
  assert.ok((await getUsage(db.database, clock, since("2026-11-14"))).totals.requests > 0);
  await getUsage(db.database, clock, { ...WEEK, start: "2026-11-10", end: "2026-11-12" });
  await db.database.sql`delete from purged`;
});

test("an answer says match, differs or unchecked, by the checks of the closed hours it covers", async () => {
  const id = await orgId("acme");
  const hour = (n: number) =>
    new Date(Date.parse("2026-11-19T00:00:00Z") + n * 3_600_000).toISOString();
  const stateOf = async () => {
    const [own, all] = [
      await getUsage(db.database, clock, WEEK),
      await getSystemUsage(db.database, clock, { ...WEEK }),
    ];
    assert.equal(all.reconciliation.state, own.reconciliation.state);
    assert.deepEqual(all.reconciliation.differingHours, own.reconciliation.differingHours);
    return own.reconciliation;
  };
  await db.database.sql`insert into source (id, name) values (9, 'test')`;
  for (const n of [9, 10, 11, 12]) {
    await db.database
      .sql`insert into ledger values (${id}, 9, 0, ${hour(n)}, 1, 1, 0, 0, 0, 0, 0, '2026-11-19T11:30:00Z')`;
  }
  assert.deepEqual(await stateOf(), {
    state: "unchecked",
    checkedAt: null,
    checkedHours: 0,
    closedHours: 3,
    differingHours: [],
  });
  for (const n of [9, 10, 11]) {
    await db.database
      .sql`insert into reconciliation values (${id}, ${hour(n)}, 'match', ${hour(12 + n / 100)})`;
  }
  const match = await stateOf();
  assert.deepEqual(
    { ...match, checkedAt: null },
    { state: "match", checkedAt: null, checkedHours: 3, closedHours: 3, differingHours: [] },
  );
  assert.equal(match.checkedAt, hour(12.09));
  await db.database
    .sql`update ledger set updated_at = '2026-11-19T13:00:00Z' where hour = ${hour(10)}`;
  assert.equal((await stateOf()).state, "unchecked");
  await db.database
    .sql`update reconciliation set state = 'differs', checked_at = '2026-11-19T14:00:00Z' where hour = ${hour(10)}`;
  const differs = await stateOf();
  assert.deepEqual([differs.state, differs.differingHours], ["differs", [hour(10)]]);
  const before = await getUsage(db.database, clock, { ...WEEK, end: "2026-11-19T10:00:00Z" });
  assert.equal(before.reconciliation.state, "match");
});

test("freshness is told per model and per source, and an org hears of its own sources only", async () => {
  const [acme, globex] = [await orgId("acme"), await orgId("globex")];
  const [model] = await db.database.sql<{
    id: number;
  }>`select id from dictionary where org_id = ${acme} and value = 'model-1'`;
  await db.database.sql`insert into source (id, name) values (11, 'http'), (12, 'import/secret')`;
  const at = ["2026-11-19T11:00:00Z", "2026-11-19T11:00:01Z", "2026-11-19T11:00:02Z"] as const;
  await db.database
    .sql`insert into freshness values (${acme}, ${model?.id}, ${at[0]}, ${at[1]}, ${at[2]}), (${globex}, 0, ${at[0]}, ${at[1]}, ${at[2]})`;
  await db.database
    .sql`insert into source_freshness values (11, ${at[0]}, ${at[1]}, ${at[2]}), (12, ${at[0]}, ${at[1]}, ${at[2]})`;
  await db.database.sql`
    insert into ledger values (${acme}, 11, 0, '2026-11-19T11:00:00Z', 1, 1, 0, 0, 0, 0, 0, ${at[2]}),
                              (${globex}, 12, 0, '2026-11-19T11:00:00Z', 1, 1, 0, 0, 0, 0, 0, ${at[2]})`;
  const instants = {
    lastOccurredAt: "2026-11-19T11:00:00.000Z",
    lastIngestedAt: "2026-11-19T11:00:01.000Z",
    lastAggregatedAt: "2026-11-19T11:00:02.000Z",
  };
  const own = await getFreshness(db.database, clock, { orgId: "acme" });
  assert.deepEqual(own.models, [{ modelId: "model-1", ...instants }]);
  assert.deepEqual(own.sources, [{ source: "http", lagMessages: null, ...instants }]);
  assert.equal(own.consumers.people.completeThrough, "2026-11-19T12:00:00.000Z");
  assert.equal(own.freshness.lastIngestedAt, instants.lastIngestedAt);
  const all = await getSystemFreshness(db.database);
  assert.deepEqual(
    all.sources.map((row) => row.source),
    ["http", "import/secret"],
  );
  assert.deepEqual([all.streams, all.streamIncidents], [[], []]);
  assert.deepEqual(
    all.orgs.map((row) => row.orgId),
    ["acme", "globex"],
  );
});

const FRESH = "2026-11-19T11:00:00Z";

test("how far streams are read is told, and what was found missing in them", async () => {
  await db.database.sql`insert into source (id, name) values (13, 'stream/usage')`;
  await db.database.sql`insert into source_freshness values (13, ${FRESH}, ${FRESH}, ${FRESH})`;
  await db.database.sql`
    insert into lane (id, transport, partition, position, head_offset, head_seen_at)
    values (901, 'stream/usage', 'usage-0', '41:0123456789abcdef', 50, ${FRESH}),
           (902, 'stream/usage', 'usage-1', null, 6, ${FRESH}),
           (903, 'stream/usage', 'usage-2', '9+3:0123456789abcdef', null, null)`;
  await db.database.sql`
    insert into stream_incident (lane_id, batch_no, kind, from_offset, to_offset, found_at, detail)
    values (901, 7, 'gap', 12, 19, ${FRESH}, 'gone')`;
  const all = await getSystemFreshness(db.database);
  assert.deepEqual(
    all.streams.map((row) => [row.stream, row.lastOffset, row.headOffset, row.lagMessages]),
    [
      ["usage-0", 41, 50, 9],
      ["usage-1", null, 6, 7],
      ["usage-2", 9, null, null],
    ],
  );
  assert.equal(all.sources.find((row) => row.source === "stream/usage")?.lagMessages, 16);
  const [incident] = all.streamIncidents;
  assert.deepEqual(
    [incident?.stream, incident?.kind, incident?.fromOffset, incident?.toOffset],
    ["usage-0", "gap", 12, 19],
  );
});

test("an answer is read from rollups alone: with raw gone it is the same", async () => {
  const ask = { ...WEEK, groupBy: "model" } as const;
  const before = await getReliability(db.database, clock, ask);
  await db.database.sql`drop table usage_event`;
  const { freshness: _, ...same } = await getReliability(db.database, clock, ask);
  const { freshness: __, ...first } = before;
  assert.deepEqual(same, first);
});
