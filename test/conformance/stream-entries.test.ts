/** What publishers of the stream protocol write, which the broker stores unseen and hands over to AMQP consumers as it can. */
import assert from "node:assert/strict";
import {
  anEvent,
  dataRecord,
  openStreamPublisher,
  type StreamEntry,
  type StreamPublisher,
  type TestVhost,
} from "#harness";
import { openTestPublisher } from "./publisher.ts";
import {
  assertReceived,
  assertSound,
  conformanceTest,
  listPositions,
  NAMES,
  openService,
} from "./suite.ts";

const record = (): Buffer => dataRecord(JSON.stringify(anEvent()));
const simple = (bytes = record()): StreamEntry => ({ kind: "record", bytes });
const subBatch = (codec: number, count: number): StreamEntry => ({
  kind: "subBatch",
  codec,
  records: Array.from({ length: count }, record),
});

/** Opens a publisher of the service's stream. */
async function openPublisher({ vhost, api }: TestVhost): Promise<StreamPublisher> {
  const { listeners } = (await api("GET", "/api/overview")) as {
    listeners: { protocol: string; port: number }[];
  };
  const port = listeners.find(({ protocol }) => protocol === "stream")?.port;
  assert.ok(port !== undefined, "the broker has no listener of the stream protocol");
  return await openStreamPublisher({ port, vhost, stream: NAMES.stream });
}

conformanceTest(
  { ids: "B34", on: ["stream"] },
  "single records and uncompressed sub-batches, two of them, mixed in a chunk, are counted with their own offsets",
  async (ground) => {
    await using service = await openService(ground);
    await using after = await openTestPublisher(ground.vhost.url, ground.name);
    await using publisher = await openPublisher(ground.vhost);
    await publisher.publish([simple(), simple()]);
    await publisher.publish([subBatch(0, 3)]);
    await publisher.publish([subBatch(0, 5), subBatch(0, 2)]);
    await publisher.publish([simple(), subBatch(0, 4), simple(), subBatch(0, 1)]);
    await after.publish(anEvent());
    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 20 });
    assert.match((await listPositions(database))[NAMES.stream] ?? "", /^19:/);
    await assertSound(database, service, 20);
  },
);
