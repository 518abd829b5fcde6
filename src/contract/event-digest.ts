/**
 * 64-bit digests from two independent 32-bit lanes in the manner of MurmurHash3: other multipliers and rotations in
 * each, so that a collision of one says nothing of the other. Lanes are signed 32-bit integers, which V8 keeps unboxed.
 */
export type Digest = { a: number; b: number };

export const SEED_A = 0x2f0b4c47;
export const SEED_B = 0x71d67fff;

/** Folds a 32-bit word into lane a. */
export function mixA(lane: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  const h = lane ^ k;
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}

/** Folds a 32-bit word into lane b. */
export function mixB(lane: number, word: number): number {
  let k = Math.imul(word, 0x38b34ae5);
  k = Math.imul((k << 18) | (k >>> 14), 0xa1e38b93);
  const h = lane ^ k;
  return (Math.imul((h << 15) | (h >>> 17), 9) + 0x0bcaa747) | 0;
}

/** Spreads every bit of lane a over all of it; needed before lanes are added up. */
export function finishA(lane: number): number {
  let h = Math.imul(lane ^ (lane >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Spreads every bit of lane b over all of it. */
export function finishB(lane: number): number {
  let h = Math.imul(lane ^ (lane >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return h ^ (h >>> 16);
}

/** Digests `source[start, end)`, UTF-8 of a decoded text, into `into`. */
export function digestText(into: Digest, source: Uint8Array, start: number, end: number): void {
  let a = SEED_A;
  let b = SEED_B;
  let p = start;
  for (const last = end - 3; p < last; p += 4) {
    const word =
      (source[p] ?? 0) |
      ((source[p + 1] ?? 0) << 8) |
      ((source[p + 2] ?? 0) << 16) |
      ((source[p + 3] ?? 0) << 24);
    a = mixA(a, word);
    b = mixB(b, word);
  }
  let rest = 0;
  for (; p < end; p++) rest = (rest << 8) | (source[p] ?? 0);
  a = mixA(mixA(a, rest), end - start);
  b = mixB(mixB(b, rest), end - start);
  into.a = finishA(a);
  into.b = finishB(b);
}

/**
 * Digests the decimal number written in `source[start, end)` by its exact value, so that 0.10, 0.1 and 1e-1 agree.
 * The text must be a JSON number.
 */
export function digestNumber(into: Digest, source: Uint8Array, start: number, end: number): void {
  let a = SEED_B;
  let b = SEED_A;
  let chunk = 0;
  let digits = 0;
  let zeros = 0;
  let exponent = 0;
  let isFraction = false;
  let p = start;
  for (; p < end; p++) {
    const digit = (source[p] ?? 0) - 48;
    if (digit >= 0 && digit <= 9) {
      if (isFraction) exponent--;
      if (digit === 0) {
        if (digits > 0) zeros++;
        continue;
      }
      // Zeros count once it is known that another digit follows them.
      for (; zeros >= 0; zeros--) {
        chunk = chunk * 10 + (zeros === 0 ? digit : 0);
        if (++digits % 8 !== 0) continue;
        a = mixA(a, chunk);
        b = mixB(b, chunk);
        chunk = 0;
      }
      zeros = 0;
    } else if (digit === -2) isFraction = true;
    else if (digit !== -3) break;
  }
  const isNegative = digits > 0 && source[start] === 45 ? 1 : 0;
  const scale = digits === 0 ? 0 : (exponent + zeros + readExponent(source, p, end)) | 0;
  a = mixA(mixA(mixA(a, chunk), digits * 2 + isNegative), scale);
  b = mixB(mixB(mixB(b, chunk), digits * 2 + isNegative), scale);
  into.a = finishA(a);
  into.b = finishB(b);
}

/** The exponent after e or E, modulo 2^32: only that equal exponents stay equal matters here. */
function readExponent(source: Uint8Array, at: number, end: number): number {
  let p = at + 1;
  if (p >= end) return 0;
  const sign = source[p] ?? 0;
  if (sign === 45 || sign === 43) p++;
  let exponent = 0;
  for (; p < end; p++) exponent = (Math.imul(exponent, 10) + (source[p] ?? 0) - 48) | 0;
  return sign === 45 ? -exponent | 0 : exponent;
}
