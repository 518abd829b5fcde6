import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import { packCurrency, parseUsageEvents, unpackCurrency } from "#contract";
import {
  anEvent,
  applyTestPrices,
  fixedClock,
  testDatabase,
  toNdjson,
  testIngestSettings,
} from "#harness";
import { neverCrash, silentLogger } from "#kernel";
import type { Database } from "#store";
import { type Ingestor, openIngestor } from "./ingestor.ts";

const open = (database: Database): Promise<Ingestor> =>
  openIngestor({
    database,
    clock: fixedClock("2026-11-20T14:00:00Z"),
    logger: silentLogger,
    registry: new Registry(),
    crash: neverCrash,
    random: () => 0.5,
    settings: testIngestSettings,
  });

async function send(ingestor: Ingestor, events: readonly Record<string, unknown>[]): Promise<void> {
  const body = Buffer.from(toNdjson(events.map((event) => anEvent(event))));
  const outcomes = await ingestor.ingest(parseUsageEvents(body, "ndjson", { eventsMax: 100_000 }), {
    source: "http",
    backfill: false,
    writesFor: "any",
    correlationId: "test",
  });
  assert.deepEqual(new Set(outcomes.map(({ status }) => status)), new Set(["accepted"]));
}

type Rated = { id: string; nano: number | null; priced: boolean; currency: string | null };
async function rated(database: Database): Promise<Rated[]> {
  const rows = await database.sql<{
    id: string;
    nano: number | null;
    priceId: number | null;
    currency: number | null;
  }>`
    select event_id as id, rated_nano as nano, price_id as "priceId", rated_currency as currency
      from usage_event order by event_id`;
  return rows.map(({ id, nano, priceId, currency }) => ({
    id,
    nano,
    priced: priceId !== null,
    currency: currency === null ? null : unpackCurrency(currency),
  }));
}

test("an event is rated by the price that holds when it occurred, to the microsecond, for its org; its own cost stays beside", async () => {
  await using db = await testDatabase();
  const { database } = db;
  await database.sql`insert into org (external_id) values ('acme')`;
  await applyTestPrices(
    database,
    `
prices:
  - { model: m, to: 2026-11-20T12:00:00Z, perMillion: { input: 1, output: 2 } }
  - { model: m, from: 2026-11-20T12:00:00Z, perMillion: { input: 3, output: 2 } }
  - { model: m, orgId: acme, currency: EUR, perMillion: { input: 0.5, output: 0 } }`,
  );
  await using ingestor = await open(database);
  const call = { model_id: "m", input_tokens: 1000, output_tokens: 0 };
  await send(ingestor, [
    { ...call, event_id: "1", org_id: "globex", occurred_at: "2026-11-20T11:59:59.999999Z" },
    { ...call, event_id: "2", org_id: "globex", occurred_at: "2026-11-20T12:00:00Z" },
    { ...call, event_id: "3", org_id: "acme", occurred_at: "2026-11-20T12:00:00Z" },
    { ...call, event_id: "4", org_id: "acme", model_id: "unknown" },
    { ...call, event_id: "5", org_id: "acme", cache_read_tokens: 1 },
    { ...call, event_id: "6", org_id: "globex", status: "error", error_class: "upstream" },
    { ...call, event_id: "7", org_id: "globex", cost_estimate: "0.25", currency: "GBP" },
  ]);
  const usd = { priced: true, currency: "USD" };
  assert.deepEqual(await rated(database), [
    { id: "1", nano: 1_000_000, ...usd },
    { id: "2", nano: 3_000_000, ...usd },
    { id: "3", nano: 500_000, priced: true, currency: "EUR" },
    { id: "4", nano: null, priced: false, currency: null },
    { id: "5", nano: null, priced: true, currency: null },
    { id: "6", nano: 0, ...usd },
    { id: "7", nano: 1_000_000, ...usd },
  ]);
  const own = await database.sql<{ id: string; nano: number; currency: number }>`
    select event_id as id, cost_nano as nano, currency from usage_event where cost_nano is not null`;
  assert.deepEqual(
    own.map((row) => ({ ...row })),
    [{ id: "7", nano: 250_000_000, currency: packCurrency("GBP") }],
  );
});

test("what is committed after an apply is rated by it, in every process", async () => {
  await using db = await testDatabase();
  const { database } = db;
  await using one = await open(database);
  await using other = await open(database);
  const amounts: (number | null)[] = [];
  for (let round = 1; round <= 10; round++) {
    await applyTestPrices(
      database,
      `prices: [{ model: m, perMillion: { input: ${round}, output: 0 } }]`,
    );
    for (const [n, ingestor] of [one, other].entries()) {
      await send(ingestor, [{ event_id: `${round}-${n}`, model_id: "m", input_tokens: 1000 }]);
    }
  }
  for (const { id, nano } of await rated(database)) {
    amounts.push(nano);
    assert.equal(nano, Number(id.split("-")[0]) * 1_000_000, id);
  }
  assert.equal(amounts.length, 20);
});

test("while batches are committed without a pause, every one is rated wholly by one version, and by none that was replaced before it began", async () => {
  await using db = await testDatabase();
  const { database } = db;
  await applyTestPrices(database, "prices: [{ model: m, perMillion: { input: 1, output: 0 } }]");
  await using ingestor = await open(database);
  let version = 1;
  let isApplying = true;
  const versionsBefore = new Map<string, number>();
  const load = async (name: number): Promise<void> => {
    for (let batch = 0; isApplying; batch++) {
      const id = `${name}-${batch}`;
      versionsBefore.set(id, version);
      const call = { model_id: "m", input_tokens: 1000, client_id: id };
      await send(
        ingestor,
        Array.from({ length: 20 }, (_, i) => ({ ...call, event_id: `${id}-${i}` })),
      );
    }
  };
  const loads = [0, 1, 2].map(load);
  while (version < 15)
    version = await applyTestPrices(
      database,
      `prices: [{ model: m, perMillion: { input: ${version + 1}, output: 0 } }]`,
    );
  isApplying = false;
  await Promise.all(loads);
  const sent = new Map<string, Set<number | null>>();
  for (const { id, nano } of await rated(database)) {
    const batch = id.slice(0, id.lastIndexOf("-"));
    sent.set(batch, (sent.get(batch) ?? new Set()).add(nano));
  }
  assert.ok(sent.size > 15, `${sent.size} batches`);
  for (const [batch, amounts] of sent) {
    const [amount, ...others] = amounts;
    assert.deepEqual(others, [], batch);
    assert.ok(Number(amount) >= (versionsBefore.get(batch) ?? 0) * 1_000_000, batch);
  }
});
