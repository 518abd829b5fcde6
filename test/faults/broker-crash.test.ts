import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  spawnService,
  temporaryFolder,
  testBroker,
  testDatabase,
  waitFor,
  type SpawnedService,
} from "#harness";
import { CRASHPOINTS, type Crashpoint } from "#kernel";
import { BROKER_SETTINGS, letBrokerDrain, NAMES } from "./broker-state.ts";
import { startBrokerLoad } from "./broker-load.ts";
import { chancesOf, faultTest, scaled } from "./fault-test.ts";
import { startLoad } from "./load.ts";
import { assertAllCounted, letLeasesEnd } from "./oracle.ts";
import { Traffic } from "./traffic.ts";

/** Crash points that a running service passes; migrations have a test of their own. */
const RUNNING = CRASHPOINTS.filter((name) => !/^(migrate|rerate)_/.test(name));

faultTest(
  "F1: kill -9 at each crash point, with events coming by stream, queue and HTTP at once, loses nothing and counts nothing twice",
  async (seed) => {
    await using broker = await testBroker();
    await using db = await testDatabase();
    await using folder = await temporaryFolder();
    const env = { ...BROKER_SETTINGS, RABBITMQ_URL: broker.url };
    const options = { databaseUrl: db.url, dataDir: join(folder.path, "data") };
    const random = chancesOf(seed);
    const traffic = new Traffic(seed, Date.now());
    let service: SpawnedService | undefined;
    await using load = startLoad(traffic, () => service, { senders: 2, pauseMs: 20 });
    await using published = startBrokerLoad(traffic, {
      url: () => broker.url,
      targets: [NAMES.stream, NAMES.queue],
    });
    const crashAt = async (name: Crashpoint, pass: number) => {
      await letLeasesEnd(db.database);
      const crashing = { ...env, TALLYSTICK_CRASHPOINT: `${name}:${pass}` };
      await using victim = await spawnService({ ...options, env: crashing }).catch(
        (error: unknown) => {
          assert.match(String(error), /ended with SIGKILL/);
          return undefined;
        },
      );
      if (victim === undefined) return;
      service = victim;
      const confirmed = published.confirmedEvents;
      if (name === "shutdown_mid_drain") {
        await waitFor(() => published.confirmedEvents > confirmed + 50);
        victim.kill("SIGTERM");
      }
      assert.deepEqual(await victim.exited, { code: null, signal: "SIGKILL" }, `${name}:${pass}`);
      service = undefined;
    };
    for (const name of RUNNING) {
      const passMax = name === "shutdown_mid_drain" ? 2 : 12;
      for (let i = 0; i < scaled({ short: 1, long: 5 }); i++)
        await crashAt(name, 1 + Math.floor(random() * passMax));
    }
    await letLeasesEnd(db.database);
    await using last = await spawnService({ ...options, env });
    service = last;
    await load.stop();
    await published.stop();
    assert.ok(published.confirmedMessages > 50, `only ${published.confirmedMessages} messages`);
    await letBrokerDrain(broker, db.database, [last]);
    await assertAllCounted(db.url, traffic, last);
  },
);

const KILLS = scaled({ short: 4, long: 50 });

faultTest(
  `F2: ${KILLS} kill -9 at random moments while events come by stream and queue: raw equals the ids sent`,
  async (seed, context) => {
    await using broker = await testBroker();
    await using db = await testDatabase();
    await using folder = await temporaryFolder();
    const env = { ...BROKER_SETTINGS, RABBITMQ_URL: broker.url };
    const options = { databaseUrl: db.url, dataDir: join(folder.path, "data"), env };
    const random = chancesOf(seed);
    const traffic = new Traffic(seed, Date.now());
    await using published = startBrokerLoad(traffic, {
      url: () => broker.url,
      targets: [NAMES.stream, NAMES.queue],
    });
    for (let kill = 0; kill < KILLS; kill++) {
      await using victim = await spawnService(options);
      // The moment is the fault.
      await delay(random() * 2500);
      victim.kill("SIGKILL");
      await victim.exited;
    }
    await using last = await spawnService(options);
    const backAtMs = performance.now();
    await published.stop();
    await letBrokerDrain(broker, db.database, [last]);
    await assertAllCounted(db.url, traffic, last);
    context.diagnostic(
      `${traffic.counted.size} events, all counted ${Math.round(performance.now() - backAtMs)} ms after the last start`,
    );
  },
);

faultTest(
  "F3: SIGTERM while events come by stream and queue: exit 0 in time, nothing lost, and what was committed is not delivered again",
  async (seed) => {
    await using broker = await testBroker();
    await using db = await testDatabase();
    await using folder = await temporaryFolder();
    const env = { ...BROKER_SETTINGS, RABBITMQ_URL: broker.url };
    const options = { databaseUrl: db.url, dataDir: join(folder.path, "data"), env };
    const traffic = new Traffic(seed, Date.now());
    await using published = startBrokerLoad(traffic, {
      url: () => broker.url,
      targets: [NAMES.stream, NAMES.queue],
    });
    for (let stop = 0; stop < 3; stop++) {
      await using victim = await spawnService(options);
      const confirmed = published.confirmedEvents;
      await waitFor(() => published.confirmedEvents > confirmed + 200);
      const startedMs = performance.now();
      victim.kill("SIGTERM");
      assert.deepEqual(await victim.exited, { code: 0, signal: null }, victim.stderr());
      assert.ok(performance.now() - startedMs < 25_000);
    }
    await published.stop();
    await using last = await spawnService(options);
    await letBrokerDrain(broker, db.database, [last]);
    await assertAllCounted(db.url, traffic, last);
    // Every message was committed once: what was sent twice was told apart, but nothing was read twice.
    const [sums] = await db.database.sql<{ received: number }>`
      select sum(received)::int8 as received from ingestion_batches`;
    assert.equal(sums?.received, published.confirmedEvents);
  },
);
