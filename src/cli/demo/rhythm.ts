export const SLOT_MS = 900_000;

/** Calls by local hour of a working day, before scaling. */
const HOURS = [
  0.75, 0.73, 0.72, 0.72, 0.73, 0.78, 0.86, 0.98, 1.12, 1.25, 1.29, 1.25, 1.18, 1.21, 1.26, 1.25,
  1.2, 1.13, 1.05, 1.0, 0.95, 0.9, 0.84, 0.79,
] as const;
const WEEKEND = 0.7;
const WEEK_MEAN = (HOURS.reduce((sum, x) => sum + x, 0) * (5 + 2 * WEEKEND)) / (24 * 7);

/** Local weekday and hour of an instant. */
export type LocalTime = { isWeekend: boolean; hour: number; minute: number };

/** How lively a zone is at an instant: 1 is its weekly mean. Times in milliseconds since the Unix epoch. */
export type Rhythm = {
  level(zone: string, atMs: number): number;
  localTime(zone: string, atMs: number): LocalTime;
};

/** Looks each zone's wall clock up once per quarter of an hour; zone offsets change on no finer grid. */
export function createRhythm(): Rhythm {
  const formats = new Map<string, Intl.DateTimeFormat>();
  const seen = new Map<string, { slotMs: number; local: LocalTime }>();

  const localTime = (zone: string, atMs: number): LocalTime => {
    const slotMs = atMs - (atMs % SLOT_MS);
    const last = seen.get(zone);
    if (last?.slotMs === slotMs) return last.local;
    let format = formats.get(zone);
    if (format === undefined) {
      const options = {
        timeZone: zone,
        weekday: "short",
        hour: "2-digit",
        minute: "2-digit",
        hourCycle: "h23",
      } as const;
      format = new Intl.DateTimeFormat("en-US", options);
      formats.set(zone, format);
    }
    const parts = new Map(format.formatToParts(slotMs).map((part) => [part.type, part.value]));
    const weekday = parts.get("weekday") ?? "";
    const local = {
      isWeekend: weekday === "Sat" || weekday === "Sun",
      hour: Number(parts.get("hour")),
      minute: Number(parts.get("minute")),
    };
    seen.set(zone, { slotMs, local });
    return local;
  };

  const level = (zone: string, atMs: number): number => {
    const { isWeekend, hour, minute } = localTime(zone, atMs);
    const from = HOURS[hour] ?? 1;
    const to = HOURS[(hour + 1) % 24] ?? 1;
    return ((from + ((to - from) * minute) / 60) * (isWeekend ? WEEKEND : 1)) / WEEK_MEAN;
  };
  return { level, localTime };
}
