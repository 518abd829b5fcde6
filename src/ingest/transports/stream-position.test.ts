import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { digestOf, formatPosition, parsePosition } from "./stream-position.ts";
import { gapBetween, judgeEnds } from "./stream-start.ts";

const position = (offset: number, itemsDone: number | null = null) => ({
  offset,
  itemsDone,
  digest: digestOf(Buffer.from("a message")),
});

test("a stored position is read back as it was, whatever the offset and however much of the message was done", () => {
  fc.assert(
    fc.property(
      fc.nat(Number.MAX_SAFE_INTEGER),
      fc.option(fc.integer({ min: 1, max: 99_999 })),
      (offset, itemsDone) => {
        const stored = position(offset, itemsDone);
        assert.deepEqual(parsePosition(formatPosition(stored)), stored);
      },
    ),
  );
  assert.throws(() => parsePosition("12"), RangeError);
  assert.throws(() => parsePosition("12:xyz"), RangeError);
});

test("a stream that holds the position is read on there; one that cannot be the same begins anew, with an incident", () => {
  const look = (ends: { first: number; last: number } | null) => judgeEnds(position(100), ends);
  assert.deepEqual(look({ first: 0, last: 100 }).start, 100);
  assert.equal(look({ first: 100, last: 5000 }).incident, undefined);
  for (const ends of [null, { first: 0, last: 99 }]) {
    const { start, incident } = look(ends);
    assert.equal(start, "first");
    assert.deepEqual([incident?.kind, incident?.fromOffset], ["recreated", 101]);
  }
});

test("F13: what retention took away before it was read is named exactly; a record of the broker's own is no gap", () => {
  const { start, incident } = judgeEnds(position(100), { first: 4624, last: 9000 });
  assert.equal(start, "first");
  assert.deepEqual([incident?.kind, incident?.fromOffset, incident?.toOffset], ["gap", 101, 4623]);
  // A segment begins with a record of its own: one offset before its first message is no message.
  assert.equal(judgeEnds(position(100), { first: 102, last: 9000 }).incident, undefined);
  assert.equal(judgeEnds(position(100), { first: 101, last: 9000 }).incident, undefined);
  // Half of message 100 was not read, and it is gone.
  const partly = judgeEnds(position(100, 3), { first: 101, last: 9000 }).incident;
  assert.deepEqual([partly?.fromOffset, partly?.toOffset], [100, 100]);
  assert.equal(gapBetween(5, 4), undefined);
});
