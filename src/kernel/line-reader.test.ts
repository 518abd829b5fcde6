import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LineReader, type Line } from "./line-reader.ts";

function read(text: string, cuts: readonly number[], lineBytesMax = 1000): Line[] {
  const bytes = Buffer.from(text);
  const reader = new LineReader({ lineBytesMax });
  const lines: Line[] = [];
  let from = 0;
  for (const cut of cuts.map((c) => c % (bytes.length + 1)).sort((a, b) => a - b)) {
    lines.push(...reader.push(bytes.subarray(from, cut)));
    from = cut;
  }
  return [...lines, ...reader.push(bytes.subarray(from)), ...reader.end()];
}

test("lines come out as they went in, with their numbers, wherever the chunks are cut", () => {
  const line = fc.string({ unit: fc.constantFrom("a", "é", "😀", " ", "\r"), maxLength: 6 });
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat()), (lines, cuts) => {
      assert.deepEqual(
        read(lines.join("\n"), cuts).map((l) => [l.line, l.bytes?.toString()]),
        lines.map((text, i) => [i + 1, text]).filter(([, text]) => text !== "" && text !== "\r"),
      );
    }),
  );
});

test("a line beyond the limit is named without its bytes, and its neighbours are read", () => {
  for (const cuts of [[], [3, 9, 14, 20]]) {
    const lines = read(`one\n${"x".repeat(20)}\nthree`, cuts, 10);
    assert.deepEqual(
      lines.map((l) => [l.line, l.bytes?.toString() ?? null]),
      [
        [1, "one"],
        [2, null],
        [3, "three"],
      ],
    );
  }
});
