import assert from "node:assert/strict";
import test from "node:test";
import { Failure } from "#contract";
import { formatAccepted } from "./accept.ts";

test("the client's preference decides between JSON and CSV", () => {
  const expected: [string | undefined, string][] = [
    [undefined, "json"],
    ["*/*", "json"],
    ["application/json", "json"],
    ["text/csv", "csv"],
    ["text/csv; header=present", "csv"],
    ["text/*", "csv"],
    ["application/json;q=0.5, text/csv", "csv"],
    ["text/csv;q=0.1, */*", "json"],
    ["text/html,application/xhtml+xml,*/*;q=0.8", "json"],
    ["TEXT/CSV", "csv"],
  ];
  for (const [accept, format] of expected)
    assert.equal(formatAccepted(accept), format, accept ?? "none");
});

test("a client that takes neither is told so", () => {
  for (const accept of [
    "text/html",
    "application/json;q=0",
    "image/*",
    "nonsense",
    "text/csv;q=2",
  ]) {
    assert.throws(
      () => formatAccepted(accept),
      (error) => error instanceof Failure && error.code === "not_acceptable",
    );
  }
});
