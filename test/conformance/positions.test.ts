/** Where each transport goes on: after a stop, a crash, within a message, with little room, and how often it acknowledges. */
import assert from "node:assert/strict";
import { once } from "node:events";
import {
  anEvent,
  openAmqpReader,
  spawnService,
  testDatabase,
  toNdjson,
  waitFor,
  type TestDatabase,
} from "#harness";
import { letLeasesEnd } from "../faults/oracle.ts";
import { countAcks } from "./ack-counter.ts";
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
  settingsFor,
  type Ground,
} from "./suite.ts";

const events = (count: number): object[] => Array.from({ length: count }, () => anEvent());

conformanceTest(
  {},
  "a service that is started again goes on where it stopped, and receives nothing twice",
  async (ground) => {
    await using db = await testDatabase();
    await using reader = await openAmqpReader(ground.vhost.url);
    const counted = { messages: 0 };
    for (let round = 1; round <= 3; round++) {
      await using service = await openService(ground, { db });
      await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
      await publisher.publishAll(events(100));
      await assertReceived(db.database, ground.source, { received: counted.messages + 100 });
      await service[Symbol.asyncDispose]();
      // Published while nobody reads.
      await publisher.publishAll(events(50));
      counted.messages += 150;
      if (ground.transport === "stream") continue;
      const { messageCount } = await reader.channel.checkQueue(ground.name);
      assert.equal(messageCount, 50, "all that was committed is acknowledged");
    }
    await using service = await openService(ground, { db });
    await assertReceived(db.database, ground.source, { received: counted.messages });
    await assertSound(db.database, service, counted.messages);
  },
);

/** Starts a service that kills itself at the crash point, waits until it has, and lets its leases run out. */
async function crashAt(ground: Ground, db: TestDatabase, env: Record<string, string>) {
  await using service = await spawnService({ databaseUrl: db.url, env: settingsFor(ground, env) });
  const late = AbortSignal.timeout(20_000);
  const ended = await Promise.race([service.exited, once(late, "abort")]);
  assert.deepEqual(ended, { code: null, signal: "SIGKILL" }, "the crash point was not reached");
  await letLeasesEnd(db.database);
}

const SMALL = { INGEST_BATCH_EVENTS_MAX: "7" };

/** A message of many events is there before any service is. */
async function publishFirst(ground: Ground, bodies: readonly unknown[]): Promise<void> {
  await using reader = await openAmqpReader(ground.vhost.url);
  if (ground.transport === "stream") await reader.declareStream(ground.name);
  else {
    // What is delivered more often is dropped: the default of RabbitMQ 4, which counts every channel that is closed.
    const limited = { "x-queue-type": "quorum", "x-delivery-limit": 20 };
    await reader.channel.assertQueue(ground.name, { durable: true, arguments: limited });
  }
  await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
  for (const body of bodies) await publisher.publish(body);
}

conformanceTest(
  { ids: "F1", on: ["stream"] },
  "a message of more events than a batch holds is read on within, after a crash before and after a commit",
  async (ground) => {
    await using db = await testDatabase();
    await publishFirst(ground, [events(50), toNdjson(events(3)), events(50), anEvent()]);
    // Three batches of the first message are in; the fourth is not, or is and nobody was told.
    await crashAt(ground, db, { ...SMALL, TALLYSTICK_CRASHPOINT: "before_commit:4" });
    assert.match((await listPositions(db.database))[NAMES.stream] ?? "", /^0\+21:[0-9a-f]{16}$/);
    await crashAt(ground, db, { ...SMALL, TALLYSTICK_CRASHPOINT: "after_commit_before_ack:2" });
    assert.match((await listPositions(db.database))[NAMES.stream] ?? "", /^0\+35:/);
    await crashAt(ground, db, { ...SMALL, TALLYSTICK_CRASHPOINT: "before_begin:3" });
    assert.match((await listPositions(db.database))[NAMES.stream] ?? "", /^0\+49:/);
    // After a batch that ends a message; it begins others as far as they had been delivered.
    await crashAt(ground, db, { ...SMALL, TALLYSTICK_CRASHPOINT: "after_ack:1" });
    assert.match((await listPositions(db.database))[NAMES.stream] ?? "", /^(0|1|2\+[123]):/);

    await using service = await openService(ground, { db, env: SMALL });
    await assertReceived(db.database, ground.source, { received: 104 });
    assert.match((await listPositions(db.database))[NAMES.stream] ?? "", /^3:/);
    await assertSound(db.database, service, 104);
  },
);

conformanceTest(
  { ids: "F1", on: ["queue"] },
  "a message of more events than a batch holds is counted once, after a crash before and after its commit",
  async (ground) => {
    await using db = await testDatabase();
    await publishFirst(ground, [events(50)]);
    await crashAt(ground, db, { ...SMALL, TALLYSTICK_CRASHPOINT: "before_commit:1" });
    await crashAt(ground, db, { ...SMALL, TALLYSTICK_CRASHPOINT: "after_commit_before_ack:1" });
    await using service = await openService(ground, { db, env: SMALL });
    // Committed and not acknowledged: it comes again.
    await assertReceived(db.database, ground.source, { received: 100, duplicate: 50 });
    await assertQueueEmpty(ground.vhost, ground.name);
    await assertSound(db.database, service, 50);
  },
);

conformanceTest(
  { on: ["stream"] },
  "a message that was read in part is not lost when it can no longer be read as a whole",
  async (ground) => {
    await using db = await testDatabase();
    await publishFirst(ground, [JSON.stringify(events(50)), anEvent()]);
    await crashAt(ground, db, { ...SMALL, TALLYSTICK_CRASHPOINT: "before_commit:4" });
    // Smaller than the message by now.
    const env = { ...SMALL, MESSAGE_BYTES_MAX: "2KiB" };
    await using service = await openService(ground, { db, env });
    await assertReceived(db.database, ground.source, { received: 23, rejected: 1 });
    assert.deepEqual(
      (await listQuarantine(db.database)).map(({ code, position }) => [code, position]),
      [["too_large", "0"]],
    );
    assert.match((await listPositions(db.database))[NAMES.stream] ?? "", /^1:/);
    await assertSound(db.database, service, 22);
  },
);

conformanceTest(
  {},
  "messages larger than the room for them are read all the same, one after the other",
  async (ground) => {
    const message = () =>
      Array.from({ length: 40 }, () => anEvent({ metadata: { text: "x".repeat(3000) } }));
    const bodies = [
      ...Array.from({ length: 40 }, message),
      ...events(500),
      ...Array.from({ length: 20 }, message),
    ];
    await publishFirst(ground, bodies);
    const env = { BROKER_BUFFER_BYTES_MAX: "64KiB" };
    await using service = await openService(ground, { env });
    await assertReceived(service.db.database, ground.source, { received: 2900 });
    await assertSound(service.db.database, service, 2900);
  },
);

conformanceTest(
  {},
  "many small batches are committed one by one, each with one ack for all of its messages",
  async (ground) => {
    await publishFirst(ground, events(300));
    await using proxy = await countAcks(ground.vhost.url);
    const env = {
      INGEST_BATCH_EVENTS_MAX: "20",
      CONSUMER_WORKERS: "1",
      RABBITMQ_URL: proxy.url,
    };
    await using service = await openService(ground, { env });
    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 300 });
    const [batches] = await database.sql<{ count: number; largest: number }>`
      select count(*) as count, max(received)::int4 as largest
        from ingestion_batches`;
    assert.ok(batches && batches.count >= 15 && batches.count < 60, String(batches?.count));
    assert.equal(batches.largest, 20);
    await waitFor(() => proxy.acks.count >= batches.count, { what: "an ack for each batch" });
    assert.deepEqual(proxy.acks, { count: batches.count, multiple: batches.count });
    await assertSound(database, service, 300);
  },
);
