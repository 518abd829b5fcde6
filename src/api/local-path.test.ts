import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { localPathOf } from "./local-path.ts";

const ORIGIN = "https://tallystick.example";

test("a path of this service stays as it is", () => {
  for (const path of [
    "/",
    "/usage?range=7d&modelId=a%2Fb#top",
    "/orgs/acme",
    "/%2f%2felsewhere.example",
    "/?next=https://elsewhere.example",
    "/a//b",
  ]) {
    assert.equal(localPathOf(path), path);
  }
  assert.equal(localPathOf("/orgs/größe"), "/orgs/gr%C3%B6%C3%9Fe");
  assert.equal(localPathOf("/a/../b"), "/b");
});

test("what leads elsewhere is no path", () => {
  for (const text of [
    undefined,
    "",
    "usage",
    "//elsewhere.example",
    "///elsewhere.example",
    "/\\elsewhere.example",
    "\\/elsewhere.example",
    "/\t/elsewhere.example",
    "/\n/elsewhere.example",
    "\t//elsewhere.example",
    " //elsewhere.example",
    "/.//elsewhere.example",
    "/..//elsewhere.example",
    "/a/..//elsewhere.example",
    "/%2e//elsewhere.example",
    "https://elsewhere.example",
    "https:elsewhere.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "//elsewhere.example@tallystick.example",
    "@elsewhere.example",
    "/a\\..\\..\\\\elsewhere.example",
    "/a\r\nset-cookie: x=1",
    "/\u0000",
    `/${"x".repeat(2001)}`,
  ]) {
    assert.equal(localPathOf(text), null, JSON.stringify(text));
  }
});

test("whatever is sent, a browser stays on this service", () => {
  const pieces = fc.constantFrom(
    "/",
    "\\",
    ".",
    "..",
    "%2e",
    "?",
    "#",
    "@",
    ":",
    "a",
    "\t",
    "\n",
    " ",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(pieces, fc.string()), { maxLength: 12 }), (parts) => {
      const path = localPathOf(`/${parts.join("")}`);
      if (path === null) return;
      assert.equal(new URL(path, ORIGIN).origin, ORIGIN);
      assert.equal(localPathOf(path), path);
    }),
    { numRuns: 2000 },
  );
});
