import assert from "node:assert/strict";
import { connect } from "node:net";
import test from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { anEvent, toNdjson, waitFor } from "#harness";
import type { Problem } from "../problem.ts";
import { testApi, type IngestAnswer, type TestApi } from "../test-api.ts";

const EVENTS = "/analytics/v1/events";

const post = (
  api: TestApi,
  contentType: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
) =>
  api.ask<Problem & IngestAnswer>(EVENTS, {
    method: "POST",
    headers: { "content-type": contentType, ...headers },
    body,
  });

const rawEvents = async (api: TestApi): Promise<number> => {
  const [row] = await api.database.sql<{
    events: number;
  }>`select count(*)::int4 as events from usage_event`;
  return row?.events ?? -1;
};

test("one event, an array and NDJSON are taken, plain or compressed, and are stored when answered", async () => {
  await using api = await testApi();
  const one = await post(api, "application/json", JSON.stringify(anEvent({ event_id: "e1" })));
  assert.equal(one.status, 200);
  assert.deepEqual(one.body.counts, {
    received: 1,
    accepted: 1,
    duplicate: 0,
    conflict: 0,
    rejected: 0,
  });
  assert.deepEqual(one.body.results, [{ index: 0, eventId: "e1", status: "accepted" }]);

  const array = JSON.stringify([anEvent(), anEvent()]);
  assert.equal((await post(api, "application/json; charset=utf-8", array)).body.counts.accepted, 2);
  const lines = toNdjson([anEvent(), anEvent(), anEvent()]);
  assert.equal((await post(api, "application/x-ndjson", lines)).body.counts.accepted, 3);
  const packed = new Uint8Array(gzipSync(JSON.stringify([anEvent()])));
  assert.equal(
    (await post(api, "application/json", packed, { "content-encoding": "gzip" })).body.counts
      .accepted,
    1,
  );
  const squeezed = new Uint8Array(zstdCompressSync(toNdjson([anEvent()])));
  assert.equal(
    (await post(api, "application/x-ndjson", squeezed, { "content-encoding": "zstd" })).body.counts
      .accepted,
    1,
  );
  assert.equal(await rawEvents(api), 8);
});

test("every event has its own answer, in order: 200 when all are counted or known, else 207", async () => {
  await using api = await testApi();
  const event = anEvent({ event_id: "e1" });
  assert.equal((await api.send([event])).status, 200);
  assert.equal((await api.send([event])).status, 200);

  const mixed = await api.send([
    event,
    { ...event, output_tokens: 1 },
    anEvent({ event_id: "e2", input_tokens: -1 }),
    anEvent({ event_id: "e3" }),
  ]);
  assert.equal(mixed.status, 207);
  assert.deepEqual(mixed.body.counts, {
    received: 4,
    accepted: 1,
    duplicate: 1,
    conflict: 1,
    rejected: 1,
  });
  assert.deepEqual(
    mixed.body.results.map(({ index, eventId, status, pointer }) => [
      index,
      eventId,
      status,
      pointer,
    ]),
    [
      [0, "e1", "duplicate", undefined],
      [1, "e1", "conflict", mixed.body.results[1]?.pointer],
      [2, "e2", "rejected", "/input_tokens"],
      [3, "e3", "accepted", undefined],
    ],
  );
});

test("B37: a batch of nothing but bad events is answered event by event", async () => {
  await using api = await testApi();
  const { status, body } = await api.send([
    anEvent({ org_id: undefined }),
    anEvent({ latency_ms: -5 }),
  ]);
  assert.equal(status, 207);
  assert.deepEqual(
    body.results.map(({ status: own }) => own),
    ["rejected", "rejected"],
  );
  assert.equal(await rawEvents(api), 0);
});

test("B10: a body of an unknown or ambiguous type is refused unread", async () => {
  await using api = await testApi();
  for (const type of [
    "text/plain",
    "application/json\t;",
    "application/json; charset=utf-7",
    "application/xml",
  ]) {
    const { status, body, headers } = await post(api, type, JSON.stringify(anEvent()));
    assert.equal(status, 415, type);
    assert.equal(body.code, "unsupported_media_type");
    assert.match(headers.get("content-type") ?? "", /^application\/problem\+json/);
  }
  assert.equal(
    (await post(api, "application/json", "{}", { "content-encoding": "br" })).status,
    415,
  );
  assert.equal(await rawEvents(api), 0);
});

test("B8: a compressed bomb, a damaged and a cut body are refused", async () => {
  await using api = await testApi();
  const gzip = (bytes: Uint8Array) =>
    post(api, "application/json", new Uint8Array(bytes), { "content-encoding": "gzip" });
  const bomb = await gzip(gzipSync(Buffer.alloc(200_000_000)));
  assert.deepEqual([bomb.status, bomb.body.code], [413, "too_large"]);
  const cut = await gzip(gzipSync(JSON.stringify(anEvent())).subarray(0, -4));
  assert.deepEqual([cut.status, cut.body.code], [400, "invalid_encoding"]);
  assert.equal((await gzip(Buffer.from(JSON.stringify(anEvent())))).body.code, "invalid_encoding");
});

test("B9: no event and one too many are refused whole, the limit itself is taken", async () => {
  await using api = await testApi({ limits: { eventsMax: 3 } });
  const batch = (count: number) =>
    api.send<Problem & IngestAnswer>(Array.from({ length: count }, () => anEvent()));
  assert.deepEqual([(await batch(0)).status, (await batch(0)).body.code], [400, "empty_batch"]);
  assert.equal((await batch(3)).body.counts.accepted, 3);
  assert.deepEqual([(await batch(4)).status, (await batch(4)).body.code], [400, "too_many_events"]);
  assert.equal((await post(api, "application/json", "")).status, 400);
  assert.equal(await rawEvents(api), 3);
});

test("a body over the limit is refused with 413, one that is not JSON with 400", async () => {
  await using api = await testApi({ limits: { bodyBytesMax: 2000 } });
  const long = await post(
    api,
    "application/json",
    JSON.stringify(anEvent({ metadata: { note: "x".repeat(3000) } })),
  );
  assert.deepEqual([long.status, long.body.code], [413, "too_large"]);
  const bad = await post(api, "application/json", '{"event_id": ');
  assert.deepEqual([bad.status, bad.body.code], [400, "invalid_json"]);
  assert.equal((await post(api, "application/json", '{"__proto__":{"polluted":1}}')).status, 207);
  assert.equal(Reflect.get({}, "polluted"), undefined);
});

test("bodies beyond what may be held at once are shed with 503 and Retry-After", async () => {
  await using api = await testApi({ limits: { pendingBodyBytesMax: 100 } });
  const { status, body, headers } = await api.send<Problem>([anEvent()]);
  assert.deepEqual([status, body.code, headers.get("retry-after")], [503, "overloaded", "1"]);
  assert.equal(await rawEvents(api), 0);
});

test("room for bodies is given back with every answer", async () => {
  await using api = await testApi({ limits: { pendingBodyBytesMax: 600 } });
  for (let i = 0; i < 5; i++) assert.equal((await api.send([anEvent()])).status, 200);
  assert.equal((await api.send("[")).status, 400);
  assert.equal((await api.send([anEvent()])).status, 200);
});

test("dryRun says what is wrong and stores nothing", async () => {
  await using api = await testApi();
  const { status, body } = await api.send(
    [anEvent(), anEvent({ status: "maybe" })],
    "?dryRun=true",
  );
  assert.equal(status, 207);
  assert.equal(body.dryRun, true);
  assert.deepEqual(
    body.results.map((result) => result.status),
    ["accepted", "rejected"],
  );
  assert.equal(await rawEvents(api), 0);
  const [kept] = await api.database.sql<{
    items: number;
  }>`select count(*)::int4 as items from quarantine`;
  assert.equal(kept?.items, 0);
});

test("history is refused as too old, and taken as backfill; the source label goes to the ledger", async () => {
  await using api = await testApi();
  const old = anEvent({ occurred_at: "2023-11-16T18:15:00Z" });
  assert.equal((await api.send([old])).body.results[0]?.code, "too_old");
  assert.equal(
    (await api.send([old], "?backfill=true", { "tallystick-source": "import/abc" })).body.results[0]
      ?.status,
    "accepted",
  );
  const [row] = await api.database.sql<{ name: string }>`
    select s.name from usage_event e join source s on s.id = e.source_id`;
  assert.equal(row?.name, "import/abc");
});

test("a bad header or parameter of the ingest route is refused with its place", async () => {
  await using api = await testApi();
  const source = await api.send<Problem>([anEvent()], "", { "tallystick-source": "Not Allowed" });
  assert.deepEqual(
    [source.status, source.body.errors[0]?.pointer],
    [400, "/headers/tallystick-source"],
  );
  const flag = await api.send<Problem>([anEvent()], "?backfill=yes");
  assert.deepEqual([flag.status, flag.body.errors[0]?.pointer], [400, "/query/backfill"]);
  assert.equal(await rawEvents(api), 0);
});

test("B38: an Idempotency-Key replays the first answer, refuses another body, and is not needed", async () => {
  await using api = await testApi();
  const event = anEvent();
  const headers = { "idempotency-key": "k-1" };
  const first = await api.send([event], "", headers);
  assert.equal(first.body.counts.accepted, 1);
  assert.equal((await api.send([event], "", headers)).text, first.text);
  const other = await api.send<Problem>([anEvent()], "", headers);
  assert.deepEqual([other.status, other.body.code], [422, "idempotency_mismatch"]);
  const parameter = await api.send<Problem>([event], "?backfill=true", headers);
  assert.deepEqual([parameter.status, parameter.body.code], [422, "idempotency_mismatch"]);
  assert.equal((await api.send([event])).body.counts.duplicate, 1);
  assert.equal(await rawEvents(api), 1);
});

test("B39: a client that leaves in mid-body stores nothing and may send again", async () => {
  await using api = await testApi();
  const { hostname, port } = new URL(api.url);
  const body = JSON.stringify([anEvent(), anEvent()]);
  const socket = connect(Number(port), hostname);
  socket.write(
    `POST ${EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-admin-key\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${body.length}\r\n\r\n${body.slice(0, -10)}`,
  );
  await waitFor(() => socket.bytesWritten > body.length);
  socket.destroy();
  const { body: answer } = await post(api, "application/json", body);
  assert.equal(answer.counts.accepted, 2);
  assert.equal(await rawEvents(api), 2);
});
