/** Stopping under load, and what operators are told. */
import assert from "node:assert/strict";
import { anEvent, openAmqpReader, testDatabase, waitFor, type ServiceFace } from "#harness";
import type { Database } from "#store";
import { openTestPublisher } from "./publisher.ts";
import {
  assertReceived,
  assertSound,
  brokerDetail,
  conformanceTest,
  openService,
} from "./suite.ts";

/** Events in committed batches, folded or not. */
async function countCommitted(database: Database): Promise<number> {
  const [row] = await database.sql<{ received: number }>`
    select coalesce(sum(received), 0)::int8 as received
      from ingestion_batches`;
  return row?.received ?? 0;
}

conformanceTest(
  { ids: "F3" },
  "a service that is stopped under load, again and again, loses nothing and receives nothing twice",
  async (ground) => {
    await using db = await testDatabase();
    {
      // Declares what is published to.
      await using _service = await openService(ground, { db });
      await using _publisher = await openTestPublisher(ground.vhost.url, ground.name);
    }
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    let published = 0;
    let isOver = false;
    const publishing = (async () => {
      while (!isOver) {
        await publisher.publishAll(Array.from({ length: 200 }, () => anEvent()));
        published += 200;
        // No more ahead of the service than a restart of it leaves to do.
        await waitFor(async () => isOver || published - (await countCommitted(db.database)) < 3000);
      }
    })();
    for (let round = 0; round < 4; round++) {
      await using _service = await openService(ground, { db });
      const before = await countCommitted(db.database);
      await waitFor(async () => (await countCommitted(db.database)) > before + 500);
    }
    isOver = true;
    await publishing;

    if (ground.transport === "queue") {
      await using reader = await openAmqpReader(ground.vhost.url);
      const { messageCount } = await reader.channel.checkQueue(ground.name);
      const committed = await countCommitted(db.database);
      assert.equal(committed + messageCount, published, "what is committed is acknowledged");
    }
    await using service = await openService(ground, { db });
    await assertReceived(db.database, ground.source, { received: published });
    await assertSound(db.database, service, published);
  },
);

/** The value of a metric's one sample; undefined when there is none. */
async function metricOf(service: ServiceFace, name: string): Promise<number | undefined> {
  const answer = await service.request("/metrics");
  assert.equal(answer.status, 200);
  const [, value] =
    new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "m").exec(await answer.text()) ?? [];
  return value === undefined ? undefined : Number(value);
}

conformanceTest(
  {},
  "what is published and not committed shows in /ready and /metrics, and is gone when it is",
  async (ground) => {
    await using service = await openService(ground, { env: { CONSUMER_WORKERS: "2" } });
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const { database } = service.db;
    const isStream = ground.transport === "stream";
    const metric = isStream
      ? "tallystick_stream_lag_messages"
      : "tallystick_queue_unacked_messages";
    const waiting = isStream ? /\b300 messages behind/ : /\b2 consumers\b/;
    const isTold = async (lag: number, detail: RegExp) => {
      const told = [await metricOf(service, metric), await brokerDetail(service)] as const;
      return told[0] === lag && detail.test(told[1]);
    };
    await database.transaction(async (tx) => {
      // Nothing can be committed while this is held.
      await tx.exec("lock table ingestion_batches in share mode");
      await publisher.publishAll(Array.from({ length: 300 }, () => anEvent()));
      await waitFor(() => isTold(300, waiting), { msMax: 20_000, what: "the lag to be told" });
      assert.equal((await service.request("/ready")).status, 200);
    });
    await assertReceived(database, ground.source, { received: 300 });
    const done = isStream ? /\b0 messages behind/ : /\b2 consumers\b/;
    await waitFor(() => isTold(0, done), { what: "the lag to be gone" });
    if (isStream) assert.equal(await metricOf(service, "tallystick_stream_offset"), 299);
  },
);
