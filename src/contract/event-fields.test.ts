import assert from "node:assert/strict";
import { test } from "node:test";
import { parseUsageEvents } from "./event-parse.ts";
import type { ParsedItem, RejectionCode } from "./outcomes.ts";
import {
  FLAG_COST_ROUNDED,
  FLAG_INCONSISTENT_TOTAL,
  OUTCOMES,
  USAGE_SOURCE_SHIFT,
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
const COUNTS = [
  "input_tokens",
  "cache_read_tokens",
  "cache_write_5m_tokens",
  "cache_write_1h_tokens",
  "output_tokens",
  "reasoning_tokens",
];

/** The item made of a valid event in which `name` has the JSON text `raw`; without `raw` the field is left out. */
function withField(name: string, raw?: string, base: object = VALID): ParsedItem {
  const json = JSON.stringify({ ...base, [name]: raw === undefined ? undefined : "@" }).replace(
    '"@"',
    () => raw ?? "",
  );
  const [item] = parseUsageEvents(Buffer.from(json), "json", { eventsMax: 1 });
  assert.ok(item);
  return item;
}

function accepted(name: string, raw: string, base: object = VALID): UsageEvent {
  const { event, rejection } = withField(name, raw, base);
  assert.ok(event, `${name}: ${raw}: ${rejection?.code}`);
  return event;
}

function assertRejected(
  name: string,
  raw: string | undefined,
  code: RejectionCode,
  base: object = VALID,
): void {
  const { rejection } = withField(name, raw, base);
  assert.deepEqual([rejection?.code, rejection?.pointer], [code, `/${name}`], `${name}: ${raw}`);
}

test("required fields are missed by name, and null is not a value for them", () => {
  for (const name of Object.keys(VALID)) {
    assertRejected(name, undefined, "missing_field");
    for (const raw of ["null", "1", "true", "[]", "{}"]) assertRejected(name, raw, "invalid_type");
  }
  assert.equal(
    withField("occurred_at", undefined, { ...VALID, timestamp: VALID.occurred_at }).rejection,
    null,
  );
});

test("a rejection carries the identity that could be read", () => {
  const { rejection } = withField("input_tokens", "-1");
  assert.deepEqual(
    [rejection?.eventId, rejection?.orgId, rejection?.occurredAtUs],
    ["e", "acme", Date.parse(VALID.occurred_at) * 1000],
  );
  assert.equal(withField("event_id", '"\\ud800"').rejection?.eventId, null);
  assert.equal(withField("org_id", '""').rejection?.orgId, null);
  assert.equal(withField("occurred_at", '"x"').rejection?.occurredAtUs, null);
});

test("B11 an event id is its exact bytes, from 1 to 128", () => {
  for (const id of [
    " ",
    " e",
    "E",
    "e\u0301",
    "é",
    "а",
    "x".repeat(128),
    "é".repeat(64),
    "\n",
    "00112233-4455-6677-8899-AABBCCDDEEFF",
  ]) {
    assert.equal(accepted("event_id", JSON.stringify(id)).eventId, id);
  }
  assertRejected("event_id", '""', "invalid_value");
  assertRejected("event_id", JSON.stringify("x".repeat(129)), "too_long");
  assertRejected("event_id", JSON.stringify("é".repeat(65)), "too_long");
  assertRejected("event_id", JSON.stringify("x".repeat(10_000)), "too_long");
});

test("B17 a count is whole and written in digits, and nothing is taken for one", () => {
  for (const name of [...COUNTS, "requests", "total_tokens"]) {
    for (const raw of [
      "-1",
      "-0",
      "1.5",
      "1.0",
      '"12"',
      "1e3",
      "1E0",
      "NaN",
      "Infinity",
      "-Infinity",
      "null",
      "true",
      "false",
      '""',
    ]) {
      assertRejected(name, raw, "invalid_number");
    }
    for (const raw of ["{}", "[1]"]) assertRejected(name, raw, "invalid_type");
  }
});

test("B18 a count too big is out of range, never rounded", () => {
  for (const name of COUNTS) {
    for (const raw of [
      "2147483648",
      "9007199254740992",
      "9223372036854775807",
      "9223372036854775808",
      "9".repeat(400),
    ]) {
      assertRejected(name, raw, "out_of_range");
    }
  }
  for (const raw of ["0", "1000001", "2147483648"]) assertRejected("requests", raw, "out_of_range");
  assertRejected("total_tokens", "9007199254740992", "out_of_range");
  const field = {
    input_tokens: "inputTokens",
    reasoning_tokens: "reasoningTokens",
    requests: "requests",
  } as const;
  assert.equal(accepted("input_tokens", "2147483647")[field.input_tokens], 2_147_483_647);
  assert.equal(accepted("reasoning_tokens", "0")[field.reasoning_tokens], 0);
  assert.equal(accepted("requests", "1000000")[field.requests], 1_000_000);
});

test("B19 a cost is exact, as text or as a number, to a billionth; negative is a credit", () => {
  const costs: [string, number, boolean][] = [
    ["0.1", 100_000_000, false],
    ['"0.30"', 300_000_000, false],
    ["1.5e-7", 150, false],
    ['"1.5E-7"', 150, false],
    ['"-3"', -3_000_000_000, false],
    ["-0.000000001", -1, false],
    ["0", 0, false],
    ["-0", 0, false],
    ['"0e999"', 0, false],
    ["9007199", 9_007_199_000_000_000, false],
    ["-9007199.000000000", -9_007_199_000_000_000, false],
    ["0.123456789012345678", 123_456_789, true],
    ['"0.0000000005"', 0, true],
    ['"0.0000000015"', 2, true],
    ["0.00000000051", 1, true],
    ["1e-400", 0, true],
    ["4503599.627370497", 4_503_599_627_370_497, false],
    ["1200e-2", 12_000_000_000, false],
    ["0.1000000000000000", 100_000_000, false],
    [`0.1${"0".repeat(5000)}`, 100_000_000, false],
  ];
  for (const [raw, nano, isRounded] of costs) {
    const event = accepted("cost_estimate", raw);
    assert.ok(Object.is(event.costNano, nano), `${raw}: ${event.costNano}`);
    assert.equal((event.flags & FLAG_COST_ROUNDED) !== 0, isRounded, raw);
  }
  for (const raw of [
    "9007199.000000001",
    '"9007200"',
    "1e7",
    "-1e7",
    "1e999999999",
    `"${"9".repeat(5000)}"`,
  ]) {
    assertRejected("cost_estimate", raw, "out_of_range");
  }
  for (const text of [
    "1,5",
    "1.5.",
    "",
    " ",
    " 1",
    "1 ",
    "+1",
    ".5",
    "5.",
    "01",
    "0x1",
    "1e",
    "NaN",
    "Infinity",
    "$1",
    "１",
    "--1",
    "-",
  ]) {
    assertRejected("cost_estimate", JSON.stringify(text), "invalid_number");
  }
  for (const raw of ["NaN", "Infinity"]) assertRejected("cost_estimate", raw, "invalid_number");
  for (const raw of ["true", "[]", "{}"]) assertRejected("cost_estimate", raw, "invalid_type");
  assert.equal(accepted("cost_estimate", "null").costNano, null);
});

test("B20 a currency is a known ISO 4217 code in upper case, USD when none is given", () => {
  for (const code of ["EUR", "JPY", "KWD"])
    assert.equal(unpackCurrency(accepted("currency", `"${code}"`).currency), code);
  assert.equal(unpackCurrency(accepted("currency", "null").currency), "USD");
  for (const raw of ['"usd"', '"XQZ"', '"US"', '"USDT"', '""', '"ÜSD"', '"U D"'])
    assertRejected("currency", raw, "invalid_currency");
  assertRejected("currency", "840", "invalid_type");
});

test("B21 the total is derived; a wire total that disagrees is flagged", () => {
  const tokens = { ...VALID, input_tokens: 1, cache_read_tokens: 20, output_tokens: 300 };
  const isFlagged = (raw: string): boolean =>
    (accepted("total_tokens", raw, tokens).flags & FLAG_INCONSISTENT_TOTAL) !== 0;
  assert.equal(isFlagged("321"), false);
  for (const raw of ["301", "0", "9007199254740991"]) assert.equal(isFlagged(raw), true, raw);
});

test("the usage source is what was sent, else it follows from the tokens", () => {
  const sourceOf = (event: UsageEvent): number => event.flags >> USAGE_SOURCE_SHIFT;
  assert.equal(sourceOf(accepted("status", '"success"')), 2);
  assert.equal(sourceOf(accepted("output_tokens", "0")), 0);
  assert.equal(sourceOf(accepted("usage_source", '"estimated"')), 1);
  assert.equal(sourceOf(accepted("usage_source", "null")), 2);
  for (const raw of ['"guessed"', '"Reported"', '""'])
    assertRejected("usage_source", raw, "invalid_value");
});

test("B22 a timestamp has a zone and a real date; nothing is guessed", () => {
  const refused = [
    "2026-11-20T10:59:59",
    "2026-11-20",
    "2026-02-30T00:00:00Z",
    "2026-02-29T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-11-20T24:00:00Z",
    "2026-12-31T23:59:60Z",
    "2026-11-20T10:60:00Z",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "1700000000",
    "1700000000000",
    "2026-13-01T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-11-00T00:00:00Z",
    "",
    " ",
    "2026-11-20T10:59:59+24:00",
    "2026-11-20T10:59:59+05",
    "2026-11-20T10:59:59.Z",
    "2026-11-20T10:59:59 Z",
    "2026-11-20T10:59:59Z ",
    "2026-11-20T10:59:59ZZ",
    "+2026-11-20T10:59:59Z",
    "２０２６-11-20T10:59:59Z",
    "2100-02-29T00:00:00Z",
  ];
  for (const text of refused) {
    assertRejected("occurred_at", JSON.stringify(text), "invalid_timestamp");
    const { occurred_at: _, ...rest } = VALID;
    assertRejected("timestamp", JSON.stringify(text), "invalid_timestamp", rest);
  }
  for (const raw of ["1700000000", "1700000000000", "1.7e9", "null"])
    assertRejected("occurred_at", raw, "invalid_type");
  assert.equal(
    accepted("occurred_at", '"2026-11-20T16:44:59.1234567+05:45"').occurredAtUs,
    Date.parse("2026-11-20T10:59:59Z") * 1000 + 123_456,
  );
  assert.equal(
    accepted("occurred_at", '"2026-11\\u002d20T10:59:59.5Z"').occurredAtUs,
    Date.parse("2026-11-20T10:59:59.500Z") * 1000,
  );
});

test("B26 a latency is 0 to 2147483647 whole milliseconds or unknown; anything else that is whole is out of its range", () => {
  for (const name of ["latency_ms", "ttft_ms"]) {
    for (const raw of ["-1", "-5000", "2147483648", "1000000000000"])
      assertRejected(name, raw, "invalid_range");
    for (const raw of ["-0", "1.5", "-1.5", "1e3", '"12"', "NaN", "true"])
      assertRejected(name, raw, "invalid_number");
    for (const raw of ["[]", "{}"]) assertRejected(name, raw, "invalid_type");
  }
  assert.equal(accepted("latency_ms", "0").latencyMs, 0);
  assert.equal(accepted("latency_ms", "2147483647").latencyMs, 2_147_483_647);
  assert.equal(accepted("latency_ms", "null").latencyMs, null);
  assert.equal(accepted("ttft_ms", "0").ttftMs, 0);
  assert.equal(accepted("status", '"success"').latencyMs, null);
});

test("B27 texts are kept as they are, to 256 characters", () => {
  const texts = [
    "😀",
    "شكرا",
    "a\nb",
    "<script>alert(1)</script>",
    "'; drop table org",
    "=cmd()",
    " ",
    "\u007f",
    "x".repeat(256),
    "😀".repeat(256),
  ];
  const fields = {
    org_id: "orgId",
    model_id: "modelId",
    actor_id: "actorId",
    client_id: "clientId",
    error_code: "errorCode",
  } as const;
  for (const [name, property] of Object.entries(fields)) {
    for (const text of texts) {
      assert.equal(accepted(name, JSON.stringify(text))[property], text);
      assert.equal(
        accepted(name, JSON.stringify(text))[property],
        text,
        "again, now that it is known",
      );
    }
    assertRejected(name, '""', "invalid_value");
    for (const text of ["x".repeat(257), "😀".repeat(257), "x".repeat(5000)])
      assertRejected(name, JSON.stringify(text), "too_long");
  }
  for (const name of ["actor_id", "client_id", "error_code"]) assert.ok(accepted(name, "null"));
});

test("B29 fields the contract does not know are kept up to 8192 bytes, metadata likewise, as sent", () => {
  assert.equal(accepted("vendor", '{ "a" : [1.0, "é"] }').extra, '{"vendor":{ "a" : [1.0, "é"] }}');
  assert.equal(accepted("x", '1,"y":null,"z" : "\\u00e9"').extra, '{"x":1,"z" : "\\u00e9"}');
  assert.equal(accepted("vendor", "null").extra, null);
  assert.equal(accepted("metadata", '{ "a":1e2 ,"b":"é"}').metadata, '{ "a":1e2 ,"b":"é"}');
  assert.equal(accepted("metadata", "{}").metadata, "{}");
  assert.equal(accepted("metadata", "null").metadata, null);
  for (const raw of ["[]", '"a"', "1", "true"]) assertRejected("metadata", raw, "invalid_type");

  const filled = (bytes: number): string => `{"a":"${"x".repeat(bytes - 8)}"}`;
  assert.equal(accepted("metadata", filled(8192)).metadata, filled(8192));
  assertRejected("metadata", filled(8193), "too_large");
  assertRejected("metadata", filled(1_000_000), "too_large");
  const text = (bytes: number): string => `"${"x".repeat(bytes - 2)}"`;
  assert.equal(accepted("vendor", text(8192 - '{"vendor":}'.length)).extra?.length, 8192);
  assertRejected("vendor", text(8193 - '{"vendor":}'.length), "too_large");
  assert.equal(withField("a", `${text(5000)},"b":${text(5000)}`).rejection?.pointer, "/b");
});

test("B30 every minor version of schema 1 is read, any other version is unknown", () => {
  for (const raw of ['"1"', '"1.0"', '"1.25"', "1", "1.0", "1.5", "null"])
    assert.ok(accepted("schema_version", raw));
  for (const raw of [
    '"2"',
    '"2.0"',
    '"0"',
    '"1."',
    '"v1"',
    '"1.2.3"',
    '""',
    "2",
    "0",
    "-1",
    "0.9",
    "1e5",
  ]) {
    assertRejected("schema_version", raw, "unknown_schema");
  }
  assertRejected("schema_version", "{}", "invalid_type");
});

test("B31 a field whose type changed is refused, not converted", () => {
  assertRejected("input_tokens", '"12"', "invalid_number");
  assertRejected("error_code", "429", "invalid_type");
  assertRejected("actor_id", "12", "invalid_type");
  assertRejected("actor_id", '{"id":12}', "invalid_type");
  assertRejected("status", "200", "invalid_type");
  assertRejected("metadata", '"{}"', "invalid_type");
});

test("the outcome is the status, and for an error its class: as sent, else from the code", () => {
  const outcomeOf = (fields: object): string | undefined =>
    OUTCOMES[accepted("x", "1", { ...VALID, ...fields }).outcome];
  assert.equal(outcomeOf({}), "success");
  assert.equal(outcomeOf({ error_code: "429" }), "success");
  assert.equal(
    outcomeOf({ status: "cancelled", error_class: "client", error_code: "499" }),
    "cancelled",
  );
  assert.equal(outcomeOf({ status: "error" }), "internal");
  assert.equal(outcomeOf({ status: "error", error_code: "429" }), "capacity");
  assert.equal(
    outcomeOf({ status: "error", error_code: "429", error_class: "upstream" }),
    "upstream",
  );
  for (const raw of ['"ok"', '"Success"', '""']) assertRejected("status", raw, "invalid_value");
  for (const raw of ['"none"', '""'])
    assertRejected("error_class", raw, "invalid_value", { ...VALID, status: "error" });
  assertRejected("error_class", '"client"', "invalid_value");
  assert.ok(accepted("error_class", "null"));
});

test("the name that stands for all orgs together is no org", () => {
  const { rejection } = withField("org_id", '"*"');
  assert.equal(rejection?.code, "invalid_value");
  assert.equal(rejection.pointer, "/org_id");
  assert.equal(rejection.orgId, null);
  assert.equal(withField("org_id", '"**"').event?.orgId, "**");
});
