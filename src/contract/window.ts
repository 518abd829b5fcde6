import { Failure } from "./failure.ts";
import { GRAIN_SECONDS, type Grain } from "./rollup-grid.ts";
import { instantOfLocal, isZone, listOffsetSpans, offsetMsAt } from "./zone.ts";

/** Widths of the buckets a question may ask for, in local time: a week starts on Monday. */
export const GRANULARITIES = ["15m", "hour", "day", "week", "month"] as const;
export type Granularity = (typeof GRANULARITIES)[number];

/** A stretch of time, half-open, in ms since the Unix epoch. */
export type Span = { startMs: number; endMs: number };

/** What a question is about: a span, cut into buckets of local time. The first and last bucket may be parts. */
export type Window = Span & {
  timeZone: string;
  granularity: Granularity;
  /** In order, without gaps, together exactly the span. */
  buckets: readonly Span[];
};

/** Rows of one grain that make up part of a bucket. */
export type Piece = Span & { grain: Grain };

export const QUARTER_HOUR_MS = GRAIN_SECONDS["15m"] * 1000;
const HOUR_MS = GRAIN_SECONDS.hour * 1000;
const DAY_MS = GRAIN_SECONDS.day * 1000;
/** Thirteen months, and a few days for edges. */
export const RANGE_DAYS_MAX = 400;
export const BUCKETS_MAX = 3_000;
const EARLIEST_MS = 0;
const LATEST_MS = Date.UTC(2200, 0, 1);

/**
 * The buckets of a span in a zone's local time. Throws Failure unknown_zone, invalid_request (bounds in the wrong
 * order, out of the years 1970 to 2199, or not on a quarter of an hour), range_too_large, and
 * unsupported_granularity where the zone's clock is off by less than a quarter of an hour.
 */
export function createWindow(ask: Span & { timeZone: string; granularity: Granularity }): Window {
  requireZone(ask.timeZone);
  requireBound("start", ask.startMs);
  requireBound("end", ask.endMs);
  if (ask.endMs <= ask.startMs) {
    throw invalid(
      "end",
      "wrong_order",
      "end must be later than start; the window is half-open [start, end)",
    );
  }
  if (ask.endMs - ask.startMs > RANGE_DAYS_MAX * DAY_MS) {
    throw tooLarge(`a window spans at most ${RANGE_DAYS_MAX} days`);
  }
  if ((ask.endMs - ask.startMs) / SHORTEST_MS[ask.granularity] > BUCKETS_MAX) {
    throw tooLarge(
      `an answer holds at most ${BUCKETS_MAX} buckets; ask for a shorter window or a coarser granularity`,
    );
  }
  const edges = [ask.startMs, ...listBoundaries(ask), ask.endMs];
  const buckets: Span[] = [];
  for (let i = 1; i < edges.length; i++)
    buckets.push({ startMs: edges[i - 1] ?? 0, endMs: edges[i] ?? 0 });
  const odd = edges.find((edge) => edge % QUARTER_HOUR_MS !== 0);
  if (odd !== undefined) {
    throw new Failure(
      "unsupported_granularity",
      `in ${ask.timeZone} a ${ask.granularity} begins at ${new Date(odd).toISOString()}, which is not on a quarter ` +
        `of an hour of UTC; ask in UTC or another zone`,
    );
  }
  return { ...ask, buckets };
}

/** Shorter than any whole bucket of the granularity, so that the count can be bounded before they are made. */
const SHORTEST_MS = {
  "15m": QUARTER_HOUR_MS,
  hour: HOUR_MS,
  day: 22 * HOUR_MS,
  week: 6 * DAY_MS,
  month: 27 * DAY_MS,
} as const satisfies Record<Granularity, number>;

/** Starts of local buckets strictly inside the span, ascending. */
function listBoundaries(ask: Span & { timeZone: string; granularity: Granularity }): number[] {
  if (ask.granularity === "15m") return listClockBoundaries(ask, QUARTER_HOUR_MS);
  if (ask.granularity === "hour") return listClockBoundaries(ask, HOUR_MS);
  const boundaries: number[] = [];
  let local = startOfLocal(ask.startMs + offsetMsAt(ask.timeZone, ask.startMs), ask.granularity);
  let last = ask.startMs;
  for (;;) {
    local = addLocal(local, ask.granularity, 1);
    const instant = instantOfLocal(ask.timeZone, local);
    if (instant >= ask.endMs) return boundaries;
    // A day that a zone left out (Samoa, 30 December 2011) begins when the next one does: it gets no bucket.
    if (instant > last) boundaries.push(instant);
    last = Math.max(last, instant);
  }
}

/**
 * Instants at which the local clock shows a whole hour (or quarter), and those at which it is set: an hour that comes
 * twice is two buckets, and one that is cut (Lord Howe's half hour, Chatham's 3:45) is two as well.
 */
function listClockBoundaries(ask: Span & { timeZone: string }, stepMs: number): number[] {
  const boundaries: number[] = [];
  for (const span of listOffsetSpans(ask.timeZone, ask.startMs, ask.endMs)) {
    const aligned = Math.ceil((span.startMs + span.offsetMs) / stepMs) * stepMs - span.offsetMs;
    if (span.startMs > ask.startMs && aligned > span.startMs) boundaries.push(span.startMs);
    for (let at = aligned; at < span.endMs; at += stepMs) if (at > ask.startMs) boundaries.push(at);
  }
  return boundaries;
}

type CalendarUnit = Exclude<Granularity, "15m" | "hour">;

/** Local times here are wall-clock figures written as if they were UTC. */
function startOfLocal(localMs: number, unit: CalendarUnit): number {
  const day = Math.floor(localMs / DAY_MS);
  if (unit === "day") return day * DAY_MS;
  // Day 0 was a Thursday.
  if (unit === "week") return (Math.floor((day + 3) / 7) * 7 - 3) * DAY_MS;
  const date = new Date(localMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1);
}

function addLocal(localMs: number, unit: CalendarUnit, count: number): number {
  if (unit === "day") return localMs + count * DAY_MS;
  if (unit === "week") return localMs + count * 7 * DAY_MS;
  const date = new Date(localMs);
  const first = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + count, 1);
  const next = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + count + 1, 1);
  // The 31st of a shorter month is its end.
  return Math.min(first + (localMs - startOfLocal(localMs, "month")), next);
}

/**
 * The rollup rows that make up a span, coarse ones first to be used: whole UTC days, whole UTC hours on both sides,
 * quarters at the edges. In order of time, without gaps. The span's bounds lie on quarters of an hour.
 */
export function coverSpan(span: Span): Piece[] {
  const whole = wholeOf(span, DAY_MS);
  if (whole === undefined) return coverByHours(span);
  return [
    ...coverByHours({ startMs: span.startMs, endMs: whole.startMs }),
    { grain: "day", ...whole },
    ...coverByHours({ startMs: whole.endMs, endMs: span.endMs }),
  ];
}

function coverByHours(span: Span): Piece[] {
  const whole = wholeOf(span, HOUR_MS);
  const pieces: Piece[] =
    whole === undefined
      ? [{ grain: "15m", ...span }]
      : [
          { grain: "15m", startMs: span.startMs, endMs: whole.startMs },
          { grain: "hour", ...whole },
          { grain: "15m", startMs: whole.endMs, endMs: span.endMs },
        ];
  return pieces.filter((piece) => piece.startMs < piece.endMs);
}

function wholeOf(span: Span, stepMs: number): Span | undefined {
  const startMs = Math.ceil(span.startMs / stepMs) * stepMs;
  const endMs = Math.floor(span.endMs / stepMs) * stepMs;
  return startMs < endMs ? { startMs, endMs } : undefined;
}

/**
 * What a window is compared with. `current` is the window up to `untilMs` (now, or what is complete), on a whole
 * quarter of an hour; `previous` the same elapsed part of the period before it, by the zone's clock: a window of
 * whole months is compared with as many months, one that begins at midnight with as many days, any other with as
 * much time. Null when nothing of the window has elapsed.
 */
export function previousOf(
  window: Window,
  untilMs: number,
): { current: Span; previous: Span } | null {
  const cutMs = floorQuarter(Math.min(window.endMs, untilMs));
  if (cutMs <= window.startMs) return null;
  const current = { startMs: window.startMs, endMs: cutMs };
  const unit = periodUnit(window);
  if (unit === null) {
    const lengthMs = window.endMs - window.startMs;
    return { current, previous: { startMs: window.startMs - lengthMs, endMs: cutMs - lengthMs } };
  }
  const localOf = (instantMs: number) => instantMs + offsetMsAt(window.timeZone, instantMs);
  const first = startOfLocal(localOf(window.startMs), unit);
  let count = 1;
  while (addLocal(first, unit, count) < localOf(window.endMs)) count++;
  const back = (localMs: number) =>
    floorQuarter(instantOfLocal(window.timeZone, addLocal(localMs, unit, -count)));
  const startMs = back(first);
  const isWhole = cutMs === window.endMs && startsAt(window.timeZone, cutMs, unit);
  const endMs = isWhole ? window.startMs : back(localOf(cutMs));
  return {
    current,
    previous: { startMs, endMs: Math.max(startMs, Math.min(endMs, window.startMs)) },
  };
}

const floorQuarter = (instantMs: number): number =>
  Math.floor(instantMs / QUARTER_HOUR_MS) * QUARTER_HOUR_MS;

function startsAt(timeZone: string, instantMs: number, unit: CalendarUnit): boolean {
  const localMs = instantMs + offsetMsAt(timeZone, instantMs);
  return instantOfLocal(timeZone, startOfLocal(localMs, unit)) === instantMs;
}

/** What a window counts its length in, when the period before it is sought; null: in time. */
function periodUnit(window: Window): "month" | "day" | null {
  if (!startsAt(window.timeZone, window.startMs, "day")) return null;
  const isMonths =
    startsAt(window.timeZone, window.startMs, "month") &&
    (window.granularity === "month" || startsAt(window.timeZone, window.endMs, "month"));
  return isMonths ? "month" : "day";
}

/** What a caller may say of a window; whatever is left out has a default. */
export type WindowText = {
  start?: string | undefined;
  end?: string | undefined;
  timeZone: string;
  granularity?: Granularity | undefined;
};

/**
 * The window a caller asked for. Bounds are RFC 3339 instants, or dates, which mean midnight in the zone. Left out,
 * `end` is the quarter of an hour that is running, and `start` the midnight six days before the end's day; the
 * granularity is a day. Throws as `createWindow` does, and Failure invalid_request for what is no instant.
 */
export function parseWindow(text: WindowText, nowMs: number): Window {
  const { timeZone, granularity = "day" } = text;
  requireZone(timeZone);
  const endMs =
    text.end === undefined
      ? (Math.floor(nowMs / QUARTER_HOUR_MS) + 1) * QUARTER_HOUR_MS
      : parseBound("end", text.end, timeZone);
  const startMs =
    text.start === undefined
      ? startOfLastDays(endMs, timeZone)
      : parseBound("start", text.start, timeZone);
  return createWindow({ startMs, endMs, timeZone, granularity });
}

/** Midnight six days before the day that ends at, or runs at, an instant. */
function startOfLastDays(endMs: number, timeZone: string): number {
  const localMs = endMs - 1 + offsetMsAt(timeZone, endMs - 1);
  return instantOfLocal(timeZone, addLocal(startOfLocal(localMs, "day"), "day", -6));
}

const DATE = /^(\d{4})-(\d\d)-(\d\d)$/;
const INSTANT =
  /^(\d{4}-\d\d-\d\d)[Tt](\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)$/;
const PLUS_LOST = /^\d{4}-\d\d-\d\d[Tt][\d:.]+ \d\d:?\d\d$/;

function parseBound(name: "start" | "end", text: string, timeZone: string): number {
  if (PLUS_LOST.test(text)) {
    throw invalid(
      name,
      "invalid_instant",
      "a plus sign in a URL means a space: write the offset's + as %2B",
    );
  }
  const date = parseDate(text);
  if (date !== undefined) {
    requireYear(name, date);
    return instantOfLocal(timeZone, date);
  }
  const [, day, hour, minute, second = "0", offset = ""] = INSTANT.exec(text) ?? [];
  const midnight = day === undefined ? undefined : parseDate(day);
  const offsetMs = parseOffset(offset);
  if (
    midnight === undefined ||
    offsetMs === undefined ||
    Number(hour) > 23 ||
    Number(minute) > 59 ||
    Number(second) > 59
  ) {
    throw invalid(
      name,
      "invalid_instant",
      "must be an RFC 3339 instant with an offset (2026-11-20T00:00:00Z) or a date (2026-11-20: midnight in timeZone)",
    );
  }
  // A fraction of a second is on no quarter of an hour; one millisecond is enough to be refused for it.
  const fractionMs = /\.\d*[1-9]/.test(text) ? 1 : 0;
  return (
    midnight +
    Number(hour) * HOUR_MS +
    Number(minute) * 60_000 +
    Number(second) * 1000 +
    fractionMs -
    offsetMs
  );
}

function parseDate(text: string): number | undefined {
  const [, year, month, day] = DATE.exec(text) ?? [];
  if (year === undefined) return undefined;
  const instant = Date.parse(`${text}T00:00:00Z`);
  const isReal = !Number.isNaN(instant) && new Date(instant).getUTCDate() === Number(day);
  return isReal && Number(month) >= 1 ? instant : undefined;
}

function parseOffset(text: string): number | undefined {
  if (text === "Z" || text === "z") return 0;
  const hours = Number(text.slice(1, 3));
  const minutes = Number(text.slice(4, 6));
  if (text === "" || hours > 23 || minutes > 59) return undefined;
  return (text.startsWith("-") ? -1 : 1) * (hours * HOUR_MS + minutes * 60_000);
}

function requireZone(timeZone: string): void {
  if (isZone(timeZone)) return;
  const message =
    "must be a time zone of the IANA database, such as UTC or Asia/Kathmandu; offsets are not zones";
  throw new Failure("unknown_zone", message, {
    details: [{ pointer: "/query/timeZone", code: "unknown_zone", message }],
  });
}

function requireYear(pointer: string, instantMs: number): void {
  // A day inside the limits, so that zone arithmetic around the instant stays there too.
  if (instantMs >= EARLIEST_MS + DAY_MS && instantMs <= LATEST_MS - DAY_MS) return;
  throw invalid(pointer, "out_of_range", "must lie in the years 1970 to 2199");
}

function requireBound(pointer: string, instantMs: number): void {
  requireYear(pointer, instantMs);
  if (instantMs % QUARTER_HOUR_MS === 0) return;
  throw invalid(
    pointer,
    "not_on_quarter_hour",
    "must lie on a quarter of an hour of UTC (:00, :15, :30 or :45)",
  );
}

const invalid = (pointer: string, code: string, message: string): Failure =>
  new Failure("invalid_request", `${pointer}: ${message}`, {
    details: [{ pointer: `/query/${pointer}`, code, message }],
  });

const tooLarge = (message: string): Failure =>
  new Failure("range_too_large", message, {
    details: [{ pointer: "/query/start", code: "range_too_large", message }],
  });
