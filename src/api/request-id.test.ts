import assert from "node:assert/strict";
import test from "node:test";
import { requestIdOf } from "./request-id.ts";

const idOf = (headers: Record<string, string>) => requestIdOf(headers, () => "made");
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";

test("a sane request id is kept, and a trace id stands in for one", () => {
  assert.equal(idOf({ "x-request-id": "job-17:a.b_c" }), "job-17:a.b_c");
  assert.equal(idOf({ traceparent: `00-${TRACE}-00f067aa0ba902b7-01` }), TRACE);
  assert.equal(
    idOf({ "x-request-id": "mine", traceparent: `00-${TRACE}-00f067aa0ba902b7-01` }),
    "mine",
  );
});

test("an id that could break a log or a header is replaced", () => {
  for (const bad of ["", "a b", "a\nb", "x".repeat(65), "<script>", 'a"b', "a, b"]) {
    assert.equal(idOf({ "x-request-id": bad }), "made");
  }
  assert.equal(idOf({ traceparent: `00-${"0".repeat(32)}-00f067aa0ba902b7-01` }), "made");
  assert.equal(idOf({ traceparent: "nonsense" }), "made");
});
