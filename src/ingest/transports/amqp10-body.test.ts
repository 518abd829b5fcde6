import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isAmqp10, readAmqp10Body } from "./amqp10-body.ts";
import * as amqp10 from "./amqp10-sections.ts";
import { BodyFault } from "./body-fault.ts";

const read = (...sections: readonly Buffer[]): string =>
  readAmqp10Body(Buffer.concat(sections)).bytes.toString();

const assertFault = (code: string, ...sections: readonly Buffer[]): void => {
  assert.throws(
    () => readAmqp10Body(Buffer.concat(sections)),
    (error) => error instanceof BodyFault && error.code === code,
  );
};

test("B33: data sections are joined, and every section around them is passed over", () => {
  const around = [
    amqp10.header(),
    amqp10.deliveryAnnotations(),
    amqp10.messageAnnotations(),
    amqp10.properties(),
    amqp10.applicationProperties({ a: "b" }),
  ];
  assert.equal(read(...around, amqp10.data("{}"), amqp10.footer()), "{}");
  assert.equal(read(amqp10.data("a"), amqp10.data(""), amqp10.data("bc")), "abc");
  const long = "x".repeat(70_000);
  assert.equal(read(amqp10.data(long), amqp10.data(long)), long + long);
  assert.equal(read(...around), "");
});

test("B33: several data sections can be had last first, too", () => {
  const three = Buffer.concat(["one", "two", "three"].map(amqp10.data));
  assert.equal(readAmqp10Body(three).backwards?.toString(), "threetwoone");
  assert.equal(readAmqp10Body(amqp10.data("one")).backwards, null);
});

test("B33: a text or binary value is its bytes; anything else in its place is not read", () => {
  assert.equal(read(amqp10.value(amqp10.text("é"))), "é");
  assert.equal(read(amqp10.value(amqp10.binary("b"))), "b");
  assert.equal(read(amqp10.value(amqp10.text("x".repeat(300)))), "x".repeat(300));
  const one = Buffer.from([0x54, 1]);
  for (const encoded of [
    one,
    Buffer.from([0x40]),
    amqp10.map(amqp10.text("a"), one),
    amqp10.list(one),
    amqp10.sized(0xa3, "symbol"),
    Buffer.from([0x00, 0xa3, 1, 0x61, 0x40]),
  ]) {
    assertFault("unsupported_body", amqp10.value(encoded));
  }
  assertFault("unsupported_body", amqp10.sequence(one));
  assertFault("unsupported_body", amqp10.data("a"), amqp10.sequence(one));
  assertFault("unsupported_body", amqp10.data("a"), amqp10.value(amqp10.text("b")));
  assertFault("unsupported_body", amqp10.value(amqp10.text("b")), amqp10.data("a"));
  assertFault("unsupported_body", amqp10.value(amqp10.text("b")), amqp10.value(amqp10.text("b")));
});

test("a section may be numbered in eight bytes, or named", () => {
  const content = amqp10.binary("{}");
  const wide = Buffer.from([0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x75]);
  assert.equal(read(wide, content), "{}");
  const symbol = amqp10.sized(0xa3, "amqp:data:binary");
  const named = Buffer.concat([Buffer.from([0]), symbol]);
  assert.equal(read(named, content), "{}");
  assert.equal(isAmqp10(wide) && isAmqp10(named), true);
  assertFault("invalid_encoding", Buffer.from([0x00, 0x80, 0, 0, 0, 1, 0, 0, 0, 0x75]), content);
  assertFault("invalid_encoding", Buffer.from([0, 0xa3, 1, 0x61]), content);
});

test("what is no AMQP 1.0 message is said to be none", () => {
  assertFault("invalid_encoding", Buffer.from([0, 0x53]));
  assertFault("invalid_encoding", Buffer.from([0, 0x53, 0x24, 0x45]));
  assertFault("invalid_encoding", Buffer.from([0, 0x53, 0x75, 0xa1, 1, 0x61]));
  assertFault("invalid_encoding", Buffer.from([0, 0x53, 0x75, 0xb0, 0xff, 0xff, 0xff, 0xff, 0x61]));
  assertFault("invalid_encoding", Buffer.from([0, 0x53, 0x70, 0x00, 0x53, 1, 0x45]));
  assertFault("invalid_encoding", Buffer.from([0, 0x53, 0x70, 0x10]), amqp10.data("a"));
  assertFault("invalid_encoding", amqp10.data("{}"), Buffer.from("{}"));
  assertFault("invalid_encoding", amqp10.data("{}"), Buffer.from([1, 0x53, 0x75, 0xa0, 1, 0x61]));
  for (const text of ["", "{}", "1S", "\0", "\0{\0}", "\u0000\u0001"])
    assert.equal(isAmqp10(Buffer.from(text)), false);
});

test("B33: a message cut anywhere is refused, or is a whole message that ends there", () => {
  const sections = [
    amqp10.header(),
    amqp10.applicationProperties({ a: "b" }),
    amqp10.data("one"),
    amqp10.data("x".repeat(300)),
    amqp10.footer(),
  ];
  const whole = Buffer.concat(sections);
  const ends = new Set(sections.map((_, i) => Buffer.concat(sections.slice(0, i + 1)).length));
  for (let length = 1; length <= whole.length; length++) {
    if (ends.has(length)) readAmqp10Body(whole.subarray(0, length));
    else assertFault("invalid_encoding", whole.subarray(0, length));
  }
});

test("arbitrary bytes and mutated messages end in bytes or a fault", () => {
  const whole = Buffer.concat([
    amqp10.header(),
    amqp10.properties(),
    amqp10.applicationProperties({ a: "b" }),
    amqp10.data("one"),
    amqp10.data("two"),
    amqp10.footer(),
  ]);
  const mutated = fc
    .array(fc.tuple(fc.nat({ max: whole.length - 1 }), fc.nat({ max: 255 })), { maxLength: 3 })
    .map((edits) => {
      const bytes = Buffer.from(whole);
      for (const [at, byte] of edits) bytes[at] = byte;
      return bytes;
    });
  const behindPrefix = fc
    .uint8Array({ maxLength: 64 })
    .map((bytes) => Buffer.concat([Buffer.from([0, 0x53]), bytes]));
  const anything = fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes));
  let readable = 0;
  fc.assert(
    fc.property(fc.oneof(mutated, behindPrefix, anything), (payload) => {
      try {
        const { bytes, backwards } = readAmqp10Body(payload);
        assert.ok(bytes.length <= payload.length);
        assert.equal(backwards?.length ?? bytes.length, bytes.length);
        readable++;
      } catch (error) {
        assert.ok(error instanceof BodyFault, String(error));
      }
    }),
    { numRuns: 5000 },
  );
  assert.ok(readable > 100, `only ${readable} were readable`);
});
