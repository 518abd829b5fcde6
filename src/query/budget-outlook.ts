/**
 * The arithmetic of budgets: how fast money is spent, how long the rest lasts, and where the month ends. Exact in whole
 * billionths; each figure is rounded once, at its end.
 */
const DAY_MS = 86_400_000n;

/** Money that was spent over a time: a rate. */
export type Burn = { nano: bigint; overMs: number };

/** Spent per day, in billionths, rounded half up. */
export const burnPerDayOf = ({ nano, overMs }: Burn): bigint =>
  divideHalfUp(nano * DAY_MS, BigInt(overMs));

/** Days until an amount is used up at this rate, in hundredths rounded down; null when nothing burns, 0 when it is. */
export function daysLeftOf({ amountNano, spentNano }: Amounts, burn: Burn): string | null {
  if (burn.nano <= 0n) return null;
  const left = amountNano > spentNano ? amountNano - spentNano : 0n;
  const hundredths = (left * BigInt(burn.overMs) * 100n) / (burn.nano * DAY_MS);
  return `${hundredths / 100n}.${String(hundredths % 100n).padStart(2, "0")}`;
}

/** What will be spent when this rate goes on for the rest of the month, in billionths, rounded half up. */
export const expectedOf = (spentNano: bigint, burn: Burn, restMs: number): bigint =>
  spentNano + divideHalfUp(burn.nano * BigInt(restMs), BigInt(burn.overMs));

/** Spent as a share of the amount: six digits, rounded down, so that 1 is not said before it is reached. */
export const shareSpentOf = ({ amountNano, spentNano }: Amounts): number =>
  Number(divideDown(spentNano * 1_000_000n, amountNano)) / 1_000_000;

/** Whether so many per cent of the amount are spent: from exactly that many on. */
export const isReached = ({ amountNano, spentNano }: Amounts, percent: number): boolean =>
  spentNano * 100n >= amountNano * BigInt(percent);

export type Amounts = { amountNano: bigint; spentNano: bigint };

/** Towards minus infinity; `by` is above 0. */
const divideDown = (value: bigint, by: bigint): bigint =>
  value >= 0n || value % by === 0n ? value / by : value / by - 1n;

/** To the nearest, a half up. */
const divideHalfUp = (value: bigint, by: bigint): bigint => divideDown(2n * value + by, 2n * by);
