import assert from "node:assert/strict";
import { test } from "node:test";
import {
  brotliCompressSync,
  deflateRawSync,
  deflateSync,
  gzipSync,
  zstdCompressSync,
} from "node:zlib";
import fc from "fast-check";
import { type AmqpMessage, readMessage } from "./amqp-message.ts";
import * as amqp10 from "./amqp10-sections.ts";

const LIMITS = { bytesMax: 1_000_000, eventsMax: 100 };

const someText = fc
  .oneof(
    fc.string({ minLength: 1, maxLength: 20 }),
    fc.string({ minLength: 1, maxLength: 20, unit: "grapheme" }),
    fc.constantFrom("[", "]", "{", "}", '"\n"', "}\n{", "x".repeat(200)),
  )
  .filter((text) => !text.includes("\0"));

const someEvent = fc.record(
  {
    event_id: fc.uuid(),
    occurred_at: fc.constantFrom("2026-11-20T10:00:00Z", "2026-11-20T12:00:00.123456+05:45"),
    org_id: fc.constantFrom("acme", "globex"),
    model_id: someText,
    status: fc.constantFrom("success", "cancelled"),
    metadata: fc.option(fc.dictionary(fc.constantFrom("a", "é", "~/"), someText)),
    input_tokens: fc.nat(),
    note: someText,
  },
  { requiredKeys: ["event_id", "occurred_at", "org_id", "model_id", "status"] },
);

const FORMATS: Record<string, (events: readonly object[]) => string> = {
  array: (events) => JSON.stringify(events),
  "pretty array": (events) => JSON.stringify(events, null, 2),
  lines: (events) => events.map((event) => JSON.stringify(event)).join("\n"),
  "lines of Windows": (events) =>
    events.map((event) => `${JSON.stringify(event)}\r\n`).join("\r\n"),
};
const COMPRESSIONS: Record<string, (body: Buffer) => Buffer> = {
  identity: (body) => body,
  "utf-8": (body) => body,
  gzip: (body) => gzipSync(body),
  "gzip:UTF-8": (body) => gzipSync(body),
  deflate: (body) => deflateSync(body),
  Deflate: (body) => deflateRawSync(body),
  br: (body) => brotliCompressSync(body),
  zstd: (body) => zstdCompressSync(body),
};

/** The parts of a body that is cut at the given places, each from 0 to 1. */
function cut(body: Buffer, places: readonly number[]): Buffer[] {
  const ends = places.map((place) => Math.floor(place * body.length)).sort((a, b) => a - b);
  return [...ends, body.length].map((end, i) => body.subarray(ends[i - 1] ?? 0, end));
}
const WRAPPINGS: Record<string, (body: Buffer, places: readonly number[]) => Buffer> = {
  plain: (body) => body,
  data: (body) => Buffer.concat([amqp10.properties(), amqp10.data(body), amqp10.footer()]),
  value: (body) => Buffer.concat([amqp10.header(), amqp10.value(amqp10.binary(body))]),
  sections: (body, places) => Buffer.concat(cut(body, places).map(amqp10.data)),
  turned: (body, places) => Buffer.concat(cut(body, places).reverse().map(amqp10.data)),
};
const nameIn = (of: object) => fc.constantFrom(...Object.keys(of));

const someMessage = fc.record({
  events: fc.uniqueArray(someEvent, {
    selector: (event) => event.event_id,
    minLength: 1,
    maxLength: 5,
  }),
  format: nameIn(FORMATS),
  compression: nameIn(COMPRESSIONS),
  wrapping: nameIn(WRAPPINGS),
  cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 3 }),
  contentType: fc.constantFrom(undefined, "application/json", "text/plain", ""),
});
type SomeMessage = typeof someMessage extends fc.Arbitrary<infer T> ? T : never;

function contentOf({ events, format, compression, wrapping, cuts }: SomeMessage): Buffer {
  const body = Buffer.from(FORMATS[format]?.(events) ?? "");
  const packed = COMPRESSIONS[compression]?.(body) ?? body;
  return WRAPPINGS[wrapping]?.(packed, cuts) ?? packed;
}

test("valid events come through in every format, compression and wrapping, in the order sent", () => {
  fc.assert(
    fc.property(someMessage, (message) => {
      const items = readMessage(
        {
          content: contentOf(message),
          properties: { contentType: message.contentType, contentEncoding: message.compression },
        },
        LIMITS,
      );
      const read = items.map(({ event, rejection, bytes }) => [
        event?.eventId ?? rejection?.detail ?? "",
        JSON.parse(bytes.toString()),
      ]);
      const sent = message.events.map((event) => [
        event.event_id,
        JSON.parse(JSON.stringify(event)),
      ]);
      // Sections that end where lines do can be read either way round.
      if (message.wrapping === "turned") for (const list of [read, sent]) list.sort();
      assert.deepEqual(read, sent);
    }),
    { numRuns: 500 },
  );
});

const someValue = fc.oneof(
  fc.constantFrom<unknown>(undefined, null, true, 1.5, "", "gzip", "zstd", "application/x-ndjson"),
  fc.string(),
  fc.uint8Array({ maxLength: 8 }).map((bytes) => Buffer.from(bytes)),
  fc.jsonValue({ maxDepth: 2 }),
);
const someProperties = fc.record({
  contentType: someValue,
  contentEncoding: someValue,
  correlationId: someValue,
  headers: fc.option(
    fc.dictionary(
      fc.constantFrom("tallystick-org", "x-amqp-1.0-app-properties", "traceparent", "__proto__"),
      someValue,
    ),
    { nil: undefined },
  ),
});
const someBytes = fc.oneof(
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from([0, 0x53, 0x75, ...bytes])),
  someMessage.map(contentOf),
  fc
    .tuple(someMessage.map(contentOf), fc.nat(), fc.nat({ max: 255 }))
    .map(([content, at, byte]) => {
      const bytes = Buffer.from(content);
      bytes[at % bytes.length] = byte;
      return bytes.subarray(0, bytes.length - (at % 7));
    }),
);

test("B32, B33: no content and no properties throw or vanish", () => {
  fc.assert(
    fc.property(someBytes, someProperties, (content, properties) => {
      const message: AmqpMessage = { content, properties };
      const items = readMessage(message, LIMITS);
      assert.ok(items.length > 0);
      for (const { event, rejection } of items) {
        assert.notEqual(rejection?.code, "internal_error");
        const claim = properties.headers?.["tallystick-org"];
        const isFree = claim === undefined || claim === event?.orgId;
        assert.ok(event === null || isFree || Buffer.isBuffer(claim));
      }
    }),
    { numRuns: 2000 },
  );
});

test("B6, B33: hostile content is read in bounded time", () => {
  const bytesMax = 5_000_000;
  const repeat = (bytes: Buffer | string): Buffer => Buffer.alloc(bytesMax, bytes);
  const contents = [
    repeat("["),
    repeat("{\n"),
    repeat('{"a":1}\n'),
    repeat(amqp10.data("")),
    repeat(amqp10.data("{}\n")),
    repeat(amqp10.header()),
    repeat(gzipSync("{}\n")),
    repeat(Buffer.from("502a4d1804000000deadbeef", "hex")),
    zstdCompressSync(Buffer.alloc(100_000_000)),
  ];
  for (const content of contents) {
    for (const contentEncoding of [undefined, "gzip", "zstd"]) {
      const startedMs = performance.now();
      const items = readMessage(
        { content, properties: { contentEncoding } },
        { bytesMax, eventsMax: 100_000 },
      );
      const elapsedMs = performance.now() - startedMs;
      assert.ok(items.length > 0);
      assert.ok(elapsedMs < 10_000, `${content.toString("hex", 0, 16)}… took ${elapsedMs} ms`);
    }
  }
});
