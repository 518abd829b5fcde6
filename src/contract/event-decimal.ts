const EXACT_DIGITS_MAX = 15;
/** The largest cost, in units of its currency: in billionths it is still a safe integer. */
export const COST_UNITS_MAX = 9_007_199;
export const COST_NANO_MAX = COST_UNITS_MAX * 1_000_000_000;

const POWERS_OF_TEN = Float64Array.of(1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9);

/**
 * Reads a plain decimal of at most 15 digits, 9 of them after the point, as billionths: exact, because every product
 * stays a safe integer. NaN for everything else, right or wrong: `parseNano` decides then.
 */
export function readPlainNano(source: Uint8Array, start: number, end: number): number {
  const isNegative = source[start] === 0x2d;
  let p = isNegative ? start + 1 : start;
  if (end - p > EXACT_DIGITS_MAX + 1) return Number.NaN;
  const whole = p;
  let value = 0;
  let digit = (source[p] ?? 0) - 48;
  for (; p < end && digit >= 0 && digit <= 9; digit = (source[++p] ?? 0) - 48)
    value = value * 10 + digit;
  if (p === whole || (source[whole] === 0x30 && p > whole + 1)) return Number.NaN;

  let missing = 9;
  if (p < end) {
    if (digit !== -2 || p + 1 === end) return Number.NaN;
    digit = (source[++p] ?? 0) - 48;
    for (; p < end && digit >= 0 && digit <= 9; digit = (source[++p] ?? 0) - 48) {
      value = value * 10 + digit;
      missing--;
    }
    if (p < end || missing < 0) return Number.NaN;
  }
  const nano = value * (POWERS_OF_TEN[missing] ?? Number.NaN);
  if (nano > COST_NANO_MAX) return Number.NaN;
  return isNegative ? 0 - nano : nano;
}
