import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import { parseUsageEvents } from "#contract";
import { applyTestPrices, anEvent, testDatabase, toNdjson, testIngestSettings } from "#harness";
import { type Ingestor, openIngestor } from "#ingest";
import { neverCrash, silentLogger, systemClock } from "#kernel";
import type { Database } from "#store";
import { FoldWorker, ROLLUP_DEFAULTS } from "./fold-worker.ts";
import { assertLedgerEqualsRaw, assertRollupsEqualRaw } from "./rollup-oracle.ts";
import { verify } from "./verify.ts";

const open = (database: Database): Promise<Ingestor> =>
  openIngestor({
    database,
    clock: systemClock,
    logger: silentLogger,
    registry: new Registry(),
    crash: neverCrash,
    random: () => 0.5,
    settings: {
      ...testIngestSettings,
      batchEventsMax: 40,
      members: { ...testIngestSettings.members, modelsMax: 3 },
    },
  });

const PRICES = `
prices:
  - { model: model-0, perMillion: { input: 1.5, output: 6 } }
  - { model: model-1, perMillion: { input: 2, output: 7 }, currency: EUR }
  - { model: model-2, orgId: org-1, perRequest: 0.01 }
`;

test("what the ingest path took in is folded and verifies: duplicates, conflicts, refusals, other models, costs and errors", async () => {
  await using db = await testDatabase({ ownerConnectionsMax: 8 });
  const { database } = db;
  await database.sql`insert into org (external_id, tag_keys) values ('org-1', '{team,tier}')`;
  await applyTestPrices(database, PRICES);
  const nowMs = systemClock.now();
  const events = Array.from({ length: 400 }, (_, i) =>
    anEvent({
      occurred_at: new Date(nowMs - (i % 90) * 1_000_000).toISOString(),
      org_id: `org-${i % 3}`,
      model_id: `model-${i % 5}`,
      status: i % 4 ? "success" : "error",
      error_code: i % 4 ? undefined : `${400 + (i % 30)}`,
      cost_estimate: i % 3 ? `0.00${i}` : undefined,
      currency: i % 7 ? "USD" : "EUR",
      latency_ms: i % 6 ? i * 13 : undefined,
      metadata: i % 4 ? { team: `team-${i % 5}`, tier: i % 2, note: "x" } : undefined,
    }),
  );
  const conflict = { ...events[3], input_tokens: 9999 };
  const body = [
    ...events,
    ...events.slice(0, 50),
    conflict,
    anEvent({ input_tokens: -1 }),
    { event_id: "x" },
  ];
  {
    await using ingestor = await open(database);
    const items = parseUsageEvents(Buffer.from(toNdjson(body)), "ndjson", { eventsMax: 1000 });
    const context = {
      source: "http",
      backfill: false,
      writesFor: "any" as const,
      correlationId: "test",
    };
    for (let at = 0; at < items.length; at += 64)
      await ingestor.ingest(items.slice(at, at + 64), context);
  }
  for (const consumer of ["usage", "people"] as const) {
    await using worker = new FoldWorker(consumer, {
      database,
      clock: systemClock,
      crash: neverCrash,
      settings: ROLLUP_DEFAULTS,
      owner: "test",
    });
    await worker.foldOnce();
    await assertRollupsEqualRaw(database, consumer);
  }
  await assertLedgerEqualsRaw(database);
  const [ledger] = await database.sql`
    select sum(received)::int4 as received, sum(accepted)::int4 as accepted, sum(duplicate)::int4 as duplicate,
           sum(conflict)::int4 as conflict, sum(rejected)::int4 as rejected
      from ledger`;
  assert.deepEqual(ledger, {
    received: 453,
    accepted: 400,
    duplicate: 50,
    conflict: 1,
    rejected: 2,
  });
  const rated = await database.sql`
    select sign(rating)::int4 as sign, sum(rated_nano) > 0 as "hasCost", bool_and(requests = priced_requests) as "hasOwn"
      from rollup_model_day
     where org_id > 0
     group by 1
     order by 1`;
  assert.deepEqual(rated, [
    { sign: -1, hasCost: true, hasOwn: true },
    { sign: 0, hasCost: false, hasOwn: false },
    { sign: 1, hasCost: true, hasOwn: false },
  ]);
  // A hundred events of org-1 have metadata: each once under each key, and of five teams three are kept apart.
  const tagged = await database.sql`
    select d.value, sum(r.requests)::int4 as requests
      from rollup_tag_day r
      join dictionary d on d.id = r.member_id
     group by 1
     order by 1`;
  assert.deepEqual(tagged, [
    { value: "team(other)", requests: 39 },
    { value: "team=team-0", requests: 20 },
    { value: "team=team-1", requests: 20 },
    { value: "team=team-2", requests: 21 },
    { value: "tier=0", requests: 33 },
    { value: "tier=1", requests: 67 },
  ]);
  assert.deepEqual((await verify({ database, clock: systemClock })).differences, []);
});
