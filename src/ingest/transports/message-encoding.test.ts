import assert from "node:assert/strict";
import { test } from "node:test";
import {
  brotliCompressSync,
  deflateRawSync,
  deflateSync,
  gzipSync,
  zstdCompressSync,
} from "node:zlib";
import { BodyFault } from "./body-fault.ts";
import { decodeBody } from "./message-encoding.ts";

const COMPRESSIONS = {
  gzip: gzipSync,
  "x-gzip": gzipSync,
  deflate: deflateSync,
  br: brotliCompressSync,
  zstd: zstdCompressSync,
};
const BYTES_MAX = 100_000;
const decode = (bytes: Buffer, encoding: unknown, bytesMax = BYTES_MAX): string =>
  decodeBody(bytes, encoding, bytesMax).toString();
const assertFault = (code: string, bytes: Buffer, encoding: unknown, bytesMax?: number): void => {
  assert.throws(
    () => decode(bytes, encoding, bytesMax),
    (error) =>
      error instanceof BodyFault && error.code === code && !/undefined/.test(error.message),
    `${code} for ${String(encoding)}`,
  );
};

test("B35: every compression is undone, whatever the case of its name", () => {
  for (const [name, compress] of Object.entries(COMPRESSIONS)) {
    assert.equal(decode(compress("{}"), name), "{}");
    assert.equal(decode(compress("{}"), ` ${name.toUpperCase()} `), "{}");
    assert.equal(decode(compress(""), name), "");
  }
  assert.equal(decode(deflateRawSync("{}"), "deflate"), "{}");
});

test("B35: a character set in content-encoding is no compression, alone or beside one", () => {
  for (const plain of [undefined, null, 7, "", "identity", "UTF-8", "utf-8", "binary", "us-ascii"])
    assert.equal(decode(Buffer.from("{}"), plain), "{}");
  assert.equal(decode(gzipSync("{}"), "gzip:UTF-8"), "{}");
  assert.equal(decode(gzipSync("{}"), "gzip, UTF-8"), "{}");
});

test("an unknown encoding, or two of them, is refused", () => {
  for (const unknown of ["zip", "snappy", "base64", "utf-16", "gzip, br", "__proto__", "toString"])
    assertFault("unsupported_body", gzipSync("{}"), unknown);
});

test("B8: what inflates beyond the limit is too large; exactly the limit is not", () => {
  const zeros = Buffer.alloc(20_000_000);
  for (const [name, compress] of Object.entries(COMPRESSIONS)) {
    assertFault("too_large", compress(zeros), name);
    assert.equal(decode(compress(Buffer.alloc(1000, "x")), name, 1000).length, 1000);
    assertFault("too_large", compress(Buffer.alloc(1001, "x")), name, 1000);
  }
});

test("B8: damaged, cut, mislabelled and continued bodies are refused", () => {
  const text = "x".repeat(1000);
  for (const [name, compress] of Object.entries(COMPRESSIONS)) {
    const packed = compress(text);
    for (let length = 1; length < packed.length; length++)
      assertFault("invalid_encoding", packed.subarray(0, length), name);
    assertFault("invalid_encoding", Buffer.from('{"a":1}'), name);
    assertFault("invalid_encoding", Buffer.concat([packed, Buffer.from("more")]), name);
  }
});

test("bodies compressed in pieces are read to their end", () => {
  const pieces = (compress: (text: string) => Buffer): Buffer =>
    Buffer.concat(["one", "", "two", "three"].map(compress));
  assert.equal(decode(pieces(gzipSync), "gzip"), "onetwothree");
  assert.equal(decode(pieces(zstdCompressSync), "zstd"), "onetwothree");
  const skippable = Buffer.from("502a4d1804000000deadbeef", "hex");
  assert.equal(decode(Buffer.concat([skippable, zstdCompressSync("x")]), "zstd"), "x");
  assert.equal(decode(Buffer.concat([gzipSync("x"), Buffer.alloc(9)]), "gzip"), "x");
  const half = zstdCompressSync("x".repeat(600));
  assertFault("too_large", Buffer.concat([half, half]), "zstd", 1000);
  assertFault("too_large", Buffer.concat([half, half, zstdCompressSync("x")]), "zstd", 1200);
  assert.equal(decode(Buffer.concat([half, half, skippable]), "zstd", 1200).length, 1200);
  assertFault("invalid_encoding", Buffer.concat(Array<Buffer>(2000).fill(skippable)), "zstd");
});
