import assert from "node:assert/strict";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { anEvent, openAmqpReader, testBroker, waitFor, type AmqpReader } from "#harness";
import { openProducer, type ProducerOptions } from "./producer.ts";
import { ProducerFault } from "./producer-fault.ts";

type Given = Omit<ProducerOptions, "url" | "target">;

/** A stream "usage" in a virtual host of its own, with a producer for it. */
async function openStreamCase(given: Given = {}) {
  await using scope = new AsyncDisposableStack();
  const { url, api, vhost } = scope.use(await testBroker());
  const reader = scope.use(await openAmqpReader(url));
  await reader.declareStream("usage");
  const producer = scope.use(
    openProducer({ url, target: { stream: "usage" }, closeMsMax: 100, ...given }),
  );
  const owned = scope.move();
  return {
    url,
    api,
    vhost,
    reader,
    producer,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const linesOf = (body: Buffer): string[] =>
  body
    .toString()
    .split("\n")
    .filter((line) => line !== "");

const idsOf = (messages: readonly { content: Buffer }[]): string[] =>
  messages.flatMap(({ content }) =>
    linesOf(content).map((line): string => JSON.parse(line).event_id),
  );

const readIds = async (reader: AmqpReader, count: number, stream = "usage"): Promise<string[]> =>
  idsOf(await reader.readStream(stream, (messages) => idsOf(messages).length >= count));

const codeOf = async (work: Promise<unknown>): Promise<string> =>
  await work.then(
    () => "delivered",
    (error: unknown) => (error instanceof ProducerFault ? error.code : String(error)),
  );

test("events are gathered into messages up to their number, and each send resolves when confirmed", async () => {
  await using t = await openStreamCase({ itemsMax: 500, waitMsMax: 5 });
  const events = Array.from({ length: 1200 }, (_, i) => anEvent({ event_id: `e${i}` }));
  await Promise.all(events.map((event) => t.producer.send(event)));
  assert.equal(t.producer.pendingBytes, 0);

  const messages = await t.reader.readStream("usage", (read) => idsOf(read).length >= 1200);
  assert.deepEqual(
    messages.map(({ content }) => linesOf(content).length),
    [500, 500, 200],
  );
  assert.deepEqual(
    idsOf(messages),
    events.map(({ event_id: id }) => id),
  );
  const [{ properties }] = messages as [(typeof messages)[0]];
  assert.equal(properties.contentType, "application/x-ndjson");
  assert.equal(properties.deliveryMode, 2);
});

test("a message is closed by its size as well, and one event alone goes after a short wait", async () => {
  await using t = await openStreamCase({ bytesMax: 1000, waitMsMax: 5 });
  const events = Array.from({ length: 20 }, (_, i) => anEvent({ event_id: `e${i}` }));
  await Promise.all(events.map((event) => t.producer.send(event)));
  const messages = await t.reader.readStream("usage", (read) => idsOf(read).length >= 20);
  assert.ok(messages.length >= 4);
  for (const { content } of messages) assert.ok(content.length <= 1000, String(content.length));
  await t.producer.send(anEvent({ event_id: "alone" }));
  assert.equal((await readIds(t.reader, 21)).at(-1), "alone");
});

test("an event without event_id, one that is no JSON and one too large are refused at once", async () => {
  await using t = await openStreamCase({ messageBytesMax: 2000 });
  await assert.rejects(t.producer.send(anEvent({ event_id: undefined })), {
    name: "ProducerFault",
    code: "invalid_event",
    message: /has no event_id/,
  });
  assert.equal(await codeOf(t.producer.send({ event_id: "e1", n: 1n })), "invalid_event");
  assert.equal(await codeOf(t.producer.send({ event_id: 7 })), "invalid_event");
  const large = anEvent({ note: "x".repeat(2000) });
  assert.equal(await codeOf(t.producer.send(large)), "too_large");
  assert.equal(t.producer.pendingBytes, 0);
});

test("org and trace context travel in the headers; events of several orgs share no message", async () => {
  await using t = await openStreamCase({ traceparent: () => "00-aa-bb-01" });
  await Promise.all([
    t.producer.send(anEvent({ event_id: "e1" }), { org: "acme" }),
    t.producer.send(anEvent({ event_id: "e2" }), { org: "other", traceparent: "00-cc-dd-01" }),
    t.producer.send(anEvent({ event_id: "e3" }), { org: "acme" }),
  ]);
  const messages = await t.reader.readStream("usage", (read) => read.length >= 2);
  assert.deepEqual(
    messages.map(({ content, properties: { headers } }) => [
      idsOf([{ content }]).join(),
      headers?.["tallystick-org"],
      headers?.["traceparent"],
    ]),
    [
      ["e1,e3", "acme", "00-aa-bb-01"],
      ["e2", "other", "00-cc-dd-01"],
    ],
  );
});

test("a ready-made body is published byte for byte, with what is said about it", async () => {
  await using t = await openStreamCase();
  const body = gzipSync(JSON.stringify([anEvent()]));
  await t.producer.publish(body, {
    contentType: "application/json",
    contentEncoding: "gzip",
    correlationId: "request-1",
    headers: { "tallystick-source": "http" },
  });
  const [message] = await t.reader.readStream("usage", (read) => read.length >= 1);
  assert.ok(message !== undefined);
  assert.ok(message.content.equals(body));
  const { contentType, contentEncoding, correlationId, headers } = message.properties;
  assert.deepEqual(
    [contentType, contentEncoding, correlationId, headers?.["tallystick-source"]],
    ["application/json", "gzip", "request-1", "http"],
  );
});

test("a super stream gets all events of an org in one partition, or bodies by turns", async () => {
  await using broker = await testBroker();
  await using reader = await openAmqpReader(broker.url);
  await reader.declareSuperStream("calls", 3);
  await using producer = openProducer({
    url: broker.url,
    target: { superStream: "calls", partitions: 3 },
  });
  const orgs = Array.from({ length: 31 }, (_, i) => `org-${i}`);
  await Promise.all(
    [...orgs, ...orgs].map((org, i) =>
      producer.send(anEvent({ event_id: `${org}/${i}`, org_id: org })),
    ),
  );
  const bodies = ["one", "two", "three"];
  for (const body of bodies)
    await producer.publish(Buffer.from(`{"event_id":"${body}"}`), { contentType: "text/plain" });

  const homes = new Map<string, string>();
  const partitions = ["calls-0", "calls-1", "calls-2"];
  for (const partition of partitions) {
    // The bodies were published when all events were confirmed: they are last.
    const hasBody = (ids: readonly string[]) =>
      ids.filter((id) => bodies.includes(id)).length === 1;
    const ids = idsOf(await reader.readStream(partition, (read) => hasBody(idsOf(read))));
    for (const id of ids.filter((each) => each.includes("/"))) {
      const org = id.replace(/\/.*/, "");
      assert.equal(homes.get(org) ?? partition, partition, org);
      homes.set(org, partition);
    }
  }
  assert.equal(homes.size, 31);
  assert.equal(new Set(homes.values()).size, 3);
});

test("F14: without the stream, the queue or the exchange, an event is refused as unroutable", async () => {
  await using broker = await testBroker();
  const targets = [
    { stream: "missing" },
    { queue: "missing" },
    { exchange: "missing", routingKey: "usage" },
    { superStream: "amq.direct", partitions: 1 },
  ];
  for (const target of targets) {
    await using producer = openProducer({ url: broker.url, target, unroutableMsMax: 0 });
    const sent = await Promise.all([
      codeOf(producer.send(anEvent())),
      codeOf(producer.publish(Buffer.from("{}"), { contentType: "application/json" })),
    ]);
    assert.deepEqual(sent, ["unroutable", "unroutable"], JSON.stringify(target));
    assert.equal(await codeOf(producer.send(anEvent())), "unroutable");
    assert.equal(producer.pendingBytes, 0);
  }
});

test("F14: an event waits for its stream or exchange to exist, for a while", async () => {
  await using broker = await testBroker();
  await using reader = await openAmqpReader(broker.url);
  const open = (target: ProducerOptions["target"]) => openProducer({ url: broker.url, target });
  await using toStream = open({ stream: "late" });
  await using toExchange = open({ exchange: "late", routingKey: "usage" });
  const sent = Promise.all([
    toStream.send(anEvent({ event_id: "e1" })),
    toExchange.send(anEvent({ event_id: "e2" })),
  ]);
  await using hasty = openProducer({
    url: broker.url,
    target: { queue: "late" },
    unroutableMsMax: 300,
  });
  // By the time this one is given up, the other two were returned as well.
  assert.equal(await codeOf(hasty.send(anEvent())), "unroutable");
  await reader.declareStream("late");
  await reader.channel.assertExchange("late", "direct");
  await reader.channel.bindQueue("late", "late", "usage");
  await sent;
  assert.deepEqual((await readIds(reader, 2, "late")).toSorted(), ["e1", "e2"]);
});

test("F14: without the permission to write, an event is refused; once it is given, the same producer delivers", async () => {
  await using t = await openStreamCase();
  const { username } = new URL(t.url);
  const allow = (write: string) =>
    t.api("PUT", `/api/permissions/${t.vhost}/${username}`, { configure: ".*", write, read: ".*" });
  await allow("^$");
  await assert.rejects(t.producer.send(anEvent()), { code: "refused", message: /may not write/ });
  await allow(".*");
  // The broker remembers permissions of a channel for a while; a refused one is closed.
  await waitFor(async () => (await codeOf(t.producer.send(anEvent()))) === "delivered");
});

test("a nacked message is published again, with the same id, until it is taken", async () => {
  await using broker = await testBroker();
  await using reader = await openAmqpReader(broker.url);
  await reader.channel.assertQueue("short", {
    durable: true,
    maxLength: 1,
    overflow: "reject-publish",
  });
  await using producer = openProducer({
    url: broker.url,
    target: { queue: "short" },
    random: () => 0,
  });
  const sent: string[] = [];
  const publish = async (id: string) => {
    await producer.publish(Buffer.from(`{"event_id":"${id}"}`), { contentType: "text/plain" });
    sent.push(id);
  };
  await publish("first");
  const second = publish("second");
  const third = publish("third");
  const taken: string[] = [];
  await waitFor(async () => {
    taken.push(...idsOf(await reader.takeAll("short")));
    return taken.length >= 3;
  });
  await Promise.all([second, third]);
  assert.deepEqual(taken.toSorted(), ["first", "second", "third"]);
});

test("closing sends what is being gathered; afterwards nothing is taken", async () => {
  await using t = await openStreamCase({ waitMsMax: 60_000, closeMsMax: 5000 });
  const sent = t.producer.send(anEvent({ event_id: "last" }));
  await t.producer.close();
  await sent;
  assert.deepEqual(await readIds(t.reader, 1), ["last"]);
  assert.equal(await codeOf(t.producer.send(anEvent())), "closed");
  await t.producer.close();
});

test("flushing does not wait for the time events are gathered", async () => {
  await using t = await openStreamCase({ waitMsMax: 60_000 });
  const sent = t.producer.send(anEvent());
  await t.producer.flush();
  await sent;
  assert.equal(t.producer.pendingBytes, 0);
});

test("a target that cannot be is refused when the producer is opened", () => {
  const url = "amqp://127.0.0.1";
  assert.throws(() => openProducer({ url, target: { stream: "" } }), TypeError);
  assert.throws(
    () => openProducer({ url, target: { superStream: "calls", partitions: 0 } }),
    /how many partitions/,
  );
});
