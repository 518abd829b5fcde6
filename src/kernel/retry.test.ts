import assert from "node:assert/strict";
import { test } from "node:test";
import { retry, type RetryOptions } from "#kernel";

function options(overrides: Partial<RetryOptions> = {}): RetryOptions & { waits: number[] } {
  const waits: number[] = [];
  return {
    attemptsMax: 6,
    waitMs: 100,
    waitMsMax: 1000,
    isRetryable: () => true,
    random: () => 1,
    sleep: async (ms) => void waits.push(ms),
    ...overrides,
    waits,
  };
}

const failing = (times: number) => async (attempt: number) => {
  if (attempt <= times) throw new Error(`attempt ${attempt}`);
  return attempt;
};

test("waits double up to their ceiling, and the jitter scales them", async () => {
  const full = options();
  assert.equal(await retry(failing(5), full), 6);
  assert.deepEqual(full.waits, [100, 200, 400, 800, 1000]);
  const half = options({ random: () => 0.5 });
  await retry(failing(2), half);
  assert.deepEqual(half.waits, [50, 100]);
});

test("the last error is thrown when attempts run out, and a hopeless one at once", async () => {
  await assert.rejects(retry(failing(9), options({ attemptsMax: 3 })), /attempt 3/);
  const hopeless = options({ isRetryable: () => false });
  await assert.rejects(retry(failing(9), hopeless), /attempt 1/);
  assert.deepEqual(hopeless.waits, []);
});

test("an aborted signal ends the waiting at once, with its reason", async () => {
  const abort = new AbortController();
  const { sleep: _, ...real } = options({
    waitMs: 60_000,
    waitMsMax: 60_000,
    signal: abort.signal,
  });
  const result = retry(failing(9), {
    ...real,
    onRetry: () => setImmediate(() => abort.abort(new Error("enough"))),
  });
  await assert.rejects(result, /enough/);
});
