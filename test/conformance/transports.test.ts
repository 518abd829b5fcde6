/** Whichever way events come, each is counted once. */
import assert from "node:assert/strict";
import { anEvent, type ServiceFace, type TestVhost, toNdjson } from "#harness";
import type { Database } from "#store";
import { openTestPublisher, type TestPublisher } from "./publisher.ts";
import {
  assertQueueEmpty,
  assertReceived,
  assertSound,
  brokerTest,
  conformanceTest,
  listQuarantine,
  type Ground,
  NAMES,
  openService,
  SOURCES,
  waitReceived,
} from "./suite.ts";

conformanceTest(
  {},
  "each event is counted once, however often and in whatever message it comes",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const events = Array.from({ length: 200 }, (_, i) =>
      anEvent({ event_id: `${ground.transport}-${i}`, input_tokens: i }),
    );
    await publisher.publishAll(events.slice(0, 100));
    await publisher.publish(events.slice(50, 150));
    await publisher.publish(toNdjson(events.slice(100)), { contentType: "application/x-ndjson" });

    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 300, duplicate: 100 });
    await assertSound(database, service, 200);
    const { totals } = (await service.get(
      "/analytics/v1/orgs/acme/usage?start=2026-11-20T00:00:00Z&end=2026-11-21T00:00:00Z&granularity=day",
    )) as { totals: { requests: number; inputTokens: number } };
    assert.deepEqual([totals.requests, totals.inputTokens], [200, (199 * 200) / 2]);
    if (ground.transport === "queue") await assertQueueEmpty(ground.vhost, ground.name);
  },
);

conformanceTest(
  { ids: "B12" },
  "the same id in two orgs is two events, in one message or in two",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const twins = (id: string) =>
      ["acme", "globex"].map((org_id) => anEvent({ event_id: id, org_id }));
    await publisher.publish(twins("in-one"));
    await publisher.publishAll(twins("in-two"));
    await publisher.publishAll(twins("in-one"));

    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 6, duplicate: 2 });
    await assertSound(database, service, 4);
  },
);

const COUNTS = ["received", "accepted", "duplicate", "conflict", "rejected"] as const;
type Input = "stream" | "queue" | "http";
type Inputs = Record<Input, { source: string; send(events: readonly object[]): Promise<unknown> }>;
const ORDERS: readonly (readonly [Input, Input, Input])[] = [
  ["stream", "queue", "http"],
  ["stream", "http", "queue"],
  ["queue", "stream", "http"],
  ["queue", "http", "stream"],
  ["http", "stream", "queue"],
  ["http", "queue", "stream"],
];

/** A service that takes events by all three inputs, and the means to send by each. */
async function openInputs(vhost: TestVhost) {
  await using scope = new AsyncDisposableStack();
  const service = scope.use(await openService({ vhost, transport: "stream,queue" }));
  const open = async (name: string) => scope.use(await openTestPublisher(vhost.url, name));
  const byPublisher = (publisher: TestPublisher) => (events: readonly object[]) =>
    publisher.publishAll(events);
  const inputs: Inputs = {
    stream: { source: SOURCES.stream, send: byPublisher(await open(NAMES.stream)) },
    queue: { source: SOURCES.queue, send: byPublisher(await open(NAMES.queue)) },
    http: { source: "http", send: (events) => sendByHttp(service, events) },
  };
  const owned = scope.move();
  return { service, inputs, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function sendByHttp(service: ServiceFace, events: readonly object[]): Promise<void> {
  const { counts } = await service.send(events);
  assert.equal(counts.received, events.length);
}

brokerTest(
  "B13: an event that comes by stream, queue and HTTP, in any order, is counted once",
  async (vhost) => {
    await using opened = await openInputs(vhost);
    const { service, inputs } = opened;
    const { database } = service.db;
    const size = 20;
    const received = { stream: 0, queue: 0, http: 0 };
    const duplicate = { stream: 0, queue: 0, http: 0 };
    for (const order of ORDERS) {
      const events = Array.from({ length: size }, () => anEvent());
      for (const [nth, input] of order.entries()) {
        await inputs[input].send(events);
        received[input] += size;
        if (nth > 0) duplicate[input] += size;
        await assertReceived(database, inputs[input].source, {
          received: received[input],
          duplicate: duplicate[input],
        });
      }
    }
    await assertSound(database, service, ORDERS.length * size);
  },
);

brokerTest(
  "B13: events that come by stream, queue and HTTP at the same time, shuffled, are counted once",
  async (vhost) => {
    await using opened = await openInputs(vhost);
    const { service, inputs } = opened;
    const events = Array.from({ length: 600 }, (_, i) => anEvent({ input_tokens: i }));
    // Each input in an order of its own: 600 and the stride have no divisor in common.
    const shuffled = (stride: number) => events.map((_, i) => events[(i * stride) % 600] ?? {});
    await Promise.all([
      inputs.stream.send(shuffled(7)),
      inputs.queue.send(shuffled(11)),
      ...Array.from({ length: 6 }, (_, i) =>
        inputs.http.send(shuffled(13).slice(i * 100, i * 100 + 100)),
      ),
    ]);
    const { database } = service.db;
    const sums = { received: 0, accepted: 0, duplicate: 0, conflict: 0, rejected: 0 };
    for (const { source } of Object.values(inputs)) {
      const counts = await waitReceived(database, source, 600);
      for (const key of COUNTS) sums[key] += counts[key];
    }
    assert.deepEqual(sums, {
      received: 1800,
      accepted: 600,
      duplicate: 1200,
      conflict: 0,
      rejected: 0,
    });
    await assertSound(database, service, 600);
  },
);

/** An event, and the same id with something else in it that counts. */
const contradictions = (id: string): [object, object][] =>
  [
    { input_tokens: 101 },
    { output_tokens: 21 },
    { cost_estimate: "0.25", currency: "USD" },
    { actor_id: "user-2" },
    { model_id: "chat-small" },
    { status: "error", error_code: "429" },
  ].map((change, i) => {
    const event = anEvent({ event_id: `${id}-${i}` });
    return [event, { ...event, ...change }];
  });

conformanceTest(
  { ids: "B14" },
  "an id that comes again with other content is a conflict, and the first one stays, whichever input it came by",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const { database } = service.db;
    const n = 6;

    const inOneMessage = contradictions("one-message");
    await publisher.publish(inOneMessage.flat());
    await assertReceived(database, ground.source, { received: 2 * n, conflict: n });

    const httpFirst = contradictions("http-first");
    await service.send(httpFirst.map(([first]) => first));
    await publisher.publishAll(httpFirst.map(([, second]) => second));
    await assertReceived(database, ground.source, { received: 3 * n, conflict: 2 * n });

    const httpSecond = contradictions("http-second");
    await publisher.publishAll(httpSecond.map(([first]) => first));
    await assertReceived(database, ground.source, { received: 4 * n, conflict: 2 * n });
    const { counts } = await service.send(httpSecond.map(([, second]) => second));
    assert.equal(counts.conflict, n);

    // The first content again is a duplicate still, also with another time.
    const again = [...inOneMessage, ...httpFirst, ...httpSecond].map(([first]) => first);
    await publisher.publish(again);
    const restamped = { ...again[0], occurred_at: "2026-11-20T10:31:00Z" };
    await publisher.publish(restamped);
    await assertReceived(database, ground.source, {
      received: 7 * n + 1,
      conflict: 2 * n,
      duplicate: 3 * n + 1,
    });
    await assertConflicts(ground, database, [...inOneMessage, ...httpFirst]);
    await assertSound(database, service, 3 * n);
  },
);

/** The second ones are in the org's quarantine, byte for byte, and raw holds the first ones. */
async function assertConflicts(
  { source }: Ground,
  database: Database,
  pairs: readonly (readonly [object, object])[],
): Promise<void> {
  const conflicts = (await listQuarantine(database)).filter((item) => item.source === source);
  assert.deepEqual(
    conflicts.map(({ code, org, bytes }) => [code, org, bytes.toString()]).toSorted(),
    pairs.map(([, second]) => ["conflict", "acme", JSON.stringify(second)]).toSorted(),
  );
  const [sums] = await database.sql<{ input: number; output: number; models: number }>`
    select sum(input_tokens)::int8 as input, sum(output_tokens)::int8 as output, count(distinct model_id) as models
      from usage_event`;
  assert.deepEqual({ ...sums }, { input: 18 * 100, output: 18 * 20, models: 1 });
}
