import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { createApiKey, formatApiKey, hashSecret, isSameHash, parseApiKey } from "./api-key.ts";

test("a key reads back as it was made, and no two are alike", () => {
  const keys = Array.from({ length: 1000 }, () => createApiKey("live"));
  for (const key of keys) assert.deepEqual(parseApiKey(formatApiKey(key)), key);
  assert.equal(new Set(keys.map((key) => key.id)).size, 1000);
  assert.equal(new Set(keys.map((key) => key.secret)).size, 1000);
});

test("a key has the form that scanners of secrets can look for", () => {
  const text = formatApiKey(createApiKey("staging"));
  assert.match(text, /^tally_staging_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/);
});

test("the checksum is that of everything before it", () => {
  const secret = "0".repeat(43);
  const text = formatApiKey({ environment: "live", id: "0123456789AB", secret });
  // CRC-32 as zlib and PNG have it, in base 62.
  assert.equal(text, `tally_live_0123456789AB_${secret}_02GZK8`);
});

test("a key with one letter wrong is no key", () => {
  const letter = fc.constantFrom(..."09AZaz_-. ");
  fc.assert(
    fc.property(fc.nat(), letter, (at, put) => {
      const text = formatApiKey(createApiKey("live"));
      const i = at % text.length;
      const damaged = text.slice(0, i) + put + text.slice(i + 1);
      assert.equal(parseApiKey(damaged) === undefined, damaged !== text);
    }),
  );
});

test("other texts are no keys, however long", () => {
  const good = formatApiKey(createApiKey("live"));
  const texts = [
    "",
    "tally",
    `${good}x`,
    ` ${good}`,
    `${good}\n`,
    good.toUpperCase(),
    good.replace("tally_live", "tally_LIVE"),
    good.replace("tally_live", "tally_"),
    good.replace("tally_live", `tally_${"a".repeat(17)}`),
    `tally_live_${"a".repeat(100_000)}`,
    "tally_".repeat(20_000),
  ];
  for (const text of texts) assert.equal(parseApiKey(text), undefined);
});

test("hashes are compared whole", () => {
  const hash = hashSecret("a");
  assert.equal(isSameHash(hash, hashSecret("a")), true);
  assert.equal(isSameHash(hash, hashSecret("b")), false);
  assert.equal(isSameHash(hash, hash.subarray(1)), false);
});
