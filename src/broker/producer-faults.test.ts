import assert from "node:assert/strict";
import test from "node:test";
import {
  anEvent,
  faultProxy,
  openAmqpReader,
  startRabbit,
  testBroker,
  waitFor,
  type AmqpReader,
} from "#harness";
import { openProducer, type Producer, type ProducerOptions } from "./producer.ts";
import { ProducerFault } from "./producer-fault.ts";

/** A stream "usage", and a proxy on the way to its broker. */
async function openProxiedCase() {
  await using scope = new AsyncDisposableStack();
  const { url } = scope.use(await testBroker());
  const reader = scope.use(await openAmqpReader(url));
  await reader.declareStream("usage");
  const proxy = scope.use(await faultProxy({ upstreamPort: Number(new URL(url).port) }));
  const owned = scope.move();
  const open = (given: Partial<ProducerOptions> = {}): Producer =>
    openProducer({
      url: proxy.through(url),
      target: { stream: "usage" },
      closeMsMax: 100,
      random: () => 0,
      ...given,
    });
  return { reader, proxy, open, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const idsOf = (messages: readonly { content: Buffer }[]): string[] =>
  messages.flatMap(({ content }) =>
    content
      .toString()
      .split("\n")
      .filter((line) => line !== "")
      .map((line): string => JSON.parse(line).event_id),
  );

/** All ids in the stream, once as many different ones are there. */
const readIds = async (reader: AmqpReader, count: number): Promise<string[]> =>
  idsOf(await reader.readStream("usage", (read) => new Set(idsOf(read)).size >= count));

const faultOf = async (work: Promise<unknown>): Promise<ProducerFault> => {
  const error: unknown = await work.then(
    () => new Error("it was delivered"),
    (thrown: unknown) => thrown,
  );
  if (error instanceof ProducerFault) return error;
  throw error;
};

test("F10: whatever is cut between publish and confirm, every event arrives, under its own id", async () => {
  await using t = await openProxiedCase();
  await using producer = t.open({ itemsMax: 10, waitMsMax: 1 });
  const ids = Array.from({ length: 3000 }, (_, i) => `e${i}`);
  const sent: Promise<void>[] = [];
  for (const [i, id] of ids.entries()) {
    sent.push(producer.send(anEvent({ event_id: id })));
    // In the middle of what is under way: some is confirmed, some is with the broker, some is not out.
    if (i % 1000 === 500) {
      await sent[i - 300];
      t.proxy.cut();
    }
  }
  await Promise.all(sent);
  assert.equal(producer.pendingBytes, 0);
  const found = await readIds(t.reader, ids.length);
  assert.deepEqual([...new Set(found)].toSorted(), ids.toSorted());
});

test("F10: a message whose confirmation is lost is published again with the same id", async () => {
  await using t = await openProxiedCase();
  await using producer = t.open();
  await producer.send(anEvent({ event_id: "first" }));
  // Held back long enough to reach the broker and to lose its answer.
  t.proxy.delay(50);
  const sent = producer.send(anEvent({ event_id: "twice" }));
  await t.reader.readStream("usage", (read) => idsOf(read).includes("twice"));
  t.proxy.cut();
  t.proxy.heal();
  await sent;
  assert.deepEqual(await readIds(t.reader, 2), ["first", "twice", "twice"]);
});

test("F7: what is sent while the broker is away is buffered within its bound, and delivered when it is back", async () => {
  await using t = await openProxiedCase();
  t.proxy.refuse();
  const states: string[] = [];
  await using producer = t.open({
    bufferBytesMax: 800,
    onStateChange: ({ state }) => states.push(state),
  });
  await waitFor(() => states.includes("unreachable"));
  assert.equal(typeof producer.trouble, "string");
  const kept = [1, 2, 3].map((i) => producer.send(anEvent({ event_id: `e${i}` })));
  const fault = await faultOf(producer.send(anEvent({ event_id: "lost" })));
  assert.deepEqual([fault.code, fault.isMaybeDelivered], ["buffer_full", false]);
  assert.ok(producer.pendingBytes <= 800);

  t.proxy.heal();
  await Promise.all(kept);
  assert.equal(producer.trouble, undefined);
  await producer.send(anEvent({ event_id: "e4" }));
  assert.deepEqual(await readIds(t.reader, 4), ["e1", "e2", "e3", "e4"]);
  assert.deepEqual(states, ["unreachable", "connected"]);
});

test("told to wait, a sender goes on when there is room, and memory stays within the bound", async () => {
  await using t = await openProxiedCase();
  await using producer = t.open({ bufferBytesMax: 2000, onFull: "wait", waitMsMax: 1 });
  let pendingMax = 0;
  const ids = Array.from({ length: 200 }, (_, i) => `e${i}`);
  await Promise.all(
    ids.map(async (id) => {
      await producer.send(anEvent({ event_id: id }));
      pendingMax = Math.max(pendingMax, producer.pendingBytes);
    }),
  );
  assert.ok(pendingMax <= 2000, String(pendingMax));
  assert.deepEqual((await readIds(t.reader, 200)).toSorted(), ids.toSorted());
});

test("who waits for room is turned away in time, and when the producer is closed", async () => {
  await using t = await openProxiedCase();
  t.proxy.refuse();
  const full = { bufferBytesMax: 300, onFull: "wait" } as const;
  await using hasty = t.open({ ...full, deliverMsMax: 100 });
  const timeouts = await Promise.all([1, 2].map(() => faultOf(hasty.send(anEvent()))));
  assert.deepEqual(timeouts.map(({ code }) => code).toSorted(), ["buffer_full", "timeout"]);
  assert.equal(hasty.pendingBytes, 0);

  const patient = t.open(full);
  const closed = Promise.all([1, 2].map(() => faultOf(patient.send(anEvent()))));
  await patient.close();
  assert.deepEqual(
    (await closed).map(({ code }) => code),
    ["closed", "closed"],
  );
  assert.equal(patient.pendingBytes, 0);
});

test("F11: with a broker that swallows everything, a message is given up in time and said to be maybe delivered", async () => {
  await using t = await openProxiedCase();
  await using producer = t.open({ deliverMsMax: 200 });
  await producer.send(anEvent());
  t.proxy.blackhole();
  const faults = await Promise.all([1, 2, 3].map(() => faultOf(producer.send(anEvent()))));
  assert.deepEqual(
    faults.map(({ code, isMaybeDelivered }) => [code, isMaybeDelivered]),
    [1, 2, 3].map(() => ["timeout", true]),
  );
  assert.match(faults[0]?.message ?? "", /maybe|may be delivered/);
  assert.equal(producer.pendingBytes, 0);
});

test("F8, F15: an alarm stops publishing without growth, a killed broker loses nothing confirmed", async () => {
  await using broker = await startRabbit();
  const { url } = broker;
  {
    await using reader = await openAmqpReader(url);
    await reader.declareStream("usage");
  }
  await broker.settle();
  const bufferBytesMax = 200_000;
  await using producer = openProducer({ url, target: { stream: "usage" }, bufferBytesMax });
  await producer.send(anEvent({ event_id: "before" }));
  await broker.ctl("set_vm_memory_high_watermark", "absolute", "1MB");

  const underAlarm: Promise<void>[] = [];
  const delivered = ["before"];
  let refused = 0;
  const publish = (): void => {
    const id = `a${underAlarm.length}`;
    const onFault = (fault: unknown): void => {
      assert.equal(fault instanceof ProducerFault && fault.code, "buffer_full");
      refused++;
    };
    underAlarm.push(
      producer
        .send(anEvent({ event_id: id }))
        .then(() => void delivered.push(id))
        .catch(onFault),
    );
  };
  // The broker says that it is blocked only to who publishes.
  await waitFor(() => (publish(), producer.trouble !== undefined));
  assert.match(producer.trouble ?? "", /short of memory or disk/);
  for (let i = 0; i < 2000; i++) publish();
  assert.ok(producer.pendingBytes <= bufferBytesMax);

  await broker.kill();
  await broker.start();
  await Promise.all(underAlarm);
  assert.ok(refused > 0 && delivered.length > 500, `${refused} refused`);
  await using reader = await openAmqpReader(url);
  const found = await readIds(reader, delivered.length);
  assert.deepEqual([...new Set(found)].toSorted(), delivered.toSorted());
});
