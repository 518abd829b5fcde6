/**
 * What the broker took from publishers of the stream protocol and fails to hand over to AMQP consumers: it closes their
 * connection, whenever they come to it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  anEvent,
  dataRecord,
  openStreamPublisher,
  type ServiceFace,
  type StreamEntry,
  type StreamPublisher,
  startRabbit,
  testBroker,
  testDatabase,
  type TestVhost,
  waitFor,
} from "#harness";
import { createLogger } from "#kernel";
import type { Database } from "#store";
import { openTestPublisher } from "./publisher.ts";
import {
  assertReceived,
  assertSound,
  brokerDetail,
  listPositions,
  listQuarantine,
  NAMES,
  openService,
  SOURCES,
} from "./suite.ts";

const GZIP = 1;
const UNKNOWN_CODEC = 7;

const record = (id?: string): Buffer =>
  dataRecord(JSON.stringify(anEvent(id === undefined ? {} : { event_id: id })));
const good = (): StreamEntry => ({ kind: "record", bytes: record() });
const bad = (bytes: string | Buffer = "no AMQP 1.0"): StreamEntry => ({
  kind: "record",
  bytes: Buffer.from(bytes),
});
const subBatch = (codec: number, count: number): StreamEntry => ({
  kind: "subBatch",
  codec,
  records: Array.from({ length: count }, () => record()),
});

/** A publisher of the service's stream, which has to be there. */
async function openPublisher({
  url,
  vhost,
  api,
}: Pick<TestVhost, "url" | "vhost" | "api">): Promise<StreamPublisher> {
  await (await openTestPublisher(url, NAMES.stream))[Symbol.asyncDispose]();
  const { listeners } = (await api("GET", "/api/overview")) as {
    listeners: { protocol: string; port: number }[];
  };
  const port = listeners.find(({ protocol }) => protocol === "stream")?.port;
  assert.ok(port !== undefined, "the broker has no listener of the stream protocol");
  return await openStreamPublisher({ port, vhost, stream: NAMES.stream });
}

/** Where the stream's quarantined items stood: `<first offset>-<last offset>`. */
async function listPlaces(database: Database): Promise<string[]> {
  const items = (await listQuarantine(database)).filter(({ source }) => source === SOURCES.stream);
  for (const { position, code, detail, bytes } of items) {
    assert.equal(code, "unsupported_body");
    assert.match(detail, new RegExp(`^Offsets ${position?.replace("-", " to ")} cannot be read`));
    assert.equal(bytes.length, 0);
  }
  return items.map(({ position }) => position ?? "");
}

/** All offsets of these places. */
const offsetsIn = (places: readonly string[]): number[] =>
  places.flatMap((place) => {
    const [from = 0, to = 0] = place.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });

/** The offsets of the stream's incidents, oldest first, as the API tells them. */
async function listIncidents(face: ServiceFace): Promise<string[]> {
  const { streamIncidents } = (await face.get("/analytics/v1/system/freshness")) as {
    streamIncidents: { kind: string; fromOffset: number; toOffset: number }[];
  };
  return streamIncidents
    .map(({ kind, fromOffset, toOffset }) => `${kind} ${fromOffset}-${toOffset}`)
    .toReversed();
}

/** The number of a stream's incidents that the metric tells, by kind. */
async function countIncidents(face: ServiceFace): Promise<string[]> {
  const metrics = await (await face.request("/metrics")).text();
  return metrics
    .split("\n")
    .filter((line) => line.startsWith("tallystick_stream_incidents_total{"));
}

/** Waits until the lane stands behind this offset. */
const waitPosition = (database: Database, offset: number) =>
  waitFor(
    async () => (await listPositions(database))[NAMES.stream]?.startsWith(`${offset}:`) === true,
    { what: `offset ${offset} to be read`, msMax: 30_000 },
  );

test("B34, F35: what the broker cannot hand over is told with its offsets, all else is counted once, queues go on", async () => {
  await using vhost = await testBroker();
  const log: string[] = [];
  const logger = createLogger("info", { write: (line) => log.push(line) });
  await using service = await openService({ vhost, transport: "stream,queue" }, { logger });
  const { database } = service.db;
  await using publisher = await openPublisher(vhost);
  await using queue = await openTestPublisher(vhost.url, NAMES.queue);
  await waitFor(async () => /usage-events: 5 consumers/.test(await brokerDetail(service)));
  log.length = 0;
  await publisher.publish([good(), good()]); // 0, 1
  await publisher.publish([subBatch(GZIP, 3)]); // 2 to 4
  await publisher.publish([subBatch(0, 2)]); // 5, 6
  await publisher.publish([subBatch(UNKNOWN_CODEC, 2)]); // 7, 8
  await publisher.publish([good()]); // 9
  await publisher.publish([bad()]); // 10
  await publisher.publish([good()]); // 11
  await publisher.publish([good(), bad(""), good()]); // 12 to 14
  await publisher.publish([subBatch(GZIP, 2), subBatch(GZIP, 2)]); // 15 to 18
  await publisher.publish([subBatch(0, 1), good()]); // 19, 20
  for (let n = 0; n < 20; n++) await queue.publishAll(Array.from({ length: 50 }, () => anEvent()));
  await waitPosition(database, 20);

  const places = await listPlaces(database);
  const unreadable = offsetsIn(places);
  // Of a chunk, nothing comes before the bad entry: 12 was fine, and cannot be had where it shares one with 13.
  const inOneChunk = unreadable.includes(12) ? [12] : [];
  assert.deepEqual(unreadable, [2, 3, 4, 7, 8, 10, ...inOneChunk, 13, 15, 16, 17, 18]);
  const rejected = places.length;
  const accepted = 21 - unreadable.length;
  await assertReceived(database, SOURCES.stream, { received: accepted + rejected, rejected });
  const incidents = places.map((place) => `unreadable ${place}`);
  assert.deepEqual(await listIncidents(service), incidents);
  const labels = `stream="${NAMES.stream}",kind="unreadable"`;
  assert.deepEqual(await countIncidents(service), [
    `tallystick_stream_incidents_total{${labels}} ${rejected}`,
  ]);
  await assertReceived(database, SOURCES.queue, { received: 1000 });
  await assertSound(database, service, 1000 + accepted);
  const linesWith = (words: string) => log.filter((line) => line.includes(words)).length;
  assert.deepEqual(
    [linesWith("stream_unreadable"), linesWith("broker_unreachable")],
    [rejected, 0],
  );
});

test("B34: unreadable entries at the very beginning and at the very end of a stream do not stop it, nor does a restart there", async () => {
  await using vhost = await testBroker();
  await using db = await testDatabase();
  const open = () => openService({ vhost, transport: "stream" }, { db });
  const { database } = db;
  let publisher: StreamPublisher | undefined;
  await using scope = new AsyncDisposableStack();
  {
    await using _service = await open();
    publisher = scope.use(await openPublisher(vhost));
    await publisher.publish([bad("first")]); // 0
    await waitPosition(database, 0);
    await publisher.publish([good()]); // 1
    await waitPosition(database, 1);
  }
  await publisher.publish([bad("last")]); // 2, while nobody reads
  {
    await using _service = await open();
    await waitPosition(database, 2);
    await publisher.publish([subBatch(GZIP, 3)]); // 3 to 5, of which only the first shows while nothing follows
    await waitPosition(database, 3);
  }
  await using service = await open();
  await publisher.publish([good()]); // 6
  await waitPosition(database, 6);
  const places = await listPlaces(database);
  assert.deepEqual(offsetsIn(places), [0, 2, 3, 4, 5]);
  assert.deepEqual(
    await listIncidents(service),
    places.map((place) => `unreadable ${place}`),
  );
  const rejected = places.length;
  await assertReceived(database, SOURCES.stream, { received: 2 + rejected, rejected });
  await assertSound(database, service, 2);
});

test("B34, F12: a stream made anew that begins with an unreadable entry is read from its first message", async () => {
  await using vhost = await testBroker();
  await using db = await testDatabase();
  const open = () => openService({ vhost, transport: "stream" }, { db });
  {
    await using _service = await open();
    await using publisher = await openPublisher(vhost);
    await publisher.publish([good(), good(), good()]);
    await waitPosition(db.database, 2);
  }
  const path = `/api/queues/${vhost.vhost}/${NAMES.stream}`;
  await vhost.api("DELETE", path);
  await vhost.api("PUT", path, { durable: true, arguments: { "x-queue-type": "stream" } });
  await using publisher = await openPublisher(vhost);
  await publisher.publish([bad()]); // 0
  await publisher.publish([good()]); // 1
  await using service = await open();
  await waitPosition(db.database, 1);
  assert.deepEqual(await listPlaces(db.database), ["0-0"]);
  assert.deepEqual(await listIncidents(service), ["recreated 3-null", "unreadable 0-0"]);
  await assertReceived(db.database, SOURCES.stream, { received: 5, rejected: 1 });
  await assertSound(db.database, service, 4);
});

test("B34: of several streams, one with unreadable entries does not hold up the others", async () => {
  await using vhost = await testBroker();
  const other = "other-stream";
  await using service = await openService(
    { vhost, transport: "stream" },
    { env: { STREAM_PARTITIONS: `${NAMES.stream},${other}` } },
  );
  const { database } = service.db;
  await using broken = await openPublisher(vhost);
  await using whole = await openTestPublisher(vhost.url, other);
  await broken.publish(Array.from({ length: 300 }, () => bad())); // 0 to 299: more than are tried one by one
  await broken.publish([good()]); // 300
  for (let n = 0; n < 20; n++) await whole.publishAll(Array.from({ length: 10 }, () => anEvent()));
  await waitFor(async () => (await listPositions(database))[other]?.startsWith("199:"), {
    what: "the other stream to be read",
  });
  await waitPosition(database, 300);
  assert.deepEqual(await listPlaces(database), ["0-299"]);
  await assertReceived(database, SOURCES.stream, { received: 202, rejected: 1 });
  await assertSound(database, service, 201);
});

test("B34: a chunk that is damaged on the broker's disk is told with its offsets, and the ones behind it are read", async () => {
  await using broker = await startRabbit();
  const vhost = { ...broker, vhost: "/" };
  await using db = await testDatabase();
  const { database } = db;
  let publisher: StreamPublisher | undefined;
  await using scope = new AsyncDisposableStack();
  {
    await using _service = await openService({ vhost, transport: "stream" }, { db });
    publisher = scope.use(await openPublisher(vhost));
    await publisher.publish([good()]); // 0
    await waitPosition(database, 0);
  }
  await publisher.publish([
    { kind: "subBatch", codec: 0, records: [record(), record("damaged-on-disk")] }, // 1, 2, in one chunk
  ]);
  await publisher.publish([good()]); // 3
  await broker.ctl("eval", DAMAGE);
  await using service = await openService({ vhost, transport: "stream" }, { db });
  await waitPosition(database, 3);
  assert.deepEqual(await listPlaces(database), ["1-2"]);
  await assertReceived(database, SOURCES.stream, { received: 3, rejected: 1 });
  await assertSound(database, service, 2);
});

/** Changes a byte of an event in the stream's file. */
const DAMAGE = `
  {ok, Dir} = application:get_env(osiris, data_dir),
  [File] = filelib:wildcard(filename:join([Dir, "*", "*.segment"])),
  {ok, Bytes} = file:read_file(File),
  {At, _} = binary:match(Bytes, <<"damaged-on-disk">>),
  {ok, Open} = file:open(File, [read, write, raw, binary]),
  ok = file:pwrite(Open, At, <<"D">>),
  file:close(Open).`;

test("F35: RabbitMQ, stream: how far a stream reaches is known again soon after its end became readable", async () => {
  await using broker = await testBroker();
  await using service = await openService({ vhost: broker, transport: "stream" });
  await using publisher = await openPublisher(broker);
  await publisher.publish([good()]);
  await waitFor(async () => / 0 messages behind/.test(await brokerDetail(service)));
  await publisher.publish([bad()]);
  await waitFor(async () => /lag not known/.test(await brokerDetail(service)), { msMax: 30_000 });
  await publisher.publish([good()]);
  // A single failed look, which may be the broker's own trouble of a moment, must not blind us for a minute.
  await waitFor(async () => / 0 messages behind/.test(await brokerDetail(service)), {
    msMax: 35_000,
  });
});
