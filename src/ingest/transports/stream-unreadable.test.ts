import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { findReadable, type Probe } from "./stream-unreadable.ts";

/** A stream that ends before `end`, has no messages at `none`, and breaks when read at one of `bad`. */
const streamOf =
  ({ bad, none = [], end }: { bad: (offset: number) => boolean; none?: number[]; end: number }) =>
  (offset: number): Promise<Probe> => {
    let at = offset;
    while (none.includes(at)) at++;
    return Promise.resolve(at >= end ? "silent" : bad(at) ? "unreadable" : at);
  };

test("the place to read on is the next message after unreadable offsets, near or far", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(5000), fc.integer({ min: 1, max: 100_000 }), async (from, count) => {
      const isBad = (offset: number) => offset >= from && offset < from + count;
      const followed = streamOf({ bad: isBad, end: from + count + 1 });
      assert.equal(await findReadable(followed, from), from + count);
      const last = streamOf({ bad: isBad, end: from + count });
      assert.equal(await findReadable(last, from), from + count);
    }),
    { numRuns: 200 },
  );
});

test("offsets without a message of their own belong to what is passed over", async () => {
  const stream = streamOf({ bad: (offset) => offset === 4, none: [5, 6], end: 8 });
  assert.equal(await findReadable(stream, 4), 7);
});

test("nothing is passed over where reading works, or works again", async () => {
  assert.equal(await findReadable(streamOf({ bad: () => false, end: 10 }), 4), undefined);
  assert.equal(await findReadable(streamOf({ bad: () => false, end: 4 }), 4), undefined);
  let failures = 3;
  const passing = streamOf({ bad: () => failures-- > 0, end: 10 });
  assert.equal(await findReadable(passing, 4), undefined);
});

test("a broker that fails at every offset is no stream to pass over", async () => {
  const broken = streamOf({ bad: () => true, end: Number.POSITIVE_INFINITY });
  await assert.rejects(findReadable(broken, 0), /whatever offset/);
});
