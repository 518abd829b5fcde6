import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { formatCsv, type CsvColumn } from "./csv.ts";

type Row = { member: string; cost: string; requests: number | null };
const COLUMNS: CsvColumn<Row>[] = [
  { name: "member", kind: "text", value: (row) => row.member },
  { name: "cost", kind: "plain", value: (row) => row.cost },
  { name: "requests", kind: "plain", value: (row) => row.requests },
];
const cellOf = (member: string) =>
  formatCsv(COLUMNS, [{ member, cost: "0", requests: 0 }]).split("\r\n")[1] ?? "";

test("text that a spreadsheet would run as a formula is disarmed, numbers are left alone", () => {
  for (const member of [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\0=x",
    "＝1",
    "＋1",
    "－1",
    "＠x",
  ]) {
    assert.ok(
      formatCsv(COLUMNS, [{ member, cost: "0", requests: 0 }]).includes(`\r\n"'${member}",0,0\r\n`),
      member,
    );
  }
  assert.equal(cellOf("a=1"), `"a=1",0,0`);
  const credit = formatCsv(COLUMNS, [{ member: "m", cost: "-12.5", requests: -3 }]);
  assert.equal(credit, `member,cost,requests\r\n"m",-12.5,-3\r\n`);
});

test("an answer without rows is a header, and nothing given is an empty cell", () => {
  assert.equal(formatCsv(COLUMNS, []), "member,cost,requests\r\n");
  assert.equal(
    formatCsv(COLUMNS, [{ member: "", cost: "", requests: null }]),
    `member,cost,requests\r\n"",,\r\n`,
  );
});

test("any text comes back as it went in, apart from the disarming quote", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 30 }), (member) => {
      const csv = formatCsv(COLUMNS, [{ member, cost: "1", requests: 2 }]);
      const field = csv.slice("member,cost,requests\r\n".length, -`,1,2\r\n`.length);
      assert.match(field, /^"(?:[^"]|"")*"$/s);
      const text = field.slice(1, -1).replaceAll('""', '"');
      assert.ok(text === member || text === `'${member}`);
    }),
  );
});
