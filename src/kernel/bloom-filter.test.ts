import assert from "node:assert/strict";
import { test } from "node:test";
import { BloomFilter } from "./bloom-filter.ts";

/** xorshift32: a fixed stream of words. */
function words(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

test("a key that was added is never denied, and few others are admitted", () => {
  const filter = new BloomFilter(100_000);
  const next = words(1);
  const added = Array.from({ length: 100_000 }, () => [next(), next(), next(), next()] as const);
  for (const key of added) filter.add(...key);
  assert.ok(added.every((key) => filter.has(...key)));

  let admitted = 0;
  for (let i = 0; i < 100_000; i++) if (filter.has(next(), next(), next(), next())) admitted++;
  assert.ok(admitted < 400, `${admitted} of 100,000 absent keys were admitted`);
});

test("keys that share their time prefix (UUIDv7) are told apart as well", () => {
  const filter = new BloomFilter(50_000);
  const next = words(7);
  for (let i = 0; i < 50_000; i++)
    filter.add(0x019a0000 + (i >>> 8), 0x70000000 | (i & 0xfff), next(), next());
  let admitted = 0;
  for (let i = 0; i < 50_000; i++) {
    if (filter.has(0x019a0000 + (i >>> 8), 0x70000000 | (i & 0xfff), next(), next())) admitted++;
  }
  assert.ok(admitted < 300, `${admitted} of 50,000 absent keys were admitted`);
});
