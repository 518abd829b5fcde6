import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { anyWireEvent } from "./event-arbitrary.ts";
import type { WireEvent } from "./event-arbitrary.ts";
import { createEventKey } from "./event-identity.ts";
import { parseUsageEvents } from "./event-parse.ts";
import type { UsageEvent } from "./usage-event.ts";

function parseOne(json: string): UsageEvent {
  const [item] = parseUsageEvents(Buffer.from(json), "json", { eventsMax: 1 });
  assert.equal(item?.rejection, null, json);
  assert.ok(item.event);
  return item.event;
}
const hashOf = (json: string): string => parseOne(json).contentHash.join(":");

const BASE = {
  event_id: "e-1",
  occurred_at: "2026-11-20T10:59:59Z",
  org_id: "acme",
  model_id: "chat-large",
  actor_id: "user-1",
  client_id: "app-1",
  requests: 2,
  input_tokens: 1,
  cache_read_tokens: 2,
  cache_write_5m_tokens: 3,
  cache_write_1h_tokens: 4,
  output_tokens: 5,
  reasoning_tokens: 6,
  total_tokens: 21,
  latency_ms: 7,
  ttft_ms: 8,
  status: "error",
  error_code: "429",
  cost_estimate: "0.10",
  currency: "USD",
  usage_source: "reported",
  metadata: { a: 1, b: [1, 2], c: { d: "é" } },
  vendor_field: { x: 1, y: null },
};
const baseHash = (): string => hashOf(JSON.stringify(BASE));

test("a canonical lower-case UUID is its own key, every other id is hashed by its exact bytes", () => {
  assert.deepEqual(createEventKey("00112233-4455-6677-8899-aabbccddeeff"), {
    key: [0x00112233, 0x44556677, 0x8899aabb, 0xccddeeff],
    isUuidKey: true,
  });
  const others = [
    "00112233-4455-6677-8899-AABBCCDDEEFF",
    "00112233445566778899aabbccddeeff",
    "00112233-4455-6677-8899-aabbccddeef",
    "00112233-4455-6677-8899-aabbccddeeff ",
    "00112233x4455-6677-8899-aabbccddeeff",
    "00112233-4455-6677-8899-aabbccddeefg",
    "e",
    "E",
    "é",
    "e\u0301",
    " e",
  ];
  const keys = others.map((id) => {
    const { key, isUuidKey } = createEventKey(id);
    const digest = createHash("sha256").update(id).digest();
    assert.deepEqual(
      key,
      [0, 4, 8, 12].map((at) => digest.readUInt32BE(at)),
      id,
    );
    assert.equal(isUuidKey, false, id);
    return key.join();
  });
  assert.equal(new Set(keys).size, others.length);
});

test("the key of a parsed event is that of its id, escapes decoded", () => {
  const spelled = JSON.stringify({ ...BASE, event_id: "@" }).replace('"@"', '"\\u0065-\\u0031"');
  assert.deepEqual(parseOne(spelled).key, createEventKey("e-1").key);
  assert.equal(parseOne(spelled).eventId, "e-1");
});

test("the content hash does not depend on key order, whitespace or escapes", () => {
  fc.assert(
    fc.property(anyWireEvent, fc.infiniteStream(fc.nat()), (event, random) => {
      const shuffled = shuffle(event, () => Number(random.next().value));
      const spelled = JSON.stringify(shuffled, null, 2).replace(
        /[^\u0020-\u007e\n]/g,
        (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
      );
      assert.equal(hashOf(spelled), hashOf(JSON.stringify(event)));
    }),
    { numRuns: 300 },
  );
});

/** The same content, members of every object in another order. */
function shuffle(value: unknown, random: () => number): unknown {
  if (Array.isArray(value)) return value.map((item) => shuffle(item, random));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, item]) => ({
    key,
    item: shuffle(item, random),
    rank: random(),
  }));
  return Object.fromEntries(
    entries.sort((x, y) => x.rank - y.rank).map(({ key, item }) => [key, item]),
  );
}

test("what is absent, null or the default is the same content", () => {
  const bare = {
    event_id: "e",
    occurred_at: BASE.occurred_at,
    org_id: "o",
    model_id: "m",
    status: "success",
    input_tokens: 3,
  };
  const full = {
    ...bare,
    actor_id: null,
    client_id: null,
    requests: 1,
    output_tokens: 0,
    cache_read_tokens: 0,
    total_tokens: 3,
    latency_ms: null,
    ttft_ms: null,
    error_code: null,
    error_class: null,
    cost_estimate: null,
    currency: "USD",
    usage_source: "reported",
    metadata: null,
    schema_version: null,
    vendor_field: null,
  };
  assert.equal(hashOf(JSON.stringify(full)), hashOf(JSON.stringify(bare)));
  assert.equal(
    hashOf(JSON.stringify({ ...BASE, error_class: "capacity" })),
    baseHash(),
    "a derived class spelled out",
  );
});

test("when it happened and which minor version said so are no content", () => {
  for (const change of [
    { occurred_at: "2026-11-20T11:00:01.5+01:00" },
    { schema_version: "1.4" },
    { schema_version: 1 },
  ]) {
    assert.equal(hashOf(JSON.stringify({ ...BASE, ...change })), baseHash());
  }
  const { occurred_at: occurredAt, ...rest } = BASE;
  assert.equal(hashOf(JSON.stringify({ ...rest, timestamp: occurredAt })), baseHash());
});

test("an amount is the same content however it is spelled", () => {
  const withCost = (cost: string): string =>
    hashOf(JSON.stringify({ ...BASE, cost_estimate: "@" }).replace('"@"', cost));
  for (const cost of [
    '"0.1"',
    "0.1",
    "0.10",
    "1e-1",
    '"0.1000000000000000"',
    "1.0E-01",
    '"10e-2"',
  ]) {
    assert.equal(withCost(cost), baseHash(), cost);
  }
  assert.notEqual(withCost("0.1000000000001"), baseHash(), "digits below a billionth are content");
  assert.notEqual(withCost("0.1000000000001"), withCost("0.1000000000002"));
  assert.equal(withCost("0.1000000000001"), withCost('"1000000000001e-13"'));
  const inMetadata = (number: string): string =>
    hashOf(JSON.stringify({ ...BASE, metadata: "@" }).replace('"@"', `{"n":${number}}`));
  for (const number of ["1e2", "100.0", "1000e-1"])
    assert.equal(inMetadata(number), inMetadata("100"), number);
  for (const number of [
    "101",
    "-100",
    "1000",
    "10",
    "1e1",
    '"100"',
    "[100]",
    "123456789012345678901",
    "1000000000",
  ]) {
    assert.notEqual(inMetadata(number), inMetadata("100"), number);
  }
  assert.notEqual(inMetadata("123456789012345678901"), inMetadata("123456789012345678902"));
});

test("any other change is a change of content", () => {
  const changes: WireEvent[] = [
    { org_id: "acmf" },
    { model_id: "chat-small" },
    { actor_id: "user-2" },
    { actor_id: null },
    { client_id: "app-2" },
    { actor_id: "app-1", client_id: "user-1" },
    { requests: 3 },
    { input_tokens: 2, total_tokens: 22 },
    { input_tokens: 2, cache_read_tokens: 1 },
    { cache_write_5m_tokens: 4, cache_write_1h_tokens: 3 },
    { output_tokens: 6, reasoning_tokens: 5 },
    { total_tokens: 20 },
    { total_tokens: 22 },
    { latency_ms: 8, ttft_ms: 7 },
    { latency_ms: null },
    { latency_ms: 0 },
    { ttft_ms: null },
    { status: "success" },
    { status: "cancelled" },
    { status: "cancelled", error_class: "client" },
    { error_code: "500" },
    { error_code: "503" },
    { error_class: "policy" },
    { cost_estimate: "0.11" },
    { cost_estimate: "-0.10" },
    { cost_estimate: 0 },
    { cost_estimate: null },
    { currency: "EUR" },
    { usage_source: "estimated" },
    { usage_source: "absent" },
    { metadata: null },
    { metadata: {} },
    { metadata: { ...BASE.metadata, a: 2 } },
    { metadata: { ...BASE.metadata, b: [2, 1] } },
    { metadata: { ...BASE.metadata, b: [1, 2, null] } },
    { metadata: { ...BASE.metadata, c: { e: "é" } } },
    { metadata: { ...BASE.metadata, c: { d: "e" } } },
    { metadata: { ...BASE.metadata, a: true } },
    { metadata: { ...BASE.metadata, a: "1" } },
    { metadata: { a: 1, b: [1, 2], d: { c: "é" } } },
    { vendor_field: null },
    { vendor_field: { x: 1 } },
    { vendor_field: {} },
    { vendor_field: [] },
    { other_field: { x: 1, y: null } },
  ];
  const hashes = changes.map((change) => hashOf(JSON.stringify({ ...BASE, ...change })));
  const all = new Set([baseHash(), ...hashes]);
  assert.equal(all.size, changes.length + 1, "two different contents share a hash");
});

test("60,000 contents that differ in a small number have as many hashes in each half as chance allows", () => {
  const highs = new Set<number>();
  const lows = new Set<number>();
  const pairs = new Set<string>();
  for (let from = 0; from < 60_000; from += 5000) {
    const lines = Array.from({ length: 5000 }, (_, i) =>
      JSON.stringify({ ...BASE, metadata: { n: from + i } }),
    );
    for (const item of parseUsageEvents(Buffer.from(lines.join("\n")), "ndjson", {
      eventsMax: 5000,
    })) {
      const [high, low] = item.event?.contentHash ?? [0, 0];
      highs.add(high);
      lows.add(low);
      pairs.add(`${high}:${low}`);
    }
  }
  assert.equal(pairs.size, 60_000);
  // Of 60,000 random 32-bit numbers 0 or 1 is met twice.
  assert.ok(highs.size > 59_990 && lows.size > 59_990, `${highs.size} ${lows.size}`);
});
