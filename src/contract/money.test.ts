import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatNano, isDecimal, isKnownCurrency, parseNano } from "./money.ts";
import { packCurrency, unpackCurrency } from "./usage-event.ts";

const nanos = fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n });

test("an amount written and read again is the same amount", () => {
  fc.assert(
    fc.property(nanos, (nano) => {
      assert.deepEqual(parseNano(formatNano(nano)), { nano, rounded: false });
    }),
  );
});

test("amounts are written plainly, with two to nine fraction digits", () => {
  const amounts: [bigint, string][] = [
    [0n, "0.00"],
    [12_345_000_000n, "12.345"],
    [-500_000_000n, "-0.50"],
    [1n, "0.000000001"],
    [-1n, "-0.000000001"],
    [100_000_000_000n, "100.00"],
    [10_000_000n, "0.01"],
    [1_234_567_890_123_456_789_000_000_000n, "1234567890123456789.00"],
  ];
  for (const [nano, text] of amounts) assert.equal(formatNano(nano), text);
});

test("a decimal is read exactly, wherever its point is put by an exponent", () => {
  fc.assert(
    fc.property(nanos, fc.integer({ min: -40, max: 40 }), (nano, shift) => {
      assert.deepEqual(
        parseNano(`${nano * 10n ** 40n}e${shift - 49}`)?.nano,
        roundedShift(nano * 10n ** 40n, shift - 40),
      );
    }),
  );
});

/** value * 10^shift rounded half to even, by the definition. */
function roundedShift(value: bigint, shift: number): bigint | undefined {
  if (shift >= 0)
    return (value < 0n ? -value : value) * 10n ** BigInt(shift) < 10n ** 39n
      ? value * 10n ** BigInt(shift)
      : undefined;
  const unit = 10n ** BigInt(-shift);
  const magnitude = value < 0n ? -value : value;
  if (magnitude / unit >= 10n ** 39n) return undefined;
  const twice = (magnitude % unit) * 2n;
  const down = magnitude / unit;
  const nano = twice > unit || (twice === unit && down % 2n === 1n) ? down + 1n : down;
  return value < 0n ? -nano : nano;
}

test("digits below a billionth are rounded half to even, and said to be", () => {
  const amounts: [string, bigint, boolean][] = [
    ["0.0000000005", 0n, true],
    ["0.0000000015", 2n, true],
    ["0.0000000025", 2n, true],
    ["-0.0000000015", -2n, true],
    ["0.00000000050000001", 1n, true],
    ["0.00000000049999999", 0n, true],
    ["1e-1000000", 0n, true],
    ["0.1000000000000", 100_000_000n, false],
    ["0e9999999999", 0n, false],
    ["-0", 0n, false],
  ];
  for (const [text, nano, rounded] of amounts)
    assert.deepEqual(parseNano(text), { nano, rounded }, text);
});

test("what is no JSON number, or no amount of this world, is refused", () => {
  for (const text of [
    "",
    " 1",
    "1 ",
    "+1",
    ".5",
    "5.",
    "01",
    "1,5",
    "NaN",
    "Infinity",
    "0x1",
    "1e",
    "1_0",
    "١",
    "1\n",
  ]) {
    assert.equal(parseNano(text), null, text);
    assert.equal(isDecimal(text), false, text);
  }
  for (const text of ["1e30", "-1e30", "1e999999999", "9".repeat(10_000)]) {
    assert.equal(parseNano(text), null, text);
    assert.equal(isDecimal(text), true, text);
  }
});

test("currencies are known by their ISO 4217 codes", () => {
  for (const code of ["USD", "EUR", "JPY", "ZAR", "AED"]) {
    assert.ok(isKnownCurrency(packCurrency(code)));
    assert.equal(unpackCurrency(packCurrency(code)), code);
  }
  for (const code of ["AAA", "XQZ", "ZZZ"])
    assert.equal(isKnownCurrency(packCurrency(code)), false);
});
