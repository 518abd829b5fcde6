import assert from "node:assert/strict";
import { test } from "node:test";
import { dataRecord, openStreamPublisher, testBroker, waitFor } from "#harness";
import { connectBroker } from "./connection.ts";
import { readFirstOffset, readStreamEnds } from "./stream-ends.ts";
import { TopologyFault } from "./topology-fault.ts";
import { ensureStream } from "./topology.ts";

/** A stream "usage" in a virtual host of its own; `publish` resolves when all is confirmed. */
async function open(retention: { retentionBytes: number; segmentBytes?: number }) {
  await using scope = new AsyncDisposableStack();
  const { url, vhost, api } = scope.use(await testBroker());
  const connection = scope.use(
    connectBroker({
      url,
      name: "test",
      heartbeatSeconds: 10,
      connectMsMax: 5000,
      random: () => 0.5,
    }),
  );
  await ensureStream(connection, { name: "usage", retentionSeconds: 3600, ...retention });
  const channel = await connection.openConfirmChannel();
  channel.on("error", () => undefined);
  const publish = async (count: number, bytes = 10): Promise<void> => {
    for (let n = 0; n < count; n++) channel.sendToQueue("usage", Buffer.alloc(bytes));
    await channel.waitForConfirms();
  };
  const owned = scope.move();
  return {
    vhost,
    api,
    connection,
    channel,
    publish,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const hasCode = (code: string) => (error: unknown) =>
  error instanceof TopologyFault && error.code === code;

test("an empty stream has no ends, and a confirmed message is its end at once", async () => {
  await using t = await open({ retentionBytes: 1e9 });
  assert.equal(await readStreamEnds(t.connection, "usage"), null);
  await t.publish(1);
  assert.deepEqual(await readStreamEnds(t.connection, "usage"), { first: 0, last: 0 });
  await t.publish(2);
  assert.deepEqual(await readStreamEnds(t.connection, "usage"), { first: 0, last: 2 });
});

test("the end of a long chunk is found, to the message", async () => {
  await using t = await open({ retentionBytes: 1e9 });
  let published = 0;
  // Small ones, more than any prefetch allows in all; then large ones, which take the socket many reads.
  for (const [count, bytes] of [
    [70_000, 10],
    [1, 10],
    [3000, 3000],
  ] as const) {
    await t.publish(count, bytes);
    published += count;
    const ends = await Promise.all([1, 2, 3].map(() => readStreamEnds(t.connection, "usage")));
    for (const each of ends) assert.deepEqual(each, { first: 0, last: published - 1 });
  }
});

test("what retention has deleted is not counted in", async () => {
  await using t = await open({ retentionBytes: 1e6, segmentBytes: 100_000 });
  const ends = await waitFor(async () => {
    for (let n = 0; n < 10; n++) await t.publish(50, 10_000);
    const found = await readStreamEnds(t.connection, "usage");
    return found !== null && found.first > 0 && found;
  });
  assert.ok(ends.last >= 499);
});

test("a stream that is missing, a queue, and a caller who leaves: each ends the reading", async () => {
  await using t = await open({ retentionBytes: 1e9 });
  await assert.rejects(readStreamEnds(t.connection, "nothing"), hasCode("missing"));
  await t.channel.assertQueue("events", { durable: true });
  t.channel.sendToQueue("events", Buffer.from("stays"));
  await t.channel.waitForConfirms();
  await assert.rejects(readStreamEnds(t.connection, "events"), hasCode("not_a_stream"));
  const message = await waitFor(() => t.channel.get("events"));
  assert.equal(message.content.toString(), "stays");

  const signal = AbortSignal.timeout(100);
  await assert.rejects(readStreamEnds(t.connection, "usage", signal), /timeout/);
});

test("a last message that the broker cannot hand over is told, and the first one is found all the same", async () => {
  await using t = await open({ retentionBytes: 1e9 });
  const { listeners } = (await t.api("GET", "/api/overview")) as {
    listeners: { protocol: string; port: number }[];
  };
  const port = listeners.find(({ protocol }) => protocol === "stream")?.port ?? 0;
  await using publisher = await openStreamPublisher({ port, vhost: t.vhost, stream: "usage" });
  await publisher.publish([{ kind: "record", bytes: dataRecord("1") }]);
  await publisher.publish([{ kind: "record", bytes: Buffer.from("no AMQP 1.0") }]);
  await assert.rejects(readStreamEnds(t.connection, "usage"), hasCode("unreadable"));
  assert.equal(t.connection.lossCode, 541);
  assert.equal(await readFirstOffset(t.connection, "usage"), 0);
  assert.equal(t.connection.lossCode, undefined);
});

test("ends are right while the stream is written to", async () => {
  await using t = await open({ retentionBytes: 1e9 });
  await t.publish(1);
  let confirmed = 1;
  let isWriting = true;
  const writing = (async () => {
    while (confirmed < 20_000) {
      await t.publish(500);
      confirmed += 500;
    }
    isWriting = false;
  })();
  let looks = 0;
  while (isWriting) {
    const before = confirmed;
    const ends = await readStreamEnds(t.connection, "usage");
    assert.equal(ends?.first, 0);
    assert.ok((ends?.last ?? 0) >= before - 1, `${ends?.last} of ${before} confirmed`);
    looks++;
  }
  await writing;
  assert.ok(looks > 3);
});
