import assert from "node:assert/strict";
import { test } from "node:test";
import { parseUsageEvents } from "./event-parse.ts";
import type { EventFormat } from "./event-parse.ts";
import { Failure } from "./failure.ts";
import type { ParsedItem, Rejection, RejectionCode } from "./outcomes.ts";
import {
  FLAG_COST_ROUNDED,
  FLAG_INCONSISTENT_TOTAL,
  OUTCOMES,
  unpackCurrency,
} from "./usage-event.ts";
import type { UsageEvent } from "./usage-event.ts";

const VALID = {
  event_id: "e",
  occurred_at: "2026-11-20T10:59:59Z",
  org_id: "acme",
  model_id: "chat",
  status: "success",
};
const LIMITS = { eventsMax: 1000 };

const parse = (body: string | Buffer, format: EventFormat = "json"): ParsedItem[] =>
  parseUsageEvents(typeof body === "string" ? Buffer.from(body) : body, format, LIMITS);

/** A valid event with one field whose JSON is given as text. */
const withRaw = (name: string, raw: string): string =>
  JSON.stringify({ ...VALID, [name]: "@" }).replace('"@"', () => raw);

function accepted(json: string): UsageEvent {
  const [item] = parse(json);
  assert.ok(item?.event, `${json}: ${JSON.stringify(item?.rejection)}`);
  return item.event;
}

function rejected(json: string | Buffer): Rejection {
  const [item] = parse(json);
  assert.ok(item?.rejection, `accepted: ${json.toString()}`);
  return item.rejection;
}

function assertRejected(json: string | Buffer, code: RejectionCode, pointer: string): void {
  const rejection = rejected(json);
  assert.deepEqual(
    [rejection.code, rejection.pointer],
    [code, pointer],
    `${json.toString()}: ${rejection.detail}`,
  );
  assert.match(rejection.detail, /^\S.+\.$/);
}

function assertFails(body: string | Buffer, code: string, format: EventFormat = "json"): void {
  assert.throws(
    () => parse(body, format),
    (error) => error instanceof Failure && error.code === code,
    body.toString().slice(0, 80),
  );
}

test("one event, an array and NDJSON give the same events, each with its own bytes", () => {
  const texts = ["a", "b", "c"].map((id) => JSON.stringify({ ...VALID, event_id: id }));
  const array = parse(`\ufeff [ ${texts.join(" ,\n")} ]\n`);
  const lines = parse(`\ufeff${texts.join("\r\n\n \t\n")}`, "ndjson");
  assert.deepEqual(
    array.map((item) => item.event),
    lines.map((item) => item.event),
  );
  for (const items of [array, lines])
    assert.deepEqual(
      items.map((item) => item.bytes.toString()),
      texts,
    );
  assert.deepEqual(parse(texts[0] ?? "")[0]?.event, array[0]?.event);
  assert.equal(parse(`${texts.join("\n")}\n`, "ndjson").length, 3);
});

test("B1 what is not JSON fails a JSON body whole, with the position", () => {
  const event = JSON.stringify(VALID);
  const bodies = [
    "{",
    "[",
    "nul",
    '"',
    "{]",
    "[1,]",
    '{"a":1,}',
    "{'a':1}",
    "{a:1}",
    '{"a" 1}',
    "[1 2]",
    `${event} x`,
    `${event}${event}`,
    `[${event}`,
    `[${event}}`,
    `${event},`,
    '{"a":01}',
    '{"a":1.}',
    '{"a":.5}',
    '{"a":+1}',
    '{"a":1e}',
    '{"a":-}',
    '{"a":"\\x"}',
    '{"a":"\\u12g4"}',
    '{"a":"\n"}',
    '{"a":tru}',
    '{"a":undefined}',
    `\u00a0${event}`,
    `${event}\u0000`,
    "[1]//",
    "[,]",
    '[{"a":[}]',
    '{"a":{"b":"\t"}}',
    '{"a":1 "b":2}',
  ];
  for (const body of bodies) {
    assert.throws(() => JSON.parse(body), body);
    assertFails(body, "invalid_json");
  }
  for (let length = 1; length < event.length; length++)
    assertFails(event.slice(0, length), "invalid_json");
  assert.throws(
    () => parse('[{"a":1},{"b":x}]'),
    (error) =>
      error instanceof Failure &&
      /at byte 14\./.test(error.message) &&
      error.details[0]?.code === "invalid_json",
  );
});

test("B1 in NDJSON a line that is not JSON is rejected alone, with what could be read of it", () => {
  const good = JSON.stringify(VALID);
  const broken = '{"event_id":"x","org_id":"o","occurred_at":"2026-11-20T10:59:59Z", oops}';
  const items = parse(
    `${good}\n${broken}\r\n{"a":"\n${good} ${good}\n[${good}]\n"\\u12\n${good}`,
    "ndjson",
  );
  assert.deepEqual(
    items.map((item) => item.rejection?.code ?? "ok"),
    ["ok", "invalid_json", "invalid_json", "invalid_json", "invalid_type", "invalid_json", "ok"],
  );
  assert.equal(items[1]?.bytes.toString(), broken);
  assert.deepEqual(
    [items[1]?.rejection?.eventId, items[1]?.rejection?.orgId, items[1]?.rejection?.occurredAtUs],
    ["x", "o", Date.UTC(2026, 10, 20, 10, 59, 59) * 1000],
  );
  assert.equal(items[1]?.rejection?.pointer, "");
});

test("B1 a body in UTF-16 or UTF-32 is refused as such", () => {
  const event = JSON.stringify(VALID);
  const bigEndian = Buffer.from(`\ufeff${event}`, "utf16le").swap16();
  for (const body of [
    Buffer.from(event, "utf16le"),
    Buffer.from(`\ufeff${event}`, "utf16le"),
    bigEndian,
    bigEndian.subarray(2),
  ]) {
    assertFails(body, "invalid_encoding");
    assertFails(body, "invalid_encoding", "ndjson");
  }
});

test("B2 bytes that are no UTF-8 and halves of surrogate pairs are refused wherever text stands", () => {
  const spoil = (name: string, bytes: number[]): Buffer => {
    const [before = "", after = ""] = JSON.stringify({ ...VALID, [name]: "@" }).split("@");
    return Buffer.concat([Buffer.from(before), Buffer.from(bytes), Buffer.from(after)]);
  };
  const broken = [
    [0xff],
    [0xc3],
    [0xc0, 0x80],
    [0xed, 0xa0, 0x80],
    [0xf4, 0x90, 0x80, 0x80],
    [0x80],
    [0xe2, 0x82],
    [0xf0, 0x9f, 0x98],
  ];
  for (const bytes of broken) {
    for (const name of ["event_id", "org_id", "status", "vendor"])
      assertRejected(spoil(name, bytes), "invalid_encoding", `/${name}`);
  }
  for (const half of [
    "\\ud800",
    "\\udc00",
    "\\ud800x",
    "\\udc00\\ud800",
    "\\ud800\\ud800\\udc00",
  ]) {
    assertRejected(withRaw("org_id", `"${half}"`), "invalid_encoding", "/org_id");
    assertRejected(withRaw("metadata", `{"a":["${half}"]}`), "invalid_encoding", "/metadata/a/0");
    assertRejected(withRaw("metadata", `{"${half}":1}`), "invalid_encoding", "/metadata");
  }
  assert.equal(accepted(withRaw("org_id", '"\\ud83d\\ude00"')).orgId, "😀");
  assert.equal(accepted(withRaw("org_id", '"é😀"')).orgId, "é😀");
});

test("B3 the character U+0000 is refused before it can reach SQL", () => {
  assertRejected(withRaw("event_id", '"a\\u0000"'), "invalid_character", "/event_id");
  assertRejected(
    withRaw("metadata", '{"a":{"b":"\\u0000"}}'),
    "invalid_character",
    "/metadata/a/b",
  );
  assertRejected(withRaw("metadata", '{"\\u0000":1}'), "invalid_character", "/metadata");
  assertRejected(withRaw("vendor", '"\\u0000"'), "invalid_character", "/vendor");
});

test("B4 a key that occurs twice in one object is refused at any level, however it is spelled", () => {
  assertRejected(`{"org_id":"a",${JSON.stringify(VALID).slice(1)}`, "duplicate_key", "/org_id");
  assertRejected(
    withRaw("input_tokens", '1,"input\\u005ftokens":2'),
    "duplicate_key",
    "/input_tokens",
  );
  assertRejected(withRaw("timestamp", '"2026-11-20T10:59:59Z"'), "duplicate_key", "/timestamp");
  assertRejected(withRaw("x", '1,"y":2,"\\u0078":3'), "duplicate_key", "/x");
  assertRejected(
    withRaw("metadata", '{"a":[{"b":1,"c":{},"b":1}]}'),
    "duplicate_key",
    "/metadata/a/0/b",
  );
  const many = Array.from({ length: 40 }, (_, i) => `"k${i}":${i}`).join(",");
  assertRejected(withRaw("metadata", `{${many},"k3":1}`), "duplicate_key", "/metadata/k3");
  assertRejected(withRaw("metadata", `{${many},"k39":1}`), "duplicate_key", "/metadata/k39");
  assert.ok(
    accepted(
      withRaw("metadata", `{${many},"n":{${many},"m":{${many}}},"o":[{${many}},{${many}}]}`),
    ),
  );
  assert.ok(accepted(withRaw("metadata", '{"org_id":1,"a":{"a":{"a":1}},"b":{"a":1}}')));
});

test("B5 keys that reach into JavaScript's object model are refused at any level and pollute nothing", () => {
  for (const key of ["__proto__", "constructor", "prototype", "\\u005f_proto__"]) {
    const decoded: unknown = JSON.parse(`"${key}"`);
    assertRejected(
      withRaw("x", `1,"${key}":{"polluted":1}`),
      "forbidden_key",
      `/${String(decoded)}`,
    );
    assertRejected(
      withRaw("metadata", `{"a":{"${key}":{"polluted":1}}}`),
      "forbidden_key",
      `/metadata/a/${String(decoded)}`,
    );
  }
  assert.equal(Reflect.get({}, "polluted"), undefined);
  assert.ok(accepted(withRaw("metadata", '{"__proto":1,"construct":2,"Constructor":3}')));
});

test("B6 nesting is bounded without recursion, whatever the depth", () => {
  const nested = (depth: number): string => `${"[".repeat(depth)}${"]".repeat(depth)}`;
  assert.ok(accepted(withRaw("x", nested(31))));
  assertRejected(withRaw("x", nested(32)), "too_deep", `/x${"/0".repeat(31)}`);
  for (const deep of [
    nested(10_000),
    nested(500_000),
    `${'{"a":['.repeat(50_000)}${"]}".repeat(50_000)}`,
  ]) {
    assert.equal(rejected(withRaw("metadata", `{"a":${deep}}`)).code, "too_deep");
    assert.equal(rejected(`[${deep}]`).code, "too_deep");
    assertFails(withRaw("x", deep.slice(0, -1)), "invalid_json");
  }
  assertFails(withRaw("x", `${"[".repeat(100)}1,${"]".repeat(100)}`), "invalid_json");
  assertFails(withRaw("x", `${"[".repeat(100)}{"a"}${"]".repeat(100)}`), "invalid_json");
  const [, neighbour] = parse(`[${withRaw("x", nested(10_000))},${JSON.stringify(VALID)}]`);
  assert.ok(neighbour?.event);
});

test("B6 a field of a million elements or keys is refused for its size", () => {
  assertRejected(
    withRaw("metadata", `{"a":[${"1,".repeat(1_000_000)}1]}`),
    "too_large",
    "/metadata",
  );
  const keys = Array.from({ length: 200_000 }, (_, i) => `"k${i}":1`).join(",");
  assertRejected(withRaw("metadata", `{${keys}}`), "too_large", "/metadata");
  assert.equal(rejected(`{${keys}}`).code, "too_large");
  assert.equal(rejected(withRaw("org_id", `"${"\\u0061".repeat(500_000)}"`)).code, "too_long");
});

test("B6 reading hostile bytes takes time in proportion to their number", () => {
  const shapes: ((size: number) => string)[] = [
    (size) => withRaw("x", `{${Array.from({ length: size }, (_, i) => `"${i}":1`).join(",")}}`),
    (size) => withRaw("x", "[".repeat(size) + "]".repeat(size)),
    (size) => withRaw("cost_estimate", `"0.${"9".repeat(size)}"`),
    (size) => withRaw("metadata", `{"n":1${"0".repeat(size)}.${"0".repeat(size)}1}`),
    (size) => withRaw("org_id", `"${"é".repeat(size)}"`),
  ];
  for (const shape of shapes) {
    const cpuOf = (size: number): number => {
      const body = Buffer.from(shape(size));
      const runs = Array.from({ length: 5 }, () => {
        const before = process.cpuUsage();
        parse(body);
        const { user, system } = process.cpuUsage(before);
        return user + system;
      });
      return Math.min(...runs);
    };
    cpuOf(10_000);
    // Sixteen times the bytes: quadratic work would take 256 times as long.
    assert.ok(cpuOf(160_000) < 100 * Math.max(cpuOf(10_000), 500), shape(3));
  }
});

test("B7, B9 an empty body holds no event; as many as the limit are read, one more fails the body", () => {
  for (const body of ["", " \n", "\ufeff", "[]", " [ ] "]) assertFails(body, "empty_batch");
  for (const body of ["", "\n\r\n \n", "\ufeff\n"]) assertFails(body, "empty_batch", "ndjson");
  const event = JSON.stringify(VALID);
  for (const count of [1, 1000]) {
    assert.equal(parse(`[${Array.from({ length: count }, () => event).join(",")}]`).length, count);
    assert.equal(parse(`${event}\n`.repeat(count), "ndjson").length, count);
  }
  assertFails(`[${Array.from({ length: 1001 }, () => event).join(",")}]`, "too_many_events");
  assertFails(`${event}\n`.repeat(1001), "too_many_events", "ndjson");
  assertFails("x", "invalid_json");
});

test("B36 one bad event leaves its neighbours alone, at each position", () => {
  for (let bad = 0; bad < 20; bad++) {
    const events = Array.from({ length: 20 }, (_, i) => ({
      ...VALID,
      event_id: `e${i}`,
      input_tokens: i === bad ? -1 : 1,
    }));
    for (const items of [
      parse(JSON.stringify(events)),
      parse(events.map((event) => JSON.stringify(event)).join("\n"), "ndjson"),
    ]) {
      assert.deepEqual(
        items.map(
          (item, i) =>
            item.event?.eventId ?? `${item.rejection?.eventId} ${item.rejection?.code} ${i}`,
        ),
        events.map((event, i) =>
          i === bad ? `${event.event_id} invalid_number ${i}` : event.event_id,
        ),
      );
    }
  }
});

test("what is no object is no event", () => {
  const items = parse('[1,"a",null,true,[],[{}],-0.5e3]');
  assert.deepEqual(
    items.map((item) => `${item.rejection?.code}${item.rejection?.pointer}`),
    Array(7).fill("invalid_type"),
  );
  assert.deepEqual(
    items.map((item) => item.bytes.toString()),
    ["1", '"a"', "null", "true", "[]", "[{}]", "-0.5e3"],
  );
});

test("a body does not show in the next: what one event says is not said of another", () => {
  const full = {
    ...VALID,
    actor_id: "u",
    client_id: "c",
    error_code: "x",
    cost_estimate: "0.0000000001",
    metadata: { a: 1 },
    x: 1,
    input_tokens: 5,
    requests: 3,
    latency_ms: 4,
    ttft_ms: 2,
    currency: "EUR",
    usage_source: "estimated",
    total_tokens: 9,
  };
  const bare = JSON.stringify(VALID);
  const alone = accepted(bare);
  const [first, second] = parse(`[${JSON.stringify(full)},${bare}]`);
  assert.equal(first?.event?.flags, FLAG_COST_ROUNDED | FLAG_INCONSISTENT_TOTAL | (1 << 2));
  assert.deepEqual(second?.event, alone);
  assert.throws(() => parse(`[${JSON.stringify(full).slice(0, -1)}`));
  assert.deepEqual(accepted(bare), alone);
  assert.equal(OUTCOMES[alone.outcome], "success");
  assert.equal(unpackCurrency(alone.currency), "USD");
});

test("pointers escape their keys, stay within 512 characters, and never carry values", () => {
  assertRejected(withRaw("x", '{"a/b":{"~c":NaN}}'), "invalid_number", "/x/a~1b/~0c");
  const { pointer } = rejected(withRaw("x", `{"${"k".repeat(300)}":{"${"l".repeat(300)}":NaN}}`));
  assert.equal(pointer, `/x/${"k".repeat(300)}`);
  const { detail } = rejected(withRaw("status", '"s3cret"'));
  assert.doesNotMatch(detail, /s3cret/);
});
