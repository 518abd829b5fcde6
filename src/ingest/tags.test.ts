import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import { parseUsageEvents } from "#contract";
import { anEvent, fixedClock, testDatabase, toNdjson, testIngestSettings } from "#harness";
import { neverCrash, silentLogger } from "#kernel";
import type { Database } from "#store";
import { type Ingestor, openIngestor } from "./ingestor.ts";

const open = (database: Database): Promise<Ingestor> =>
  openIngestor({
    database,
    clock: fixedClock("2026-11-20T12:00:00Z"),
    logger: silentLogger,
    registry: new Registry(),
    crash: neverCrash,
    random: () => 0.5,
    settings: testIngestSettings,
  });

/** Sends one event for each metadata, all in one batch, and returns what raw says of them in that order. */
async function sendAll(
  { database, ingestor }: { database: Database; ingestor: Ingestor },
  metadata: readonly object[],
  org = "acme",
): Promise<(string[] | null)[]> {
  const events = metadata.map((one) => anEvent({ org_id: org, metadata: one }));
  const items = parseUsageEvents(Buffer.from(toNdjson(events)), "ndjson", { eventsMax: 1000 });
  const outcomes = await ingestor.ingest(items, {
    source: "http",
    backfill: false,
    writesFor: "any",
    correlationId: "test",
  });
  assert.ok(outcomes.every(({ status }) => status === "accepted"));
  const rows = await database.sql<{ key: string; tags: string[] | null }>`
    select e.event_key as key,
           (select array_agg(d.value order by t.no)
              from unnest(e.tag_ids) with ordinality as t (id, no)
              join dictionary d on d.id = t.id and d.kind = 5 and d.org_id = e.org_id) as tags
      from usage_event e`;
  const byKey = new Map(rows.map(({ key, tags }) => [key, tags]));
  return events.map((event) => byKey.get(event.event_id) ?? null);
}

const declare = (database: Database, keys: readonly string[]) =>
  database.sql`update org set tag_keys = ${keys}::text[] where external_id = 'acme'`;

test("tags are kept from the moment an org declares their keys, and of that org only", async () => {
  await using db = await testDatabase();
  const { database } = db;
  await database.sql`insert into org (external_id) values ('acme'), ('globex')`;
  await using ingestor = await open(database);
  const both = { database, ingestor };
  assert.deepEqual(await sendAll(both, [{ team: "search" }]), [null]);

  await declare(database, ["team", "tier"]);
  await ingestor.refreshOrgs();
  assert.deepEqual(await sendAll(both, [{ team: "search", tier: 1 }, { tier: true }, { a: 1 }]), [
    ["team=search", "tier=1"],
    ["tier=true"],
    null,
  ]);
  assert.deepEqual(await sendAll(both, [{ team: "search" }], "globex"), [null]);

  await declare(database, ["tier"]);
  await ingestor.refreshOrgs();
  assert.deepEqual(await sendAll(both, [{ team: "search", tier: 1 }]), [["tier=1"]]);
});

test("values beyond the cap of a key share one word, within a batch, across batches and after a restart", async () => {
  await using db = await testDatabase();
  const { database } = db;
  await database.sql`insert into org (external_id, tag_keys) values ('acme', '{team,tier}')`;
  const other = ["team(other)"];
  {
    await using ingestor = await open(database);
    const teams = ["a", "b", "c", "d", "e", "a"].map((team) => ({ team }));
    const first = await sendAll({ database, ingestor }, teams);
    assert.deepEqual(first, [["team=a"], ["team=b"], ["team=c"], other, other, ["team=a"]]);
    assert.deepEqual(
      await sendAll({ database, ingestor }, [{ team: "b", tier: "f" }, { team: "d" }]),
      [["team=b", "tier=f"], other],
    );
  }
  await using ingestor = await open(database);
  const later = await sendAll({ database, ingestor }, [
    { team: "g" },
    { team: "c" },
    { tier: "a" },
    { tier: "b" },
    { tier: "c" },
  ]);
  assert.deepEqual(later, [other, ["team=c"], ["tier=a"], ["tier=b"], ["tier(other)"]]);
  const words = await database.sql`select value from dictionary where kind = 5 order by value`;
  assert.equal(words.length, 3 + 1 + 3 + 1);
});
