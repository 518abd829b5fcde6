import assert from "node:assert/strict";
import { setImmediate as nextTick } from "node:timers/promises";
import { test } from "node:test";
import { startRepeating } from "#kernel";

const HOUR_MS = 3_600_000;
const unexpected = (error: unknown): void => assert.fail(String(error));

/** Work whose turns end when they are told to, and what of it has happened. */
function controlledWork() {
  const events: string[] = [];
  const ends: (() => void)[] = [];
  const work = async (_signal: AbortSignal, name = "by itself"): Promise<string> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    events.push(`${name} begins`);
    ends.push(resolve);
    await promise;
    events.push(`${name} ends`);
    return name;
  };
  return { work, events, endTurn: () => ends.shift()?.() };
}

test("turns come one after another, whoever asked for them", async () => {
  const { work, events, endTurn } = controlledWork();
  await using repeating = startRepeating({ work, intervalMs: HOUR_MS, onError: unexpected });
  const asked = [repeating.run("first"), repeating.run("second")];
  await nextTick();
  assert.deepEqual(events, ["by itself begins"]);
  for (const _turn of [1, 2, 3]) {
    endTurn();
    await nextTick();
  }
  assert.deepEqual(await Promise.all(asked), ["first", "second"]);
  assert.deepEqual(events, [
    "by itself begins",
    "by itself ends",
    "first begins",
    "first ends",
    "second begins",
    "second ends",
  ]);
});

test("a turn that fails is told and the next one comes; who asked for one hears of it alone", async () => {
  const { promise: repeated, resolve } = Promise.withResolvers<void>();
  const told: unknown[] = [];
  let turns = 0;
  await using repeating = startRepeating({
    work: async () => {
      turns++;
      if (turns === 3) resolve();
      if (turns === 1 || turns > 3) throw new Error(`turn ${turns}`);
    },
    intervalMs: 1,
    onError: (error) => told.push(String(error)),
  });
  await repeated;
  assert.deepEqual(told, ["Error: turn 1"]);
  await repeating[Symbol.asyncDispose]();
  const before = told.length;
  await assert.rejects(repeating.run(), /turn/);
  assert.equal(told.length, before);
});

test("disposing lets the turn finish that has begun, tells it, and begins no other", async () => {
  const { work, events, endTurn } = controlledWork();
  const signals: AbortSignal[] = [];
  const repeating = startRepeating({
    work: (signal) => {
      signals.push(signal);
      return work(signal);
    },
    intervalMs: 1,
    onError: unexpected,
  });
  await nextTick();
  let isDisposed = false;
  const disposed = repeating[Symbol.asyncDispose]().then(() => (isDisposed = true));
  await nextTick();
  assert.deepEqual([isDisposed, signals[0]?.aborted], [false, true]);
  endTurn();
  await disposed;
  assert.deepEqual(events, ["by itself begins", "by itself ends"]);
});

test("disposing waits for no interval, and not for the time before the first turn", async () => {
  let turns = 0;
  const work = async () => void turns++;
  for (const firstAfterMs of [0, HOUR_MS]) {
    const repeating = startRepeating({
      work,
      intervalMs: HOUR_MS,
      firstAfterMs,
      onError: unexpected,
    });
    await nextTick();
    await repeating[Symbol.asyncDispose]();
  }
  assert.equal(turns, 1, "none before firstAfterMs");
});
