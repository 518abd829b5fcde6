const DAY_MS = 86_400_000;
/** Transitions are found and kept in blocks of this length, counted from the Unix epoch. */
const BLOCK_MS = 128 * DAY_MS;
/** Blocks kept per zone: 22 years. Beyond that the zone's are found again. */
const BLOCKS_MAX = 64;
/** Zones kept ready. A formatter is slow to make and large, so they are kept, but not without limit. */
const ZONES_MAX = 128;
/** Letters first: "+05:30" and the like are offsets, not zones; Intl itself refuses "GMT+5". */
const ZONE_NAME = /^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/;

/** A stretch of time in which a zone's clock runs at one distance from UTC. Half-open, ms since the Unix epoch. */
export type OffsetSpan = { startMs: number; endMs: number; offsetMs: number };

type Zone = { offsetAt: (instantMs: number) => number; blocks: Map<number, readonly OffsetSpan[]> };

const zones = new Map<string, Zone>();

/** Whether a name is a time zone of the IANA database (any capitals). Offsets such as "+05:30" or "GMT+5" are not. */
export const isZone = (name: string): boolean => findZone(name) !== undefined;

/**
 * The stretches of constant offset that make up [startMs, endMs), in order, without gaps. Throws a RangeError for
 * what is no zone.
 */
export function listOffsetSpans(timeZone: string, startMs: number, endMs: number): OffsetSpan[] {
  const zone = findZone(timeZone);
  if (zone === undefined) throw new RangeError(`no time zone: ${timeZone}`);
  const spans: OffsetSpan[] = [];
  for (let block = Math.floor(startMs / BLOCK_MS); block * BLOCK_MS < endMs; block++) {
    for (const span of spansOfBlock(zone, block)) {
      const from = Math.max(span.startMs, startMs);
      const to = Math.min(span.endMs, endMs);
      if (from >= to) continue;
      const last = spans.at(-1);
      if (last?.offsetMs === span.offsetMs) last.endMs = to;
      else spans.push({ startMs: from, endMs: to, offsetMs: span.offsetMs });
    }
  }
  return spans;
}

/** How far a zone's clock is ahead of UTC at an instant, in ms. */
export function offsetMsAt(timeZone: string, instantMs: number): number {
  const [span] = listOffsetSpans(timeZone, instantMs, instantMs + 1);
  if (span === undefined) throw new RangeError(`no instant: ${instantMs}`);
  return span.offsetMs;
}

/**
 * The first instant at which a zone's clock shows `localMs` (wall-clock time written as if it were UTC) or later:
 * the earlier of two when the clock is set back over it, the moment of the jump when it is set forward over it.
 */
export function instantOfLocal(timeZone: string, localMs: number): number {
  // No offset reaches 24 hours, so the instant lies within a day of the same figures in UTC.
  for (const span of listOffsetSpans(timeZone, localMs - DAY_MS, localMs + DAY_MS)) {
    if (span.endMs + span.offsetMs > localMs)
      return Math.max(span.startMs, localMs - span.offsetMs);
  }
  throw new RangeError(`no local time: ${localMs}`);
}

/** RFC 3339 in the zone's own offset: "2026-11-20T00:00:00+05:45", or "…Z" where the offset is none. Whole seconds. */
export function formatInstant(instantMs: number, timeZone: string): string {
  const offsetMs = offsetMsAt(timeZone, instantMs);
  // RFC 3339 has no seconds in offsets; the few historic zones that need them are written in UTC.
  const shown = offsetMs % 60_000 === 0 ? offsetMs : 0;
  const text = new Date(instantMs + shown).toISOString().slice(0, 19);
  if (shown === 0) return `${text}Z`;
  const minutes = Math.abs(shown) / 60_000;
  const two = (n: number) => String(n).padStart(2, "0");
  return `${text}${shown < 0 ? "-" : "+"}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

function findZone(name: string): Zone | undefined {
  const key = name.toLowerCase();
  const known = zones.get(key);
  if (known !== undefined) return known;
  if (!ZONE_NAME.test(name)) return undefined;
  const offsetAt = offsetReader(name);
  if (offsetAt === undefined) return undefined;
  const oldest = zones.keys().next();
  if (zones.size >= ZONES_MAX && !oldest.done) zones.delete(oldest.value);
  const zone: Zone = { offsetAt, blocks: new Map() };
  zones.set(key, zone);
  return zone;
}

function offsetReader(timeZone: string): ((instantMs: number) => number) | undefined {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat("en-US", {
      timeZone,
      hour: "numeric",
      timeZoneName: "longOffset",
    });
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  return (instantMs) => {
    const match = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(format.format(instantMs));
    if (match === null) throw new RangeError(`no offset known for ${timeZone} at ${instantMs}`);
    const [, sign, hours = "0", minutes = "0", seconds = "0"] = match;
    const size = (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1000;
    return sign === "-" ? -size : size;
  };
}

function spansOfBlock(zone: Zone, block: number): readonly OffsetSpan[] {
  const known = zone.blocks.get(block);
  if (known !== undefined) return known;
  const endMs = (block + 1) * BLOCK_MS;
  const first = block * BLOCK_MS;
  const spans: OffsetSpan[] = [];
  let current: OffsetSpan = { startMs: first, endMs, offsetMs: zone.offsetAt(first) };
  // A day apart is close enough: no zone has changed its clocks and changed them back within one (the tests look).
  for (let at = first + DAY_MS; at <= endMs; at += DAY_MS) {
    const offsetMs = zone.offsetAt(at);
    if (offsetMs === current.offsetMs) continue;
    const changeMs = findChange(zone, at - DAY_MS, at);
    if (changeMs >= endMs) break;
    spans.push({ ...current, endMs: changeMs });
    current = { startMs: changeMs, endMs, offsetMs };
  }
  spans.push(current);
  if (zone.blocks.size >= BLOCKS_MAX) zone.blocks.clear();
  zone.blocks.set(block, spans);
  return spans;
}

/** The second at which the offset changes, after `fromMs` and not after `toMs`, by bisection. */
function findChange(zone: Zone, fromMs: number, toMs: number): number {
  const before = zone.offsetAt(fromMs);
  let low = fromMs;
  let high = toMs;
  while (high - low > 1000) {
    const middle = low + Math.floor((high - low) / 2000) * 1000;
    if (zone.offsetAt(middle) === before) low = middle;
    else high = middle;
  }
  return high;
}
