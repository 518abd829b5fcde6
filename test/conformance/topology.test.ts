/** What is on the broker already when the service comes: streams and queues kept otherwise, or of the wrong kind. */
import assert from "node:assert/strict";
import { anEvent, openAmqpReader, waitFor } from "#harness";
import { openTestPublisher } from "./publisher.ts";
import {
  assertReceived,
  assertSound,
  brokerDetail,
  conformanceTest,
  NAMES,
  openService,
} from "./suite.ts";

const STREAM = { "x-queue-type": "stream" };
/** Ways to declare what the service finds; it would declare it otherwise. */
const EXISTING = {
  stream: [
    { "x-max-age": "1h" },
    { "x-max-length-bytes": 50_000_000, "x-stream-max-segment-size-bytes": 1_000_000 },
  ],
  queue: [{ "x-queue-type": "classic" }, { "x-queue-type": "quorum", "x-max-length": 1000 }],
};

for (const nth of [0, 1]) {
  conformanceTest(
    {},
    `what exists and is kept otherwise is consumed as it is (${nth === 0 ? "one way" : "another way"})`,
    async (ground) => {
      await using reader = await openAmqpReader(ground.vhost.url);
      const kind = ground.transport === "stream" ? STREAM : {};
      const declared = { ...kind, ...EXISTING[ground.transport][nth] };
      await reader.channel.assertQueue(ground.name, { durable: true, arguments: declared });
      await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
      await publisher.publishAll([anEvent(), anEvent()]);
      await using service = await openService(ground);
      await publisher.publishAll([anEvent(), anEvent()]);
      await assertReceived(service.db.database, ground.source, { received: 4 });
      // As it was: the same declaration is accepted.
      await reader.channel.assertQueue(ground.name, { durable: true, arguments: declared });
      await assertSound(service.db.database, service, 4);
    },
  );
}

const TROUBLE = {
  stream: /"analytics\.usage\.v1" exists on the broker, but it is a queue and no stream\./,
  queue: /"usage-events" exists on the broker, but it is a stream and no queue\./,
};

conformanceTest(
  { ids: "F14" },
  "a name that belongs to the other kind is told by /ready, stops nothing else, and is taken up once it is right",
  async (ground) => {
    await using reader = await openAmqpReader(ground.vhost.url);
    const wrong = ground.transport === "stream" ? {} : STREAM;
    await reader.channel.assertQueue(ground.name, { durable: true, arguments: wrong });
    const message = Buffer.from("not ours");
    reader.channel.sendToQueue(ground.name, message);
    await using service = await openService({ ...ground, transport: "stream,queue" });
    await waitFor(async () => TROUBLE[ground.transport].test(await brokerDetail(service)), {
      what: "/ready to tell",
    });

    const other = ground.transport === "stream" ? "queue" : "stream";
    await using publisher = await openTestPublisher(ground.vhost.url, NAMES[other]);
    await publisher.publish(anEvent());
    assert.equal((await service.send([anEvent()])).counts.accepted, 1);
    const { database } = service.db;
    await assertReceived(database, `${other}/${NAMES[other]}`, { received: 1 });
    if (ground.transport === "stream") {
      const taken = await reader.takeAll(ground.name);
      assert.deepEqual(
        taken.map(String),
        [String({})],
        "nothing was taken from a queue that is not ours",
      );
    }

    await reader.channel.deleteQueue(ground.name);
    await using after = await openTestPublisher(ground.vhost.url, ground.name);
    // What was there may still be going.
    const event = anEvent();
    await waitFor(() => after.publish(event).then(() => true));
    await assertReceived(database, ground.source, { received: 1 });
    assert.doesNotMatch(await brokerDetail(service), TROUBLE[ground.transport]);
    await assertSound(database, service, 3);
  },
);
