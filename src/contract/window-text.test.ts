import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "./failure.ts";
import { parseWindow } from "./window.ts";
import { formatInstant } from "./zone.ts";

const at = (text: string) => Date.parse(text);

test("bounds may be instants or dates, and what is left out has a default", () => {
  const now = at("2026-11-20T11:07:00Z");
  const window = parseWindow({ timeZone: "Asia/Kathmandu" }, now);
  assert.equal(formatInstant(window.endMs, "Asia/Kathmandu"), "2026-11-20T17:00:00+05:45");
  assert.equal(formatInstant(window.startMs, "Asia/Kathmandu"), "2026-11-14T00:00:00+05:45");
  assert.equal(window.buckets.length, 7);
  const dates = parseWindow(
    { start: "2026-03-29", end: "2026-03-30", timeZone: "Europe/Berlin", granularity: "hour" },
    now,
  );
  assert.equal(dates.buckets.length, 23);
  const instants = parseWindow(
    {
      start: "2026-03-29T00:00:00.000+01:00",
      end: "2026-03-29T22:00:00z",
      timeZone: "Europe/Berlin",
      granularity: "hour",
    },
    now,
  );
  assert.deepEqual(instants.buckets, dates.buckets);
});

test("what is no window is refused by name, and the parameter is pointed at", () => {
  const now = at("2026-11-20T11:07:00Z");
  const refused = (
    text: Omit<Parameters<typeof parseWindow>[0], "timeZone"> & { timeZone?: string },
  ) => {
    try {
      parseWindow({ timeZone: "UTC", ...text }, now);
    } catch (error) {
      assert.ok(error instanceof Failure);
      return `${error.code} ${error.details[0]?.pointer} ${error.details[0]?.code}`;
    }
    return "accepted";
  };
  assert.equal(refused({ timeZone: "GMT+5" }), "unknown_zone /query/timeZone unknown_zone");
  assert.equal(
    refused({ timeZone: "'; drop table org; --" }),
    "unknown_zone /query/timeZone unknown_zone",
  );
  assert.equal(
    refused({ start: "2026-11-20T00:00:00 05:45" }),
    "invalid_request /query/start invalid_instant",
  );
  assert.match(failureOf({ start: "2026-11-20T00:00:00 05:45" }), /%2B/);
  for (const bad of [
    "",
    "yesterday",
    "2026-02-30",
    "2026-13-01",
    "2026-11-20T00:00:00",
    "2026-11-20T24:00:00Z",
    "2026-11-20T00:00:60Z",
    "1763596800",
    "2026-11-20T00:00:00+24:00",
    "２０２６-11-20",
    "2026-11-20\0",
  ]) {
    assert.equal(refused({ end: bad }), "invalid_request /query/end invalid_instant", bad);
  }
  assert.equal(
    refused({ start: "2026-11-20T00:07:00Z" }),
    "invalid_request /query/start not_on_quarter_hour",
  );
  assert.equal(
    refused({ start: "2026-11-20T00:00:00.001Z" }),
    "invalid_request /query/start not_on_quarter_hour",
  );
  assert.equal(
    refused({ start: "2026-11-20", end: "2026-11-19" }),
    "invalid_request /query/end wrong_order",
  );
  assert.equal(
    refused({ start: "2026-11-20", end: "2026-11-20" }),
    "invalid_request /query/end wrong_order",
  );
  assert.equal(
    refused({ start: "1926-11-20", end: "2026-11-20" }),
    "invalid_request /query/start out_of_range",
  );
  assert.equal(
    refused({ start: "2020-11-20", end: "2026-11-20" }),
    "range_too_large /query/start range_too_large",
  );
  assert.equal(
    refused({ start: "2026-01-01", end: "2026-11-20", granularity: "15m" }),
    "range_too_large /query/start range_too_large",
  );

  function failureOf(text: { start: string }): string {
    try {
      parseWindow({ timeZone: "UTC", ...text }, now);
      return "";
    } catch (error) {
      return error instanceof Failure ? error.message : "";
    }
  }
});
