import assert from "node:assert/strict";
import { connect } from "amqplib";
import { ensureStream, ensureSuperStream, readStreamEnds } from "#broker";
import {
  anEvent,
  spawnService,
  testBroker,
  testDatabase,
  toNdjson,
  waitFor,
  type SpawnedService,
  type TestVhost,
} from "#harness";
import { type Database, listStreamIncidents, listStreamProgress } from "#store";
import { startBrokerLoad } from "./broker-load.ts";
import { BROKER_SETTINGS, connectTest, letBrokerDrain, metricOf, NAMES } from "./broker-state.ts";
import { chancesOf, faultTest, scaled } from "./fault-test.ts";
import { assertAllCounted, assertVerified, settle } from "./oracle.ts";
import { Traffic } from "./traffic.ts";

const STREAM_ONLY = { ...BROKER_SETTINGS, TRANSPORTS: "stream" };
const DRAIN = { queue: null };

/** Publishes messages of a few events each, with confirms, and returns how many events. */
async function publish(broker: TestVhost, ids: readonly string[]): Promise<number> {
  const connection = await connect(broker.url);
  const channel = await connection.createConfirmChannel();
  for (let at = 0; at < ids.length; at += 5) {
    const events = ids.slice(at, at + 5).map((event_id) => anEvent({ event_id, org_id: "acme" }));
    channel.sendToQueue(NAMES.stream, Buffer.from(toNdjson(events)), { persistent: true });
    if (at % 500 === 0) await channel.waitForConfirms();
  }
  await channel.waitForConfirms();
  await connection.close();
  return ids.length;
}

const idsOf = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${prefix}-${i}`);

async function countRaw(database: Database): Promise<number> {
  const [row] = await database.sql<{ count: number }>`select count(*) as count from usage_event`;
  return row?.count ?? 0;
}

/** Runs a service until it has read the stream to its end, and stops it. */
async function readAll(
  broker: TestVhost,
  db: { url: string; database: Database },
): Promise<string> {
  const env = { ...STREAM_ONLY, RABBITMQ_URL: broker.url };
  await using service = await spawnService({ databaseUrl: db.url, env });
  await letBrokerDrain(broker, db.database, [service], DRAIN);
  await settle(db.database);
  service.kill("SIGTERM");
  assert.deepEqual(await service.exited, { code: 0, signal: null });
  return service.stderr();
}

for (const fewer of [true, false]) {
  faultTest(
    `F12: a stream deleted and made anew while nobody reads it, with ${fewer ? "fewer" : "more"} messages than before, is read from its first, and the incident is kept`,
    async () => {
      await using broker = await testBroker();
      await using db = await testDatabase();
      await using connection = connectTest(broker.url);
      await ensureStream(connection, {
        name: NAMES.stream,
        retentionSeconds: 86_400,
        retentionBytes: 1e9,
      });
      await publish(broker, idsOf("old", 500));
      await readAll(broker, db);
      assert.equal(await countRaw(db.database), 500);
      const ends = await readStreamEnds(connection, NAMES.stream);
      await broker.api("DELETE", `/api/queues/${broker.vhost}/${NAMES.stream}`);
      await ensureStream(connection, {
        name: NAMES.stream,
        retentionSeconds: 86_400,
        retentionBytes: 1e9,
      });
      // Some of it is what the former stream held: known already.
      await publish(broker, [...idsOf("old", 100), ...idsOf("new", fewer ? 100 : 1400)]);
      const log = await readAll(broker, db);
      assert.match(log, /stream_recreated/);
      assert.equal(await countRaw(db.database), fewer ? 600 : 1900);
      const incidents = await listStreamIncidents(db.database.sql, 10);
      assert.deepEqual(
        incidents.map(({ kind, fromOffset, toOffset }) => ({ kind, fromOffset, toOffset })),
        [{ kind: "recreated", fromOffset: (ends?.last ?? 0) + 1, toOffset: null }],
      );
      await assertVerified(db.database);
    },
  );
}

faultTest(
  "F13: what retention deletes before it is read is an incident with exactly the offsets that are gone, and everything else is counted",
  async () => {
    await using broker = await testBroker();
    await using db = await testDatabase();
    await using connection = connectTest(broker.url);
    await ensureStream(connection, {
      name: NAMES.stream,
      retentionSeconds: 86_400,
      retentionBytes: 400_000,
      segmentBytes: 100_000,
    });
    await publish(broker, idsOf("first", 100));
    await readAll(broker, db);
    const before = await readStreamEnds(connection, NAMES.stream);
    await publish(broker, idsOf("later", 20_000));
    const after = await readStreamEnds(connection, NAMES.stream);
    assert.ok(before && after && after.first > before.last + 2, "retention took nothing away");
    const log = await readAll(broker, db);
    assert.match(log, /stream_gap/);
    const [incident, ...others] = await listStreamIncidents(db.database.sql, 10);
    assert.deepEqual([incident?.kind, incident?.fromOffset, others], ["gap", before.last + 1, []]);
    // The broker may have taken away more between the look and the reading: as a rule it has not, and this is one offset.
    const now = await readStreamEnds(connection, NAMES.stream);
    const beginning = (incident?.toOffset ?? -1) + 1;
    assert.ok(
      beginning >= after.first && beginning <= (now?.first ?? -1),
      `gap up to ${beginning}, the stream began at ${after.first}, then at ${now?.first}`,
    );
    const [row] = await db.database.sql<{ count: number }>`
      select count(*) as count from ingestion_batches where position_to is not null and accepted > 0`;
    assert.ok((row?.count ?? 0) > 1);
    // Sent again, as the incident says, the lost ones are counted and the others are known.
    await publish(broker, idsOf("later", 20_000).slice(0, 10_000));
    await readAll(broker, db);
    await assertVerified(db.database);
  },
);

faultTest(
  "F5: a process that is stopped (SIGSTOP) loses its stream to another; when it wakes up its commit is fenced, and nothing counts twice",
  async (seed) => {
    await using broker = await testBroker();
    await using db = await testDatabase();
    const env = { ...STREAM_ONLY, RABBITMQ_URL: broker.url };
    const options = { databaseUrl: db.url, env };
    await using first = await spawnService(options);
    const traffic = new Traffic(seed, Date.now());
    await waitFor(async () => (await ownersOf(db.database)).length === 1);
    await using published = startBrokerLoad(traffic, {
      url: () => broker.url,
      targets: [NAMES.stream],
    });
    await waitFor(async () => (await metricOf(first, "tallystick_ingest_events_total")) > 200);
    await using second = await spawnService(options);
    // The stream is for the member whose name comes first: it may change hands before both agree on that.
    const [sleeper, other] = await waitFor(
      async () => {
        if (!(await isShared(db.database))) return undefined;
        const readers = [await countReadBy(first), await countReadBy(second)];
        if (readers.reduce((sum, streams) => sum + streams, 0) !== 1) return undefined;
        return readers[0] === 1 ? ([first, second] as const) : ([second, first] as const);
      },
      { msMax: 30_000, what: "the two to share" },
    );
    const countedByOther = await metricOf(other, "tallystick_ingest_events_total");
    const [owner] = await ownersOf(db.database);
    sleeper.kill("SIGSTOP");
    await waitFor(
      async () => {
        const [now] = await ownersOf(db.database);
        return now !== undefined && now.epoch > (owner?.epoch ?? 0);
      },
      { msMax: 30_000, what: "the other process to take the stream over" },
    );
    const taken = published.confirmedEvents;
    await waitFor(
      async () => (await metricOf(other, "tallystick_ingest_events_total")) > countedByOther + 200,
    );
    assert.ok(published.confirmedEvents > taken);
    sleeper.kill("SIGCONT");
    await waitFor(() => /lease_lost/.test(sleeper.stderr()), {
      msMax: 30_000,
      what: "the sleeper to notice",
    });
    await published.stop();
    await letBrokerDrain(broker, db.database, [sleeper, other], DRAIN);
    await assertAllCounted(db.url, traffic, other);
  },
);

const ownersOf = (database: Database) => database.sql<{ partition: string; epoch: number }>`
  select partition, epoch from lane
   where starts_with(transport, 'stream/') and lease_until > clock_timestamp()
   order by partition`;

/** Whether two live members know of each other and the first of them holds the only stream. */
async function isShared(database: Database): Promise<boolean> {
  const [row] = await database.sql<{ members: number; is_settled: boolean }>`
    select count(*) as members, min(member.member collate "C") = min(lane.owner) as is_settled
      from lane_member member
      join lane on lane.transport = member.transport and lane.lease_until > clock_timestamp()
     where member.lease_until > clock_timestamp()`;
  return row?.members === 2 && row.is_settled;
}

/** How many streams a process reads. */
async function countReadBy(service: SpawnedService): Promise<number> {
  const text = await (await service.request("/metrics")).text();
  return text.match(/^tallystick_stream_offset\{/gm)?.length ?? 0;
}

faultTest(
  "F6: three processes share a super stream of six partitions; two are killed in turn under load, the others take over within lease + 2 s, and nothing is lost or doubled",
  async (seed, context) => {
    await using broker = await testBroker();
    await using db = await testDatabase();
    await using connection = connectTest(broker.url);
    const name = NAMES.stream;
    await ensureSuperStream(connection, {
      name,
      partitions: 6,
      retentionSeconds: 86_400,
      retentionBytes: 1e9,
    });
    const streams = Array.from({ length: 6 }, (_, i) => `${name}-${i}`);
    const env = { ...STREAM_ONLY, RABBITMQ_URL: broker.url };
    const options = { databaseUrl: db.url, env };
    const services: SpawnedService[] = [];
    await using scope = new AsyncDisposableStack();
    for (let i = 0; i < 3; i++) services.push(scope.use(await spawnService(options)));
    const traffic = new Traffic(seed, Date.now());
    await using published = startBrokerLoad(traffic, {
      url: () => broker.url,
      targets: streams,
      publishers: 6,
      ...scaled({ short: {}, long: { eventsPerMessageMax: 800, pauseMs: 30 } }),
    });
    const startedMs = performance.now();
    await waitFor(
      async () => (await Promise.all(services.map(countReadBy))).every((count) => count === 2),
      { msMax: 30_000, what: "each process to read two partitions" },
    );
    const random = chancesOf(seed);
    for (const left of [2, 1]) {
      const [victim] = services.splice(Math.floor(random() * services.length), 1);
      assert.ok(victim);
      victim.kill("SIGKILL");
      await victim.exited;
      const killedMs = performance.now();
      await waitFor(async () => (await ownersOf(db.database)).length < 6, { msMax: 5000 }).catch(
        () => undefined,
      );
      await waitFor(
        async () => {
          const counts = await Promise.all(services.map(countReadBy));
          return counts.length === left && counts.reduce((a, b) => a + b, 0) === 6;
        },
        { msMax: 20_000, what: "the partitions to be taken over" },
      );
      const leaseMs = Number(BROKER_SETTINGS.STREAM_LEASE_SECONDS) * 1000;
      assert.ok(performance.now() - killedMs < leaseMs + 2000 + 1500, "taken over too late");
    }
    await published.stop();
    const perSecond = published.confirmedEvents / ((performance.now() - startedMs) / 1000);
    context.diagnostic(`${traffic.counted.size} events, ${Math.round(perSecond)} a second`);
    await letBrokerDrain(broker, db.database, services, { streams, queue: null });
    const [last] = services;
    assert.ok(last);
    await assertAllCounted(db.url, traffic, last);
    const epochs = await ownersOf(db.database);
    assert.ok(epochs.some(({ epoch }) => epoch > 1));
  },
);

faultTest(
  "F17: a backlog is read oldest first, with memory bounded and the lag falling steadily",
  async (_seed, context) => {
    await using broker = await testBroker();
    await using db = await testDatabase();
    await using connection = connectTest(broker.url);
    await ensureStream(connection, {
      name: NAMES.stream,
      retentionSeconds: 86_400,
      retentionBytes: 1e10,
    });
    const count = scaled({ short: 50_000, long: 1_000_000 });
    await publish(broker, idsOf("backlog", count));
    const env = { ...STREAM_ONLY, RABBITMQ_URL: broker.url };
    await using service = await spawnService({ databaseUrl: db.url, env });
    const seen: { offset: number; rss: number }[] = [];
    const ends = await readStreamEnds(connection, NAMES.stream);
    await waitFor(
      async () => {
        const [row] = await listStreamProgress(db.database.sql, 1);
        const rss = await metricOf(service, "process_resident_memory_bytes");
        seen.push({ offset: row?.lastOffset ?? -1, rss });
        return (row?.lastOffset ?? -1) >= (ends?.last ?? 0);
      },
      { msMax: 300_000 },
    );
    assert.ok(seen.every(({ offset }, i) => offset >= (seen[i - 1]?.offset ?? -1)));
    const rssMax = Math.max(...seen.map(({ rss }) => rss)) / 2 ** 20;
    context.diagnostic(`${count} events, RSS at most ${Math.round(rssMax)} MiB`);
    assert.ok(rssMax < 350, `RSS ${rssMax} MiB`);
    assert.equal(await countRaw(db.database), count);
  },
);
