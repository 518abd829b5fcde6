import assert from "node:assert/strict";
import { connect } from "amqplib";
import {
  anEvent,
  spawnService,
  startRabbit,
  testBroker,
  testDatabase,
  waitFor,
  type WireEvent,
} from "#harness";
import { startBrokerLoad } from "./broker-load.ts";
import {
  BROKER_SETTINGS,
  letBrokerDrain,
  metricOf,
  NAMES,
  untilConsuming,
} from "./broker-state.ts";
import { chancesOf, faultTest, scaled } from "./fault-test.ts";
import { assertAllCounted, assertVerified, openOracle, settle } from "./oracle.ts";
import { Traffic } from "./traffic.ts";

const TARGETS = [NAMES.stream, NAMES.queue];

faultTest(
  "F16: a database that takes nothing for longer than the broker waits for acks: the broker closes the channels (PRECONDITION_FAILED), what it delivers again counts once",
  async (seed) => {
    await using broker = await startRabbit({ config: ["consumer_timeout = 15000"] });
    await using db = await testDatabase();
    const env = { ...BROKER_SETTINGS, RABBITMQ_URL: broker.url };
    await using service = await spawnService({ databaseUrl: db.url, env });
    await untilConsuming(service);
    const traffic = new Traffic(seed, Date.now());
    await using published = startBrokerLoad(traffic, {
      url: () => broker.url,
      targets: TARGETS,
      pauseMs: 100,
    });
    await waitFor(async () => (await metricOf(service, "tallystick_ingest_events_total")) > 200);
    await using holder = await openOracle(db.url);
    await holder.transaction(async (tx) => {
      // No batch gets by while this stands; the broker looks once a minute.
      await tx.exec("lock table usage_event in exclusive mode");
      await waitFor(
        async () => ((await broker.api("GET", "/api/consumers")) as unknown[]).length === 0,
        { msMax: 150_000, what: "the broker to give up waiting for acks" },
      );
    });
    await published.stop();
    await letBrokerDrain(broker, db.database, [service]);
    assert.match(service.stderr(), /PRECONDITION_FAILED/);
    await assertAllCounted(db.url, traffic, service);
  },
);

faultTest(
  "F33: one event thousands of times, and many events many times each, by stream, queue and HTTP at once, count exactly once",
  async (seed) => {
    await using broker = await testBroker();
    await using db = await testDatabase();
    const env = { ...BROKER_SETTINGS, RABBITMQ_URL: broker.url };
    await using service = await spawnService({ databaseUrl: db.url, env });
    await untilConsuming(service);
    const next = chancesOf(seed);
    const one = anEvent({ event_id: "the-one", org_id: "acme", input_tokens: 3 });
    const many = Array.from({ length: scaled({ short: 400, long: 100_000 }) }, (_, i) =>
      anEvent({ event_id: `many-${i}`, org_id: "acme", input_tokens: 5 }),
    );
    const copies = scaled({ short: 12, long: 50 });
    const storm: WireEvent[] = [
      ...Array.from({ length: scaled({ short: 5000, long: 1_000_000 }) }, () => one),
      ...Array.from({ length: copies }, () => many).flat(),
    ];
    const shares: WireEvent[][] = [[], [], []];
    for (const event of storm) shares[Math.floor(next() * 3)]?.push(event);
    const [toStream = [], toQueue = [], toHttp = []] = shares;
    await Promise.all([
      publishAll(broker.url, NAMES.stream, toStream),
      publishAll(broker.url, NAMES.queue, toQueue),
      (async () => {
        for (let at = 0; at < toHttp.length; at += 500)
          await service.send(toHttp.slice(at, at + 500));
      })(),
    ]);
    await letBrokerDrain(broker, db.database, [service]);
    await settle(db.database);
    const [sums] = await db.database.sql<{ received: number; accepted: number; tokens: number }>`
      select sum(received)::int8 as received, sum(accepted)::int8 as accepted,
             (select sum(input_tokens)::int8 from usage_event) as tokens
        from ledger`;
    assert.deepEqual(
      { ...sums },
      { received: storm.length, accepted: many.length + 1, tokens: 3 + 5 * many.length },
    );
    await assertVerified(db.database);
  },
);

/** Publishes events one to a message, with confirms. */
async function publishAll(
  url: string,
  target: string,
  events: readonly WireEvent[],
): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createConfirmChannel();
  for (const [i, event] of events.entries()) {
    channel.sendToQueue(target, Buffer.from(JSON.stringify(event)), { persistent: true });
    if (i % 1000 === 999) await channel.waitForConfirms();
  }
  await channel.waitForConfirms();
  await connection.close();
}
