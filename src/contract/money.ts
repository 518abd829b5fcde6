import { packCurrency } from "./usage-event.ts";

/** An exact amount in billionths of the currency's unit; `rounded` when digits below that were lost. */
export type NanoAmount = { nano: bigint; rounded: boolean };

const DECIMAL = /^(-?)(0|[1-9]\d*)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
/** Whether `text` is a decimal as JSON writes numbers. */
export const isDecimal = (text: string): boolean => DECIMAL.test(text);

/** Billionths of a currency's unit: the resolution in which money is stored and added up. */
const FRACTION_DIGITS = 9;
const FRACTION_DIGITS_MIN = 2;
/** Amounts of 10^30 units and more are no money; the bound also keeps the cost of reading linear. */
const NANO_DIGITS_MAX = 30 + FRACTION_DIGITS;

/**
 * Reads a decimal written as JSON writes numbers ("12", "-0.5", "1.5e-7"), exactly: billionths of the unit, rounded
 * half to even. Null when the text is not such a number ("1,5", ".5", "+1", "NaN") or its magnitude is 10^30 or more.
 */
export function parseNano(text: string): NanoAmount | null {
  const match = DECIMAL.exec(text);
  if (match === null) return null;
  const [, sign = "", whole = "", fraction = "", exponent = "0"] = match;
  const digits = (whole + fraction).replace(/^0+/, "");
  if (digits === "") return { nano: 0n, rounded: false };

  const surplus = fraction.length - Number(exponent) - FRACTION_DIGITS;
  const kept = digits.length - surplus;
  if (kept > NANO_DIGITS_MAX) return null;
  const magnitude = surplus <= 0 ? exact(digits, -surplus) : roundHalfToEven(digits, kept);
  return sign === "" ? magnitude : { nano: -magnitude.nano, rounded: magnitude.rounded };
}

const exact = (digits: string, zeros: number): NanoAmount => ({
  nano: BigInt(digits + "0".repeat(zeros)),
  rounded: false,
});

/** `digits` without leading zeros, of which the first `kept` stay; `kept` below 0 means that zeros precede them. */
function roundHalfToEven(digits: string, kept: number): NanoAmount {
  const head = kept > 0 ? BigInt(digits.slice(0, kept)) : 0n;
  if (kept < 0) return { nano: head, rounded: true };
  const lost = digits.slice(kept).replace(/0+$/, "");
  if (lost === "") return { nano: head, rounded: false };
  const isUp = lost > "5" || (lost === "5" && head % 2n === 1n);
  return { nano: isUp ? head + 1n : head, rounded: true };
}

/** Writes an amount as a plain decimal: no exponent, at least two and at most nine fraction digits ("12.345", "-0.50"). */
export function formatNano(nano: bigint): string {
  const digits = (nano < 0n ? -nano : nano).toString().padStart(FRACTION_DIGITS + 1, "0");
  const point = digits.length - FRACTION_DIGITS;
  let end = digits.length;
  while (end > point + FRACTION_DIGITS_MIN && digits.charAt(end - 1) === "0") end--;
  return `${nano < 0n ? "-" : ""}${digits.slice(0, point)}.${digits.slice(point, end)}`;
}

const KNOWN_CURRENCIES = new Set(Intl.supportedValuesOf("currency").map(packCurrency));

/** Whether three packed letters (`packCurrency`) are an ISO 4217 code that this runtime's Intl data knows. */
export const isKnownCurrency = (packed: number): boolean => KNOWN_CURRENCIES.has(packed);
