import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readTimestampUs } from "./event-time.ts";

const read = (text: string): number => readTimestampUs(Buffer.from(text), 0, text.length);

test("every second of every year is read as Date reads it, in every zone", () => {
  const anyTime = fc.date({
    min: new Date("1970-01-02T00:00:00Z"),
    max: new Date("2199-12-30T00:00:00Z"),
    noInvalidDate: true,
  });
  fc.assert(
    fc.property(anyTime, fc.integer({ min: -1439, max: 1439 }), (date, offset) => {
      const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, -1);
      fc.pre(local.startsWith("19") || local.startsWith("2"));
      const minutes = Math.abs(offset);
      const zone = `${offset < 0 ? "-" : "+"}${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
      assert.equal(read(`${local}${zone}`), date.getTime() * 1000);
    }),
    { numRuns: 2000 },
  );
});

test("every day from 1970 to 2199 is one day after the last", () => {
  for (let day = 0; day < 84_005; day++) {
    const text = new Date(day * 86_400_000).toISOString();
    assert.equal(read(text), day * 86_400_000_000, text);
  }
});

test("digits beyond microseconds are cut off, fewer are filled up", () => {
  const whole = Date.UTC(2026, 10, 20, 10, 59, 59) * 1000;
  const fractions: [string, number][] = [
    ["", 0],
    [".5", 500_000],
    [".000001", 1],
    [".9999999", 999_999],
    [`.1${"0".repeat(500)}`, 100_000],
  ];
  for (const [fraction, micros] of fractions)
    assert.equal(read(`2026-11-20T10:59:59${fraction}Z`), whole + micros);
});

test("bytes after the text do not lend it digits or a zone", () => {
  const bytes = Buffer.from("2026-11-20T10:59:59.5Z+05:00");
  for (const [end, isRead] of [
    [19, false],
    [20, false],
    [21, false],
    [22, true],
    [23, false],
  ] as const) {
    assert.equal(
      Number.isNaN(readTimestampUs(bytes, 0, end)),
      !isRead,
      bytes.toString("utf8", 0, end),
    );
  }
});
