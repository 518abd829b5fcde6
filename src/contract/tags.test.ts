import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readTags, tagOtherWord, tagValueOf, tagWord } from "#contract";

const valueOf = (metadata: string): string | undefined => readTags(metadata, ["team"])[0]?.value;

test("a tag is a text, or a number, true or false as it stands in the metadata; all else is as if absent", () => {
  const values: [metadata: string, value: string | undefined][] = [
    ['{"team":"search"}', "search"],
    ['{"team":""}', ""],
    ['{"team":"\\u00e9t\\u00e9 =\\n"}', "été =\n"],
    ['{"team":7}', "7"],
    ['{"team":1.50}', "1.50"],
    ['{"team":12345678901234567890}', "12345678901234567890"],
    ['{"team":-0e2}', "-0e2"],
    ['{"team":true}', "true"],
    ['{"team":false}', "false"],
    ['{"team":null}', undefined],
    ['{"team":{"team":1}}', undefined],
    ['{"team":["a"]}', undefined],
    ['{"other":{"team":"nested"}}', undefined],
    ['{"":{"team":3},"team":{"a":4}}', undefined],
    ['{"Team":"search"}', undefined],
    ["{}", undefined],
    [`{"team":"${"x".repeat(128)}"}`, "x".repeat(128)],
    [`{"team":"${"x".repeat(129)}"}`, undefined],
    [`{"team":"${"😀".repeat(128)}"}`, "😀".repeat(128)],
    [`{"team":"${"😀".repeat(129)}"}`, undefined],
    [`{"team":1${"0".repeat(128)}}`, undefined],
    ['{"team":"a\\u0000b"}', undefined],
    ['{"team":"\\ud800"}', undefined],
    ['{"team":"first","team":2}', "2"],
  ];
  for (const [metadata, value] of values) assert.equal(valueOf(metadata), value, metadata);
  assert.deepEqual(readTags(null, ["team"]), []);
});

test("tags come in the order of the declared keys, whatever keys an object has of its own", () => {
  const metadata = '{"__proto__":"p","tier":2,"team":"search","constructor":"c"}';
  const keys = ["team", "__proto__", "toString", "tier"];
  assert.deepEqual(readTags(metadata, keys), [
    { key: "team", value: "search" },
    { key: "__proto__", value: "p" },
    { key: "tier", value: "2" },
  ]);
});

test("no two keys, values or others share a word", () => {
  const key = fc.stringMatching(/^[A-Za-z0-9_.-]{1,64}$/);
  const tag = fc.record({ key, value: fc.option(fc.string()) });
  const wordOf = ({ key: own, value }: { key: string; value: string | null }) =>
    value === null ? tagOtherWord(own) : tagWord(own, value);
  fc.assert(
    fc.property(tag, tag, (a, b) => {
      const isSame = a.key === b.key && a.value === b.value;
      assert.equal(wordOf(a) === wordOf(b), isSame);
      assert.equal(tagValueOf(a.key, wordOf(a)), a.value ?? undefined);
      if (a.key !== b.key) assert.equal(tagValueOf(b.key, wordOf(a)), undefined);
    }),
  );
});
