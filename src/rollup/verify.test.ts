import assert from "node:assert/strict";
import { test } from "node:test";
import { testDatabase } from "#harness";
import { type Consumer, LatencySketch, packCurrency } from "#contract";
import { neverCrash, systemClock } from "#kernel";
import { createRawPartition, type Database, listSourceNames, readSnapshot, type Tx } from "#store";
import { commitTestBatch, openLane, type TestEvent, testEvent } from "./committed-batches.ts";
import { FoldWorker, ROLLUP_DEFAULTS } from "./fold-worker.ts";
import { type Difference, verify, type VerifyReport } from "./verify.ts";

const TEN = Date.parse("2026-11-20T10:05:00Z") * 1000;
const HOUR_US = 3_600_000_000;

const mixedEvents = (count: number): TestEvent[] =>
  Array.from({ length: count }, (_, i) =>
    testEvent({
      org: i % 3 ? "acme" : "globex",
      model: i % 2 ? "chat-large" : "chat-small",
      client: i % 5 ? "web" : null,
      actor: `user-${i % 4}`,
      source: i % 7 ? "http" : "import/x",
      outcome: i % 7,
      errorCode: i % 7 >= 2 && i % 2 ? "429" : null,
      latencyMs: i % 6 ? 40 * i : null,
      costNano: i % 4 ? 1_000_000 * i : null,
      rated: i % 3 ? { nano: 7000 * i, currency: i % 5 ? "USD" : "EUR" } : null,
      occurredAtUs: TEN - (i % 50) * HOUR_US,
      ...(i % 2 ? { tags: [`team=${i % 3}`, ...(i % 5 ? [] : ["region=eu"])] } : {}),
    }),
  );

async function foldAll(
  database: Database,
  consumers: readonly Consumer[] = ["usage", "people"],
): Promise<void> {
  for (const consumer of consumers) {
    await using worker = new FoldWorker(consumer, {
      database,
      clock: systemClock,
      crash: neverCrash,
      settings: ROLLUP_DEFAULTS,
      owner: "test",
    });
    while (await worker.foldOnce().then((result) => result.state === "folded" && result.hasMore))
      continue;
  }
}

/** A database with some days of folded events. */
async function foldedDatabase() {
  const db = await testDatabase();
  const lanes = [await openLane(db.database), await openLane(db.database)];
  for (const lane of lanes) await commitTestBatch(db.database, lane, mixedEvents(150));
  await foldAll(db.database);
  return { ...db, lane: lanes[0] ?? lanes[1] };
}

const check = (database: Database, range = {}): Promise<VerifyReport> =>
  verify({ database, clock: systemClock }, range);

const briefly = ({ check: name, org, hour, source, expected, found }: Difference) => [
  name,
  org,
  hour,
  source,
  expected,
  found,
];

test("what was folded verifies, and batches that are not folded yet are no difference", async () => {
  await using db = await foldedDatabase();
  const steps: number[] = [];
  const report = await verify({ database: db.database, clock: systemClock }, {}, ({ daysDone }) =>
    steps.push(daysDone),
  );
  assert.deepEqual(report.differences, []);
  assert.equal(report.isMatch, true);
  assert.deepEqual(
    [report.from, report.to, report.daysChecked],
    ["2026-11-18T00:00:00Z", "2026-11-21T00:00:00Z", 3],
  );
  assert.deepEqual(steps, [0, 1, 2, 3]);
  assert.equal(report.checks.length, 4 + 15 + 2);
  assert.ok(report.checks.every(({ differences }) => differences === 0));

  assert.ok(db.lane);
  await commitTestBatch(db.database, db.lane, mixedEvents(30));
  assert.deepEqual((await check(db.database)).differences, []);
  await foldAll(db.database, ["people"]);
  assert.deepEqual((await check(db.database)).differences, []);
  await foldAll(db.database, ["usage"]);
  await commitTestBatch(db.database, db.lane, mixedEvents(20));
  await foldAll(db.database, ["usage"]);
  assert.deepEqual((await check(db.database)).differences, []);
});

test("all that is compared is of one instant, on whichever connection", async () => {
  await using db = await testDatabase();
  const countSources = async ({ sql }: Tx) => (await listSourceNames(sql)).length;
  await readSnapshot(db.database, async (tx, readBeside) => {
    const before = await countSources(tx);
    await db.database.sql`insert into source (name) values ('new')`;
    assert.equal(await readBeside(countSources), before);
    assert.equal(await countSources(tx), before);
  });
});

test("what goes wrong while days are compared ends the comparison with that error", async () => {
  await using db = await foldedDatabase();
  const steps: number[] = [];
  const stopped = verify({ database: db.database, clock: systemClock }, {}, ({ daysDone }) => {
    steps.push(daysDone);
    if (daysDone === 1) throw new RangeError("stopped");
  });
  await assert.rejects(stopped, new RangeError("stopped"));
  assert.ok(steps.length <= 3);
  assert.deepEqual((await check(db.database)).differences, []);
});

test("an empty database verifies", async () => {
  await using db = await testDatabase();
  const report = await check(db.database);
  assert.deepEqual([report.isMatch, report.from, report.daysChecked], [true, null, 0]);
});

test("a deleted raw row is found, with its org, hour and source and both counts", async () => {
  await using db = await foldedDatabase();
  const [gone] = await db.database.sql<{ accepted: string }>`
    with gone as (
      delete from usage_event
       where event_key = (select event_key from usage_event e join org o on o.id = e.org_id
                           where o.external_id = 'globex' and e.occurred_at = '2026-11-20T10:05:00Z'
                             and e.source_id = (select id from source where name = 'import/x') limit 1)
      returning org_id, source_id)
    select l.accepted::text from ledger l join gone using (org_id, source_id) where l.hour = '2026-11-20T10:00:00Z' limit 1`;
  const report = await check(db.database);
  assert.equal(report.isMatch, false);
  const ledger = report.differences.find((difference) => difference.check === "ledger");
  assert.ok(ledger && gone);
  assert.deepEqual(
    [ledger.org, ledger.hour, ledger.source],
    ["globex", "2026-11-20T10:00:00Z", "import/x"],
  );
  assert.equal(Number(ledger.expected) - 1, Number(ledger.found));
  const named = new Set(report.differences.map((difference) => difference.check));
  for (const name of [
    "rollup_org_15m",
    "rollup_model_day",
    "rollup_client_hour",
    "rollup_actor_15m",
  ]) {
    assert.ok(named.has(name), name);
  }
});

const tampered: [name: string, statement: string, found: (differences: Difference[]) => boolean][] =
  [
    [
      "one rollup count",
      "update rollup_client_hour set requests = requests + 1 where ctid = (select min(ctid) from rollup_client_hour)",
      (list) =>
        list.length === 1 &&
        list[0]?.check === "rollup_client_hour" &&
        Number(list[0].expected) + 1 === Number(list[0].found),
    ],
    [
      "one rollup row of all orgs together",
      "delete from rollup_model_day where ctid = (select min(ctid) from rollup_model_day where org_id = 0)",
      (list) =>
        list.length === 1 &&
        list[0]?.check === "rollup_model_day" &&
        list[0].org === "*" &&
        list[0].found === "no row",
    ],
    [
      "one rollup row's computed cost",
      `update rollup_client_hour set rated_nano = rated_nano + 1 where ctid = (select min(ctid) from rollup_client_hour where rating = ${-packCurrency("USD")})`,
      (list) =>
        list.length === 1 &&
        list[0]?.check === "rollup_client_hour" &&
        /^rated_nano \(.*, rated in USD\)$/.test(list[0].figure) &&
        Number(list[0].expected) + 1 === Number(list[0].found),
    ],
    [
      "one rollup row's rating",
      "update rollup_model_day set rating = 1 where ctid = (select min(ctid) from rollup_model_day where org_id = 0 and rating < 0)",
      (list) =>
        list.length === 2 &&
        list.every(({ check: name, org }) => name === "rollup_model_day" && org === "*") &&
        list.some(({ found }) => found === "no row") &&
        list.some(({ expected }) => expected === "no row"),
    ],
    [
      "one event's computed cost",
      "update usage_event set rated_nano = rated_nano + 1 where event_key = (select event_key from usage_event where rated_nano is not null and tag_ids is null order by event_key limit 1)",
      (list) =>
        // Own rows of four dimensions and those of all orgs of two, at three grains.
        list.length === 18 &&
        list.every(
          ({ figure, expected, found }) =>
            figure.startsWith("rated_nano ") && Number(expected) === Number(found) + 1,
        ),
    ],
    [
      "one event's rating",
      "update usage_event set rated_currency = rated_currency + 1 where event_key = (select event_key from usage_event where rated_nano is not null and tag_ids is null order by event_key limit 1)",
      (list) =>
        // Each of those 18 rows has it too much, and one that there is not lacks it.
        list.length === 36 && list.filter(({ found }) => found === "no row").length === 18,
    ],
    [
      "one count by tag",
      "update rollup_tag_hour set requests = requests + 1 where ctid = (select min(ctid) from rollup_tag_hour)",
      (list) =>
        list.length === 1 &&
        list[0]?.check === "rollup_tag_hour" &&
        Number(list[0].expected) + 1 === Number(list[0].found),
    ],
    [
      "one of an event's tags",
      "update usage_event set tag_ids = tag_ids[2:] where event_key = (select event_key from usage_event where cardinality(tag_ids) = 2 order by event_key limit 1)",
      (list) =>
        list.map(({ check: name }) => name).join() ===
        "rollup_tag_15m,rollup_tag_hour,rollup_tag_day",
    ],
    [
      "one sketch",
      "update rollup_actor_day set latency_sketch = '\\x0005' where ctid = (select min(ctid) from rollup_actor_day where latency_count > 0)",
      (list) =>
        list.length === 1 &&
        list[0]?.check === "rollup_actor_day" &&
        list[0].figure.startsWith("latency sketch"),
    ],
    [
      "one key's content",
      "update event_key_1 set content_hash = content_hash + 100000 where ctid = (select min(ctid) from event_key_1)",
      (list) =>
        list.length === 1 &&
        list[0]?.check === "keys" &&
        list[0].source !== null &&
        list[0].hour !== null,
    ],
    [
      "one key",
      "delete from event_key_1 where ctid = (select min(ctid) from event_key_1)",
      (list) => list.map((difference) => difference.check).join() === "keys,key_count",
    ],
    [
      "one ledger row's accepted count",
      "update ledger set received = received + 1, accepted = accepted + 1 where ctid = (select min(ctid) from ledger)",
      (list) => list.map((difference) => difference.check).join() === "ledger_batches,ledger",
    ],
    [
      "one ledger row's duplicates",
      "update ledger set received = received + 1, duplicate = duplicate + 1 where ctid = (select min(ctid) from ledger)",
      (list) => list.length === 1 && list[0]?.check === "ledger_batches" && list[0].source !== null,
    ],
    [
      "one ledger row's digest",
      "update ledger set accepted_digest = accepted_digest + 1 where ctid = (select min(ctid) from ledger)",
      (list) =>
        list.some(
          (difference) =>
            difference.check === "ledger" && difference.figure === "digest of accepted ids",
        ),
    ],
    [
      "one ledger row",
      "delete from ledger where ctid = (select min(ctid) from ledger)",
      (list) => list.map((difference) => difference.check).join() === "ledger_batches,ledger",
    ],
    [
      "one error count",
      "update rollup_error_15m set requests = requests - 1 where ctid = (select min(ctid) from rollup_error_15m)",
      (list) => list.length === 1 && list[0]?.check === "rollup_error_15m",
    ],
    [
      "one error count of a day",
      "update rollup_error_day set requests = requests + 1 where ctid = (select min(ctid) from rollup_error_day where org_id > 0)",
      (list) =>
        list.length === 1 &&
        list[0]?.check === "rollup_error_day" &&
        Number(list[0].expected) + 1 === Number(list[0].found),
    ],
    [
      "one day's row of errors of all orgs together",
      "delete from rollup_error_day where ctid = (select min(ctid) from rollup_error_day where org_id = 0)",
      (list) =>
        list.length === 1 &&
        list[0]?.check === "rollup_error_day" &&
        list[0].org === "*" &&
        list[0].found === "0",
    ],
  ];

for (const [name, statement, isFound] of tampered) {
  test(`${name} changed by SQL is found and named`, async () => {
    await using db = await foldedDatabase();
    await db.database.transaction((tx) => tx.exec(statement));
    const { checks, differences, differenceCount, isMatch } = await check(db.database);
    assert.ok(isFound(differences), JSON.stringify(differences.map(briefly)));
    assert.deepEqual([isMatch, differenceCount], [false, differences.length]);
    for (const { check: name, differences: count } of checks) {
      assert.equal(count, differences.filter((one) => one.check === name).length, name);
    }
  });
}

test("a day is checked for any row there is of it, and not for its empty partition", async () => {
  await using db = await foldedDatabase();
  const { database } = db;
  for (const day of [20_800, 20_801]) await createRawPartition(database, day);
  assert.equal((await check(database)).daysChecked, 3);

  await database.sql`
    insert into rollup_actor_hour
    select org_id, member_id, '2026-12-13T05:00:00Z', outcome, currency, requests, priced_requests, input_tokens,
           cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
           priced_tokens, cost_nano, latency_count, latency_sum_ms, latency_sketch
      from rollup_actor_hour
     limit 1`;
  await database.sql`
    insert into rollup_error_day
    select org_id, model_id, '2026-12-14T00:00:00Z', outcome, error_code_id, requests
      from rollup_error_day
     where org_id > 0
     limit 1`;
  const report = await check(database);
  assert.deepEqual(
    [report.daysChecked, report.differences.map((one) => [one.check, one.hour])],
    [
      5,
      [
        ["rollup_actor_hour", "2026-12-13T05:00:00Z"],
        ["rollup_error_day", "2026-12-14T00:00:00Z"],
      ],
    ],
  );
});

test("keys with extreme numbers are told apart, and sketches with counts of every length are read as they are written", async () => {
  await using db = await foldedDatabase();
  const { database } = db;
  const counts = [1, 127, 128, 16_383, 16_384, 2 ** 21, 2 ** 28, 2 ** 35, 2 ** 42, 2 ** 49];
  const sketch = new LatencySketch();
  for (const [i, count] of counts.entries()) sketch.add(i * i * i * 700, count);
  sketch.add(2 ** 31 - 1, 3);
  await database.sql`insert into purged (what, org_id, day) values ('raw', 0, '2026-10-01')`;
  for (const dimension of ["org", "model", "client", "actor"]) {
    for (const grain of ["15m", "hour", "day"]) {
      const orgs = ["client", "actor"].includes(dimension) ? "1" : "0, 1";
      const member = dimension === "org" ? 0 : -1;
      await database.transaction((tx) =>
        tx.exec(`
          insert into rollup_${dimension}_${grain}
          select org_id, ${member}, '2026-10-01T00:00:00Z', outcome, currency, ${"9000000000000000, ".repeat(9)}
                 12345678901234567890123456789, ${sketch.count}, 7, '\\x${sketch.encode().toString("hex")}',
                 rating, 98765432109876543210987654321
            from unnest(array[${orgs}]) as org_id, unnest(array[0, 6]) as outcome,
                 unnest(array[0, 17575]) as currency, unnest(array[0, 17575, -17575]) as rating`),
      );
    }
  }
  const range = { toMs: Date.parse("2026-10-02T00:00:00Z") };
  assert.deepEqual((await check(database, range)).differences, []);
  await database.sql`update rollup_model_15m set currency = -17575 where bucket < '2026-10-02' and currency = 17575 and org_id = 0`;
  await database.sql`update rollup_model_hour set rating = 17574 where bucket < '2026-10-02' and rating = 17575 and currency = 0 and org_id = 0`;
  await database.sql`update rollup_client_hour set bucket = '2026-10-01T00:07:00Z' where bucket < '2026-10-02' and currency = 0`;
  const { differences } = await check(database, range);
  assert.deepEqual(
    [...new Set(differences.map(({ check: name }) => name))],
    ["rollup_model_15m", "rollup_model_hour", "rollup_client_hour"],
  );
  assert.equal(differences.length, 12 + 4 + 12);
});

test("a range checks only the days it touches", async () => {
  await using db = await foldedDatabase();
  await db.database
    .sql`update rollup_org_hour set requests = requests + 1 where bucket < '2026-11-19T00:00:00Z'`;
  const clean = await check(db.database, {
    fromMs: Date.parse("2026-11-19T05:00:00Z"),
    toMs: Date.parse("2026-11-20T00:00:00Z"),
  });
  assert.deepEqual(
    [clean.isMatch, clean.from, clean.to],
    [true, "2026-11-19T00:00:00Z", "2026-11-20T00:00:00Z"],
  );
  const all = await check(db.database, { toMs: Date.parse("2026-11-18T23:00:00Z") });
  assert.equal(all.isMatch, false);
  assert.ok(all.differences.every((difference) => difference.hour?.startsWith("2026-11-18")));
});

test("where raw is gone the grains and levels are compared with each other", async () => {
  await using db = await foldedDatabase();
  const { database } = db;
  await database.sql`drop table usage_event_20261118`;
  assert.equal((await check(database)).isMatch, false);
  await database.sql`insert into purged (what, org_id, day) values ('raw', 0, '2026-11-18')`;
  assert.deepEqual(
    (await check(database, { toMs: Date.parse("2026-11-19T00:00:00Z") })).differences,
    [],
  );

  await database.sql`update rollup_actor_day set cost_nano = cost_nano + 1 where bucket = '2026-11-18T00:00:00Z'`;
  await database.sql`update rollup_org_hour set latency_sketch = '' where bucket = '2026-11-18T12:00:00Z' and latency_count > 0`;
  await database.sql`update rollup_error_day set requests = requests - 1 where bucket = '2026-11-18T00:00:00Z'`;
  const { differences } = await check(database, { toMs: Date.parse("2026-11-19T00:00:00Z") });
  assert.deepEqual([...new Set(differences.map((difference) => difference.check))].toSorted(), [
    "rollup_actor_day",
    "rollup_error_day",
    "rollup_org_hour",
  ]);
});

test("where 15-minute rows are purged too, hours and days are compared with each other", async () => {
  await using db = await foldedDatabase();
  const { database } = db;
  await database.sql`drop table usage_event_20261118`;
  await database.sql`insert into purged (what, org_id, day) values ('raw', 0, '2026-11-18')`;
  await database.sql`insert into purged (what, org_id, day) select '15m', id, '2026-11-18' from org`;
  for (const dimension of ["org", "model", "client", "actor"]) {
    await database.transaction((tx) =>
      tx.exec(`delete from rollup_${dimension}_15m where bucket < '2026-11-19T00:00:00Z'`),
    );
  }
  const range = { toMs: Date.parse("2026-11-19T00:00:00Z") };
  assert.deepEqual((await check(database, range)).differences, []);
  await database.sql`update rollup_model_day set output_tokens = output_tokens + 1 where bucket = '2026-11-18T00:00:00Z' and org_id = 0`;
  const { differences } = await check(database, range);
  assert.ok(
    differences.length > 0 &&
      differences.every((difference) => difference.check === "rollup_model_day"),
  );
});
