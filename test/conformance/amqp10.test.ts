/** Events of AMQP 1.0 senders, as far as a broker hands them over to AMQP 0-9-1 consumers. */
import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { anEvent, toNdjson } from "#harness";
import {
  amqp10,
  type Amqp10Message,
  dataBody,
  openAmqp10Publisher,
  sequenceBody,
  withFooter,
} from "./amqp10-publisher.ts";
import { openTestPublisher } from "./publisher.ts";
import {
  assertReceived,
  assertSound,
  conformanceTest,
  listQuarantine,
  openService,
  waitReceived,
} from "./suite.ts";

const json = (overrides: Record<string, unknown> = {}): string =>
  JSON.stringify(anEvent(overrides));
const LONG = { metadata: { text: "x".repeat(3000) } };

/** What is sent, and how many events are to be counted; or the code by which it is kept. */
const MESSAGES: readonly (readonly [number | string, Amqp10Message])[] = [
  [1, { body: dataBody(json()) }],
  [1, { body: dataBody(json(LONG)) }],
  [3, { body: dataBody(toNdjson([anEvent(), anEvent(), anEvent()])) }],
  [2, { body: dataBody(JSON.stringify([anEvent(), anEvent()])), content_type: "application/json" }],
  [1, { body: dataBody(gzipSync(json())), content_encoding: "gzip" }],
  [1, { body: json() }],
  [1, { body: json(LONG) }],
  [1, { body: amqp10.wrap_binary(Buffer.from(json())) }],
  [1, { body: amqp10.wrap_binary(Buffer.from(json(LONG))), durable: true, priority: 7 }],
  [1, { body: json(), correlation_id: "corr-1", content_type: "application/json" }],
  [1, { body: dataBody(json()), message_annotations: { "x-opt-a": 1 }, ttl: 3_600_000 }],
  [1, { body: dataBody(json()), application_properties: { a: "b", n: 5, t: true, d: 1.5 } }],
  [1, { body: dataBody(json()), application_properties: { "tallystick-org": "acme" } }],
  ["org_mismatch", { body: dataBody(json()), application_properties: { "tallystick-org": "no" } }],
  ["unsupported_body", { body: { event_id: "a-map", org_id: "acme" } }],
  ["unsupported_body", { body: 7 }],
  ["unsupported_body", { body: null }],
  ["unsupported_body", { body: sequenceBody(json(), 1) }],
  ["invalid_json", { body: dataBody("no json") }],
  ["invalid_json", { body: dataBody("") }],
];

conformanceTest(
  { ids: "B33" },
  "AMQP 1.0 bodies of text or bytes are counted, others are kept as unsupported, and what follows is counted",
  async (ground) => {
    await using service = await openService(ground);
    await using after = await openTestPublisher(ground.vhost.url, ground.name);
    {
      await using publisher = await openAmqp10Publisher(ground.vhost.url, ground.name);
      for (const [, message] of MESSAGES) await publisher.send(message);
    }
    await after.publish(anEvent());

    const { database } = service.db;
    const codes = MESSAGES.flatMap(([code]) => (typeof code === "string" ? [code] : []));
    const counted = MESSAGES.reduce((n, [count]) => n + (typeof count === "number" ? count : 0), 1);
    const received = counted + codes.length;
    await assertReceived(database, ground.source, { received, rejected: codes.length });
    const kept = await listQuarantine(database);
    assert.deepEqual(kept.map(({ code }) => code).toSorted(), codes.toSorted());
    await assertSound(database, service, counted);
  },
);

conformanceTest(
  { ids: "B33" },
  "an event in several data sections is read in order, whatever order the broker hands them over in",
  async (ground) => {
    await using service = await openService(ground);
    await using _declared = await openTestPublisher(ground.vhost.url, ground.name);
    await using publisher = await openAmqp10Publisher(ground.vhost.url, ground.name);
    for (const parts of [2, 3, 10]) {
      const text = json();
      const size = Math.ceil(text.length / parts);
      const sections = Array.from({ length: parts }, (_, i) =>
        text.slice(i * size, (i + 1) * size),
      );
      await publisher.send({ body: dataBody(...sections) });
    }
    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 3 });
    await assertSound(database, service, 3);
  },
);

/** Some brokers cut the sender off for these, others hand them over. */
const PERHAPS_REFUSED: readonly Amqp10Message[] = [
  { body: [json(), 1] },
  { body: dataBody(json()), delivery_annotations: { "x-opt-b": "c" } },
  { body: dataBody(json()), application_properties: { map: { a: 1 } } },
  { body: undefined },
];

conformanceTest(
  { ids: "B33" },
  "an AMQP 1.0 message is refused to its sender, counted or kept: none vanishes",
  async (ground) => {
    await using service = await openService(ground);
    await using after = await openTestPublisher(ground.vhost.url, ground.name);
    const sent = PERHAPS_REFUSED.map(async (message) => {
      await using publisher = await openAmqp10Publisher(ground.vhost.url, ground.name);
      return await publisher.send(message).then(
        () => 1,
        () => 0,
      );
    });
    const taken = (await Promise.all(sent)).reduce<number>((sum, one) => sum + one, 0);
    await after.publish(anEvent());
    const { database } = service.db;
    const { accepted, rejected } = await waitReceived(database, ground.source, taken + 1);
    assert.equal(accepted + rejected, taken + 1);
    await assertSound(database, service, accepted);
  },
);

conformanceTest(
  { ids: "B33", on: ["stream"] },
  "a message with a footer is counted, or kept where the broker fails to hand it over, and its neighbours are counted",
  async (ground) => {
    await using service = await openService(ground);
    await using neighbours = await openTestPublisher(ground.vhost.url, ground.name);
    await using publisher = await openAmqp10Publisher(ground.vhost.url, ground.name);
    await neighbours.publish(anEvent());
    await publisher.send(withFooter(json()));
    await neighbours.publish(anEvent());
    const { database } = service.db;
    const { accepted, rejected } = await waitReceived(database, ground.source, 3);
    assert.ok(accepted === 3 || (accepted === 2 && rejected === 1), `${accepted} accepted`);
    await assertSound(database, service, accepted);
  },
);
