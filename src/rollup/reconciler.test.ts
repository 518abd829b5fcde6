import assert from "node:assert/strict";
import { test } from "node:test";
import { testDatabase, waitFor } from "#harness";
import { neverCrash, silentLogger, systemClock } from "#kernel";
import type { Database } from "#store";
import { commitTestBatch, openLane, testEvent } from "./committed-batches.ts";
import { FoldWorker, ROLLUP_DEFAULTS } from "./fold-worker.ts";
import { type Reconciler, startReconciler } from "./reconciler.ts";

const HOUR_US = 3_600_000_000;
/** The start of the last hour that is surely over, by the database's clock that claims rest on. */
const LAST_HOUR_US = (Math.floor((Date.now() * 1000) / HOUR_US) - 1) * HOUR_US;
const isoOf = (us: number) => new Date(us / 1000).toISOString();

async function fold(database: Database, consumer: "usage" | "people"): Promise<void> {
  await using worker = new FoldWorker(consumer, {
    database,
    clock: systemClock,
    crash: neverCrash,
    settings: ROLLUP_DEFAULTS,
    owner: "test",
  });
  await worker.foldOnce();
}

async function foldAll(database: Database): Promise<void> {
  await fold(database, "usage");
  await fold(database, "people");
}

/** A reconciler that only looks when told to. */
const open = (database: Database, recheckMs = 0): Reconciler =>
  startReconciler({
    database,
    clock: systemClock,
    logger: silentLogger,
    settings: { tickMs: 3_600_000, recheckMs },
  });

async function stepAll(reconciler: Reconciler): Promise<number> {
  let checked = 0;
  for (;;) {
    const step = await reconciler.step();
    checked += step.checked;
    if (step.hours === 0) return checked;
  }
}

type Result = {
  org: string;
  hour: string;
  state: string;
  differences: {
    check: string;
    source: string | null;
    figure: string;
    expected: string;
    found: string;
  }[];
};

const results = async (database: Database): Promise<Result[]> =>
  (
    await database.sql<Omit<Result, "hour"> & { hour: Date }>`
      select o.external_id as org, r.hour, r.state, r.differences
        from reconciliation r join org o on o.id = r.org_id
       order by o.external_id, r.hour`
  ).map((row) => ({ ...row, hour: row.hour.toISOString() }));

const events = (hours: readonly number[]) =>
  hours.flatMap((back) =>
    ["acme", "globex"].map((org) =>
      testEvent({
        org,
        occurredAtUs: LAST_HOUR_US - back * HOUR_US + 60_000_000,
        outcome: back % 3,
      }),
    ),
  );

test("closed hours are checked by themselves, per org, and match; the open hour is left alone", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(database, lane, [
    ...events([0, 1, 30]),
    testEvent({ occurredAtUs: LAST_HOUR_US + HOUR_US }),
  ]);
  await foldAll(database);
  await using reconciler = startReconciler({
    database,
    clock: systemClock,
    logger: silentLogger,
    settings: { tickMs: 20 },
  });
  const found = await waitFor(async () => {
    const rows = await results(database);
    return rows.length >= 9 && rows;
  });
  assert.deepEqual(
    found.map(({ org, hour, state }) => [org, hour, state]),
    ["*", "acme", "globex"].flatMap((org) =>
      [30, 1, 0].map((back) => [org, isoOf(LAST_HOUR_US - back * HOUR_US), "match"]),
    ),
  );
  assert.equal((await reconciler.step()).hours, 0);
});

test("a closed hour is checked again after late events, once people are counted too", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(database, lane, events([0]));
  await foldAll(database);
  await using reconciler = open(database);
  await stepAll(reconciler);
  const before = await database.sql<{
    at: string;
  }>`select max(checked_at)::text as at from reconciliation`;

  await commitTestBatch(database, lane, events([0]));
  await fold(database, "usage");
  assert.equal(await stepAll(reconciler), 0);
  await fold(database, "people");
  assert.equal(await stepAll(reconciler), 3);

  const after = await database.sql<{
    at: string;
  }>`select min(checked_at)::text as at from reconciliation`;
  assert.ok((after[0]?.at ?? "") > (before[0]?.at ?? ""));
  assert.ok((await results(database)).every(({ state }) => state === "match"));
});

test("a lost raw row and a changed rollup show as differences with source and both figures", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(database, lane, events([0, 1]));
  await foldAll(database);
  await database.sql`delete from usage_event where org_id = (select id from org where external_id = 'acme') and occurred_at >= ${isoOf(LAST_HOUR_US)}`;
  await database.sql`update rollup_client_hour set requests = 7 where org_id = (select id from org where external_id = 'globex') and bucket < ${isoOf(LAST_HOUR_US)}`;
  await using reconciler = open(database);
  await stepAll(reconciler);

  const rows = await results(database);
  const lost = rows.find(({ org, hour }) => org === "acme" && hour === isoOf(LAST_HOUR_US));
  assert.equal(lost?.state, "differs");
  assert.deepEqual(lost.differences[0], {
    check: "ledger",
    source: "http",
    figure: "accepted events",
    expected: "1",
    found: "0",
  });
  const changed = rows.find(({ org, hour }) => org === "globex" && hour < isoOf(LAST_HOUR_US));
  assert.deepEqual(changed?.differences, [
    { check: "rollup_client_hour", source: null, figure: "requests", expected: "1", found: "7" },
  ]);
  assert.deepEqual(
    rows.filter(({ state }) => state === "match").map(({ org, hour }) => [org, hour]),
    [
      ["*", isoOf(LAST_HOUR_US - HOUR_US)],
      ["acme", isoOf(LAST_HOUR_US - HOUR_US)],
      ["globex", isoOf(LAST_HOUR_US)],
    ],
  );
});

test("a changed computed cost, in raw and in a rollup, shows as a difference with both figures", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(
    database,
    lane,
    events([0]).map((event) => ({ ...event, rated: { nano: 5000, currency: "EUR" } })),
  );
  await foldAll(database);
  await database.sql`
    update usage_event set rated_nano = 5001 where org_id = (select id from org where external_id = 'acme')`;
  await database.sql`
    update rollup_client_hour set rated_nano = 4999 where org_id = (select id from org where external_id = 'globex')`;
  await database.sql`
    update rollup_actor_hour set rating = 0 where org_id = (select id from org where external_id = 'globex')`;
  await using reconciler = open(database);
  await stepAll(reconciler);

  const named = (await results(database)).map(({ org, differences }) => [
    org,
    differences.map(({ check, figure, expected, found }) => [check, figure, expected, found]),
  ]);
  const ofAcme = ["actor", "client", "model", "org"].map((dimension) => [
    `rollup_${dimension}_hour`,
    "rated_nano",
    "5001",
    "5000",
  ]);
  assert.deepEqual(named, [
    [
      "*",
      ["model", "org"].map((dimension) => [
        `rollup_${dimension}_hour`,
        "rated_nano",
        "10001",
        "10000",
      ]),
    ],
    ["acme", ofAcme],
    [
      "globex",
      [
        ["rollup_actor_hour", "rated_requests", "1", "0"],
        ["rollup_client_hour", "rated_nano", "5000", "4999"],
      ],
    ],
  ]);
});

test("a changed count by tag, and a tag that an event has lost, show as differences", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  const tagged = events([0]).flatMap((event) => [
    { ...event, tags: ["team=search", "region=eu"], rated: { nano: 5000, currency: "EUR" } },
    event,
  ]);
  await commitTestBatch(database, lane, tagged);
  await foldAll(database);
  await using reconciler = open(database);
  await stepAll(reconciler);
  assert.ok((await results(database)).every(({ state }) => state === "match"));

  await database.sql`
    update usage_event set tag_ids = tag_ids[2:] where org_id = (select id from org where external_id = 'acme')`;
  await database.sql`
    update rollup_tag_hour set latency_count = latency_count + 1
     where member_id = (
             select d.id
               from dictionary d
               join org o on o.id = d.org_id
              where o.external_id = 'globex'
                and d.value = 'region=eu')`;
  await database.sql`update ledger set updated_at = (select updated_at from fold_state where consumer = 'usage') + interval '1 second'`;
  await database.sql`update fold_state set updated_at = updated_at + interval '2 seconds', complete_through = now() + interval '5 seconds'`;
  await stepAll(reconciler);
  const named = (await results(database)).map(({ org, differences }) => [
    org,
    differences.map(({ check, figure, expected, found }) =>
      [check, figure, expected, found].join(" "),
    ),
  ]);
  assert.deepEqual(named, [
    ["*", []],
    [
      "acme",
      [
        "rollup_tag_hour cost_nano 1500000 3000000",
        "rollup_tag_hour latencies 1 2",
        "rollup_tag_hour rated_nano 5000 10000",
        "rollup_tag_hour rated_requests 1 2",
        "rollup_tag_hour requests 1 2",
        "rollup_tag_hour tokens 120 240",
      ],
    ],
    ["globex", ["rollup_tag_hour latencies 2 3"]],
  ]);
});

test("an hour that was found to differ is cleared when it is mended and checked again", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(database, lane, events([0]));
  await foldAll(database);
  await database.sql`update rollup_model_hour set cost_nano = cost_nano + 1`;
  await using reconciler = open(database);
  await stepAll(reconciler);
  assert.ok((await results(database)).every(({ state }) => state === "differs"));

  await database.sql`update rollup_model_hour set cost_nano = cost_nano - 1`;
  await commitTestBatch(database, lane, events([0]));
  await foldAll(database);
  await stepAll(reconciler);
  assert.ok(
    (await results(database)).every(
      ({ state, differences }) => state === "match" && differences.length === 0,
    ),
  );
});

test("where raw is gone an hour's dimensions are compared with the org's own rows", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const lane = await openLane(database);
  await commitTestBatch(
    database,
    lane,
    events([0, 48]).map((event) => ({ ...event, tags: ["team=search", "region=eu"] })),
  );
  await foldAll(database);
  const day = isoOf(LAST_HOUR_US - 48 * HOUR_US).slice(0, 10);
  await database.transaction((tx) => tx.exec(`drop table usage_event_${day.replaceAll("-", "")}`));
  await database.sql`insert into purged (what, org_id, day) values ('raw', 0, ${day})`;
  await using reconciler = open(database);
  await stepAll(reconciler);
  assert.ok((await results(database)).every(({ state }) => state === "match"));
  await database.sql`update rollup_actor_hour set output_tokens = 0`;
  await database.sql`update ledger set updated_at = (select updated_at from fold_state where consumer = 'usage') + interval '1 second'`;
  await foldAll(database);
  await database.sql`update fold_state set updated_at = updated_at + interval '2 seconds', complete_through = now() + interval '5 seconds'`;
  await stepAll(reconciler);
  const rows = (await results(database)).filter(({ hour }) => hour.startsWith(day));
  assert.deepEqual(
    rows.map(({ org, state, differences }) => [
      org,
      state,
      ...differences.map(({ check }) => check),
    ]),
    [
      ["*", "match"],
      ["acme", "differs", "rollup_actor_hour"],
      ["globex", "differs", "rollup_actor_hour"],
    ],
  );
});
