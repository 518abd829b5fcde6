import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, open, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import type { RowField } from "#app";
import { UsageError } from "./command.ts";
import { openImportFile, rowIdOf } from "./import-file.ts";
import { createRowReader, type FileRow, type Format, RowBatcher } from "./import-rows.ts";

const DIGEST = createHash("sha256").update("a file").digest();
const ORG: ReadonlyMap<RowField, string> = new Map<RowField, string>([
  ["org_id", "acme"],
  ["model_id", "m"],
  ["status", "success"],
]);

function rowsOf(format: Format, text: string): FileRow[] {
  const reader = createRowReader({ format, columns: new Map(), defaults: ORG, digest: DIGEST });
  return [...reader.push(Buffer.from(text)), ...reader.end()];
}

async function tempFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), "tallystick-test-"));
  return {
    path,
    [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }),
  };
}

test("a row's id depends on the file's content and the row alone, and is a canonical UUIDv8", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.nat(),
      fc.nat(),
      (bytes, a, b) => {
        const digest = Buffer.from(bytes);
        assert.match(
          rowIdOf(digest, a),
          /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
        );
        assert.equal(rowIdOf(digest, a) === rowIdOf(digest, b), a === b);
      },
    ),
  );
  // Pinned: a later version that made other ids would count files imported before a second time.
  assert.equal(rowIdOf(DIGEST, 1), "d274ff0a-fc5b-87ad-ac5b-9ff8610d870f");
  const ids = new Set(Array.from({ length: 20_000 }, (_, row) => rowIdOf(DIGEST, row)));
  assert.equal(ids.size, 20_000);
});

test("rows keep their line numbers, and a bad one does not hold up its neighbours", () => {
  const csv =
    'occurred_at,input_tokens\n2026-11-20T10:00:00Z,1\n"broken"x,2\ntoo,many,fields\n\n2026-11-20T10:00:01Z,3\n';
  const rows = rowsOf("csv", csv);
  assert.deepEqual(
    rows.map(({ row, fault }) => [row, fault?.code ?? null]),
    [
      [2, null],
      [3, "invalid_value"],
      [4, "invalid_value"],
      [6, null],
    ],
  );
  assert.equal(JSON.parse(String(rows[3]?.json)).event_id, rowIdOf(DIGEST, 6));
});

test("NDJSON lines get the fields they leave out; a mark at the beginning and a line of megabytes do no harm", () => {
  const long = `{"event_id":"${"x".repeat(2_000_000)}"}`;
  const rows = rowsOf("ndjson", `\ufeff{"event_id":"a"}\n${long}\n{"input_tokens":1}`);
  assert.deepEqual(JSON.parse(String(rows[0]?.json)), {
    event_id: "a",
    org_id: "acme",
    model_id: "m",
    status: "success",
  });
  assert.equal(rows[1]?.fault?.code, "too_large");
  assert.equal(JSON.parse(String(rows[2]?.json)).event_id, rowIdOf(DIGEST, 3));
});

test("a file whose header does not fit is refused as a whole", () => {
  assert.throws(() => rowsOf("csv", "a,b\n1,2\n"), UsageError);
  assert.throws(() => rowsOf("azure-llm-trace", "a,b\n1,2\n"), UsageError);
  assert.throws(() => rowsOf("csv", ""), UsageError);
});

test("batches stay below 5,000 events and 5 MiB, and hold every row once, in order", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(10, 1000, 1_048_576), { maxLength: 60 }),
      fc.boolean(),
      (sizes, isMany) => {
        const all = isMany ? [...sizes, ...Array.from({ length: 12_000 }, () => 2)] : sizes;
        const batcher = new RowBatcher();
        const batches = all.flatMap((size, row) => batcher.add(row, Buffer.alloc(size, 120)) ?? []);
        const last = batcher.take();
        if (last !== null) batches.push(last);
        assert.deepEqual(
          batches.flatMap((batch) => batch.rows),
          all.map((_, row) => row),
        );
        for (const batch of batches) {
          assert.ok(batch.rows.length <= 5000 && batch.text.length < 5 * 1024 * 1024);
          assert.equal(batch.text.toString().split("\n").length - 1, batch.rows.length);
        }
      },
    ),
    { numRuns: 20 },
  );
});

test("a file, standard input and a renamed copy with the same content have the same digest; what was spooled is removed", async () => {
  await using folder = await tempFolder();
  const before = (await readdir(tmpdir())).filter((name) => name.startsWith("tallystick-import-"));
  const path = join(folder.path, "a.csv");
  await writeFile(path, "some content");
  const { signal } = new AbortController();
  {
    await using file = await openImportFile(path, Readable.from([]), signal);
    await using input = await openImportFile(
      "-",
      Readable.from([Buffer.from("some "), Buffer.from("content")]),
      signal,
    );
    assert.deepEqual(file.digest, createHash("sha256").update("some content").digest());
    assert.deepEqual(input.digest, file.digest);
    let text = "";
    for await (const chunk of input.chunks()) text += chunk.toString();
    assert.equal(text, "some content");
  }
  const after = (await readdir(tmpdir())).filter((name) => name.startsWith("tallystick-import-"));
  assert.deepEqual(
    after.filter((name) => !before.includes(name)),
    [],
  );
});

test("a file that grows while it is read is refused, and so are folders and missing files", async () => {
  await using folder = await tempFolder();
  const path = join(folder.path, "growing.ndjson");
  await writeFile(path, "{}\n");
  const { signal } = new AbortController();
  await using file = await openImportFile(path, Readable.from([]), signal);
  await using writer = await open(path, "a");
  await writer.writeFile("{}\n");
  await assert.rejects(async () => {
    for await (const chunk of file.chunks()) void chunk;
  }, /was changed while/);
  await assert.rejects(openImportFile(folder.path, Readable.from([]), signal), /is a folder/);
  await assert.rejects(
    openImportFile(join(folder.path, "none"), Readable.from([]), signal),
    /cannot be read/,
  );
});
