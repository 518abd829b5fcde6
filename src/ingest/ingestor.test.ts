import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import {
  decodeBatchLedger,
  Failure,
  type IngestOutcome,
  type ParsedItem,
  parseUsageEvents,
} from "#contract";
import {
  anEvent,
  faultProxy,
  fixedClock,
  testDatabase,
  toNdjson,
  waitFor,
  testIngestSettings,
} from "#harness";
import { neverCrash, silentLogger } from "#kernel";
import { type Database, openDatabase, rotateKeyPartition } from "#store";
import {
  type IngestContext,
  type Ingestor,
  type IngestSettings,
  openIngestor,
} from "./ingestor.ts";

const NOW = "2026-11-20T12:00:00Z";
const HTTP: IngestContext = {
  source: "http",
  backfill: false,
  writesFor: "any",
  correlationId: "test",
};

const open = (database: Database, settings: Partial<IngestSettings> = {}): Promise<Ingestor> =>
  openIngestor({
    database,
    clock: fixedClock(NOW),
    logger: silentLogger,
    registry: new Registry(),
    crash: neverCrash,
    random: () => 0.5,
    settings: { ...testIngestSettings, ...settings },
  });

const itemsOf = (events: readonly object[]): ParsedItem[] =>
  parseUsageEvents(Buffer.from(toNdjson(events)), "ndjson", { eventsMax: 100_000 });

const send = (
  ingestor: Ingestor,
  events: readonly object[],
  context = HTTP,
): Promise<IngestOutcome[]> => ingestor.ingest(itemsOf(events), context);

const statuses = (outcomes: readonly IngestOutcome[]): string[] =>
  outcomes.map(({ status }) => status);

async function rawCount(database: Database): Promise<number> {
  const [row] = await database.sql<{
    events: number;
  }>`select count(*)::int4 as events from usage_event`;
  return row?.events ?? -1;
}

test("an event re-sent with a later timestamp is a duplicate; with other tokens it is a conflict in quarantine", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const event = anEvent({ input_tokens: 10 });

  assert.deepEqual(statuses(await send(ingestor, [event])), ["accepted"]);
  assert.deepEqual(
    statuses(await send(ingestor, [{ ...event, occurred_at: "2026-11-20T11:00:01Z" }])),
    ["duplicate"],
  );
  const [conflict] = await send(ingestor, [{ ...event, input_tokens: 11 }]);

  assert.equal(conflict?.status, "conflict");
  assert.equal(await rawCount(db.database), 1);
  const kept = await db.database.sql<{
    code: string;
    bytes: Buffer;
  }>`select code, bytes from quarantine`;
  assert.deepEqual(
    kept.map(({ code, bytes }) => [code, JSON.parse(bytes.toString()).input_tokens]),
    [["conflict", 11]],
  );
});

test("within one batch the first of a key counts, repeats are duplicates, other content is a conflict", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const event = anEvent();
  const outcomes = await send(ingestor, [event, event, { ...event, output_tokens: 1 }, anEvent()]);
  assert.deepEqual(statuses(outcomes), ["accepted", "duplicate", "conflict", "accepted"]);
  assert.equal(await rawCount(db.database), 2);
});

test("a repeat inside a batch is judged against what was counted, not against the batch's own first", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const event = anEvent();
  await send(ingestor, [event]);
  const outcomes = await send(ingestor, [{ ...event, output_tokens: 1 }, event]);
  assert.deepEqual(statuses(outcomes), ["conflict", "duplicate"]);
});

test("the same id in two orgs is two events, and ids differ by any byte", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const id = "0191aaaa-0000-7000-8000-00000000000a";
  const outcomes = await send(ingestor, [
    anEvent({ event_id: id, org_id: "a" }),
    anEvent({ event_id: id, org_id: "b" }),
    anEvent({ event_id: id.toUpperCase(), org_id: "a" }),
    anEvent({ event_id: ` ${id}`, org_id: "a" }),
  ]);
  assert.deepEqual(statuses(outcomes), ["accepted", "accepted", "accepted", "accepted"]);
});

test("two processes that take the same events in different orders at the same time count each once", async () => {
  await using db = await testDatabase({ ownerConnectionsMax: 12 });
  await using one = await open(db.database, { batchEventsMax: 100 });
  await using two = await open(db.database, { batchEventsMax: 100 });
  const events = Array.from({ length: 3000 }, () => anEvent());
  const chunk = (list: object[], size: number) =>
    Array.from({ length: Math.ceil(list.length / size) }, (_, i) =>
      list.slice(i * size, (i + 1) * size),
    );

  const outcomes = await Promise.all([
    ...chunk(events, 100).map((part) => send(one, part)),
    ...chunk(events.toReversed(), 100).map((part) => send(two, part)),
  ]);

  const flat = statuses(outcomes.flat());
  assert.equal(flat.filter((status) => status === "accepted").length, 3000);
  assert.equal(flat.filter((status) => status === "duplicate").length, 3000);
  assert.equal(await rawCount(db.database), 3000);
});

test("many orgs and members seen for the first time by several lanes at once are all stored under their own names", async () => {
  await using db = await testDatabase({ ownerConnectionsMax: 8 });
  await using ingestor = await open(db.database, { lanes: 4, batchEventsMax: 50 });
  const events = Array.from({ length: 1000 }, (_, i) =>
    anEvent({ org_id: `org-${i % 50}`, model_id: `model-${i % 7}`, actor_id: `actor-${i % 11}` }),
  );
  await Promise.all(
    Array.from({ length: 20 }, (_, i) => send(ingestor, events.slice(i * 50, i * 50 + 50))),
  );
  const [row] = await db.database.sql<{ events: number; orgs: number; others: number }>`
    select count(*)::int4 as events,
           count(distinct org_id)::int4 as orgs,
           count(*) filter (where model_id < 1 or actor_id < 1)::int4 as others
      from usage_event`;
  assert.deepEqual(row, { events: 1000, orgs: 50, others: 0 });
});

test("a row the database refuses stands alone in quarantine and its 999 neighbours are counted", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const items = itemsOf(Array.from({ length: 1000 }, () => anEvent()));
  const poison = items[617];
  assert.ok(poison?.event);
  poison.event.metadata = "{not json";

  const outcomes = await ingestor.ingest(items, HTTP);

  assert.equal(statuses(outcomes).filter((status) => status === "accepted").length, 999);
  assert.deepEqual(outcomes[617]?.status === "rejected" && outcomes[617].code, "internal_error");
  assert.equal(await rawCount(db.database), 999);
});

test("code that throws on one event quarantines that event alone, and it counts once when sent again", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const events = Array.from({ length: 300 }, () => anEvent());
  const items = itemsOf(events);
  const unlucky = items[42]?.event;
  assert.ok(unlucky);
  Object.defineProperty(unlucky, "requests", {
    get: () => {
      throw new Error("a bug");
    },
  });

  const outcomes = await ingestor.ingest(items, HTTP);
  assert.equal(statuses(outcomes).filter((status) => status === "accepted").length, 299);
  assert.equal(outcomes[42]?.status === "rejected" && outcomes[42].code, "internal_error");

  const again = await send(ingestor, events);
  assert.equal(again[42]?.status, "accepted");
  assert.equal(await rawCount(db.database), 300);
});

test("identity holds across closed key partitions, before and after their filters are built", async () => {
  await using db = await testDatabase();
  const events = Array.from({ length: 500 }, () => anEvent());
  {
    await using ingestor = await open(db.database);
    await send(ingestor, events.slice(0, 250));
    assert.equal(await rotateKeyPartition(db.database, 1), true);
    assert.equal(await rotateKeyPartition(db.database, 1), false);
    await send(ingestor, events.slice(250));
    await rotateKeyPartition(db.database, 2);
    assert.deepEqual(new Set(statuses(await send(ingestor, events))), new Set(["duplicate"]));
    await ingestor.filtersBuilt;
    assert.deepEqual(new Set(statuses(await send(ingestor, events))), new Set(["duplicate"]));
  }
  await using restarted = await open(db.database);
  const fresh = Array.from({ length: 100 }, () => anEvent());
  const outcomes = await send(restarted, [...events, ...fresh]);
  assert.equal(statuses(outcomes).filter((status) => status === "accepted").length, 100);
});

test("after the window an event with the same time is still found, in raw, and other content is still a conflict", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const events = Array.from({ length: 50 }, (_, i) =>
    anEvent({ occurred_at: `2026-11-1${i % 9}T0${i % 10}:12:00Z` }),
  );
  await send(ingestor, events);
  await rotateKeyPartition(db.database, 1);
  await db.database.sql`delete from event_key_partition where no = 1`;
  await db.database.sql`update installation set dedup_floor = now()`;

  const outcomes = await send(ingestor, [...events, { ...events[7], output_tokens: 999 }]);

  assert.deepEqual(statuses(outcomes), [
    ...Array.from({ length: 50 }, () => "duplicate"),
    "conflict",
  ]);
});

test("too old and too early events are quarantined, and history is taken when it is meant", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const old = anEvent({ occurred_at: "2023-11-16T18:15:46.6805900Z" });
  const [tooOld, future, soon] = await send(ingestor, [
    old,
    anEvent({ occurred_at: "2026-11-20T12:05:01Z" }),
    anEvent({ occurred_at: "2026-11-20T12:04:59Z" }),
  ]);
  assert.equal(tooOld?.status === "rejected" && tooOld.code, "too_old");
  assert.equal(future?.status === "rejected" && future.code, "future_timestamp");
  assert.equal(soon?.status, "accepted");

  assert.deepEqual(statuses(await send(ingestor, [old], { ...HTTP, backfill: true })), [
    "accepted",
  ]);
  assert.deepEqual(statuses(await send(ingestor, [old], { ...HTTP, backfill: true })), [
    "duplicate",
  ]);
});

test("history for a day whose partition retention has just dropped is stored, not quarantined", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const events = [2, 3, 4].map((n) => anEvent({ occurred_at: `2026-10-2${n}T10:00:00Z` }));
  await send(ingestor, events);
  await db.database.sql`drop table usage_event_20261023`;
  const again = events.map((event) => ({ ...event, event_id: `again ${event.event_id}` }));
  assert.deepEqual(statuses(await send(ingestor, again)), ["accepted", "accepted", "accepted"]);
  assert.equal(await rawCount(db.database), 5);
});

test("values over an org's limit are counted under other, and its neighbours are not touched", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const flood = Array.from({ length: 200 }, (_, i) =>
    anEvent({ org_id: "flood", actor_id: `u-${i}` }),
  );
  await send(ingestor, [...flood, anEvent({ org_id: "calm", actor_id: "u-1" })]);
  await send(ingestor, [anEvent({ org_id: "flood", actor_id: "u-late" })]);
  const rows = await db.database.sql<{ org: string; others: number; actors: number }>`
    select o.external_id as org,
           count(*) filter (where actor_id = -1)::int4 as others,
           count(distinct actor_id)::int4 as actors
      from usage_event e join org o on o.id = e.org_id
     group by 1
     order by 1`;
  assert.deepEqual(rows, [
    { org: "calm", others: 0, actors: 1 },
    { org: "flood", others: 181, actors: 21 },
  ]);
});

test("a lane taken over by another process cannot commit, and its work goes through another lane", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database, { lanes: 1 });
  await send(ingestor, [anEvent()]);
  await db.database.sql`update lane set epoch = epoch + 1, lease_until = 'infinity'`;
  assert.deepEqual(statuses(await send(ingestor, [anEvent(), anEvent()])), [
    "accepted",
    "accepted",
  ]);
  const lanes = await db.database.sql<{
    batchNo: number;
  }>`select batch_no as "batchNo" from lane order by id`;
  assert.deepEqual(lanes, [{ batchNo: 1 }, { batchNo: 1 }]);
});

test("every batch leaves control totals that add up to what was answered, by org and hour", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const twice = anEvent({ occurred_at: "2026-11-20T09:59:59Z" });
  await send(ingestor, [
    twice,
    twice,
    anEvent({ occurred_at: "2026-11-20T10:00:00Z" }),
    anEvent({ occurred_at: "2026-11-20T10:00:00Z", input_tokens: -1 }),
  ]);
  const [batch] = await db.database.sql<{
    received: number;
    accepted: number;
    ledger: Buffer;
    key: string;
  }>`
    select received, accepted, ledger, (select event_key::text from usage_event where occurred_at < '2026-11-20T10:00Z') as key
      from ingestion_batches`;
  assert.ok(batch);
  const entries = decodeBatchLedger(batch.ledger).toSorted((a, b) => a.hourSeconds - b.hourSeconds);
  const hex = batch.key.replaceAll("-", "");
  const digest = BigInt(`0x${hex.slice(0, 16)}`) ^ BigInt(`0x${hex.slice(16)}`);
  assert.deepEqual(
    entries.map((e) => [
      e.hourSeconds % 86_400,
      e.received,
      e.accepted,
      e.duplicate,
      e.conflict,
      e.rejected,
    ]),
    [
      [9 * 3600, 2, 1, 1, 0, 0],
      [10 * 3600, 2, 1, 0, 0, 1],
    ],
  );
  assert.equal(entries[0]?.acceptedDigest, digest);
  assert.equal(entries[0]?.receivedDigest, BigInt.asUintN(64, digest * 2n));
});

test("more than can wait is refused before it is taken in, and what was taken in is answered", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database, { pendingEventsMax: 150, lanes: 1 });
  const results = await Promise.allSettled(
    Array.from({ length: 6 }, () =>
      send(
        ingestor,
        Array.from({ length: 100 }, () => anEvent()),
      ),
    ),
  );
  const refused = results.filter((result) => result.status === "rejected");
  assert.ok(refused.length > 0);
  for (const { reason } of refused)
    assert.ok(reason instanceof Failure && reason.code === "overloaded");
  assert.equal(await rawCount(db.database), (6 - refused.length) * 100);
});

test("while the database refuses writes callers are told so in time, and the same events count once afterwards", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database, { waitMsMax: 300, lanes: 1 });
  await send(ingestor, [anEvent()]);
  const events = Array.from({ length: 10 }, () => anEvent());
  const session = await db.database.openSession();
  const blocked = Promise.withResolvers<void>();
  const lock = session.transaction(async (tx) => {
    await tx.exec("lock table usage_event in access exclusive mode");
    await blocked.promise;
  });
  await waitFor(async () => {
    const [row] = await db.database.sql<{ held: boolean }>`
      select exists (select from pg_locks where mode = 'AccessExclusiveLock' and relation = 'usage_event'::regclass) as held`;
    return row?.held === true;
  });
  await assert.rejects(
    send(ingestor, events),
    (error) => error instanceof Failure && error.retryAfterSeconds !== undefined,
  );
  blocked.resolve();
  await lock;
  await session[Symbol.asyncDispose]();

  await waitFor(async () =>
    statuses(await send(ingestor, events)).every(
      (status) => status === "accepted" || status === "duplicate",
    ),
  );
  assert.equal(await rawCount(db.database), 11);
});

test("a lane that loses its connection again and again while it begins uses none of the pool up", async () => {
  await using db = await testDatabase();
  await using proxy = await faultProxy({ upstreamPort: Number(new URL(db.url).port) });
  const connections = 3;
  const database = await openDatabase({
    url: proxy.through(db.url),
    ownerConnectionsMax: connections,
    apiConnectionsMax: 1,
    ownerStatementMsMax: 10_000,
    apiStatementMsMax: 10_000,
    connectMsMax: 2_000,
    onIdleError: () => undefined,
  });
  const ingestor = await open(database, { lanes: 1 });
  await ingestor.filtersBuilt;
  proxy.cutAt("set_config('idle_in_transaction_session_timeout'", connections + 1);
  assert.deepEqual(statuses(await send(ingestor, [anEvent()])), ["accepted"]);
  assert.equal(proxy.cutsLeft, 0);
  await ingestor[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});
