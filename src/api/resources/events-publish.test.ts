import assert from "node:assert/strict";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { openProducer, ProducerFault } from "#broker";
import { anEvent, openAmqpReader, testBroker, toNdjson } from "#harness";
import type { EventPublisher } from "../dependencies.ts";
import type { Problem } from "../problem.ts";
import { testApi, type IngestAnswer, type TestApi } from "../test-api.ts";

const EVENTS = "/analytics/v1/events";
const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

type Queued = {
  counts: Record<"received" | "queued" | "rejected", number>;
  results: { index: number; eventId: string | null; status: string; pointer?: string }[];
};

/** The API in front of a real broker with a queue "usage". */
async function openCase(given: Partial<Pick<EventPublisher, "fallback" | "bodyBytesMax">> = {}) {
  await using scope = new AsyncDisposableStack();
  const { url } = scope.use(await testBroker());
  const reader = scope.use(await openAmqpReader(url));
  await reader.channel.assertQueue("usage");
  const producer = scope.use(
    openProducer({ url, target: { queue: "usage" }, unroutableMsMax: 0, closeMsMax: 100 }),
  );
  const publisher: EventPublisher = {
    fallback: "refuse",
    bodyBytesMax: 1_000_000,
    publish: (body, about) =>
      producer.publish(body, about).then(
        () => ({ isPublished: true }),
        (error: unknown) => {
          if (!(error instanceof ProducerFault)) throw error;
          return { isPublished: false, detail: "The broker is away." };
        },
      ),
    ...given,
  };
  const api = scope.use(await testApi({ publisher }));
  const owned = scope.move();
  return { api, reader, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const rawEvents = async (api: TestApi): Promise<number> => {
  const [row] = await api.database.sql<{
    events: number;
  }>`select count(*)::int4 as events from usage_event`;
  return row?.events ?? -1;
};

test("with a broker, a body is published as it came, and each event is queued or rejected: 202", async () => {
  await using t = await openCase();
  const lines = toNdjson([
    anEvent({ event_id: "e1" }),
    anEvent({ event_id: "e2", input_tokens: -1 }),
    anEvent({ event_id: "e3" }),
  ]);
  const body = new Uint8Array(gzipSync(lines));
  const { status, body: answer } = await t.api.ask<Queued>(EVENTS, {
    method: "POST",
    headers: {
      "content-type": "application/x-ndjson; charset=utf-8",
      "content-encoding": "gzip",
      "tallystick-source": "gateway/eu",
      "x-request-id": "request-1",
      traceparent: TRACEPARENT,
    },
    body,
  });
  assert.equal(status, 202);
  assert.deepEqual(answer.counts, { received: 3, queued: 2, rejected: 1 });
  assert.deepEqual(
    answer.results.map(({ index, eventId, status: own, pointer }) => [
      index,
      eventId,
      own,
      pointer,
    ]),
    [
      [0, "e1", "queued", undefined],
      [1, "e2", "rejected", "/input_tokens"],
      [2, "e3", "queued", undefined],
    ],
  );

  const [message, ...more] = await t.reader.takeAll("usage");
  assert.ok(message !== undefined && more.length === 0);
  assert.ok(message.content.equals(body));
  const { properties } = message;
  assert.deepEqual(
    [properties.contentType, properties.contentEncoding, properties.correlationId],
    ["application/x-ndjson; charset=utf-8", "gzip", "request-1"],
  );
  assert.deepEqual(properties.headers, {
    "tallystick-source": "gateway/eu",
    traceparent: TRACEPARENT,
  });
  assert.equal(properties.deliveryMode, 2);
  assert.equal(await rawEvents(t.api), 0);
});

test("backfill and direct are committed before the answer, a dry run only judged, an unreadable body refused", async () => {
  await using t = await openCase();
  const statuses: unknown[] = [];
  for (const query of ["?backfill=true", "?direct=true", "?dryRun=true"]) {
    const { status, body } = await t.api.send([anEvent()], query);
    statuses.push([status, body.results[0]?.status]);
  }
  assert.deepEqual(statuses, [
    [200, "accepted"],
    [200, "accepted"],
    [200, "accepted"],
  ]);
  assert.equal((await t.api.send("[{")).status, 400);
  assert.equal((await t.api.send([])).status, 400);
  assert.equal(await rawEvents(t.api), 2);
  assert.deepEqual(await t.reader.takeAll("usage"), []);
});

test("a body larger than consumers read is committed, compressed or not", async () => {
  await using t = await openCase({ bodyBytesMax: 1000 });
  const events = Array.from({ length: 20 }, () => anEvent());
  const packed = new Uint8Array(gzipSync(JSON.stringify(events)));
  assert.ok(packed.length < 1000);
  const { status } = await t.api.ask(EVENTS, {
    method: "POST",
    headers: { "content-type": "application/json", "content-encoding": "gzip" },
    body: packed,
  });
  assert.equal(status, 200);
  assert.equal((await t.api.send([anEvent()])).status, 202);
  assert.equal(await rawEvents(t.api), 20);
});

test("F15: what the broker does not confirm is refused with when to come back, and nothing of it is stored", async () => {
  await using t = await openCase();
  await t.reader.channel.deleteQueue("usage");
  const { status, body, headers } = await t.api.send<Problem>([anEvent()]);
  assert.deepEqual([status, body.code], [503, "broker_unavailable"]);
  assert.match(body.detail, /^The broker is away\. Send the same events again/);
  assert.equal(headers.get("retry-after"), "5");
  assert.equal(await rawEvents(t.api), 0);
  await t.reader.channel.assertQueue("usage");
  assert.equal((await t.api.send([anEvent()])).status, 202);
});

test("F15: set up to fall back, what the broker does not confirm is committed and answered as such", async () => {
  await using t = await openCase({ fallback: "direct" });
  const event = anEvent({ event_id: "e1" });
  await t.reader.channel.deleteQueue("usage");
  const { status, body } = await t.api.send<IngestAnswer>([event]);
  assert.deepEqual([status, body.counts.accepted], [200, 1]);
  assert.equal((await t.api.send([event])).body.counts.duplicate, 1);
});

test("a repeat with the same Idempotency-Key gets the first answer and is not published again", async () => {
  await using t = await openCase();
  const key = { "idempotency-key": "k1" };
  const event = anEvent();
  const first = await t.api.send<Queued>([event], "", key);
  const second = await t.api.send<Queued>([event], "", key);
  assert.deepEqual([first.status, second.status], [202, 202]);
  assert.equal(second.text, first.text);
  assert.equal((await t.reader.takeAll("usage")).length, 1);
});

test("what a sender may not write for is not published, nor what consumers might read otherwise", async () => {
  await using t = await openCase();
  await t.api.createOrg("globex");
  const key = await t.api.keyFor({ orgId: "acme", roles: ["producer"] });
  const send = (body: string | Uint8Array<ArrayBuffer>) =>
    t.api.ask<IngestAnswer>(EVENTS, {
      method: "POST",
      headers: { "content-type": "application/x-ndjson" },
      body,
      key,
    });
  assert.equal((await send(toNdjson([anEvent()]))).status, 202);
  assert.equal((await t.reader.takeAll("usage")).length, 1);

  const foreign = anEvent({ org_id: "globex" });
  const mixed = await send(toNdjson([anEvent(), foreign]));
  assert.equal(mixed.status, 207);
  assert.deepEqual(
    mixed.body.results.map(({ status, code }) => code ?? status),
    ["accepted", "org_forbidden"],
  );
  // AMQP 1.0 data, which no line is and which consumers would look into; and a list where a line should be.
  const text = Buffer.from(JSON.stringify(foreign));
  const head = Buffer.from([0, 0x53, 0x75, 0xb0, 0, 0, text.length >> 8, text.length & 0xff]);
  const own = Buffer.from(toNdjson([anEvent()]));
  for (const smuggled of [Buffer.concat([head, text]), Buffer.from(`[${text.toString()}]\n`)]) {
    await send(new Uint8Array(smuggled));
    await send(new Uint8Array(Buffer.concat([own, smuggled])));
  }
  assert.deepEqual(await t.reader.takeAll("usage"), []);
});
