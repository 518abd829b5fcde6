import assert from "node:assert/strict";
import {
  faultProxy,
  spawnService,
  startRabbit,
  testBroker,
  testDatabase,
  waitFor,
  anEvent,
  type SpawnedService,
} from "#harness";
import { startBrokerLoad } from "./broker-load.ts";
import {
  BROKER_SETTINGS,
  brokerStateOf,
  letBrokerDrain,
  metricOf,
  NAMES,
  untilConsuming,
} from "./broker-state.ts";
import { chancesOf, faultTest, scaled } from "./fault-test.ts";
import { startLoad } from "./load.ts";
import { assertAllCounted } from "./oracle.ts";
import { Traffic } from "./traffic.ts";

const TARGETS = [NAMES.stream, NAMES.queue];
const ACCEPTED = "tallystick_ingest_events_total";

/** How often something was logged. */
const countLogged = (service: SpawnedService, message: string): number =>
  service.stderr().split(`"msg":"${message}"`).length - 1;

for (const how of ["stop", "kill"] as const) {
  const id = how === "stop" ? "F7" : "F8";
  const times = scaled({ short: 1, long: 40 });
  faultTest(
    `${id}${how === "stop" ? ", F9" : ""}: a broker that is ${how === "stop" ? "stopped" : "killed (kill -9)"} and started ${times} times: HTTP goes on, what was confirmed is counted once, each change of state is one line`,
    async (seed) => {
      await using broker = await startRabbit();
      await using db = await testDatabase();
      const env = { ...BROKER_SETTINGS, RABBITMQ_URL: broker.url };
      await using service = await spawnService({ databaseUrl: db.url, env });
      await untilConsuming(service);
      await broker.settle();
      const traffic = new Traffic(seed, Date.now());
      await using load = startLoad(traffic, () => service, { senders: 1, pauseMs: 30 });
      await using published = startBrokerLoad(traffic, { url: () => broker.url, targets: TARGETS });
      for (let time = 1; time <= times; time++) {
        const confirmed = published.confirmedEvents;
        await waitFor(() => published.confirmedEvents > confirmed + 200, { msMax: 30_000 });
        await (how === "stop" ? broker.stop() : broker.kill());
        await waitFor(() => countLogged(service, "broker_unreachable") === time);
        const answered = load.answeredEvents;
        await waitFor(() => load.answeredEvents > answered + 100);
        assert.match(await brokerStateOf(service), /refused|closed|ended|lost|shut/i);
        await broker.start();
        await waitFor(() => countLogged(service, "broker_connected") === time + 1, {
          msMax: 30_000,
        });
        await untilConsuming(service);
      }
      await load.stop();
      await published.stop();
      assert.equal(load.refusals.length, 0);
      await letBrokerDrain(broker, db.database, [service]);
      await assertAllCounted(db.url, traffic, service);
      assert.equal(countLogged(service, "broker_unreachable"), times);
    },
  );
}

faultTest(
  "F10: connections reset between publish and confirm, on both sides of the broker: what is published again counts once",
  async (seed) => {
    await using broker = await testBroker();
    await using gateways = await faultProxy({ upstreamPort: Number(new URL(broker.url).port) });
    await using consumers = await faultProxy({ upstreamPort: Number(new URL(broker.url).port) });
    await using db = await testDatabase();
    const env = { ...BROKER_SETTINGS, RABBITMQ_URL: consumers.through(broker.url) };
    await using service = await spawnService({ databaseUrl: db.url, env });
    await untilConsuming(service);
    const random = chancesOf(seed);
    const traffic = new Traffic(seed, Date.now());
    await using published = startBrokerLoad(traffic, {
      url: () => gateways.through(broker.url),
      targets: TARGETS,
    });
    for (let cut = 0; cut < scaled({ short: 6, long: 60 }); cut++) {
      const confirmed = published.confirmedEvents;
      await waitFor(() => published.confirmedEvents > confirmed + 10 + random() * 200, {
        msMax: 30_000,
      });
      (random() < 0.7 ? gateways : consumers).cut();
    }
    await published.stop();
    assert.ok(published.unconfirmed > 0, "no publish was hit");
    await letBrokerDrain(broker, db.database, [service]);
    await assertAllCounted(db.url, traffic, service);
  },
);

faultTest(
  "F11: a broker that falls silent without a word is noticed within two heartbeats, and read on when it is back",
  async (seed) => {
    await using broker = await testBroker();
    await using proxy = await faultProxy({ upstreamPort: Number(new URL(broker.url).port) });
    await using db = await testDatabase();
    const env = { ...BROKER_SETTINGS, RABBITMQ_URL: proxy.through(broker.url) };
    await using service = await spawnService({ databaseUrl: db.url, env });
    await untilConsuming(service);
    const traffic = new Traffic(seed, Date.now());
    await using published = startBrokerLoad(traffic, { url: () => broker.url, targets: TARGETS });
    await waitFor(async () => (await metricOf(service, ACCEPTED)) > 100);
    proxy.blackhole();
    const silentMs = performance.now();
    await waitFor(() => countLogged(service, "broker_unreachable") === 1, { msMax: 30_000 });
    const heartbeatMs = Number(BROKER_SETTINGS.RABBITMQ_HEARTBEAT_SECONDS) * 1000;
    // One look at the log more than the two heartbeats.
    assert.ok(performance.now() - silentMs < 2 * heartbeatMs + 1500);
    const { counts } = await service.send([anEvent({ event_id: "by-http", org_id: "other" })]);
    assert.equal(counts.accepted, 1);
    proxy.heal();
    await untilConsuming(service, 40_000);
    await published.stop();
    await letBrokerDrain(broker, db.database, [service]);
    const [others] = await db.database.sql<{ count: number }>`
      select count(*) as count from usage_event e join org o on o.id = e.org_id
       where o.external_id = 'other'`;
    assert.equal(others?.count, 1);
    await db.database.sql`delete from usage_event where false`;
  },
);

faultTest(
  "F14: a queue that is deleted, a permission that is taken away, and a vhost that is gone: each is named, and read on when it is back",
  async () => {
    await using broker = await startRabbit();
    await using db = await testDatabase();
    const vhost = "%2F";
    const env = { ...BROKER_SETTINGS, RABBITMQ_URL: broker.url };
    await using service = await spawnService({ databaseUrl: db.url, env });
    await untilConsuming(service);
    const traffic = new Traffic(1, Date.now());
    const countMore = async (): Promise<void> => {
      await untilConsuming(service, 60_000);
      await using published = startBrokerLoad(traffic, { url: () => broker.url, targets: TARGETS });
      await waitFor(() => published.confirmedEvents > 100, { msMax: 30_000 });
      await published.stop();
      await letBrokerDrain(broker, db.database, [service]);
    };
    await countMore();
    await broker.api("DELETE", `/api/queues/${vhost}/${NAMES.queue}`);
    await waitFor(() => /deleted|cancelled/.test(service.stderr()));
    await countMore();

    const none = { configure: "^$", write: "^$", read: "^$" };
    await broker.api("PUT", `/api/permissions/${vhost}/guest`, none);
    await broker.api("DELETE", `/api/queues/${vhost}/${NAMES.queue}`).catch(() => undefined);
    await broker.ctl("close_all_connections", "fault");
    await waitFor(() => /ACCESS|access|permission/.test(service.stderr()), { msMax: 30_000 });
    const all = { configure: ".*", write: ".*", read: ".*" };
    await broker.api("PUT", `/api/permissions/${vhost}/guest`, all);
    await countMore();
    await assertAllCounted(db.url, traffic, service);
  },
);
