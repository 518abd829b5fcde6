/** Super streams: their partitions are found, each is read from its own position, and processes share them. */
import assert from "node:assert/strict";
import { connect } from "amqplib";
import {
  anEvent,
  openAmqpReader,
  testDatabase,
  waitFor,
  type TestDatabase,
  type TestVhost,
} from "#harness";
import { openTestPublisher } from "./publisher.ts";
import {
  assertReceived,
  assertSound,
  brokerDetail,
  brokerTest,
  listPositions,
  NAMES,
  openService,
  SOURCES,
} from "./suite.ts";

const NAME = NAMES.stream;
const events = (count: number): object[] => Array.from({ length: count }, () => anEvent());

/** Publishes so many events to each of the streams. */
async function publishTo(
  vhost: TestVhost,
  streams: readonly string[],
  count: number,
): Promise<void> {
  for (const stream of streams) {
    await using publisher = await openTestPublisher(vhost.url, stream);
    await publisher.publishAll(events(count));
  }
}

/** The ledger's totals by number of the partition. */
async function receivedByPartition({ database }: TestDatabase): Promise<Record<string, number>> {
  const rows = await database.sql<{ partition: number; received: number }>`
    select partition, sum(received)::int8 as received
      from ledger
     group by partition
     order by partition`;
  return Object.fromEntries(rows.map(({ partition, received }) => [partition, received]));
}

const WAYS: readonly (readonly [string, (vhost: TestVhost) => Record<string, string>])[] = [
  ["their numbers", () => ({})],
  ["a count", () => ({ STREAM_PARTITIONS: "3" })],
  ["a list", () => ({ STREAM_PARTITIONS: [0, 1, 2].map((n) => `${NAME}-${n}`).join(", ") })],
  ["the management API", ({ managementUrl }) => ({ RABBITMQ_MANAGEMENT_URL: managementUrl })],
];

for (const [way, settings] of WAYS) {
  brokerTest(`the partitions of a super stream are found by ${way}`, async (vhost) => {
    await using reader = await openAmqpReader(vhost.url);
    await reader.declareSuperStream(NAME, 3);
    const ground = { vhost, transport: "stream" };
    await using service = await openService(ground, { env: settings(vhost) });
    // By the exchange, as publishers of a super stream do.
    for (const [nth, event] of events(30).entries()) {
      const body = Buffer.from(JSON.stringify(event));
      reader.channel.publish(NAME, String(nth % 3), body, { persistent: true });
    }
    const { database } = service.db;
    await assertReceived(database, SOURCES.stream, { received: 30 });
    assert.deepEqual(await receivedByPartition(service.db), { 0: 10, 1: 10, 2: 10 });
    const positions = await listPositions(database);
    assert.deepEqual(
      Object.keys(positions),
      [0, 1, 2].map((n) => `${NAME}-${n}`),
    );
    for (const position of Object.values(positions)) assert.match(position ?? "", /^9:/);
    await assertSound(database, service, 30);
  });
}

brokerTest(
  "partitions with names of their own are found by the management API, in their order",
  async (vhost) => {
    const streams = ["usage-eu", "usage-us", "usage-asia"];
    const connection = await connect(vhost.url);
    const channel = await connection.createChannel();
    await channel.assertExchange(NAME, "direct", { arguments: { "x-super-stream": true } });
    for (const [order, stream] of streams.entries()) {
      await channel.assertQueue(stream, { arguments: { "x-queue-type": "stream" } });
      await channel.bindQueue(stream, NAME, stream, { "x-stream-partition-order": order });
    }
    await connection.close();
    const env = { RABBITMQ_MANAGEMENT_URL: vhost.managementUrl };
    await using service = await openService({ vhost, transport: "stream" }, { env });
    await publishTo(vhost, streams.slice(0, 1), 3);
    await publishTo(vhost, streams.slice(1, 2), 4);
    await publishTo(vhost, streams.slice(2), 5);
    await assertReceived(service.db.database, SOURCES.stream, { received: 12 });
    assert.deepEqual(await receivedByPartition(service.db), { 0: 3, 1: 4, 2: 5 });
  },
);

brokerTest(
  "two processes share the partitions, hand them over as they come and go, and receive nothing twice",
  async (vhost) => {
    await using db = await testDatabase();
    await using reader = await openAmqpReader(vhost.url);
    await reader.declareSuperStream(NAME, 3);
    const streams = [0, 1, 2].map((n) => `${NAME}-${n}`);
    const open = () => openService({ vhost, transport: "stream" }, { db });
    const { database } = db;

    await using first = await open();
    await publishTo(vhost, streams, 100);
    await assertReceived(database, SOURCES.stream, { received: 300 });
    assert.deepEqual(await sharesOf(database), [3]);
    {
      await using _second = await open();
      await waitFor(async () => (await sharesOf(database)).join() === "1,2", {
        what: "two to share",
      });
      await publishTo(vhost, streams, 100);
      await assertReceived(database, SOURCES.stream, { received: 600 });
      await using third = await open();
      await waitFor(async () => (await sharesOf(database)).join() === "1,1,1");
      await using fourth = await open();
      await waitFor(async () => (await brokerDetail(fourth)).includes("read by other processes"));
      await publishTo(vhost, streams, 100);
      await assertReceived(database, SOURCES.stream, { received: 900 });
      assert.equal((await third.request("/ready")).status, 200);
    }
    await waitFor(async () => (await sharesOf(database)).join() === "3", {
      what: "one to have all",
    });
    await publishTo(vhost, streams, 100);
    await assertReceived(database, SOURCES.stream, { received: 1200 });
    assert.deepEqual(await receivedByPartition(db), { 0: 400, 1: 400, 2: 400 });
    await assertSound(database, first, 1200);
  },
);

/** How many streams each process holds, fewest first. */
async function sharesOf(database: TestDatabase["database"]): Promise<number[]> {
  const rows = await database.sql<{ count: number }>`
    select count(*) as count
      from lane
     where transport = ${SOURCES.stream}
       and lease_until > clock_timestamp()
     group by owner`;
  return rows.map(({ count }) => count).toSorted((a, b) => a - b);
}
