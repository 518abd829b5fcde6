import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { testDatabase } from "#harness";
import { Failure } from "./failure.ts";
import { GRAIN_SECONDS } from "./rollup-grid.ts";
import {
  BUCKETS_MAX,
  coverSpan,
  createWindow,
  GRANULARITIES,
  type Granularity,
  parseWindow,
  previousOf,
  QUARTER_HOUR_MS,
  RANGE_DAYS_MAX,
  type Window,
} from "./window.ts";
import { formatInstant, listOffsetSpans, offsetMsAt } from "./zone.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const ZONES = Intl.supportedValuesOf("timeZone");
const at = (text: string) => Date.parse(text);

/** Days that fit the bucket limit, per granularity. */
const DAYS_MAX = {
  "15m": 30,
  hour: 120,
  day: 399,
  week: 399,
  month: 399,
} as const satisfies Record<Granularity, number>;

/** Any zone, any granularity, any window since 1985 (before that some zones were off by odd minutes). */
const windows = fc
  .record({
    timeZone: fc.constantFrom(...ZONES),
    granularity: fc.constantFrom(...GRANULARITIES),
    startMs: fc
      .integer({ min: at("1985-01-01"), max: at("2037-01-01") })
      .map((ms) => Math.floor(ms / QUARTER_HOUR_MS) * QUARTER_HOUR_MS),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ share, ...ask }) => ({
    ...ask,
    endMs:
      ask.startMs +
      QUARTER_HOUR_MS *
        Math.max(1, Math.floor((share * DAYS_MAX[ask.granularity] * DAY_MS) / QUARTER_HOUR_MS)),
  }));

/** The window, or undefined when the zone's clock was odd then (Failure unsupported_granularity). */
function windowOrOdd(ask: Parameters<typeof createWindow>[0]): Window | undefined {
  try {
    return createWindow(ask);
  } catch (error) {
    if (error instanceof Failure && error.code === "unsupported_granularity") return undefined;
    throw error;
  }
}

test("the buckets of any window in any zone cover it exactly, in order, without gaps", () => {
  fc.assert(
    fc.property(windows, (ask) => {
      const window = windowOrOdd(ask);
      if (window === undefined) return;
      let end = ask.startMs;
      for (const bucket of window.buckets) {
        assert.equal(bucket.startMs, end);
        assert.ok(bucket.endMs > bucket.startMs);
        end = bucket.endMs;
      }
      assert.equal(end, ask.endMs);
    }),
    { numRuns: 400 },
  );
});

test("every bucket begins when the local clock first shows the start of a quarter, hour, day, week or month", () => {
  fc.assert(
    fc.property(windows, (ask) => {
      const window = windowOrOdd(ask);
      if (window === undefined) return;
      for (const { startMs } of window.buckets.slice(1)) {
        const isJump = offsetMsAt(ask.timeZone, startMs) !== offsetMsAt(ask.timeZone, startMs - 1);
        const local = new Date(startMs + offsetMsAt(ask.timeZone, startMs));
        if (isJump) continue;
        assert.equal(local.getUTCMinutes() % 15, 0);
        if (ask.granularity === "15m") continue;
        assert.equal(local.getUTCMinutes(), 0);
        if (ask.granularity === "hour") continue;
        assert.equal(local.getUTCHours(), 0, `${ask.timeZone} ${local.toISOString()}`);
        if (ask.granularity === "week") assert.equal(local.getUTCDay(), 1);
        if (ask.granularity === "month") assert.equal(local.getUTCDate(), 1);
      }
    }),
    { numRuns: 400 },
  );
});

test("the pieces of any span are whole rows that add up to it, and no coarser row would have fitted", () => {
  fc.assert(
    fc.property(windows, ({ startMs, endMs }) => {
      let end = startMs;
      for (const piece of coverSpan({ startMs, endMs })) {
        const stepMs = GRAIN_SECONDS[piece.grain] * 1000;
        assert.equal(piece.startMs, end);
        assert.ok(
          piece.startMs % stepMs === 0 && piece.endMs % stepMs === 0 && piece.endMs > piece.startMs,
        );
        if (piece.grain === "15m") assert.ok(piece.endMs - piece.startMs < 2 * HOUR_MS);
        if (piece.grain === "hour") assert.ok(piece.endMs - piece.startMs < 2 * DAY_MS);
        end = piece.endMs;
      }
      assert.equal(end, endMs);
      assert.ok(coverSpan({ startMs, endMs }).length <= 5);
    }),
  );
});

test("days around a change of the clocks have 23, 25, 23.5 and 24.5 hours", () => {
  const hoursOfDay = (timeZone: string, day: string) => {
    const midnight = at(`${day}T00:00:00Z`);
    const window = createWindow({
      startMs: midnight - 2 * DAY_MS,
      endMs: midnight + 3 * DAY_MS,
      timeZone,
      granularity: "day",
    });
    const bucket = window.buckets.find((one) =>
      formatInstant(one.startMs, timeZone).startsWith(day),
    );
    assert.ok(bucket);
    return (bucket.endMs - bucket.startMs) / HOUR_MS;
  };
  assert.equal(hoursOfDay("Europe/Berlin", "2026-03-29"), 23);
  assert.equal(hoursOfDay("Europe/Berlin", "2026-10-25"), 25);
  assert.equal(hoursOfDay("Australia/Lord_Howe", "2026-10-04"), 23.5);
  assert.equal(hoursOfDay("Australia/Lord_Howe", "2026-04-05"), 24.5);
  assert.equal(hoursOfDay("America/Santiago", "2026-09-06"), 23);
  assert.equal(hoursOfDay("America/Havana", "2026-11-01"), 25);
  assert.equal(hoursOfDay("Asia/Kathmandu", "2026-03-29"), 24);
});

test("a day that a zone left out gets no bucket, and an hour that comes twice is two", () => {
  const starts = (ask: Parameters<typeof createWindow>[0]) =>
    createWindow(ask).buckets.map((bucket) => formatInstant(bucket.startMs, ask.timeZone));
  assert.deepEqual(
    starts({
      startMs: at("2011-12-29T10:00:00Z"),
      endMs: at("2012-01-01T10:00:00Z"),
      timeZone: "Pacific/Apia",
      granularity: "day",
    }),
    ["2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"],
  );
  assert.deepEqual(
    starts({
      startMs: at("2026-10-25T00:00:00Z"),
      endMs: at("2026-10-25T03:00:00Z"),
      timeZone: "Europe/Berlin",
      granularity: "hour",
    }),
    ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
  );
  assert.deepEqual(
    starts({
      startMs: at("2026-04-04T14:00:00Z"),
      endMs: at("2026-04-04T16:30:00Z"),
      timeZone: "Australia/Lord_Howe",
      granularity: "hour",
    }),
    ["2026-04-05T01:00:00+11:00", "2026-04-05T01:30:00+10:30", "2026-04-05T02:00:00+10:30"],
  );
});

test("a clock that is off by odd minutes gets an honest refusal", () => {
  const ask = {
    startMs: at("1971-01-01T00:00:00Z"),
    endMs: at("1971-01-05T00:00:00Z"),
    timeZone: "Africa/Monrovia",
    granularity: "day",
  } as const;
  assert.throws(() => createWindow(ask), { name: "Failure", code: "unsupported_granularity" });
});

test("PostgreSQL cuts the same days, weeks, months and hours", async () => {
  await using db = await testDatabase({ migrated: false });
  const zones = [
    "UTC",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "America/Havana",
    "America/Santiago",
    "Africa/Casablanca",
    "Pacific/Chatham",
  ];
  for (const timeZone of zones) {
    for (const granularity of ["day", "week", "month"] as const) {
      const [startMs, endMs] = [at("2024-09-10T13:30:00Z"), at("2025-10-08T07:15:00Z")];
      const rows = await db.database.sql<{ first: number }>`
        select extract(epoch from min(t))::float8 as first
          from generate_series(${new Date(startMs)}::timestamptz, ${new Date(endMs - 1)}::timestamptz, '15 minutes') t
         group by date_trunc(${granularity}, t at time zone ${timeZone})
         order by 1`;
      const buckets = createWindow({ startMs, endMs, timeZone, granularity }).buckets;
      assert.deepEqual(
        buckets.map((bucket) => bucket.startMs / 1000),
        rows.map((row) => row.first),
        `${timeZone} ${granularity}`,
      );
    }
    const [startMs, endMs] = [at("2026-02-20T00:00:00Z"), at("2026-04-10T00:00:00Z")];
    const rows = await db.database.sql<{ first: number }>`
      select extract(epoch from min(t))::float8 as first
        from generate_series(${new Date(startMs)}::timestamptz, ${new Date(endMs - 1)}::timestamptz, '15 minutes') t
       group by date_trunc('hour', t at time zone ${timeZone}), t - (t at time zone ${timeZone} at time zone 'UTC')
       order by 1`;
    const buckets = createWindow({ startMs, endMs, timeZone, granularity: "hour" }).buckets;
    assert.deepEqual(
      buckets.map((bucket) => bucket.startMs / 1000),
      rows.map((row) => row.first),
      `${timeZone} hour`,
    );
  }
});

test("a window is compared with as many months, days or as much time before it, and no further than it has run", () => {
  const compare = (start: string, end: string, until: string, granularity: Granularity = "day") => {
    const timeZone = "Europe/Berlin";
    const window = parseWindow({ start, end, timeZone, granularity }, 0);
    const spans = previousOf(window, at(until));
    return (
      spans &&
      [spans.current.endMs, spans.previous.startMs, spans.previous.endMs].map((ms) =>
        formatInstant(ms, timeZone).slice(0, 16),
      )
    );
  };
  const past = "2027-01-01T00:00:00Z";
  assert.deepEqual(compare("2026-03-01", "2026-04-01", past), [
    "2026-04-01T00:00",
    "2026-02-01T00:00",
    "2026-03-01T00:00",
  ]);
  assert.deepEqual(compare("2026-10-20", "2026-10-27", past), [
    "2026-10-27T00:00",
    "2026-10-13T00:00",
    "2026-10-20T00:00",
  ]);
  assert.deepEqual(compare("2026-11-20T01:00:00Z", "2026-11-20T04:00:00Z", past), [
    "2026-11-20T05:00",
    "2026-11-19T23:00",
    "2026-11-20T02:00",
  ]);
  assert.deepEqual(compare("2026-11-01", "2026-12-01", "2026-11-20T11:07:00Z"), [
    "2026-11-20T12:00",
    "2026-10-01T00:00",
    "2026-10-20T12:00",
  ]);
  assert.deepEqual(compare("2026-11-14", "2026-11-20T11:15:00Z", past), [
    "2026-11-20T12:15",
    "2026-11-07T00:00",
    "2026-11-13T12:15",
  ]);
  assert.deepEqual(compare("2026-03-01", "2026-04-01", "2026-03-31T10:00:00Z"), [
    "2026-03-31T12:00",
    "2026-02-01T00:00",
    "2026-03-01T00:00",
  ]);
  assert.equal(compare("2026-11-20", "2026-11-21", "2026-11-19T00:00:00Z"), null);
});

test("the period before never overlaps the window and is never longer than what has run, but for the clocks", () => {
  fc.assert(
    fc.property(windows, fc.double({ min: 0, max: 1.2, noNaN: true }), (ask, share) => {
      if (ask.startMs < at("1987-01-01")) return;
      const window = windowOrOdd(ask);
      if (window === undefined) return;
      const spans = previousOf(window, ask.startMs + share * (ask.endMs - ask.startMs));
      if (spans === null) return;
      assert.ok(
        spans.previous.startMs <= spans.previous.endMs &&
          spans.previous.endMs <= spans.current.startMs,
      );
      assert.ok(spans.current.endMs <= window.endMs);
      for (const ms of [spans.current.endMs, spans.previous.startMs, spans.previous.endMs])
        assert.equal(ms % QUARTER_HOUR_MS, 0);
    }),
  );
});

test("the limits hold for the largest windows that are allowed", () => {
  const startMs = at("2025-01-01T00:00:00Z");
  const endMs = startMs + BUCKETS_MAX * QUARTER_HOUR_MS;
  assert.equal(
    createWindow({ startMs, endMs, timeZone: "UTC", granularity: "15m" }).buckets.length,
    BUCKETS_MAX,
  );
  const year = {
    startMs,
    endMs: startMs + RANGE_DAYS_MAX * DAY_MS,
    timeZone: "UTC",
    granularity: "day",
  } as const;
  assert.equal(createWindow(year).buckets.length, RANGE_DAYS_MAX);
  assert.ok(listOffsetSpans("Europe/Berlin", year.startMs, year.endMs).length >= 3);
});
