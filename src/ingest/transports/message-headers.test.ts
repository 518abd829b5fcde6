import assert from "node:assert/strict";
import { test } from "node:test";
import { applicationProperties } from "./amqp10-sections.ts";
import { correlationIdOf, findHeaderText } from "./message-headers.ts";

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT = `00-${TRACE_ID}-00f067aa0ba902b7-01`;
const idOf = (headers: Record<string, unknown> | undefined, correlationId?: unknown) =>
  correlationIdOf({ properties: { headers, correlationId } });

/** As the client library shows what RabbitMQ 3 makes of an AMQP 1.0 sender's application properties. */
const packed = (entries: Record<string, string>): Record<string, unknown> => ({
  "x-amqp-1.0-app-properties": applicationProperties(entries).toString(),
});

test("a valid traceparent gives its trace id, as text or as bytes", () => {
  assert.equal(idOf({ traceparent: TRACEPARENT }, "c"), TRACE_ID);
  assert.equal(idOf({ traceparent: Buffer.from(TRACEPARENT) }, "c"), TRACE_ID);
  assert.equal(idOf({ traceparent: `${TRACEPARENT.replace("00", "01")}-more` }, "c"), TRACE_ID);
  assert.equal(idOf(packed({ x: "ü".repeat(90), traceparent: TRACEPARENT }), "c"), TRACE_ID);
});

test("any other traceparent leaves the correlation-id, and that only when it is short and plain", () => {
  for (const traceparent of [
    `${TRACEPARENT}-more`,
    TRACEPARENT.toUpperCase(),
    TRACEPARENT.replace("00-", "ff-"),
    `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
    `00-${TRACE_ID}-${"0".repeat(16)}-01`,
    ` ${TRACEPARENT}`,
    "",
    7,
    null,
    [TRACEPARENT],
    { traceparent: TRACEPARENT },
    Buffer.from([0xff]),
  ]) {
    assert.equal(idOf({ traceparent }, "order-7"), "order-7", String(traceparent));
  }
  assert.equal(idOf(undefined, "order-7"), "order-7");
  // A uuid of AMQP 1.0 arrives as sixteen bytes made into text.
  for (const id of [undefined, null, 7, "", "a b", "\0", "é", "x".repeat(65), Buffer.from("a")])
    assert.equal(idOf({}, id), undefined);
});

test("B32: a header is its text, null when it is none, undefined when it is not there", () => {
  const find = (headers: Record<string, unknown> | undefined) => findHeaderText(headers, "org");
  assert.equal(find({ org: "acme" }), "acme");
  assert.equal(find({ org: Buffer.from("acmé") }), "acmé");
  assert.equal(find({ org: "" }), "");
  for (const org of [null, 1, 1.5, true, [], ["acme"], {}, { "!": "timestamp", value: 1 }])
    assert.equal(find({ org }), null, JSON.stringify(org));
  assert.equal(find({ org: Buffer.from([0xff]) }), null);
  assert.equal(find({}), undefined);
  assert.equal(find(undefined), undefined);
});

test("a header table called __proto__ brings in no headers", () => {
  const headers: Record<string, unknown> = {};
  Object.setPrototypeOf(headers, { org: "acme" });
  assert.equal(findHeaderText(headers, "org"), undefined);
});

test("application properties that RabbitMQ 3 packed are found, and unreadable ones are not passed over", () => {
  const find = (entries: Record<string, string>) => findHeaderText(packed(entries), "org");
  assert.equal(find({ org: "acme" }), "acme");
  assert.equal(find({ a: "b", org: "größe", z: "é" }), "größe");
  assert.equal(find({ org: "", z: "x" }), "");
  assert.equal(find({ org: "x".repeat(127) }), "x".repeat(127));
  // From 128 on the length byte is lost.
  assert.equal(find({ org: "x".repeat(128) }), null);
  assert.equal(find({ org: "x".repeat(300) }), null);
  assert.equal(find({ a: "b" }), undefined);
  const cut = applicationProperties({ org: "acme" }).subarray(0, -2).toString();
  assert.equal(findHeaderText({ "x-amqp-1.0-app-properties": cut }, "org"), null);
  assert.equal(findHeaderText({ "x-amqp-1.0-app-properties": 7 }, "org"), undefined);
});
