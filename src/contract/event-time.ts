/** Two decimal digits at `at`, or -1. */
function twoDigits(source: Uint8Array, at: number): number {
  const tens = (source[at] ?? 0) - 48;
  const ones = (source[at + 1] ?? 0) - 48;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : -1;
}

const DAYS_IN_MONTH = Uint8Array.of(31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31);
/** Days before the month, in a year that is not a leap year. */
const DAYS_BEFORE_MONTH = Uint16Array.of(0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334);
const LENGTH_MIN = "2026-11-20T10:59:59Z".length;
const YEAR_MIN = 1970;
const YEAR_MAX = 2199;

/**
 * Reads the RFC 3339 timestamp in `source[start, end)`: microseconds since the Unix epoch, further digits cut off.
 * NaN when it is none: a zone is required, the date must exist, 24:00 and :60 do not, and the year as written is from
 * 1970 to 2199, so that microseconds are exact in a JS number. Nothing is guessed.
 */
export function readTimestampUs(source: Uint8Array, start: number, end: number): number {
  if (end - start < LENGTH_MIN) return Number.NaN;
  const days = readDay(source, start);
  const hour = twoDigits(source, start + 11);
  const minute = twoDigits(source, start + 14);
  const second = twoDigits(source, start + 17);
  const isShaped =
    ((source[start + 10] ?? 0) | 0x20) === 0x74 &&
    source[start + 13] === 0x3a &&
    source[start + 16] === 0x3a;
  if (!isShaped || days < 0 || hour < 0 || hour > 23 || minute < 0 || minute > 59)
    return Number.NaN;
  if (second < 0 || second > 59) return Number.NaN;

  let at = start + 19;
  let micros = 0;
  if (source[at] === 0x2e) {
    const first = ++at;
    for (
      let digit = (source[at] ?? 0) - 48;
      digit >= 0 && digit <= 9;
      digit = (source[++at] ?? 0) - 48
    ) {
      if (at - first < 6) micros = micros * 10 + digit;
    }
    if (at === first) return Number.NaN;
    for (let digits = at - first; digits < 6; digits++) micros *= 10;
  }
  const offset = readOffsetMinutes(source, at, end);
  const seconds = days * 86_400 + hour * 3600 + (minute - offset) * 60 + second;
  return seconds * 1_000_000 + micros;
}

/** Days from the epoch to the date written at `start`, or -1. */
function readDay(source: Uint8Array, start: number): number {
  const century = twoDigits(source, start);
  const yearOfCentury = twoDigits(source, start + 2);
  const month = twoDigits(source, start + 5);
  const day = twoDigits(source, start + 8);
  const year = century * 100 + yearOfCentury;
  if (century < 0 || yearOfCentury < 0 || year < YEAR_MIN || year > YEAR_MAX) return -1;
  if (source[start + 4] !== 0x2d || source[start + 7] !== 0x2d || month < 1 || month > 12)
    return -1;

  const isLeap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  const daysInMonth = (DAYS_IN_MONTH[month - 1] ?? 0) + (isLeap && month === 2 ? 1 : 0);
  if (day < 1 || day > daysInMonth) return -1;
  const leapDays = Math.floor((year - 1969) / 4) - (year > 2100 ? 1 : 0);
  const dayOfYear = (DAYS_BEFORE_MONTH[month - 1] ?? 0) + day - 1 + (isLeap && month > 2 ? 1 : 0);
  return (year - 1970) * 365 + leapDays + dayOfYear;
}

/** Minutes east of UTC of the zone in `source[at, end)`, or NaN. */
function readOffsetMinutes(source: Uint8Array, at: number, end: number): number {
  const sign = source[at] ?? 0;
  if ((sign | 0x20) === 0x7a) return end === at + 1 ? 0 : Number.NaN;
  if ((sign !== 0x2b && sign !== 0x2d) || end !== at + 6 || source[at + 3] !== 0x3a)
    return Number.NaN;
  const hours = twoDigits(source, at + 1);
  const minutes = twoDigits(source, at + 4);
  if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return Number.NaN;
  return (sign === 0x2d ? -1 : 1) * (hours * 60 + minutes);
}
