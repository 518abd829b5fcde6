/** What is in a message, and around it: whatever it is, it is counted or kept, and what follows is counted. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import type { Options } from "amqplib";
import { anEvent, toNdjson } from "#harness";
import { openTestPublisher } from "./publisher.ts";
import {
  assertQueueEmpty,
  assertReceived,
  assertSound,
  conformanceTest,
  listPositions,
  listQuarantine,
  NAMES,
  openService,
  type Ground,
} from "./suite.ts";

const json = (overrides: Record<string, unknown> = {}): string =>
  JSON.stringify(anEvent(overrides));
const digestOf = (bytes: Buffer): string => hash("sha256", bytes);
const many = (count: number): object[] => Array.from({ length: count }, () => anEvent());

type Service = Awaited<ReturnType<typeof openService>>;

/** Nothing waits any more: the queue's messages are acknowledged, the stream's lane stands at its last message. */
async function assertAllTaken({ transport, vhost, name }: Ground, service: Service, last: number) {
  if (transport === "queue") return await assertQueueEmpty(vhost, name);
  const position = (await listPositions(service.db.database))[NAMES.stream] ?? "";
  assert.match(position, new RegExp(`^${last}:[0-9a-f]{16}$`));
}

conformanceTest(
  { ids: "B35" },
  "one event, an array and NDJSON are read, plain or compressed, with or without a content-type",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const messages: [Buffer | string, Options.Publish][] = [
      [json(), {}],
      [json(), { contentType: "application/json" }],
      [json(), { contentType: "text/plain; charset=utf-8" }],
      [JSON.stringify(many(5)), {}],
      [` \n${JSON.stringify(many(5))}\n `, { contentType: "application/octet-stream" }],
      [toNdjson(many(5)), { contentType: "application/x-ndjson" }],
      [toNdjson(many(5)), {}],
      [gzipSync(json()), { contentEncoding: "gzip" }],
      [gzipSync(JSON.stringify(many(5))), { contentEncoding: "GZIP" }],
      [
        gzipSync(toNdjson(many(5))),
        { contentEncoding: "gzip", contentType: "application/x-ndjson" },
      ],
      [deflateSync(json()), { contentEncoding: "deflate" }],
      [brotliCompressSync(json()), { contentEncoding: "br" }],
      [zstdCompressSync(json()), { contentEncoding: "zstd" }],
      [json(), { priority: 9, expiration: "3600000", messageId: "m-1", correlationId: "c-1" }],
      [json(), { timestamp: 1, type: "usage", appId: "a", replyTo: "nowhere", persistent: false }],
    ];
    for (const [body, options] of messages) await publisher.publish(body, options);
    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 39 });
    await assertAllTaken(ground, service, messages.length - 1);
    await assertSound(database, service, 39);
  },
);

const typed = (type: string, value: unknown) => ({ "!": type, value });
const HEADERS: readonly Record<string, unknown>[] = [
  { double: typed("double", 1.5), float: typed("float", -0.25) },
  { bool: true, not: false, null: null },
  { timestamp: typed("timestamp", 1_700_000_000), late: typed("timestamp", 2n ** 62n) },
  { array: [1, "two", [3, { four: 4 }], null, true, 1.5], empty: [] },
  { table: { a: { b: { c: { d: "e" } } } }, none: {} },
  { bytes: Buffer.from([0, 255, 128]), text: "\u0000 Zoë \u{1f600}" },
  { i8: typed("int8", -128), u8: typed("uint8", 255), i16: typed("int16", -32768) },
  { u16: typed("uint16", 65535), u32: typed("uint32", 2 ** 32 - 1), i32: typed("int32", -1) },
  { most: typed("int64", 2n ** 63n - 1n), least: typed("int64", -(2n ** 63n)) },
  { long: "x".repeat(20_000) },
  Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`header-${i}`, i])),
  { "": "no name", ["n".repeat(255)]: "a long one" },
  Object.fromEntries([["__proto__", { "tallystick-org": "globex" }]]),
  { constructor: "x", hasOwnProperty: true },
  // What the broker itself writes into headers.
  { "x-stream-offset": 12_345 },
  { "x-stream-offset": "first" },
  { "x-death": [{ count: 3, reason: "rejected" }], "x-delivery-count": 99 },
  { traceparent: 7, "tallystick-org": "acme" },
  { CC: ["nowhere"] },
];
const PERHAPS_REFUSED: readonly Record<string, unknown>[] = [
  { nan: typed("double", Number.NaN) },
  { infinite: typed("double", Number.POSITIVE_INFINITY) },
  { decimal: typed("decimal", { places: 2, digits: 314 }) },
  { CC: "no list" },
  { "x-amqp-1.0-app-properties": "\u00ffno section", "x-amqp-1.0-properties": 7 },
];

conformanceTest(
  { ids: "B32" },
  "headers of every type, and those that look like the broker's own, leave the message as it is",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    for (const [i, headers] of HEADERS.entries())
      await publisher.publish(json({ event_id: `headers-${i}` }), { headers });
    const values = [1.5, true, { a: [1, { b: 2 }] }, [], "ü"];
    await publishByManagement(ground, values);
    let count = HEADERS.length + values.length;
    // What the broker does not take it refuses to the publisher's face, with the whole connection.
    for (const headers of PERHAPS_REFUSED) {
      await using once = await openTestPublisher(ground.vhost.url, ground.name);
      const isTaken = await once.publish(json(), { headers }).then(
        () => true,
        () => false,
      );
      if (isTaken) count++;
    }
    const { database } = service.db;
    await assertReceived(database, ground.source, { received: count });
    await assertAllTaken(ground, service, count - 1);
    await assertSound(database, service, count);
  },
);

/** Messages whose headers were JSON before: the broker chooses their types. */
async function publishByManagement({ vhost, name }: Ground, values: readonly unknown[]) {
  for (const value of values) {
    const answer = await vhost.api("POST", `/api/exchanges/${vhost.vhost}/amq.default/publish`, {
      properties: { headers: { value }, delivery_mode: 2 },
      routing_key: name,
      payload: json(),
      payload_encoding: "string",
    });
    assert.deepEqual(answer, { routed: true });
  }
  return values;
}

/** Messages that cannot be read as a whole, and the code each gets. */
const UNREADABLE: readonly (readonly [string, Buffer, Options.Publish])[] = [
  ["invalid_json", Buffer.from([0xde, 0xad, 0xbe, 0xef]), {}],
  ["invalid_json", Buffer.alloc(0), {}],
  ["invalid_json", Buffer.from("not json"), { contentType: "application/json" }],
  ["invalid_json", Buffer.from('{"event_id": "cut'), {}],
  ["invalid_json", Buffer.from("[]"), {}],
  ["invalid_encoding", Buffer.from(json(), "utf16le"), {}],
  ["invalid_encoding", gzipSync(json()).subarray(0, 60), { contentEncoding: "gzip" }],
  ["invalid_encoding", Buffer.from(json()), { contentEncoding: "gzip" }],
  ["unsupported_body", Buffer.from(json()), { contentEncoding: "snappy" }],
  ["invalid_encoding", Buffer.from([0x00, 0x53, 0x75, 0xb0, 0, 0, 1]), {}],
  ["unsupported_body", Buffer.from([0x00, 0x53, 0x76, 0x45]), {}],
  ["too_large", gzipSync(Buffer.alloc(2_000_000, " ")), { contentEncoding: "gzip" }],
];

conformanceTest(
  { ids: "F35, B35" },
  "messages that cannot be read are kept with source, place, reason and bytes, also at the head, and what follows is counted",
  async (ground) => {
    await using service = await openService(ground, { env: { MESSAGE_BYTES_MAX: "1MiB" } });
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    for (const [, bytes, options] of UNREADABLE) await publisher.publish(bytes, options);
    const good = anEvent();
    await publisher.publish(good);

    const { database } = service.db;
    const count = UNREADABLE.length;
    await assertReceived(database, ground.source, { received: count + 1, rejected: count });
    const kept = await listQuarantine(database);
    assert.deepEqual(
      kept.map(({ source, code, org, bytes }) => [source, code, org, digestOf(bytes)]).toSorted(),
      UNREADABLE.map(([code, bytes]) => [ground.source, code, null, digestOf(bytes)]).toSorted(),
    );
    for (const { detail } of kept) assert.match(detail, /^[A-Z].*\.$/s);
    const places = kept.map(({ position }) => Number(position));
    if (ground.transport === "stream") assert.deepEqual(places, [...UNREADABLE.keys()]);
    else
      assert.ok(
        places.every((tag) => Number.isSafeInteger(tag) && tag > 0),
        String(places),
      );
    await assertAllTaken(ground, service, count);
    await assertSound(database, service, 1);
  },
);

conformanceTest(
  { ids: "F35" },
  "what was kept can be replayed: what is readable is counted once, what is not stays",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const { database } = service.db;
    const old = anEvent({ event_id: "old", occurred_at: "2026-01-10T10:00:00Z" });
    await publisher.publish([anEvent(), old]);
    await publisher.publish("no json");
    await assertReceived(database, ground.source, { received: 3, rejected: 2 });
    const replay = async (path: string) => {
      const answer = await service.request(path, { method: "POST" });
      assert.equal(answer.status, 200);
      const { results } = (await answer.json()) as { results: { status: string }[] };
      return results.map(({ status }) => status);
    };
    const all = (path: string) => `/analytics/v1/${path}/quarantine/replay?backfill=true`;
    assert.deepEqual(await replay(all("orgs/acme")), ["accepted"]);
    assert.deepEqual(await replay(all("orgs/acme")), []);
    assert.deepEqual(await replay(all("system")), ["rejected"]);
    assert.deepEqual(await replay(all("system")), ["rejected"]);
    await assertSound(database, service, 2);
  },
);

conformanceTest(
  { ids: "B15, B16" },
  "orgs are known at first sight, and a message whose header claims another org than its events is kept, of no org",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const claim = (org: unknown) => ({ headers: { "tallystick-org": org } });
    await publisher.publish(json({ org_id: "never-seen-before" }));
    await publisher.publish(json(), claim("acme"));
    await publisher.publish([anEvent(), anEvent({ org_id: "globex" }), anEvent()], claim("acme"));
    await publisher.publish(json(), claim(Buffer.from("acme")));
    await publisher.publish(json(), claim("Acme"));
    await publisher.publish(json(), claim(""));
    await publisher.publish(json(), claim(7));
    await publisher.publish(json(), claim(null));
    await publisher.publish(json({ org_id: undefined }), claim("acme"));
    await publisher.publish(json({ org_id: undefined }));
    await publisher.publish(json({ org_id: "globex" }), claim("globex"));

    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 13, rejected: 7 });
    assert.deepEqual(
      (await listQuarantine(database))
        .map(({ code, pointer, org }) => [code, pointer, org])
        .toSorted(),
      [
        ["missing_field", "/org_id", null],
        ["missing_field", "/org_id", null],
        ...Array.from({ length: 5 }, () => ["org_mismatch", "/org_id", null]),
      ],
    );
    await assertAllTaken(ground, service, 10);
    await assertSound(database, service, 6);
  },
);

/** Where in a thousand the one bad event is. */
const PLACES = [0, 1, 499, 998, 999];
const withBadAt = (place: number): object[] =>
  Array.from({ length: 1000 }, (_, i) => anEvent(i === place ? { input_tokens: -1 } : {}));

conformanceTest(
  { ids: "B36" },
  "of 1000 events in one message the 999 good ones are counted, wherever the bad one is",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    await publisher.publishAll(PLACES.map(withBadAt));
    await publisher.publishAll(PLACES.map(withBadAt).map(toNdjson));
    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 10_000, rejected: 10 });
    const codes = (await listQuarantine(database)).map(({ code, org, pointer }) => [
      code,
      org,
      pointer,
    ]);
    assert.deepEqual(
      codes,
      Array.from({ length: 10 }, () => ["invalid_number", "acme", "/input_tokens"]),
    );
    await assertSound(database, service, 9990);
  },
);

conformanceTest(
  { ids: "B36" },
  "of 1000 messages the 999 good ones are counted, wherever the bad one is",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const { database } = service.db;
    for (const [nth, place] of PLACES.entries()) {
      await publisher.publishAll(withBadAt(place));
      await assertReceived(database, ground.source, {
        received: 1000 * (nth + 1),
        rejected: nth + 1,
      });
    }
    const places = (await listQuarantine(database)).map(({ position }) => Number(position));
    if (ground.transport === "stream") {
      assert.deepEqual(
        places,
        PLACES.map((place, nth) => 1000 * nth + place),
      );
      await assertAllTaken(ground, service, 4999);
    }
    await assertSound(database, service, 4995);
  },
);

conformanceTest(
  { ids: "B37" },
  "of messages with nothing but bad events all are kept, the offset moves and the queue is acknowledged",
  async (ground) => {
    await using service = await openService(ground);
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const bad = () => anEvent({ input_tokens: 1.5 });
    await publisher.publishAll([
      bad(),
      bad(),
      [bad(), bad(), bad()],
      "{",
      toNdjson([bad(), bad()]),
    ]);
    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 8, rejected: 8 });
    await assertAllTaken(ground, service, 4);
    await publisher.publish(anEvent());
    await assertReceived(database, ground.source, { received: 9, rejected: 8 });
    await assertSound(database, service, 1);
  },
);
