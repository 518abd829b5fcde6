import assert from "node:assert/strict";
import { test } from "node:test";
import { classifyErrorCode, ERROR_CLASSES, outcomeOfError } from "./error-class.ts";
import { FIRST_ERROR_OUTCOME, OUTCOMES } from "./usage-event.ts";

test("an error without a class gets one from its code", () => {
  const codes = {
    capacity: [
      "429",
      "503",
      "529",
      "HTTP 429",
      "http_503",
      "rate_limit_exceeded",
      "RateLimitError",
      "overloaded_error",
      "insufficient_quota",
    ],
    upstream: [
      "500",
      "502",
      "504",
      "599",
      "upstream_error",
      "bad_gateway",
      "Gateway Timeout",
      "timeout",
      "deadline-exceeded",
    ],
    policy: [
      "401",
      "403",
      "content_filter",
      "content-policy-violation",
      "invalid_api_key",
      "permission_denied",
      "Unauthorized",
    ],
    client: [
      "400",
      "404",
      "408",
      "422",
      "invalid_request_error",
      "context_length_exceeded",
      "model_not_found",
      "bad request",
    ],
    internal: ["", "200", "302", "600", "42", "boom", "internal_error", "E_UNKNOWN"],
  };
  for (const errorClass of ERROR_CLASSES) {
    for (const code of codes[errorClass]) assert.equal(classifyErrorCode(code), errorClass, code);
  }
  assert.equal(classifyErrorCode(null), "internal");
});

test("every error class is an outcome of its own, and they are all the errors", () => {
  assert.deepEqual(ERROR_CLASSES.map(outcomeOfError), [2, 3, 4, 5, 6]);
  assert.deepEqual(OUTCOMES.slice(FIRST_ERROR_OUTCOME), [...ERROR_CLASSES]);
});
