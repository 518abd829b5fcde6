import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CsvReader, type CsvRecord } from "./csv-reader.ts";

const LIMIT = { recordBytesMax: 1 << 20 };

function read(bytes: Buffer, cuts: readonly number[] = [], options = LIMIT): CsvRecord[] {
  const reader = new CsvReader(options);
  const records: CsvRecord[] = [];
  let from = 0;
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    records.push(...reader.push(bytes.subarray(from, cut)));
    from = cut;
  }
  return [...records, ...reader.push(bytes.subarray(from)), ...reader.end()];
}

const fieldsOf = (text: string): unknown[] =>
  read(Buffer.from(text)).map((record) => record.fault ?? record.fields);

const needsQuotes = (field: string): boolean => /[",\r\n]/.test(field);
const quoted = (field: string): string => `"${field.replaceAll('"', '""')}"`;

const field = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 8 }),
  fc.string({ unit: fc.constantFrom('"', ",", "\r", "\n", "a", "é", "😀", " "), maxLength: 8 }),
);
const table = fc.array(
  fc.record({
    fields: fc.array(field, { minLength: 1, maxLength: 4 }),
    isQuoted: fc.boolean(),
    lineEnd: fc.constantFrom("\n", "\r\n"),
  }),
  { maxLength: 8 },
);

test("whatever was written by RFC 4180 is read back, wherever the chunks are cut", () => {
  fc.assert(
    fc.property(
      table,
      fc.array(fc.nat()),
      fc.boolean(),
      fc.boolean(),
      (rows, cuts, hasBom, hasLastEnd) => {
        let text = hasBom ? "\ufeff" : "";
        for (const [i, row] of rows.entries()) {
          // A lone empty field must be quoted: bare, it is an empty line.
          const isForced = row.isQuoted || (row.fields.length === 1 && row.fields[0] === "");
          text += row.fields.map((f) => (isForced || needsQuotes(f) ? quoted(f) : f)).join(",");
          if (hasLastEnd || i < rows.length - 1) text += row.lineEnd;
        }
        const bytes = Buffer.from(text);
        const places = cuts.map((cut) => cut % (bytes.length + 1));
        // A field that itself begins with the mark would lose it at the start of the file, as in any reader.
        fc.pre(hasBom || !text.startsWith("\ufeff"));
        assert.deepEqual(
          read(bytes, places).map((record) => record.fault ?? record.fields),
          rows.map((row) => row.fields),
        );
      },
    ),
    { numRuns: 500 },
  );
});

test("a record says on which line it starts, embedded line breaks and empty lines counted", () => {
  const bytes = Buffer.from('a,"b"\r\n\r\n"x\ny\n",1\nlast,2');
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.deepEqual(
      read(bytes, [cut]).map((r) => [r.line, r.fields]),
      [
        [1, ["a", "b"]],
        [3, ["x\ny\n", "1"]],
        [6, ["last", "2"]],
      ],
    );
  }
});

test("a broken record is named and the lines below it are still read", () => {
  assert.deepEqual(fieldsOf('a,b\n"x"y,1\nc,d\n'), [
    ["a", "b"],
    "text after a closing quote",
    ["c", "d"],
  ]);
  assert.deepEqual(fieldsOf('a,b\n"never closed,1\nc,d\n'), [
    ["a", "b"],
    "a quoted field is not closed",
    ["c", "d"],
  ]);
  const invalid = Buffer.concat([
    Buffer.from("a,b\n"),
    Buffer.from([0xff, 0x2c, 0x31, 0x0a]),
    Buffer.from("c,d"),
  ]);
  assert.deepEqual(
    read(invalid).map((r) => [r.line, r.fault ?? r.fields]),
    [
      [1, ["a", "b"]],
      [2, "not UTF-8"],
      [3, ["c", "d"]],
    ],
  );
});

test("a lost quote costs one record, not the file and not the memory", () => {
  const rows = Array.from({ length: 1000 }, (_, i) => `row,${i}`);
  const bytes = Buffer.from(`"lost,0\n${rows.join("\n")}\n`);
  const records = read(bytes, [10, 100, 1000, 2000, 5000], { recordBytesMax: 512 });
  assert.match(records[0]?.fault ?? "", /longer than 512 bytes/);
  assert.equal(records.length, 1001);
  assert.deepEqual(records.at(-1)?.fields, ["row", "999"]);
});

test("a quote inside an unquoted field, and blanks around fields, are text", () => {
  assert.deepEqual(fieldsOf('5" pipe, a ,x\n'), [['5" pipe', " a ", "x"]]);
});
