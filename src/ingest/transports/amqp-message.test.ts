import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import type { ParsedItem } from "#contract";
import { type AmqpMessage, readMessage } from "./amqp-message.ts";
import * as amqp10 from "./amqp10-sections.ts";

const LIMITS = { bytesMax: 100_000, eventsMax: 1000 };

const wire = (id: string, more: Record<string, unknown> = {}) => ({
  event_id: id,
  occurred_at: "2026-11-20T10:00:00Z",
  org_id: "acme",
  model_id: "chat-large",
  status: "success",
  ...more,
});
const json = (id: string, more?: Record<string, unknown>): string => JSON.stringify(wire(id, more));

const read = (
  content: Buffer | string,
  properties: AmqpMessage["properties"] = {},
  limits = LIMITS,
): ParsedItem[] => readMessage({ content: Buffer.from(content), properties }, limits);

/** What became of each item: an event's id, or the code and pointer of a rejection. */
const summaryOf = (items: readonly ParsedItem[]): string[] =>
  items.map(({ event, rejection }) => event?.eventId ?? `${rejection?.code}${rejection?.pointer}`);

const assertReads = (
  expected: readonly string[],
  content: Buffer | string,
  properties?: AmqpMessage["properties"],
): void => {
  assert.deepEqual(summaryOf(read(content, properties)), expected);
};

/** The message is one rejection that holds its content as received. */
function assertRefused(
  code: string,
  content: Buffer | string,
  properties?: AmqpMessage["properties"],
): void {
  const [item, ...more] = read(content, properties);
  assert.deepEqual([item?.rejection?.code, item?.rejection?.pointer], [code, ""]);
  assert.match(item?.rejection?.detail ?? "", /^[A-Z].*\.$/);
  assert.deepEqual(item?.bytes, Buffer.from(content));
  assert.equal(more.length, 0);
}

test("B35: one event, an array and NDJSON are told apart by their bytes, whatever the content-type says", () => {
  const lines = `${json("a")}\n${json("b")}`;
  for (const contentType of [
    undefined,
    "",
    "application/json",
    "application/octet-stream",
    "text/plain; charset=utf-8",
    7,
  ]) {
    assertReads(["a"], json("a"), { contentType });
    assertReads(["a"], `\uFEFF ${json("a")}\r\n`, { contentType });
    assertReads(["a"], JSON.stringify(wire("a"), null, 2), { contentType });
    assertReads(["a", "b"], `[${json("a")},${json("b")}]`, { contentType });
    assertReads(["a", "b"], lines, { contentType });
    assertReads(["a", "b"], `\uFEFF\n${lines.replace("\n", "\r\n\r\n")}\r\n\n`, { contentType });
  }
});

test("B35: a content-type that means NDJSON is taken at its word", () => {
  for (const contentType of [
    "application/x-ndjson",
    "application/ndjson; charset=utf-8",
    "application/jsonl",
    "Application/X-JsonLines",
    "application/json-lines",
    "text/x-ndjson",
  ]) {
    assertReads(["a"], json("a"), { contentType });
    assertReads(["invalid_json", "b", "invalid_json"], `{\n${json("b")}\n}`, { contentType });
  }
});

test("B36: in NDJSON a broken line at any place leaves the others as they are, announced or not", () => {
  for (let broken = 0; broken < 5; broken++) {
    const lines = ["a", "b", "c", "d", "e"].map((id) => json(id));
    const ids = ["a", "b", "c", "d", "e"];
    lines[broken] = (lines[broken] ?? "").slice(0, -9);
    ids[broken] = "invalid_json";
    assertReads(ids, lines.join("\n"));
    assertReads(ids, lines.join("\n"), { contentType: "application/x-ndjson" });
  }
  assertReads(
    ["a", "invalid_value/status", "c"],
    [json("a"), json("b", { status: "?" }), json("c")].join("\n"),
  );
});

test("a broken event or array written over many lines is one rejection", () => {
  const pretty = JSON.stringify(wire("a", { metadata: { x: [1] } }), null, 2);
  assertRefused("invalid_json", pretty.slice(0, -1));
  assertRefused("invalid_json", pretty.replace(":", ""));
  assertRefused("invalid_json", `[\n${json("a")},\n${json("b")}\n`);
  assertRefused("invalid_json", `\uFEFF[\n${json("a")},\n${json("b")}\n`);
  assertRefused("invalid_json", "1\n2");
  assertRefused("invalid_json", "nope\n{\0}");
  assertRefused("invalid_json", `[${json("a")}]\n[${json("b")}]`);
  assertRefused("invalid_json", `${json("a")}${json("b")}`);
});

test("B1 to B6: what is wrong with one event is its rejection, with its own bytes", () => {
  assertRefused("invalid_json", "nope");
  assertRefused("invalid_json", `${json("a")} trailing`);
  assertRefused("invalid_json", json("a").slice(0, 40));
  assertRefused("invalid_encoding", Buffer.from(json("a"), "utf16le"));
  assertReads(["invalid_encoding/model_id"], json("a").replace("chat", String.raw`\ud800`));
  assertReads(["invalid_character/model_id"], json("a").replace("chat", String.raw`\u0000`));
  assertReads(["duplicate_key/status"], json("a").replace("{", '{"status":"success",'));
  assertReads(["forbidden_key/__proto__"], json("a").replace("{", '{"__proto__":{"status":1},'));
  assertReads(
    ["missing_field/model_id", "b"],
    `[${json("a", { model_id: undefined })},${json("b")}]`,
  );
  const deep = `${"[".repeat(10_000)}${"]".repeat(10_000)}`;
  assert.match(summaryOf(read(json("a").replace("{", `{"x":${deep},`))).join(), /^too_deep\/x/);
  const [item] = read(`[ ${json("a", { status: "?" })} ]`);
  assert.equal(item?.bytes.toString(), json("a", { status: "?" }));
  assert.equal(item?.rejection?.eventId, "a");
});

test("B7: no message vanishes, however short, and none is read beyond the limits", () => {
  for (const nothing of ["", " ", "\n\n", "[]", " [ ] ", "\uFEFF"])
    assertRefused("invalid_json", nothing);
  assertRefused("invalid_json", "", { contentEncoding: "gzip" });
  assertRefused("invalid_json", gzipSync(""), { contentEncoding: "gzip" });
  assertRefused("invalid_json", "", { contentType: "application/x-ndjson" });
  assertReads(["invalid_type"], "1");

  const event = json("a");
  const exact = event.padEnd(LIMITS.bytesMax);
  assertReads(["a"], exact);
  assertReads(["a"], gzipSync(exact), { contentEncoding: "gzip" });
  assertRefused("too_large", `${exact} `);
  assertRefused("too_large", gzipSync(`${exact} `), { contentEncoding: "gzip" });
  assertRefused("too_large", Buffer.alloc(16_000_000, "["));

  const events = ["a", "b", "c"].map((id) => json(id));
  for (const body of [`[${events.join()}]`, events.join("\n")]) {
    assert.equal(read(body, {}, { ...LIMITS, eventsMax: 3 }).length, 3);
    assert.deepEqual(summaryOf(read(body, {}, { ...LIMITS, eventsMax: 2 })), ["too_large"]);
  }
});

test("B35: compressed bodies are read; broken and unknown ones are refused with the bytes received", () => {
  const packed = gzipSync(`[${json("a")},${json("b")}]`);
  assertReads(["a", "b"], packed, { contentEncoding: "gzip", contentType: "application/json" });
  assertReads(["a"], json("a"), { contentEncoding: "utf-8" });
  assertRefused("invalid_encoding", packed.subarray(0, -5), { contentEncoding: "gzip" });
  assertRefused("invalid_encoding", json("a"), { contentEncoding: "gzip" });
  assertRefused("unsupported_body", packed, { contentEncoding: "zip" });
  assertRefused("invalid_json", packed);
});

test("B33: AMQP 1.0 bodies are read, marked as such or not", () => {
  const event = json("a");
  const [head, tail] = [event.slice(0, 30), event.slice(30)];
  for (const type of [undefined, "amqp-1.0", "binary", "usage"]) {
    const properties = { type };
    assertReads(["a"], amqp10.value(amqp10.text(event)), properties);
    assertReads(["a"], amqp10.value(amqp10.binary(event)), properties);
    assertReads(["a"], amqp10.data(event), properties);
    assertReads(["a"], event, properties);
    assertReads(["a"], Buffer.concat([amqp10.data(head), amqp10.data(tail), amqp10.footer()]));
    assertRefused("unsupported_body", amqp10.value(amqp10.map(amqp10.text("a"), amqp10.text("b"))));
    assertRefused("unsupported_body", amqp10.sequence(amqp10.text(event)));
    assertRefused("invalid_encoding", amqp10.data(event).subarray(0, -1));
    assertRefused("invalid_json", amqp10.data(""));
    assertRefused("invalid_json", Buffer.concat([amqp10.header(), amqp10.properties()]));
  }
  const packed = gzipSync(event);
  assertReads(
    ["a"],
    Buffer.concat([amqp10.data(packed.subarray(0, 9)), amqp10.data(packed.subarray(9))]),
    { contentEncoding: "gzip" },
  );
});

test("B33: data sections that RabbitMQ 3 turned round are put right", () => {
  const turned = (text: Buffer | string, at: readonly number[]): Buffer => {
    const bytes = Buffer.from(text);
    const parts = at.map((start, i) => bytes.subarray(start, at[i + 1]));
    return Buffer.concat(parts.reverse().map(amqp10.data));
  };
  const lines = ["a", "b", "c"].map((id) => json(id)).join("\n");
  assertReads(["a"], turned(json("a"), [0, 10, 50]));
  const invalid = json("a", { status: "?" });
  assertReads(["invalid_value/status"], turned(invalid, [0, 10, 50]));
  const inOrder = [amqp10.data(invalid.slice(0, 10)), amqp10.data(invalid.slice(10))];
  assertReads(["invalid_value/status"], Buffer.concat(inOrder));
  assertReads(["a", "b", "c"], turned(lines, [0, 150, 250]));
  assertReads(["a", "b", "c"], turned(lines, [0, 150, 250]), { contentType: "application/jsonl" });
  assertReads(["a", "b", "c"], turned(gzipSync(lines), [0, 9]), { contentEncoding: "gzip" });
  assertRefused("invalid_json", turned(json("a").slice(0, -1), [0, 10, 50]));
});

test("B32: headers of any type leave the body readable", () => {
  const headers = {
    double: 1.5,
    long: -(2 ** 60),
    bool: true,
    timestamp: { "!": "timestamp", value: 1_700_000_000 },
    decimal: { "!": "decimal", value: { places: 2, digits: 123 } },
    bytes: Buffer.from([0, 255]),
    array: [1, "a", [null, { b: [] }]],
    table: { a: { b: { c: 1 } } },
    nothing: null,
    traceparent: [{}],
    "x-amqp-1.0-app-properties": 1,
  };
  assertReads(["a"], json("a"), { headers });
  assertReads(["a"], json("a"), { headers: undefined });
});

test("B16: a message's org claim rejects the events of other orgs, and nothing else", () => {
  const body = `[${json("a")},${json("b", { org_id: "globex" })},${json("c")}]`;
  const headers = { "tallystick-org": "acme" };
  assertReads(["a", "org_mismatch/org_id", "c"], body, { headers });
  assertReads(["a", "org_mismatch/org_id", "c"], gzipSync(body), {
    headers,
    contentEncoding: "gzip",
  });
  const [, item] = read(body, { headers });
  assert.deepEqual(item?.rejection, {
    code: "org_mismatch",
    pointer: "/org_id",
    detail: "This event names another org than the message's tallystick-org header.",
    eventId: "b",
    orgId: null,
    occurredAtUs: Date.UTC(2026, 10, 20, 10) * 1000,
  });
  assert.equal(item.bytes.toString(), json("b", { org_id: "globex" }));
});

test("B16: an invalid event does not show up in the quarantine of an org that the message does not claim", () => {
  const headers = { "tallystick-org": "acme" };
  const invalid = (org: string): string => json("a", { org_id: org, status: "?" });
  assertReads(["invalid_value/status"], invalid("acme"), { headers });
  assertReads(["org_mismatch/org_id"], invalid("globex"), { headers });
  assertReads(["missing_field/org_id"], json("a", { org_id: undefined }), { headers });
  assertReads(["invalid_json"], "nope", { headers });
});

test("B16: a claim that cannot be read holds every event back", () => {
  for (const org of [
    null,
    1,
    1.5,
    false,
    {},
    ["acme"],
    { "!": "timestamp", value: 1 },
    Buffer.from([255]),
  ]) {
    const [item] = read(json("a"), { headers: { "tallystick-org": org } });
    assert.equal(item?.rejection?.code, "org_mismatch", JSON.stringify(org));
    assert.match(item.rejection.detail, /no text/);
  }
  assertReads(["a"], json("a"), { headers: { "tallystick-org": Buffer.from("acme") } });
  assertReads(["org_mismatch/org_id"], json("a"), { headers: { "tallystick-org": "" } });
});

test("B16: the claim of an AMQP 1.0 sender counts also where RabbitMQ 3 packs it away", () => {
  for (const [org, expected] of [
    ["acme", "a"],
    ["globex", "org_mismatch/org_id"],
    ["x".repeat(200), "org_mismatch/org_id"],
  ] as const) {
    const packed = amqp10.applicationProperties({ "tallystick-org": org }).toString();
    assertReads([expected], json("a"), { headers: { "x-amqp-1.0-app-properties": packed } });
  }
});

test("a fault in reading is a rejection as well, with the bytes kept", () => {
  const properties = {
    get contentType(): string {
      throw new Error("broken");
    },
  };
  assertRefused("internal_error", json("a"), properties);
});
