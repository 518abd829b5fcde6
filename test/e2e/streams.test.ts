/** `replay` and the part of `verify` that reads streams, as an operator meets them. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { test } from "node:test";
import {
  anEvent,
  openAmqpReader,
  testBroker,
  testService,
  toNdjson,
  waitFor,
  type AmqpReader,
} from "#harness";
import { runCli, startCli, type Ended } from "./run-cli.ts";

const STREAM = "calls";
const SOURCE = `stream/${STREAM}`;
const HOUR_MS = 3_600_000;
const AT_MS = Math.floor(Date.now() / HOUR_MS) * HOUR_MS - 3 * HOUR_MS;
const AT = new Date(AT_MS).toISOString();

type Service = Awaited<ReturnType<typeof testService>>;
type Counts = { accepted: number; duplicate: number; conflict: number; rejected: number };

const publish = (amqp: AmqpReader, bodies: readonly (object | string)[], stream = STREAM): void => {
  for (const body of bodies)
    amqp.channel.sendToQueue(
      stream,
      Buffer.from(typeof body === "string" ? body : JSON.stringify(body)),
    );
};

const events = (count: number, org_id = "acme") =>
  Array.from({ length: count }, () => anEvent({ org_id, occurred_at: AT }));

const serve = (url: string, env: Record<string, string> = {}): Promise<Service> =>
  testService({
    env: {
      RABBITMQ_URL: url,
      TRANSPORTS: "stream",
      STREAM_NAME: STREAM,
      FOLD_INTERVAL_MS: "100",
      PEOPLE_FOLD_INTERVAL_MS: "100",
      ...env,
    },
  });

/** What the batches of a source's lanes, or of all of them, come to. */
async function countsOf(service: Service, transport: string): Promise<Counts> {
  const [row] = await service.db.database.sql<Counts>`
    select coalesce(sum(accepted), 0)::int4 as accepted, coalesce(sum(duplicate), 0)::int4 as duplicate,
           coalesce(sum(conflict), 0)::int4 as conflict, coalesce(sum(rejected), 0)::int4 as rejected
      from ingestion_batches b join lane l on l.id = b.lane_id
     where l.transport = ${transport}`;
  assert.ok(row);
  return row;
}

async function awaitReceived(service: Service, count: number, transport = SOURCE): Promise<Counts> {
  return await waitFor(async () => {
    const counts = await countsOf(service, transport);
    const received = Object.values(counts).reduce((sum, one) => sum + one, 0);
    return received >= count && counts;
  });
}

/** Until both consumers have folded every batch. */
async function awaitFolded(service: Service): Promise<void> {
  await waitFor(async () => {
    const [row] = await service.db.database.sql<{ open: number }>`
      select count(*)::int4 as open
        from ingestion_batches b cross join fold_state f
        left join watermark w on w.consumer = f.consumer and w.lane_id = b.lane_id
       where coalesce(w.batch_no, 0) < b.batch_no`;
    return row?.open === 0;
  });
}

const run = (service: Service, url: string, args: readonly string[]): Promise<Ended> =>
  runCli([...args, "--data-dir", service.dataDir], {
    env: { DATABASE_URL: service.db.url, RABBITMQ_URL: url, STREAM_NAME: STREAM },
  });

const replay = (service: Service, url: string, args: readonly string[]): Promise<Ended> =>
  run(service, url, ["replay", "--source", SOURCE, ...args]);

const positionOf = async (service: Service): Promise<string | null> => {
  const [lane] = await service.db.database.sql<{ position: string | null }>`
    select position from lane where transport = ${SOURCE}`;
  return lane?.position ?? null;
};

const totalsOf = async (service: Service): Promise<unknown> => {
  const [start, end] = [AT, new Date(AT_MS + HOUR_MS).toISOString()];
  const path = `/analytics/v1/orgs/acme/usage?start=${start}&end=${end}&granularity=hour`;
  const { totals } = (await service.get(path)) as { totals: unknown };
  return totals;
};

test("F34: a stream replayed from its first message changes no total, and every event of it is one more duplicate", async () => {
  await using broker = await testBroker();
  await using amqp = await openAmqpReader(broker.url);
  await amqp.declareStream(STREAM);
  await using service = await serve(broker.url);
  const sent = events(300);
  publish(amqp, [
    ...sent.slice(0, 100),
    JSON.stringify(sent.slice(100, 250)),
    toNdjson(sent.slice(250)),
  ]);
  publish(amqp, ["no event", sent[0] ?? {}]);
  assert.deepEqual(await awaitReceived(service, 302), {
    accepted: 300,
    duplicate: 1,
    conflict: 0,
    rejected: 1,
  });
  await awaitFolded(service);
  const before = { totals: await totalsOf(service), position: await positionOf(service) };

  const done = await replay(service, broker.url, ["--from=first", "--json"]);
  assert.equal(done.code, 1, done.stderr + done.stdout);
  const { streams, ...report } = JSON.parse(done.stdout);
  assert.deepEqual(
    [report.source, report.events, report.accepted, report.duplicate, report.rejected],
    [`replay/${SOURCE}`, 302, 0, 301, 1],
  );
  assert.deepEqual(streams, [{ stream: STREAM, fromOffset: 0, throughOffset: 103, toOffset: 103 }]);
  assert.equal(report.complete, true);
  await awaitFolded(service);
  assert.deepEqual(
    { totals: await totalsOf(service), position: await positionOf(service) },
    before,
  );
  const [ledger] = await service.db.database.sql<{ duplicate: number }>`
    select sum(duplicate)::int4 as duplicate from ledger join source s on s.id = source_id where s.name = ${`replay/${SOURCE}`}`;
  assert.equal(ledger?.duplicate, 301);

  const part = await replay(service, broker.url, ["--from=98", "--to=100"]);
  assert.equal(part.code, 0, part.stderr);
  assert.match(
    part.stdout,
    /^152 events in .*: 0 accepted, 152 duplicate, .*\n {2}calls: offsets 98 to 100\n$/,
  );
  const byTime = await replay(service, broker.url, [`--from=${AT}`, "--json"]);
  assert.equal(JSON.parse(byTime.stdout).events, 302, byTime.stderr);
  const later = new Date(Date.now() + HOUR_MS).toISOString();
  const none = await replay(service, broker.url, [`--from=${later}`]);
  assert.deepEqual(
    [none.code, none.stdout.includes("nothing in this range")],
    [0, true],
    none.stderr,
  );

  const verified = await run(service, broker.url, ["verify"]);
  assert.equal(verified.code, 0, verified.stdout + verified.stderr);
  assert.match(
    verified.stdout,
    /✓ streams and committed batches\n {2}calls: 302 events, offsets 0 to 103\n/,
  );
});

test("messages that were passed over are found by verify, counted by replay, and then everything agrees", async () => {
  await using broker = await testBroker();
  await using amqp = await openAmqpReader(broker.url);
  await amqp.declareStream(STREAM);
  await using service = await serve(broker.url, { TRANSPORTS: "queue" });
  await using consuming = await startConsumer(service, broker.url);
  publish(amqp, events(40));
  await awaitReceived(service, 40);
  await consuming.stop();

  const missed = [...events(5), ...events(2, "globex")];
  publish(amqp, missed);
  const messages = await amqp.readStream(STREAM, (read) => read.length >= 47);
  const digest = hash("sha256", messages[46]?.content ?? "").slice(0, 16);
  await service.db.database
    .sql`update lane set position = ${`46:${digest}`} where transport = ${SOURCE}`;
  await awaitFolded(service);

  const found = await run(service, broker.url, ["verify"]);
  assert.equal(found.code, 1, found.stderr);
  const hour = AT.replace(".000Z", "Z");
  assert.match(found.stdout, /✗ streams and committed batches: 3 differences\n/);
  assert.match(
    found.stdout,
    new RegExp(`stream +acme +${hour} +${SOURCE} +published events +45 +40\n`),
  );
  assert.match(
    found.stdout,
    new RegExp(`stream +globex +${hour} +${SOURCE} +published events +2 +0\n`),
  );
  assert.match(found.stdout, /stream +\* +stream\/calls +published events in all +47 +40\n/);

  const repaired = await replay(service, broker.url, ["--from=first", "--json"]);
  assert.equal(repaired.code, 0, repaired.stderr);
  const { accepted, duplicate } = JSON.parse(repaired.stdout);
  assert.deepEqual([accepted, duplicate], [7, 40]);
  await awaitFolded(service);
  const good = await run(service, broker.url, ["verify"]);
  assert.equal(good.code, 0, good.stdout + good.stderr);

  await service.db.database
    .sql`update ingestion_batches set ledger = overlay(ledger placing ${Buffer.from([0, 0, 0, 0, 0, 0, 0, 1])} from 41) where lane_id = (select id from lane where transport = ${SOURCE})`;
  const tampered = await run(service, broker.url, ["verify"]);
  assert.equal(tampered.code, 1);
  assert.match(tampered.stdout, /stream +acme .* published events +45 +40\n/);
});

/** The service's consumption in a second process on the same database, that can be stopped. */
async function startConsumer(service: Service, url: string) {
  const cli = startCli(["start", "--json", "--data-dir", `${service.dataDir}/second`], {
    env: {
      DATABASE_URL: service.db.url,
      RABBITMQ_URL: url,
      TRANSPORTS: "stream",
      STREAM_NAME: STREAM,
      PORT: "0",
    },
  });
  return {
    stop: async () => {
      cli.kill("SIGTERM");
      await cli.ended;
    },
    [Symbol.asyncDispose]: () => cli[Symbol.asyncDispose](),
  };
}

test("verify leaves out what retention took, what was read twice, and what a stream was before it was made anew", async () => {
  await using broker = await testBroker();
  await using amqp = await openAmqpReader(broker.url);
  await using service = await serve(broker.url, { TRANSPORTS: "queue" });
  const verified = async (): Promise<string> => {
    await awaitFolded(service);
    const { code, stdout, stderr } = await run(service, broker.url, ["verify"]);
    assert.equal(code, 0, stdout + stderr);
    return /calls: (.*)/.exec(stdout)?.[1] ?? stdout;
  };
  /** Consumes until so many events more were received of each piece, published when the one before it is in. */
  let received = 0;
  const consume = async (...pieces: { count: number; events: readonly object[] }[]) => {
    await using consuming = await startConsumer(service, broker.url);
    for (const { count, events: piece } of pieces) {
      publish(amqp, piece);
      received += count;
      await awaitReceived(service, received);
    }
    await consuming.stop();
  };
  const piece = (count: number) => ({ count, events: events(count) });
  await declareShort(amqp);
  await consume(piece(40));
  assert.equal(await verified(), "40 events, offsets 0 to 39");

  const [ninth] = (await amqp.readStream(STREAM, (read) => read.length > 9)).slice(9);
  const digest = hash("sha256", ninth?.content ?? "").slice(0, 16);
  await service.db.database
    .sql`update lane set position = ${`9:${digest}`} where transport = ${SOURCE}`;
  await consume({ count: 30, events: [] });
  assert.equal(await verified(), "30 events, offsets 10 to 39");

  await consume(...Array.from({ length: 12 }, () => piece(40)));
  const [, from = "", to] = /offsets (\d+) to (\d+)/.exec(await verified()) ?? [];
  assert.ok(Number(from) > 40, `from ${from} to ${to}`);

  await amqp.channel.deleteQueue(STREAM);
  await amqp.declareStream(STREAM);
  await consume(piece(5));
  assert.equal(await verified(), "5 events, offsets 0 to 4");
});

/** A stream that keeps little: small segments, and two of them. */
const declareShort = (amqp: AmqpReader): Promise<unknown> =>
  amqp.channel.assertQueue(STREAM, {
    durable: true,
    arguments: {
      "x-queue-type": "stream",
      "x-max-length-bytes": 30_000,
      "x-stream-max-segment-size-bytes": 20_000,
    },
  });

test("a replay that is stopped says how far it came, and the next one does the rest", async () => {
  await using broker = await testBroker();
  await using amqp = await openAmqpReader(broker.url);
  await amqp.declareStream(STREAM);
  await using service = await serve(broker.url, { TRANSPORTS: "queue" });
  publish(amqp, events(100));
  await amqp.readStream(STREAM, (read) => read.length === 100);

  const { database } = service.db;
  const held = Promise.withResolvers<void>();
  const isHeld = Promise.withResolvers<void>();
  const holding = database.transaction(async (tx) => {
    await tx.sql`lock table ingestion_batches in exclusive mode`;
    isHeld.resolve();
    await held.promise;
  });
  await isHeld.promise;
  await using stopped = startCli(
    ["replay", "--source", SOURCE, "--from=first", "--json", "--data-dir", service.dataDir],
    {
      env: {
        DATABASE_URL: service.db.url,
        RABBITMQ_URL: broker.url,
        STREAM_NAME: STREAM,
        INGEST_BATCH_EVENTS_MAX: "10",
      },
    },
  );
  await waitFor(async () => {
    const [row] = await database.sql<{ waiting: number }>`
      select count(*)::int4 as waiting from pg_locks where not granted and relation = 'ingestion_batches'::regclass`;
    return (row?.waiting ?? 0) > 0;
  });
  stopped.kill("SIGINT");
  held.resolve();
  await holding;
  const { code, stdout, stderr } = await stopped.ended;
  assert.equal(code, 130, stderr);
  const report = JSON.parse(stdout);
  assert.ok(report.accepted >= 10 && report.accepted < 100 && !report.complete, stdout);
  assert.equal(report.streams[0].throughOffset, report.accepted - 1);

  const rest = await replay(service, broker.url, ["--from=first", "--json"]);
  assert.equal(rest.code, 0, rest.stderr);
  const { accepted, duplicate } = JSON.parse(rest.stdout);
  assert.deepEqual([accepted, duplicate], [100 - report.accepted, report.accepted]);
});

test("of a super stream every partition is replayed, or the one that is named, under its number", async () => {
  await using broker = await testBroker();
  await using amqp = await openAmqpReader(broker.url);
  await amqp.declareSuperStream(STREAM, 3);
  await using service = await serve(broker.url);
  for (const nth of [0, 1, 2]) publish(amqp, events(10 + nth), `${STREAM}-${nth}`);
  await awaitReceived(service, 33);

  const all = await replay(service, broker.url, ["--from=first", "--json"]);
  assert.equal(all.code, 0, all.stderr);
  assert.deepEqual(
    [JSON.parse(all.stdout).duplicate, JSON.parse(all.stdout).streams.length],
    [33, 3],
  );
  const one = await run(service, broker.url, [
    "replay",
    `--source=${SOURCE}-2`,
    "--from=0",
    "--json",
  ]);
  assert.equal(JSON.parse(one.stdout).duplicate, 12, one.stderr);
  await awaitFolded(service);
  const ledger = await service.db.database.sql<{ partition: number; duplicate: number }>`
    select partition, sum(duplicate)::int4 as duplicate from ledger join source s on s.id = source_id
     where s.name = ${`replay/${SOURCE}`} group by 1 order by 1`;
  assert.deepEqual(
    ledger.map(({ partition, duplicate }) => [partition, duplicate]),
    [
      [0, 10],
      [1, 11],
      [2, 24],
    ],
  );
  const verified = await run(service, broker.url, ["verify"]);
  assert.equal(verified.code, 0, verified.stdout + verified.stderr);
});

test("a broker that is away, or a stream that is gone, is told: replay ends with 3, verify agrees without it", async () => {
  await using broker = await testBroker();
  await using amqp = await openAmqpReader(broker.url);
  await amqp.declareStream(STREAM);
  await using service = await serve(broker.url);
  publish(amqp, events(10));
  await awaitReceived(service, 10);
  await awaitFolded(service);

  const away = "amqp://guest:hunter2@127.0.0.1:1/x";
  const refused = await replay(service, away, ["--from=first"]);
  assert.equal(refused.code, 3);
  assert.doesNotMatch(refused.stderr, /hunter2|should not have happened/);
  const unread = await run(service, away, ["verify"]);
  assert.equal(unread.code, 0, unread.stderr);
  assert.match(
    unread.stdout,
    /– streams and committed batches: not compared\n {2}calls: not compared\. \S/,
  );
  assert.doesNotMatch(unread.stdout, /hunter2/);

  const missing = await run(service, broker.url, [
    "replay",
    "--source=stream/none",
    "--from=first",
  ]);
  assert.equal(missing.code, 3);
  assert.match(missing.stderr, /none/);
  for (const args of [
    ["--source=calls", "--from=first"],
    ["--source=stream/calls"],
    ["--source=stream/calls", "--from=yesterday"],
    ["--source=stream/calls", "--from=9", "--to=8"],
    ["--source=stream/calls", "--from=first", "--to=last"],
  ])
    assert.equal((await runCli(["replay", ...args])).code, 2, args.join(" "));
});
