import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { Registry } from "prom-client";
import { testDatabase, waitFor } from "#harness";
import { createLogger, type Logger, neverCrash, silentLogger, systemClock } from "#kernel";
import { type Database, interruptFolds } from "#store";
import { commitTestBatch, openLane, testEvent } from "./committed-batches.ts";
import { type Rollup, startRollup } from "./rollup.ts";
import { ROLLUP_DEFAULTS, FoldWorker } from "./fold-worker.ts";

const FAST = { foldIntervalMs: 30, peopleFoldIntervalMs: 30, leaseMs: 600 };

const start = (
  database: Database,
  options: { logger?: Logger; registry?: Registry } = {},
): Promise<Rollup> =>
  startRollup({
    database,
    clock: systemClock,
    logger: options.logger ?? silentLogger,
    registry: options.registry ?? new Registry(),
    crash: neverCrash,
    random: () => randomInt(2 ** 40) / 2 ** 40,
    settings: FAST,
  });

async function requestsOf(
  database: Database,
  table: "rollup_org_day" | "rollup_actor_day",
): Promise<number> {
  const result = await database.transaction((tx) =>
    tx.exec(`select coalesce(sum(requests), 0)::int4 as requests from ${table} where org_id > 0`),
  );
  return result.rows[0].requests;
}

test("committed events show in the rollups of both consumers without being asked for", async () => {
  await using db = await testDatabase();
  const lane = await openLane(db.database);
  const registry = new Registry();
  await using rollup = await start(db.database, { registry });
  await commitTestBatch(db.database, lane, [testEvent(), testEvent()]);

  await waitFor(async () => (await requestsOf(db.database, "rollup_org_day")) === 2);
  await waitFor(async () => (await requestsOf(db.database, "rollup_actor_day")) === 2);

  const { usage } = rollup.stats();
  assert.equal(usage.state, "leading");
  assert.equal(usage.eventsFolded, 2);
  assert.ok(usage.lagSeconds !== null && usage.lagSeconds < 5);
  const metrics = await registry.metrics();
  assert.match(metrics, /tallystick_rollup_events_total\{consumer="usage"\} 2/);
  assert.match(metrics, /tallystick_rollup_lag_seconds\{consumer="people"\}/);
  assert.match(metrics, /tallystick_rollup_fold_seconds_count\{consumer="usage"\} 1/);
});

test("of several processes one folds; when it falls silent another takes over by itself", async () => {
  await using db = await testDatabase({ ownerConnectionsMax: 12 });
  const { database } = db;
  const lane = await openLane(database);
  // A process that takes the lease and never comes back.
  const silent = new FoldWorker("usage", {
    database,
    clock: systemClock,
    crash: neverCrash,
    settings: { ...ROLLUP_DEFAULTS, ...FAST },
    owner: "silent",
  });
  await silent.foldOnce();
  await using one = await start(database);
  await using two = await start(database);
  await commitTestBatch(database, lane, [testEvent()]);

  await waitFor(async () => (await requestsOf(database, "rollup_org_day")) === 1, {
    msMax: 600 + 2000,
  });

  await waitFor(() => {
    const states = [one.stats().usage.state, two.stats().usage.state].toSorted();
    return states.join() === "leading,standby";
  });
  await silent[Symbol.asyncDispose]();
});

test("a lease given back at the end is free at once", async () => {
  await using db = await testDatabase({ ownerConnectionsMax: 12 });
  const one = await start(db.database);
  await waitFor(
    () => one.stats().usage.state === "leading" && one.stats().people.state === "leading",
  );
  await one[Symbol.asyncDispose]();
  const leases = await db.database
    .sql`select consumer from fold_state where lease_until > clock_timestamp()`;
  assert.deepEqual(leases, []);
});

test("lost connections are outlived, with one line of log when folding fails and one when it works again", async () => {
  await using db = await testDatabase({ ownerConnectionsMax: 12 });
  const { database } = db;
  const lane = await openLane(database);
  const { logger, lines } = logOf("usage");
  await using rollup = await start(database, { logger });
  await waitFor(() => rollup.stats().usage.state === "leading");
  // Every connection but this statement's own is cut, several times over.
  for (let i = 0; i < 3; i++) {
    await database.sql`
      select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`;
  }
  await commitTestBatch(database, lane, [testEvent()]);
  await waitFor(async () => (await requestsOf(database, "rollup_org_day")) === 1);
  await waitFor(() => rollup.stats().usage.state === "leading");
  assert.deepEqual(lines.slice(0, 3), ["Folding", "Folding is tried again", "Folding"]);
  assert.ok(lines.length <= 7);
});

test("data that do not add up stop the fold with a reason in the stats, and it goes on when they are mended", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(database, lane, [testEvent(), testEvent()]);
  await database.sql`create table aside as select * from usage_event limit 1`;
  await database.sql`delete from usage_event where event_key in (select event_key from aside)`;
  await using rollup = await start(database);
  await waitFor(() => rollup.stats().usage.state === "stopped");
  assert.match(rollup.stats().usage.lastError ?? "", /accepted 2 events, raw has 1/);
  assert.equal(await requestsOf(database, "rollup_org_day"), 0);

  await database.sql`insert into usage_event select * from aside`;
  await rollup.foldOnce("usage");

  assert.equal(await requestsOf(database, "rollup_org_day"), 2);
  assert.equal(rollup.stats().usage.lastError, null);
});

/** The messages that are logged of a consumer from now on. */
function logOf(consumer: "usage" | "people"): { logger: Logger; lines: readonly string[] } {
  const lines: string[] = [];
  const logger = createLogger("debug", {
    write: (line) => {
      const { consumer: of, msg } = JSON.parse(line);
      if (of === consumer) lines.push(msg);
    },
  });
  return { logger, lines };
}

test("folds that are interrupted, since rollup rows are changed, go on, and name no other process", async () => {
  await using db = await testDatabase({ ownerConnectionsMax: 12 });
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(database, lane, [testEvent()]);
  const { logger, lines } = logOf("usage");
  await using scope = new AsyncDisposableStack();
  const rollup = await database.transaction(async (tx) => {
    await interruptFolds(tx.sql);
    const begun = scope.use(await start(database, { logger }));
    const result = await begun.foldOnce("usage");
    assert.equal(result.state === "standby" && result.isLed, false);
    return begun;
  });
  await waitFor(async () => (await requestsOf(database, "rollup_org_day")) === 1);
  await database.transaction(async (tx) => {
    await interruptFolds(tx.sql);
    await waitFor(async () => {
      const waiting = await database.sql`
        select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      return waiting.length > 0;
    });
  });
  await waitFor(() => rollup.stats().usage.lastError !== null);
  await commitTestBatch(database, lane, [testEvent()]);
  await waitFor(async () => (await requestsOf(database, "rollup_org_day")) === 2);
  assert.deepEqual(lines, ["Folding"]);
});

test("a process whose lease another has taken says once that the other folds", async () => {
  await using db = await testDatabase({ ownerConnectionsMax: 12 });
  const { database } = db;
  const { logger, lines } = logOf("usage");
  await using rollup = await start(database, { logger });
  await waitFor(() => rollup.stats().usage.state === "leading");
  await database.sql`
    update fold_state
       set epoch = epoch + 1, owner = 'another', lease_until = clock_timestamp() + interval '1 hour'`;
  await waitFor(() => rollup.stats().usage.state === "standby");
  await database.sql`update fold_state set lease_until = '-infinity'`;
  await waitFor(() => rollup.stats().usage.state === "leading");
  assert.deepEqual(lines, ["Folding", "Folding is done by another process", "Folding"]);
});
