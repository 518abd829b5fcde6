import assert from "node:assert/strict";
import test from "node:test";
import { Failure } from "#contract";
import { createGate } from "./gates.ts";
import { createIdempotencyMemory, type IdempotencyMemory } from "./idempotency.ts";

const fails = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;

function memoryWith(bounds: { keysMax?: number; bytesMax?: number } = {}) {
  const clock = { ms: 0, now: () => clock.ms };
  const memory = createIdempotencyMemory({
    clock,
    rememberMsMax: 1000,
    keysMax: 10,
    bytesMax: 100_000,
    ...bounds,
  });
  let worked = 0;
  const answer = (key: string, body: string) =>
    memory.answerOnce(key, ["POST", Buffer.from(body)], async () => ({
      status: 200,
      body: `answer ${++worked}`,
    }));
  return { clock, memory, answer };
}

test("B38: the same key with the same body gets the first answer again", async () => {
  const { answer } = memoryWith();
  assert.deepEqual(await answer("k", "a"), { status: 200, body: "answer 1" });
  assert.deepEqual(await answer("k", "a"), { status: 200, body: "answer 1" });
  assert.deepEqual(await answer("other", "a"), { status: 200, body: "answer 2" });
});

test("B38: the same key with another body is refused", async () => {
  const { answer } = memoryWith();
  await answer("k", "a");
  await assert.rejects(answer("k", "b"), fails("idempotency_mismatch"));
});

test("B38: of two at once, the second is told to wait", async () => {
  const { memory, answer } = memoryWith();
  const { promise, resolve } = Promise.withResolvers<{ status: number; body: string }>();
  const first = memory.answerOnce("k", ["POST", Buffer.from("a")], () => promise);
  await assert.rejects(answer("k", "a"), fails("idempotency_in_progress"));
  resolve({ status: 207, body: "first" });
  assert.deepEqual(await first, { status: 207, body: "first" });
  assert.deepEqual(await answer("k", "a"), { status: 207, body: "first" });
});

test("a failure is not remembered: the same key may try again", async () => {
  const { memory, answer } = memoryWith();
  await assert.rejects(tryAndFail(memory), /down/);
  assert.equal((await answer("k", "a")).status, 200);
});

async function tryAndFail(memory: IdempotencyMemory): Promise<void> {
  await memory.answerOnce("k", ["POST", Buffer.from("a")], () => Promise.reject(new Error("down")));
}

test("memory is bounded by time, keys and bytes, oldest forgotten first", async () => {
  const byTime = memoryWith();
  await byTime.answer("k", "a");
  byTime.clock.ms = 1000;
  assert.equal((await byTime.answer("k", "b")).body, "answer 2");

  const byKeys = memoryWith({ keysMax: 2 });
  for (const key of ["k1", "k2", "k3"]) await byKeys.answer(key, "a");
  assert.equal((await byKeys.answer("k3", "a")).body, "answer 3");
  assert.equal((await byKeys.answer("k1", "a")).body, "answer 4");

  const byBytes = memoryWith({ bytesMax: 1000 });
  for (const key of ["k1", "k2", "k3"]) await byBytes.answer(key, "a");
  assert.equal((await byBytes.answer("k1", "a")).body, "answer 4");
});

test("a gate lets in up to its limit, and what left makes room once", () => {
  const gate = createGate(10, "bytes");
  const leave = gate.enter(6);
  assert.throws(() => gate.enter(5), fails("overloaded"));
  leave();
  leave();
  assert.equal(gate.taken(), 0);
  gate.enter(10);
  assert.throws(() => gate.enter(1), fails("overloaded"));
});
