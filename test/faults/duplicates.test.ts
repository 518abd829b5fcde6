import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { anEvent, spawnService, testDatabase, type SendAnswer } from "#harness";
import { faultTest, scaled } from "./fault-test.ts";
import { assertBatchesAddUp, assertRollupsAreSums, assertVerified, settle } from "./oracle.ts";

const QUICK = { FOLD_INTERVAL_MS: "100", PEOPLE_FOLD_INTERVAL_MS: "200" };
const STORM = scaled({ short: 100_000, long: 1_000_000 });
const EVENTS = scaled({ short: 10_000, long: 100_000 });
const TIMES = 50;

/** Sends every body, four at a time, and adds the counts up. */
async function sendAll(
  post: (body: string) => Promise<SendAnswer>,
  bodies: Iterable<string>,
): Promise<SendAnswer["counts"]> {
  const sum = { received: 0, accepted: 0, duplicate: 0, conflict: 0, rejected: 0 };
  const left = bodies[Symbol.iterator]();
  const run = async () => {
    for (let next = left.next(); next.done !== true; next = left.next()) {
      const { counts } = await post(next.value);
      sum.received += counts.received;
      sum.accepted += counts.accepted;
      sum.duplicate += counts.duplicate;
      sum.conflict += counts.conflict;
      sum.rejected += counts.rejected;
    }
  };
  await Promise.all([run(), run(), run(), run()]);
  return sum;
}

const BODY_EVENTS = 5000;

faultTest(
  `F33, F34: a storm of ${STORM} copies of one event, and ${EVENTS} events ${TIMES} times each, then everything once more, is counted exactly`,
  async (_seed, context) => {
    await using db = await testDatabase();
    await using service = await spawnService({ databaseUrl: db.url, env: QUICK });
    const post = async (body: string) => {
      const answer = await service.request("/analytics/v1/events", {
        method: "POST",
        headers: { "content-type": "application/x-ndjson" },
        body,
      });
      assert.equal(answer.status, 200);
      return (await answer.json()) as SendAnswer;
    };
    const one = `${JSON.stringify(anEvent({ occurred_at: new Date().toISOString() }))}\n`;
    const startedMs = performance.now();
    const storm = await sendAll(
      post,
      Array.from({ length: STORM / BODY_EVENTS }, () => one.repeat(BODY_EVENTS)),
    );
    assert.deepEqual(storm, {
      received: STORM,
      accepted: 1,
      duplicate: STORM - 1,
      conflict: 0,
      rejected: 0,
    });

    const occurred_at = new Date().toISOString();
    const lines = Array.from(
      { length: EVENTS },
      () => `${JSON.stringify(anEvent({ event_id: randomUUID(), occurred_at }))}\n`,
    );
    const bodies = function* () {
      for (let time = 0; time < TIMES; time++)
        for (let at = 0; at < EVENTS; at += BODY_EVENTS)
          yield lines.slice(at, at + BODY_EVENTS).join("");
    };
    const many = await sendAll(post, bodies());
    assert.deepEqual(many, {
      received: EVENTS * TIMES,
      accepted: EVENTS,
      duplicate: EVENTS * (TIMES - 1),
      conflict: 0,
      rejected: 0,
    });
    const seconds = (performance.now() - startedMs) / 1000;
    context.diagnostic(`${Math.round((STORM + EVENTS * TIMES) / seconds)} events/s`);

    await settle(db.database);
    const [row] = await db.database.sql<{ stored: number; duplicate: number }>`
      select (select count(*) from usage_event) as stored, (select sum(duplicate)::int8 from ledger) as duplicate`;
    assert.deepEqual(
      { ...row },
      { stored: EVENTS + 1, duplicate: STORM - 1 + EVENTS * (TIMES - 1) },
    );
    await assertBatchesAddUp(db.database);
    await assertRollupsAreSums(db.database);
    await assertVerified(db.database);

    // An operator sends everything once more.
    const totals = async () =>
      ((await service.get("/analytics/v1/orgs/acme/usage")) as { totals: unknown }).totals;
    const before = await totals();
    const again = await sendAll(post, [one, ...bodiesOnce(lines)]);
    assert.equal(again.duplicate, EVENTS + 1);
    await settle(db.database);
    assert.deepEqual(await totals(), before);
    const [ledger] = await db.database.sql<{ duplicate: number }>`
      select sum(duplicate)::int8 as duplicate from ledger`;
    assert.equal(ledger?.duplicate, STORM + EVENTS * TIMES);
    await assertVerified(db.database);
  },
);

function* bodiesOnce(lines: readonly string[]): Generator<string> {
  for (let at = 0; at < lines.length; at += BODY_EVENTS)
    yield lines.slice(at, at + BODY_EVENTS).join("");
}
