import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatInstant, instantOfLocal, isZone, listOffsetSpans, offsetMsAt } from "./zone.ts";

const ZONES = [
  ...Intl.supportedValuesOf("timeZone"),
  "UTC",
  "Etc/GMT+5",
  "Asia/Kathmandu",
  "US/Pacific",
];
const DAY_MS = 86_400_000;
const FROM_MS = Date.UTC(1970, 0, 2);
const TO_MS = Date.UTC(2040, 0, 1);

test("every zone of the IANA database is one, and offsets, places and tricks are not", () => {
  for (const zone of ZONES) assert.ok(isZone(zone), zone);
  for (const name of ["europe/berlin", "EST5EDT", "Etc/UTC"]) assert.ok(isZone(name), name);
  for (const name of [
    "",
    "GMT+5",
    "+05:30",
    "-08",
    "Mars/Base",
    "UTC ",
    " UTC",
    "UTC\0",
    "../UTC",
    "Europe/Berlin;",
    "٣",
    "A".repeat(70),
  ]) {
    assert.ok(!isZone(name), JSON.stringify(name));
  }
});

test("spans join without gaps, and their offset is what the zone's calendar shows", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...ZONES),
      fc.integer({ min: FROM_MS, max: TO_MS }),
      fc.integer({ min: 1, max: 400 * DAY_MS }),
      (zone, startMs, lengthMs) => {
        const calendar = calendarOf(zone);
        const spans = listOffsetSpans(zone, startMs, startMs + lengthMs);
        let at = startMs;
        for (const span of spans) {
          assert.equal(span.startMs, at);
          for (const probe of [span.startMs, span.endMs - 1])
            assert.equal(calendar(probe), span.offsetMs, zone);
          at = span.endMs;
        }
        assert.equal(at, startMs + lengthMs);
      },
    ),
  );
});

test("no zone has changed its clocks and changed them back within a day", () => {
  // listOffsetSpans looks once a day; here every hour is looked at, in the zones that changed most often.
  for (const zone of [
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Gaza",
    "Antarctica/Casey",
    "America/St_Johns",
    "Antarctica/Troll",
  ]) {
    const calendar = calendarOf(zone);
    for (const span of listOffsetSpans(zone, Date.UTC(2005, 0, 1), Date.UTC(2012, 0, 1))) {
      for (let at = span.startMs; at < span.endMs; at += 3_600_000)
        assert.equal(calendar(at), span.offsetMs, `${zone} ${at}`);
    }
  }
});

test("a local time is found at the first instant that shows it or a later one", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...ZONES),
      fc.integer({ min: FROM_MS + DAY_MS, max: TO_MS }),
      (zone, someMs) => {
        const localMs = Math.floor(someMs / 900_000) * 900_000;
        const instant = instantOfLocal(zone, localMs);
        assert.ok(instant + offsetMsAt(zone, instant) >= localMs);
        for (const earlier of [1, 900_000, 1_800_000, 3_600_000, 7_200_000]) {
          assert.ok(
            instant - earlier + offsetMsAt(zone, instant - earlier) < localMs,
            `${zone} ${localMs}`,
          );
        }
      },
    ),
    { numRuns: 400 },
  );
});

test("midnight that the clock skips is the moment of the jump, and one that comes twice is the first", () => {
  const midnight = (day: string) => Date.parse(`${day}T00:00:00Z`);
  assert.equal(
    instantOfLocal("America/Santiago", midnight("2026-09-06")),
    Date.parse("2026-09-06T04:00:00Z"),
  );
  assert.equal(
    instantOfLocal("America/Havana", midnight("2026-11-01")),
    Date.parse("2026-11-01T04:00:00Z"),
  );
  assert.equal(
    instantOfLocal("Pacific/Apia", midnight("2011-12-30")),
    Date.parse("2011-12-30T10:00:00Z"),
  );
});

test("an instant is written with the zone's own offset", () => {
  const instant = Date.parse("2026-07-01T00:00:00Z");
  assert.equal(formatInstant(instant, "UTC"), "2026-07-01T00:00:00Z");
  assert.equal(formatInstant(instant, "Asia/Kathmandu"), "2026-07-01T05:45:00+05:45");
  assert.equal(formatInstant(instant, "America/St_Johns"), "2026-06-30T21:30:00-02:30");
  assert.equal(formatInstant(0, "Africa/Monrovia"), "1970-01-01T00:00:00Z");
});

/** The offset by another road: the calendar's figures, read as UTC, minus the instant. */
function calendarOf(zone: string): (instantMs: number) => number {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  return (instantMs) => {
    const [month = 0, day = 0, year = 0, hour = 0, minute = 0, second = 0] = (
      format.format(instantMs).match(/\d+/g) ?? []
    ).map(Number);
    return (
      Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(instantMs / 1000) * 1000
    );
  };
}
