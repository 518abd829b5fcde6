import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { burnPerDayOf, daysLeftOf, expectedOf, isReached, shareSpentOf } from "./budget-outlook.ts";

const DAY_MS = 86_400_000;
const UNIT = 1_000_000_000n;

const amounts = fc.record({
  amountNano: fc.bigInt({ min: 1n, max: 10n ** 30n }),
  spentNano: fc.bigInt({ min: -(10n ** 20n), max: 10n ** 30n }),
});
const burns = fc.record({
  nano: fc.bigInt({ min: 1n, max: 10n ** 28n }),
  overMs: fc.integer({ min: 1, max: 7 }).map((days) => days * DAY_MS),
});
const hundredthsOf = (text: string): bigint => BigInt(text.replace(".", ""));

test("a threshold is reached from exactly so many per cent on", () => {
  const at = (spentNano: bigint) => isReached({ amountNano: 3n * UNIT, spentNano }, 50);
  assert.deepEqual([at(1_499_999_999n), at(1_500_000_000n)], [false, true]);
  // A hundredth of a billionth above half of it: no whole billionth is half.
  const odd = (spentNano: bigint) => isReached({ amountNano: 3n, spentNano }, 50);
  assert.deepEqual([odd(1n), odd(2n)], [false, true]);
});

test("the share says 1 when the amount is spent, and not before", () => {
  fc.assert(
    fc.property(amounts, (given) => {
      assert.equal(shareSpentOf(given) >= 1, isReached(given, 100));
      assert.equal(shareSpentOf(given) < 0, given.spentNano < 0n);
    }),
  );
});

test("after the days left that are told the amount is not used up, and a hundredth later it is", () => {
  fc.assert(
    fc.property(amounts, burns, (given, burn) => {
      const text = daysLeftOf(given, burn);
      assert.match(text ?? "", /^\d+\.\d\d$/);
      const left = given.amountNano > given.spentNano ? given.amountNano - given.spentNano : 0n;
      const days = BigInt(burn.overMs / DAY_MS);
      const burnt = (hundredths: bigint) => burn.nano * hundredths;
      const told = hundredthsOf(text ?? "");
      assert.ok(burnt(told) <= left * days * 100n);
      assert.ok(burnt(told + 1n) > left * days * 100n);
    }),
  );
});

test("nothing that burns leaves no number of days, and what is used up none at all", () => {
  const given = { amountNano: 10n, spentNano: 3n };
  assert.equal(daysLeftOf(given, { nano: 0n, overMs: DAY_MS }), null);
  assert.equal(daysLeftOf(given, { nano: -5n, overMs: DAY_MS }), null);
  assert.equal(daysLeftOf({ ...given, spentNano: 11n }, { nano: 1n, overMs: DAY_MS }), "0.00");
});

test("what is expected is what is spent and the rate for the rest, to the nearest billionth", () => {
  assert.equal(burnPerDayOf({ nano: 10n, overMs: 4 * DAY_MS }), 3n);
  assert.equal(burnPerDayOf({ nano: -10n, overMs: 4 * DAY_MS }), -2n);
  assert.equal(
    expectedOf(100n, { nano: 70n * UNIT, overMs: 7 * DAY_MS }, 3 * DAY_MS),
    100n + 30n * UNIT,
  );
  fc.assert(
    fc.property(amounts, burns, fc.nat(31 * DAY_MS), ({ spentNano }, burn, restMs) => {
      const twice = 2n * BigInt(burn.overMs);
      const off =
        (expectedOf(spentNano, burn, restMs) - spentNano) * twice - 2n * burn.nano * BigInt(restMs);
      assert.ok(-twice < 2n * off && 2n * off <= twice, String(off));
    }),
  );
});
