import assert from "node:assert/strict";
import { test } from "node:test";
import { formatCount, formatTable } from "./table.ts";

test("columns are as wide as their widest cell, numbers stand to the right", () => {
  const text = formatTable(
    [{ title: "org" }, { title: "requests", isNumeric: true }],
    [
      ["acme", "1,200"],
      ["ünïcødé", "7"],
    ],
  );
  assert.equal(
    text,
    "org      requests\n-------  --------\nacme        1,200\nünïcødé         7\n",
  );
});

test("what producers wrote cannot move the cursor, recolour the screen or add lines", () => {
  const text = formatTable([{ title: "code" }], [["a\nb\x1b[31m\u202e"]]);
  assert.equal(text.split("\n").length, 4);
  assert.ok(!/[\x1b\u202e]/.test(text));
});

test("nouns follow their number", () => {
  assert.equal(formatCount(1, "row"), "1 row");
  assert.equal(formatCount(19_366, "row"), "19,366 rows");
});
