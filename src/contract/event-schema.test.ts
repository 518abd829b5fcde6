import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import type { FormatsPlugin } from "ajv-formats";
import ajvFormats from "ajv-formats";
import fc from "fast-check";
import { anyWireEvent } from "./event-arbitrary.ts";
import type { WireEvent } from "./event-arbitrary.ts";
import { EVENT_FIELDS } from "./event-fields.ts";
import { parseUsageEvents } from "./event-parse.ts";
import type { Rejection } from "./outcomes.ts";

const file: unknown = JSON.parse(
  readFileSync(new URL("../../contracts/usage-event.schema.json", import.meta.url), "utf8"),
);
/** The members of an object of the schema file. */
function membersOf(value: unknown): Record<string, unknown> {
  assert.ok(typeof value === "object" && value !== null);
  return Object.fromEntries(Object.entries(value));
}
function examplesOf(value: unknown): unknown[] {
  const { examples } = membersOf(value);
  assert.ok(Array.isArray(examples) && examples.length > 0);
  return examples;
}
const schema = membersOf(file);
const ajv = new Ajv2020({ allowUnionTypes: true, strictTypes: false });
const addFormats: FormatsPlugin = ajvFormats.default;
addFormats(ajv);
const validate = ajv.compile(schema);

function rejectionOf(json: string): Rejection | null {
  const [item] = parseUsageEvents(Buffer.from(json), "json", { eventsMax: 1 });
  assert.ok(item);
  return item.rejection;
}

function assertAgree(event: unknown): void {
  const json = JSON.stringify(event);
  const isValid = validate(JSON.parse(json));
  const rejection = rejectionOf(json);
  assert.equal(
    rejection === null,
    isValid,
    `${json}: the schema says ${ajv.errorsText(validate.errors)}, the scanner ${rejection?.code ?? "accepted"} ${rejection?.pointer ?? ""}`,
  );
}

const A_DAY = "2026-11-20T10:59:59Z";
const VALID: WireEvent = {
  event_id: "e",
  occurred_at: A_DAY,
  org_id: "o",
  model_id: "m",
  status: "success",
};

test("what the generator makes is valid for the schema and for the scanner", () => {
  fc.assert(
    fc.property(anyWireEvent, (event) => {
      assertAgree(event);
      assert.equal(rejectionOf(JSON.stringify(event)), null);
    }),
    { numRuns: 500 },
  );
});

test("with any one field replaced, added or taken away, schema and scanner agree", () => {
  const odd = fc.oneof(
    fc.constantFrom<unknown>(
      null,
      true,
      false,
      "",
      " ",
      "12",
      "abc",
      0,
      1,
      -1,
      1.5,
      2 ** 31 - 1,
      2 ** 31,
      1_000_000,
      1_000_001,
      2 ** 53,
      1e308,
      {},
      [],
      [1],
      { a: 1 },
      "2",
      "1.x",
      "1.",
      2,
      1.9,
      0.9,
      "success",
      "error",
      "cancelled",
      "Success",
      "internal",
      "capacity",
      "absent",
      "usd",
      "EUR",
      "EURO",
      "1,5",
      ".5",
      "5.",
      "+1",
      "01",
      "1e400x",
      "NaN",
      "0x10",
      "1_0",
      -9_007_200,
      "2026-02-30T00:00:00Z",
      "2024-02-29T00:00:00Z",
      "2026-02-29T00:00:00Z",
      "2026-11-20T24:00:00Z",
      "2026-11-20",
      "2026-12-31T23:59:60Z",
      "2026-11-20 10:00:00Z",
      "2026-11-20T10:00:00",
      "2026-11-20T10:00:00.Z",
      "1700000000",
      "2026-11-20T10:00Z",
      "2026-11-20T10:00:00+24:00",
      "2026-11-20T10:00:00+0530",
      "0000-01-01T00:00:00Z",
      "10000-01-01T00:00:00Z",
      "1969-12-31T23:59:59Z",
      "2026-13-01T00:00:00Z",
      "2026-11-00T00:00:00Z",
      A_DAY,
      "x".repeat(128),
      "x".repeat(129),
      "x".repeat(256),
      "x".repeat(257),
      "😀".repeat(256),
      "😀".repeat(257),
      "a\u0000b",
      { a: { b: ["\u0000"] } },
      { constructor: 1 },
      { a: [{ prototype: 1 }] },
      { "\u0000": 1 },
    ),
    fc.jsonValue({ maxDepth: 2 }),
  );
  const field = fc.constantFrom(
    ...EVENT_FIELDS.map(({ name }) => name),
    "vendor_field",
    "constructor",
    "prototype",
    "nu\u0000l",
  );
  fc.assert(
    fc.property(anyWireEvent, field, odd, fc.boolean(), (event, name, value, isRemoved) => {
      const mutated = Object.fromEntries(Object.entries(event).filter(([key]) => key !== name));
      const changed = isRemoved ? mutated : { ...mutated, [name]: value };
      if (!isExcepted(changed)) assertAgree(changed);
    }),
    { numRuns: 5000 },
  );
});

/**
 * What JSON Schema cannot say, or says only after the bytes are parsed; contracts/README.md lists the same. Each has a
 * line here or in the next test, so an exception that is no longer needed does not hide anything else.
 */
function isExcepted(event: WireEvent): boolean {
  const { event_id: eventId, cost_estimate: cost, currency, metadata } = event;
  return (
    (typeof eventId === "string" && Buffer.byteLength(eventId) > 128) ||
    (typeof cost === "string" && Math.abs(Number(cost)) > 9_007_199) ||
    (typeof currency === "string" &&
      /^[A-Z]{3}$/.test(currency) &&
      !["USD", "EUR", "JPY"].includes(currency)) ||
    JSON.stringify(metadata ?? null).length > 8192 ||
    /\\ud[89a-f]/i.test(JSON.stringify(event)) ||
    Object.values(event).some((value) => Object.is(value, -0))
  );
}

test("the documented exceptions: valid for the schema, refused by the scanner", () => {
  const withField = (name: string, raw: string): string =>
    JSON.stringify({ ...VALID, [name]: "@" }).replace('"@"', raw);
  const exceptions: [string, string][] = [
    ["event ids are limited in bytes", JSON.stringify({ ...VALID, event_id: "é".repeat(65) })],
    ["a cost given as text is limited in size", withField("cost_estimate", '"9007200"')],
    ["a currency must be a known one", withField("currency", '"XQZ"')],
    ["metadata is limited in bytes", withField("metadata", `{"a":"${"x".repeat(8192)}"}`)],
    ["unknown fields are limited in bytes together", withField("x", `"${"x".repeat(8192)}"`)],
    ["nesting is limited", withField("x", `${"[".repeat(32)}${"]".repeat(32)}`)],
    ["a key must not occur twice", withField("org_id", '"a","org_id":"o"')],
    ["text must be valid Unicode", withField("org_id", '"\\ud800"')],
    ["an integer is written in digits: not 1.0", withField("input_tokens", "1.0")],
    ["an integer is written in digits: not 1e3", withField("input_tokens", "1e3")],
    ["an integer is written in digits: not -0", withField("input_tokens", "-0")],
  ];
  for (const [name, json] of exceptions) {
    assert.equal(validate(JSON.parse(json)), true, `${name}: ${ajv.errorsText(validate.errors)}`);
    assert.notEqual(rejectionOf(json), null, name);
  }
});

test("the schema names the fields that the scanner knows, with a description and an example each", () => {
  const properties = Object.entries(membersOf(schema["properties"]));
  assert.deepEqual(
    properties.map(([name]) => name).sort(),
    EVENT_FIELDS.map(({ name }) => name).sort(),
  );
  for (const [name, property] of properties) {
    assert.match(String(membersOf(property)["description"]), /\.$/, name);
    for (const example of examplesOf(property)) {
      const { occurred_at: occurredAt, ...rest } = VALID;
      const base = name === "timestamp" ? rest : { ...rest, occurred_at: occurredAt };
      const status = name === "error_class" ? "error" : "success";
      assertAgree({ ...base, status, [name]: example });
      assert.equal(rejectionOf(JSON.stringify({ ...base, status, [name]: example })), null, name);
    }
  }
});

test("the schema's own examples are valid events", () => {
  for (const example of examplesOf(schema)) {
    assertAgree(example);
    assert.equal(rejectionOf(JSON.stringify(example)), null);
  }
});
