import assert from "node:assert/strict";
import { test } from "node:test";
import { testBroker, type TestVhost } from "#harness";
import { type BrokerConnection, type Channel, connectBroker } from "./connection.ts";
import { findPartitions } from "./partitions.ts";
import { TopologyFault } from "./topology-fault.ts";
import { ensureQueue, ensureStream, ensureSuperStream, inspectBroker } from "./topology.ts";

const RETENTION = { retentionSeconds: 3600, retentionBytes: 20 * 2 ** 30 };
const DEAD_LETTER = { exchange: "events.dead-letter", queue: "events.dead-letter" };

/** A virtual host with a connection to it, and a channel to prepare things with. */
async function open() {
  await using scope = new AsyncDisposableStack();
  const vhost = scope.use(await testBroker());
  const connection = scope.use(connectTo(vhost.url));
  const channel = await connection.openChannel();
  channel.on("error", () => undefined);
  const owned = scope.move();
  return { ...vhost, connection, channel, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const connectTo = (url: string): BrokerConnection =>
  connectBroker({
    url,
    name: "test",
    heartbeatSeconds: 10,
    connectMsMax: 5000,
    random: () => 0.5,
  });

const describe = (vhost: TestVhost, kind: "queues" | "exchanges", name: string): Promise<unknown> =>
  vhost.api("GET", `/api/${kind}/${vhost.vhost}/${name}`);

const hasCode = (code: string) => (error: unknown) =>
  error instanceof TopologyFault && error.code === code;

const declareStream = (channel: Channel, name: string, more: Record<string, unknown> = {}) =>
  channel.assertQueue(name, { durable: true, arguments: { "x-queue-type": "stream", ...more } });

test("a stream is declared with its retention, and taken as it is when it exists with another", async () => {
  await using t = await open();
  const stream = { name: "usage", ...RETENTION, segmentBytes: 5_000_000 };
  await Promise.all([
    ensureStream(t.connection, stream),
    ensureStream(t.connection, { ...stream, retentionSeconds: 60 }),
  ]);
  await ensureStream(t.connection, { name: "usage", retentionSeconds: 60, retentionBytes: 1e6 });
  const declared = JSON.stringify(await describe(t, "queues", "usage"));
  assert.match(declared, /"type":"stream"/);
  assert.match(declared, /"x-max-age":"(3600|60)s"/);
  assert.match(declared, /"x-max-length-bytes":21474836480/);
  assert.match(declared, /"x-stream-max-segment-size-bytes":5000000/);
});

test("a stream of others is recognised, whatever its arguments; a queue by that name is an error with a code", async () => {
  await using t = await open();
  await declareStream(t.channel, "plain");
  await declareStream(t.channel, "leader", {
    "x-max-age": "7D",
    "x-queue-leader-locator": "client-local",
    "x-initial-cluster-size": 1,
  });
  for (const name of ["plain", "leader"]) await ensureStream(t.connection, { name, ...RETENTION });

  await t.channel.assertQueue("classic", { durable: true });
  await t.channel.assertQueue("bounded", { arguments: { "x-max-length-bytes": 1e6 } });
  await t.channel.assertQueue("transient", { durable: false });
  await t.channel.assertQueue("quorum", {
    arguments: { "x-queue-type": "quorum", "x-dead-letter-exchange": "x" },
  });
  for (const name of ["classic", "bounded", "transient", "quorum"]) {
    await assert.rejects(
      ensureStream(t.connection, { name, ...RETENTION }),
      hasCode("not_a_stream"),
    );
  }
  await assert.rejects(
    ensureStream(t.connection, { name: "huge", ...RETENTION, segmentBytes: 2 ** 40 }),
    hasCode("refused"),
  );
});

test("a user who may only read takes an existing stream, and is told what the broker refuses", async () => {
  await using t = await open();
  await declareStream(t.channel, "usage");
  const user = `reader-${t.vhost}`;
  await using cleanup = new AsyncDisposableStack();
  await t.api("PUT", `/api/users/${user}`, { password: "word", tags: "" });
  cleanup.defer(async () => void (await t.api("DELETE", `/api/users/${user}`)));
  const rights = { configure: "^$", write: "^$", read: ".*" };
  await t.api("PUT", `/api/permissions/${t.vhost}/${user}`, rights);
  const url = Object.assign(new URL(t.url), { username: user, password: "word" }).href;
  const reader = cleanup.use(connectTo(url));

  await ensureStream(reader, { name: "usage", ...RETENTION });
  await assert.rejects(ensureStream(reader, { name: "other", ...RETENTION }), hasCode("refused"));
  assert.equal((await inspectBroker(reader)).streamsProblem, undefined);
});

test("a queue is declared with a way for dead letters, which is restored when it is gone", async () => {
  await using t = await open();
  const queue = { name: "events", deadLetter: DEAD_LETTER };
  await ensureQueue(t.connection, queue);
  await t.channel.deleteExchange(DEAD_LETTER.exchange);
  await t.channel.deleteQueue(DEAD_LETTER.queue);
  await ensureQueue(t.connection, queue);

  t.channel.sendToQueue("events", Buffer.from("poison"));
  const got = await takeOne(t.channel, "events");
  t.channel.nack(got, false, false);
  const dead = await takeOne(t.channel, DEAD_LETTER.queue);
  assert.equal(dead.content.toString(), "poison");
  assert.match(JSON.stringify(await describe(t, "queues", "events")), /"type":"quorum"/);
});

async function takeOne(channel: Channel, queue: string) {
  const arrival = Promise.withResolvers<NonNullable<Parameters<Channel["ack"]>[0]>>();
  const { consumerTag } = await channel.consume(queue, (m) => m !== null && arrival.resolve(m));
  const message = await arrival.promise;
  await channel.cancel(consumerTag);
  return message;
}

test("a queue declared by others stays as it is; a stream is no queue", async () => {
  await using t = await open();
  await t.channel.assertQueue("events", { durable: true, arguments: { "x-max-length": 10 } });
  await ensureQueue(t.connection, { name: "events", deadLetter: DEAD_LETTER });
  await assert.rejects(describe(t, "exchanges", DEAD_LETTER.exchange), /404/);
  await declareStream(t.channel, "usage");
  await assert.rejects(
    ensureQueue(t.connection, { name: "usage", deadLetter: DEAD_LETTER }),
    hasCode("is_a_stream"),
  );
});

test("partitions of a super stream are found by their bindings, in order, and else by their names", async () => {
  await using t = await open();
  await ensureSuperStream(t.connection, { name: "usage", partitions: 12, ...RETENTION });
  const numbered = Array.from({ length: 12 }, (_, nth) => `usage-${nth}`);
  const { url, managementUrl } = t;
  const find = (question: { name: string; partitions?: number | string[] }) => ({
    byBindings: () => findPartitions(t.connection, { ...question, url, managementUrl }),
    byNames: () => findPartitions(t.connection, { ...question, url }),
  });
  assert.deepEqual(await find({ name: "usage" }).byBindings(), numbered);
  assert.deepEqual(await find({ name: "usage" }).byNames(), numbered);
  assert.deepEqual(await find({ name: "x", partitions: 2 }).byNames(), ["x-0", "x-1"]);
  assert.deepEqual(await find({ name: "x", partitions: ["b", "a"] }).byNames(), ["b", "a"]);
  // What does not exist yet is one stream to be.
  assert.deepEqual(await find({ name: "nothing" }).byBindings(), ["nothing"]);
  assert.deepEqual(await find({ name: "nothing" }).byNames(), ["nothing"]);
  await declareStream(t.channel, "single");
  assert.deepEqual(await find({ name: "single" }).byBindings(), ["single"]);
  assert.deepEqual(await find({ name: "single" }).byNames(), ["single"]);
});

test("partitions with names of their own are found by bindings only, and their absence is an error", async () => {
  await using t = await open();
  const { url, managementUrl } = t;
  await t.channel.assertExchange("usage", "direct", { durable: true });
  for (const [nth, region] of ["us", "eu", "asia"].entries()) {
    await declareStream(t.channel, `usage-${region}`);
    await t.channel.bindQueue(`usage-${region}`, "usage", region, {
      "x-stream-partition-order": nth,
    });
  }
  assert.deepEqual(await findPartitions(t.connection, { name: "usage", url, managementUrl }), [
    "usage-us",
    "usage-eu",
    "usage-asia",
  ]);
  await assert.rejects(findPartitions(t.connection, { name: "usage", url }), hasCode("missing"));
});

test("a management API that refuses or is absent is an error without credentials", async () => {
  await using t = await open();
  const ask = (managementUrl: string) =>
    findPartitions(t.connection, { name: "usage", url: t.url, managementUrl });
  const withUser = t.managementUrl.replace("://", "://nobody:secret-word@");
  await assert.rejects(ask(withUser), hasCode("refused"));
  await assert.rejects(ask("http://nobody:secret-word@127.0.0.1:1"), hasCode("unreachable"));
  for (const url of [withUser, "http://nobody:secret-word@127.0.0.1:1"]) {
    await assert.rejects(ask(url), ({ message }: Error) => !/secret-word|nobody/.test(message));
  }
});

test("a broker says what it is, and streams work on it", async () => {
  await using t = await open();
  const facts = await inspectBroker(t.connection);
  assert.equal(facts.product, "RabbitMQ");
  assert.match(facts.version, /^\d+\.\d+/);
  assert.equal(facts.streamsProblem, undefined);
});

test("a wait for a broker that is away ends with the caller's signal", async () => {
  await using connection = connectTo("amqp://127.0.0.1:1");
  const signal = AbortSignal.timeout(50);
  await assert.rejects(
    ensureStream(connection, { name: "usage", ...RETENTION }, signal),
    /aborted/,
  );
});
