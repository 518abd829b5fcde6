import assert from "node:assert/strict";
import test from "node:test";
import { deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { Failure } from "#contract";
import { encodingOfHeader, formatOfContentType, inflate } from "./body.ts";

const fails = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;

test("JSON and NDJSON in UTF-8 are taken", () => {
  for (const type of [
    "application/json",
    "Application/JSON",
    "application/json; charset=utf-8",
    'application/json;charset="UTF-8"',
  ]) {
    assert.equal(formatOfContentType(type), "json", type);
  }
  assert.equal(formatOfContentType("application/x-ndjson"), "ndjson");
});

test("B10: an unknown, ambiguous or differently encoded media type is refused", () => {
  for (const type of [
    undefined,
    "",
    "text/plain",
    "application/json\t;",
    "application/json\t",
    "application/json;",
    "application/json; charset=utf-7",
    "application/json; charset=utf-16",
    "application/json; charset=utf-8; charset=utf-7",
    'application/json; charset="utf-8',
    "application/json, text/plain",
    "application/jsonx",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "constructor",
  ]) {
    assert.throws(() => formatOfContentType(type), fails("unsupported_media_type"), String(type));
  }
});

test("gzip and zstd bodies come out as they were", async () => {
  const body = Buffer.from(JSON.stringify({ event_id: "e1" }));
  assert.deepEqual(await inflate(gzipSync(body), encodingOfHeader("GZIP"), 1000), body);
  assert.deepEqual(await inflate(zstdCompressSync(body), encodingOfHeader("zstd"), 1000), body);
  assert.deepEqual(await inflate(body, encodingOfHeader(undefined), 1000), body);
  const [first, second] = [Buffer.from('{"event_id":'), Buffer.from('"e1"}')];
  for (const [encoding, pack] of [
    ["gzip", gzipSync],
    ["zstd", zstdCompressSync],
  ] as const) {
    const parts = Buffer.concat([pack(first), pack(second)]);
    assert.deepEqual(await inflate(parts, encoding, 1000), body, `${encoding} in two parts`);
  }
  for (const encoding of ["br", "deflate", "gzip, gzip", "x"]) {
    assert.throws(() => encodingOfHeader(encoding), fails("unsupported_media_type"));
  }
});

test("B8: a decompression bomb is stopped at the limit, whatever it would have become", async () => {
  const zeros = Buffer.alloc(50_000_000);
  await assert.rejects(inflate(gzipSync(zeros), "gzip", 1_000_000), fails("too_large"));
  await assert.rejects(inflate(zstdCompressSync(zeros), "zstd", 1_000_000), fails("too_large"));
  const exact = Buffer.alloc(1000, "x");
  assert.equal((await inflate(gzipSync(exact), "gzip", 1000)).length, 1000);
  await assert.rejects(inflate(gzipSync(Buffer.alloc(1001)), "gzip", 1000), fails("too_large"));
});

test("B8: a damaged, cut or mislabelled body is refused", async () => {
  const packed = gzipSync("x".repeat(1000));
  const flipped = Buffer.from(packed);
  flipped.writeUInt8((flipped.at(-5) ?? 0) ^ 0xff, flipped.length - 5);
  for (const bad of [
    packed.subarray(0, -6),
    flipped,
    deflateSync("x"),
    Buffer.from("{}"),
    Buffer.alloc(0),
  ]) {
    await assert.rejects(inflate(bad, "gzip", 1_000_000), fails("invalid_encoding"));
  }
  const zstd = zstdCompressSync("x".repeat(1000));
  const trailing = Buffer.concat([zstd, Buffer.from("{}")]);
  for (const bad of [zstd.subarray(0, -3), gzipSync("x"), Buffer.from("{}"), trailing]) {
    await assert.rejects(inflate(bad, "zstd", 1_000_000), fails("invalid_encoding"));
  }
});
