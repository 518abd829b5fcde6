/** What real brokers make of messages on their way from a publisher to an AMQP 0-9-1 consumer, and what is read of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { anEvent, brokersUnderTest, openAmqpReader, waitFor, type AmqpReader } from "#harness";
import { openAmqp10Publisher } from "../../../test/conformance/amqp10-publisher.ts";
import { type AmqpMessage, correlationIdOf, readMessage } from "./amqp-message.ts";
import * as amqp10 from "./amqp10-sections.ts";

const LIMITS = { bytesMax: 1_000_000, eventsMax: 1000 };
const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT = `00-${TRACE_ID}-00f067aa0ba902b7-01`;

const json = (id: string, overrides = {}): string =>
  JSON.stringify(anEvent({ event_id: id, ...overrides }));

type Kind = "quorum" | "stream";
type Place = { reader: AmqpReader; kind: Kind; name: string };

async function declare(reader: AmqpReader, kind: Kind): Promise<Place> {
  const name = `usage-${kind}`;
  await reader.channel.assertQueue(name, { durable: true, arguments: { "x-queue-type": kind } });
  return { reader, kind, name };
}

async function receive({ reader, kind, name }: Place, count: number): Promise<AmqpMessage[]> {
  if (kind === "stream") return await reader.readStream(name, (read) => read.length >= count);
  const taken: AmqpMessage[] = [];
  await waitFor(async () => {
    taken.push(...(await reader.takeAll(name)));
    return taken.length >= count;
  });
  return taken;
}

const summaryOf = (message: AmqpMessage): string =>
  readMessage(message, LIMITS)
    .map(({ event, rejection }) => event?.eventId ?? rejection?.code)
    .join();

for (const broker of brokersUnderTest()) {
  for (const kind of ["quorum", "stream"] as const) {
    test(`B16, B32, B33, B35: ${broker.name}, ${kind}: messages of AMQP 0-9-1 publishers are read`, async () => {
      await using vhost = await broker.open();
      await using reader = await openAmqpReader(vhost.url);
      const place = await declare(reader, kind);
      const two = `${json("a")}\n${json("b")}`;
      const cases: [string, Buffer | string, Parameters<typeof reader.channel.sendToQueue>[2]][] = [
        ["a", json("a"), {}],
        ["a", json("a"), { contentType: "application/json", contentEncoding: "utf-8" }],
        ["a", json("a"), { priority: 3, expiration: "600000", type: "usage", appId: "gateway" }],
        ["a", json("a"), { timestamp: 1_700_000_000, messageId: "m", type: "amqp-1.0" }],
        ["a,b", two, { contentType: "application/x-ndjson" }],
        ["a,b", two, {}],
        ["a,b", gzipSync(two), { contentEncoding: "gzip" }],
        ["a,b", zstdCompressSync(two), { contentEncoding: "zstd" }],
        ["a,b", deflateSync(two), { contentEncoding: "deflate" }],
        ["a,b", brotliCompressSync(two), { contentEncoding: "br" }],
        ["invalid_encoding", gzipSync(two).subarray(0, -9), { contentEncoding: "gzip" }],
        ["invalid_json", "", {}],
        ["invalid_json", Buffer.from([0xff, 1, 0]), {}],
        ["a", amqp10.data(json("a")), {}],
        ["a", amqp10.data(json("a")), { type: "amqp-1.0" }],
        ["a", json("a"), { headers: { d: 1.5, f: { "!": "float", value: 1.5 }, l: -(2 ** 40) } }],
        ["a", json("a"), { headers: { t: { "!": "timestamp", value: 1_700_000_000 }, b: true } }],
        ["a", json("a"), { headers: { n: null, x: Buffer.from([0, 255]), e: "" } }],
        ["a", json("a"), { headers: { a: [1, "a", [2]], t: { a: { b: 1 } } } }],
        ["a", json("a"), { headers: { "tallystick-org": "acme" } }],
        ["org_mismatch", json("a"), { headers: { "tallystick-org": "globex" } }],
        ["org_mismatch", json("a"), { headers: { "tallystick-org": 7 } }],
      ];
      for (const [, content, options] of cases)
        reader.channel.sendToQueue(place.name, Buffer.from(content), options);

      const received = await receive(place, cases.length);
      assert.deepEqual(
        received.map(summaryOf),
        cases.map(([expected]) => expected),
      );
    });

    test(`B16, B33, B35: ${broker.name}, ${kind}: messages of AMQP 1.0 senders are read`, async () => {
      await using vhost = await broker.open();
      await using reader = await openAmqpReader(vhost.url);
      const place = await declare(reader, kind);
      const event = json("a");
      const cut = [event.slice(0, 40), event.slice(40, 90), event.slice(90)].map(amqp10.data);
      const claim = (org: string) => amqp10.applicationProperties({ "tallystick-org": org });
      const cases: [string, ...Buffer[]][] = [
        ["a", amqp10.data(event)],
        ["a", amqp10.header(), amqp10.messageAnnotations(), amqp10.data(event)],
        ["a", amqp10.value(amqp10.text(event))],
        ["a", amqp10.value(amqp10.binary(event))],
        ["a", ...cut],
        ["a", amqp10.properties("gzip"), amqp10.data(gzipSync(event))],
        ["unsupported_body", amqp10.value(amqp10.map(amqp10.text("event_id"), amqp10.text("a")))],
        ["unsupported_body", amqp10.sequence(amqp10.text(event))],
        ["a", claim("acme"), amqp10.data(event)],
        ["org_mismatch", claim("globex"), amqp10.data(event)],
        ["org_mismatch", claim("globex"), ...cut],
        ["a", amqp10.applicationProperties({ traceparent: TRACEPARENT }), amqp10.data(event)],
      ];
      await using sender = await openAmqp10Publisher(vhost.url, place.name);
      for (const [, ...sections] of cases) await sender.send(Buffer.concat(sections));

      const received = await receive(place, cases.length);
      assert.deepEqual(
        received.map(summaryOf),
        cases.map(([expected]) => expected),
      );
      assert.deepEqual(received.map(correlationIdOf).at(-1), TRACE_ID);
    });
  }
}
