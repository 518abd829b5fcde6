import assert from "node:assert/strict";
import { test } from "node:test";
import { spawnService, testDatabase, waitFor } from "#harness";
import type { Database, Tx } from "#store";
import { startLoad } from "./load.ts";
import {
  assertAllCounted,
  assertAnswersAreSums,
  assertBatchesAddUp,
  assertNoSecrets,
  assertQuarantineIs,
  assertRawIs,
  assertRollupsAreSums,
  assertVerified,
  openOracle,
} from "./oracle.ts";
import { faultTest } from "./fault-test.ts";
import { Traffic } from "./traffic.ts";

type Check = (database: Database) => Promise<void>;

/** One row of raw, whichever. */
const ONE = "event_key = (select min(event_key::text)::uuid from usage_event)";

/** What each check has to see, as SQL that does the damage. */
function damages({ counted, refused }: Traffic): [Check, string][] {
  const isRaw: Check = (database) => assertRawIs(database, counted);
  const isQuarantine: Check = (database) => assertQuarantineIs(database, refused);
  return [
    [isRaw, `delete from usage_event where ${ONE}`],
    [isRaw, `insert into usage_event select * from usage_event where ${ONE}`],
    [isRaw, `update usage_event set output_tokens = output_tokens + 1 where ${ONE}`],
    [
      isRaw,
      `update usage_event set actor_id = 0 where actor_id = (select max(actor_id) from usage_event)`,
    ],
    [isQuarantine, "delete from quarantine where id = (select min(id) from quarantine)"],
    [
      isQuarantine,
      "update quarantine set bytes = bytes || '.' where id = (select min(id) from quarantine)",
    ],
    [
      isQuarantine,
      "update quarantine set code = 'too_deep' where id = (select max(id) from quarantine)",
    ],
    [
      assertBatchesAddUp,
      "update ledger set received = received + 1, duplicate = duplicate + 1 where ctid = (select min(ctid) from ledger)",
    ],
    [assertBatchesAddUp, `delete from usage_event where ${ONE}`],
    ...["rollup_org_day", "rollup_model_15m", "rollup_actor_hour"].map((table): [Check, string] => [
      assertRollupsAreSums,
      `update ${table} set cost_nano = cost_nano + 1 where ctid = (select min(ctid) from ${table} where org_id > 0)`,
    ]),
    [
      assertRollupsAreSums,
      "update rollup_org_hour set requests = requests + 1 where ctid = (select min(ctid) from rollup_org_hour where org_id = 0)",
    ],
  ];
}

class Undo extends Error {}

/** Does the damage in a transaction that is undone, and fails unless the check fails inside it. */
async function assertSees(database: Database, damage: string, check: Check): Promise<void> {
  const undone = database.transaction(async (tx) => {
    await tx.exec(damage);
    const inside = {
      ...database,
      sql: tx.sql,
      transaction: (work: (own: Tx) => unknown) => work(tx),
    };
    await assert.rejects(check(inside as Database), assert.AssertionError, `unseen: ${damage}`);
    throw new Undo();
  });
  await assert.rejects(undone, Undo);
}

faultTest(
  "without any fault everything sent is counted, and each check of the oracle sees the damage it is for",
  async (seed) => {
    await using db = await testDatabase();
    await using service = await spawnService({
      databaseUrl: db.url,
      env: { PEOPLE_FOLD_INTERVAL_MS: "200", FOLD_INTERVAL_MS: "200" },
    });
    const traffic = new Traffic(seed, Date.now());
    await using load = startLoad(traffic, () => service);
    await waitFor(() => load.answeredEvents > 3000);
    await load.stop();
    assert.ok(traffic.refused.size > 10 && traffic.counted.size > 2000);
    await assertAllCounted(db.url, traffic, service);

    await using database = await openOracle(db.url);
    for (const [check, damage] of damages(traffic)) await assertSees(database, damage, check);
    const slower = (ms: number) => database.sql`
      update usage_event set latency_ms = latency_ms + ${ms}
       where event_key = (select min(event_key::text)::uuid from usage_event where latency_ms is not null)`;
    await slower(100_000);
    await assert.rejects(assertVerified(database), assert.AssertionError);
    await slower(-100_000);
    await assertVerified(database);

    assert.throws(() => assertNoSecrets(`key ${service.adminKey}`, service.adminKey));
    assert.throws(() => assertNoSecrets("at postgres://u:p@h/d", service.adminKey));
    traffic.surprises.push("an answer that was not right");
    await assert.rejects(assertAllCounted(db.url, traffic, service), /1 wrong answers/);
    traffic.surprises.pop();
    await database.sql`update rollup_org_day set requests = requests + 1 where org_id = 1`;
    await assert.rejects(assertAnswersAreSums(database, service), assert.AssertionError);
  },
);

test("traffic is decided by its seed", () => {
  const bodies = [7, 7, 8].map((seed) => {
    const traffic = new Traffic(seed, 0);
    return Array.from({ length: 20 }, () => traffic.createRequest(30).body).join("");
  });
  assert.equal(bodies[0], bodies[1]);
  assert.notEqual(bodies[0], bodies[2]);
});
