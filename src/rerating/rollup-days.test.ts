import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Dimension, DIMENSIONS, type Grain, GRAINS, rollupTable } from "#contract";
import { silentLogger } from "#kernel";
import { PriceRater, readPriceBook } from "#pricing";
import { startRetention } from "#rollup";
import { type Database, purge15mDay, purgeDay } from "#store";
import { apply, assertVerified, type Bench, clock, DID, openBench, work } from "./rating-bench.ts";
import {
  applyRerating,
  getRerating,
  orderRerating,
  type Rerating,
  type ReratingWish,
  undoRerating,
} from "./reratings.ts";
import { startReratingWorker } from "./rerating-worker.ts";

const DAY_MS = 86_400_000;
const TODAY = Math.floor(Date.now() / DAY_MS);
const dayOf = (daysAgo: number): string =>
  new Date((TODAY - daysAgo) * DAY_MS).toISOString().slice(0, 10);
clock.set(`${dayOf(0)}T14:00:00Z`);
const WITH_RAW = dayOf(1);
/** Days whose raw events retention deletes, and of the second the 15-minute rows besides. */
const [QUARTERS, HOURS] = [dayOf(3), dayOf(6)];

const WISH = {
  orgId: null,
  modelId: null,
  start: new Date(`${dayOf(10)}T00:00:00Z`),
  end: new Date(`${dayOf(0)}T00:00:00Z`),
  reason: "a price was wrong",
};

/** Runs retention as if all that there is had come long enough ago, and the keys had left their window. */
async function retain({ database }: Bench): Promise<void> {
  await database.sql`update ingestion_batches set committed_at = now() - interval '3 days'`;
  await database.sql`update ledger set updated_at = now() - interval '9 days'`;
  await database.sql`truncate event_key_1`;
  await database.sql`update installation set dedup_floor = now() - interval '2 days'`;
  await using retention = startRetention({
    database,
    logger: silentLogger,
    settings: {
      rawRetentionDays: 2,
      rollup15mRetentionDays: 5,
      rollupRetentionMonths: 13,
      quarantineRetentionDays: 30,
      intervalMs: 3_600_000,
    },
  });
  await retention.run();
}

/** Every row of every rollup, all of it. */
async function rollupsOf(database: Database): Promise<string[]> {
  const lists = DIMENSIONS.flatMap((dimension) =>
    GRAINS.map((grain) => {
      const name = rollupTable(dimension, grain);
      return `select '${name} ' || r::text as text from ${name} r`;
    }),
  );
  const { rows }: { rows: { text: string }[] } = await database.transaction((tx) =>
    tx.exec(`${lists.join(" union all ")} order by 1`),
  );
  return rows.map(({ text }) => text);
}

/** Every grain of every dimension comes to the same cost, in every bucket. */
async function assertGroupsAddUp(database: Database): Promise<void> {
  const totals = (dimension: Dimension, grain: Grain) => `
    select org_id, bucket, outcome, currency, rating, sum(rated_nano) as nano
      from ${rollupTable(dimension, grain)}
     group by 1, 2, 3, 4, 5
    having sum(rated_nano) <> 0`;
  for (const grain of GRAINS) {
    for (const dimension of ["model", "client", "actor"] as const) {
      // Of all orgs together nobody keeps people.
      const ofOrgs = dimension === "model" ? "true" : "org_id > 0";
      const [one, other] = [totals("org", grain), totals(dimension, grain)].map(
        (rows) => `(select * from (${rows}) t where ${ofOrgs})`,
      );
      const { rows } = await database.transaction((tx) =>
        tx.exec(`(${one} except ${other}) union all (${other} except ${one})`),
      );
      assert.deepEqual(rows, [], `${dimension} ${grain}`);
    }
  }
}

const totalsOf = async (database: Database, id: number) =>
  (await getRerating(database, id)).totals.map((t) => ({
    previewed: [t.currency, t.pricedBefore, t.pricedAfter, t.nanoBefore, t.nanoAfter],
    applied: [t.currency, t.appliedBefore, t.appliedAfter, t.appliedNanoBefore, t.appliedNanoAfter],
  }));

/** Rates again, and says under which number and what became of sums. */
async function rerate(bench: Bench, wish: Partial<ReratingWish> = {}): Promise<Rerating> {
  const { database } = bench;
  const { id } = await orderRerating(database, { ...WISH, ...wish }, DID);
  await work(bench);
  const before = await getRerating(database, id);
  await applyRerating(database, id, DID);
  await work(bench);
  const after = await getRerating(database, id);
  assert.equal(after.state, "applied");
  assert.deepEqual(after.tally, before.tally, "what was foreseen became of them");
  for (const { previewed, applied } of await totalsOf(database, id))
    assert.deepEqual(applied, previewed);
  await assertVerified(bench);
  await assertGroupsAddUp(database);
  return after;
}

async function undo(bench: Bench, id: number): Promise<void> {
  await undoRerating(bench.database, id, DID);
  await work(bench);
  assert.equal((await getRerating(bench.database, id)).state, "undone");
  await assertVerified(bench);
  await assertGroupsAddUp(bench.database);
}

type RatedEvent = {
  org: string;
  model: string;
  occurredAtUs: number;
  row: string;
  rating: number;
  /** Billionths; null: unpriced. */
  nano: number | null;
  inputTokens: number;
  cacheReadTokens: number;
  cacheWrite5mTokens: number;
  cacheWrite1hTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  requests: number;
  latencyMs: number | null;
  outcome: number;
  flags: number;
};

/** The name of the finest rollup row that an event without raw is counted in. */
const ROW_OF = (e: string, at: string): string =>
  `concat_ws(' ', ${e}.org_id, date_bin(case when ${at} < date '${HOURS}' + 1 then interval '1 hour' else interval '15 minutes' end, ${at}, timestamptz 'epoch'), ${e}.outcome, ${e}.currency)`;

/** Events of the days that retention will take the raw of. */
const listEvents = async (database: Database): Promise<RatedEvent[]> => {
  const { rows } = await database.transaction((tx) =>
    tx.exec(`
    select org.external_id as org, word.value as model, (extract(epoch from e.occurred_at) * 1000000)::int8 as "occurredAtUs",
           ${ROW_OF("e", "e.occurred_at")} || ' ' || e.model_id as row,
           coalesce(case when e.cost_nano is null then e.rated_currency else -e.rated_currency end, 0)::int4 as rating,
           e.rated_nano as nano,
           e.input_tokens as "inputTokens", e.cache_read_tokens as "cacheReadTokens",
           e.cache_write_5m_tokens as "cacheWrite5mTokens", e.cache_write_1h_tokens as "cacheWrite1hTokens",
           e.output_tokens as "outputTokens", e.reasoning_tokens as "reasoningTokens", e.requests,
           e.latency_ms as "latencyMs", e.outcome, e.flags
      from usage_event e
      join org on org.id = e.org_id
      join dictionary word on word.id = e.model_id
     where e.occurred_at < date '${WITH_RAW}'`),
  );
  return rows;
};

/** What rows cost that are rated, without what raw has of them: by row and rating. */
async function costsOf(database: Database): Promise<Map<string, bigint>> {
  const rows = (grain: string, condition: string) => `
    select ${ROW_OF("r", "r.bucket")} || ' ' || member_id || ' ' || rating as row, rated_nano::text as nano
      from rollup_model_${grain} r where org_id > 0 and rating <> 0 and bucket < date '${WITH_RAW}' and ${condition}`;
  const { rows: found }: { rows: { row: string; nano: string }[] } = await database.transaction(
    (tx) =>
      tx.exec(
        `${rows("15m", `bucket >= date '${HOURS}' + 1`)} union all ${rows("hour", `bucket < date '${HOURS}' + 1`)}`,
      ),
  );
  const costs = new Map(found.map(({ row, nano }) => [row, BigInt(nano)]));
  for (const { row, rating, nano } of await listEvents(database)) {
    const name = `${row} ${rating}`;
    if (rating !== 0) costs.set(name, (costs.get(name) ?? 0n) - BigInt(nano ?? 0));
  }
  return costs;
}

const amount = fc.oneof(
  { weight: 5, arbitrary: fc.nat(4000).map((cents) => String(cents / 100)) },
  fc.constant("0.0375"),
);
const price = fc
  .record({
    model: fc.constantFrom("m", "n", "m", "n", "*"),
    orgId: fc.constantFrom(undefined, undefined, "acme"),
    currency: fc.constantFrom("USD", "USD", "USD", "EUR"),
    from: fc.constantFrom("", "", `from: ${QUARTERS}T12:05:00Z, `, `from: ${HOURS}T12:00:00Z, `),
    input: amount,
    output: fc.option(amount, { freq: 8 }),
    rest: fc.constantFrom(
      "",
      "",
      "",
      "",
      ", perRequest: 0.001",
      ", perSecond: 0.01",
      ", chargedOutcomes: [success]",
    ),
  })
  .map(
    ({ model, orgId, currency, from, input, output, rest }) =>
      `- { model: "${model}", currency: ${currency}, ${orgId ? `orgId: ${orgId}, ` : ""}${from}` +
      `perMillion: { input: ${input}${output === null ? "" : `, output: ${output}`} }${rest} }`,
  );
/** Most calls have a price that is easy to tell for sums. */
const book = fc
  .tuple(
    fc.option(fc.nat(40), { freq: 6 }),
    fc.uniqueArray(price, {
      maxLength: 3,
      selector: (line) => `${/model: "(.)"/.exec(line)?.[1]}/${/orgId/.test(line)}`,
    }),
  )
  .map(([cents, lines]) =>
    [
      "prices:",
      ...lines,
      ...(cents === null || lines.some((line) => /"\*"(?!.*orgId)/.test(line))
        ? ['- { model: "x", perMillion: { input: 1 } }']
        : [`- { model: "*", perMillion: { input: ${cents / 4}, output: 2 } }`]),
    ].join("\n"),
  );
const call = fc.record({
  org_id: fc.constantFrom("acme", "globex"),
  model_id: fc.constantFrom("m", "n"),
  client_id: fc.constantFrom("web", undefined),
  occurred_at: fc
    .tuple(
      fc.constantFrom(QUARTERS, QUARTERS, HOURS, HOURS, WITH_RAW),
      fc.constantFrom("11:59:00", "12:00:00", "12:20:00", "12:50:00"),
    )
    .map(([day, time]) => `${day}T${time}Z`),
  input_tokens: fc.integer({ min: 0, max: 100_000 }),
  output_tokens: fc.integer({ min: 0, max: 3 }),
  latency_ms: fc.option(fc.integer({ min: 0, max: 90_000 }), { nil: undefined }),
  status: fc.constantFrom("success", "cancelled", "error"),
  cost_estimate: fc.option(fc.constant("0.125"), { nil: undefined }),
});

test("whatever the prices, days without raw come to what their events would come to, or are left and counted; an undo brings every row back", async () => {
  await fc.assert(
    fc.asyncProperty(
      book,
      book,
      fc.array(call, { minLength: 10, maxLength: 30 }),
      fc.array(call, { maxLength: 6 }),
      fc.constantFrom(WISH.start, new Date(`${QUARTERS}T12:10:00Z`)),
      async (before, after, calls, late, start) => {
        await using bench = await openBench();
        const { database } = bench;
        await database.sql`insert into org (external_id) values ('acme'), ('globex')`;
        await apply(database, before);
        await bench.send(calls);
        await bench.fold();
        const gone = await listEvents(database);
        await retain(bench);
        const [kept] = await database.sql<{ events: number }>`
          select count(*) as events from usage_event where occurred_at < ${WITH_RAW}`;
        assert.equal(kept?.events, 0, "their raw is gone");
        // What comes into such a day later has raw again, and is rated event by event.
        if (late.length > 0) await bench.send(late);
        await bench.fold();
        await assertVerified(bench);
        const former = await rollupsOf(database);
        const formerCosts = await costsOf(database);

        await apply(database, after);
        await orderRerating(database, { ...WISH, start }, DID);
        await work(bench);
        assert.deepEqual(await rollupsOf(database), former, "a preview changes nothing");
        const { id, tally } = await rerate(bench, { start });

        // The events themselves, by the new book.
        const rater = new PriceRater(await readPriceBook(database));
        const should = new Map<string, bigint>();
        const isLeft = new Set<string>();
        for (const event of gone.filter(({ rating }) => rating !== 0)) {
          const found = rater.find({ ...event, orgId: event.org, modelId: event.model });
          const isAsked = event.occurredAtUs >= start.getTime() * 1000;
          const nano = isAsked ? (found?.rate(event) ?? null) : event.nano;
          const row = `${event.row} ${event.rating}`;
          if (nano === null || (isAsked && found?.currency !== Math.abs(event.rating)))
            isLeft.add(row);
          should.set(row, (should.get(row) ?? 0n) + BigInt(nano ?? 0));
        }
        const hasLeft = tally.some((one) => one.became !== "rated");
        for (const [row, nano] of await costsOf(database)) {
          const was = formerCosts.get(row) ?? 0n;
          const isExact = !isLeft.has(row) && nano === (should.get(row) ?? 0n);
          assert.ok(
            isExact || (nano === was && hasLeft),
            `${row}: ${was} ${nano} ${should.get(row)}`,
          );
        }
        if (!hasLeft) assert.deepEqual([...isLeft], []);

        const again = await orderRerating(database, { ...WISH, start }, DID);
        await work(bench);
        const second = await getRerating(database, again.id);
        assert.deepEqual(second.totals, []);
        assert.deepEqual(
          second.tally,
          tally.filter((one) => one.became !== "rated"),
        );

        await undo(bench, id);
        assert.deepEqual(await rollupsOf(database), former);
        for (const one of await totalsOf(database, id))
          assert.deepEqual(one.applied.slice(1), [0, 0, "0", "0"]);
        const [rest] = await database.sql<{
          rows: number;
        }>`select count(*) as rows from rerating_rollup`;
        assert.equal(rest?.rows, 0);
      },
    ),
    { numRuns: 5, endOnFailure: true },
  );
});

const at = (occurred_at: string, rest: Record<string, unknown> = {}) => ({
  occurred_at,
  model_id: "m",
  input_tokens: 1000,
  output_tokens: 10,
  ...rest,
});
const priced = (input: number, more = "", currency = "USD"): string =>
  `prices:\n- { model: "m*", currency: ${currency}, perMillion: { input: ${input}, output: 2 } }\n${more}`;

/** Events of a day, counted and rated, whose raw is gone. */
async function benchWithout(
  events: readonly Record<string, unknown>[],
  prices = priced(1),
): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const bench = stack.use(await openBench());
  await apply(bench.database, prices);
  await bench.send(events);
  await bench.fold();
  await retain(bench);
  stack.move();
  return bench;
}

test("what is left is told with the reason, and all that is certain is rated: of orgs, hours and quarters", async () => {
  const events = [HOURS, QUARTERS].flatMap((day) => [
    at(`${day}T12:01:00Z`, { org_id: "globex" }),
    at(`${day}T12:20:00Z`),
    at(`${day}T12:50:00Z`, { cost_estimate: "0.5" }),
    at(`${day}T12:20:00Z`, { model_id: "m-turns" }),
    at(`${day}T12:20:00Z`, { model_id: "m-pooled" }),
    at(`${day}T12:20:00Z`, { model_id: "x" }),
  ]);
  const names = Array.from({ length: 20 }, (_, i) =>
    at(`${HOURS}T12:20:00Z`, { model_id: `m-${i}` }),
  );
  const more = (turnAt: string) =>
    `- { model: "m-turns", from: ${turnAt}, perMillion: { input: 9, output: 9 } }\n` +
    "pools:\n- { pool: gpus, perHour: 10, models: [m-pooled] }";
  await using bench = await benchWithout(
    [...events, ...names],
    priced(1, more(`${HOURS}T12:20:00Z`)),
  );
  const { database } = bench;
  await apply(database, priced(3, more(`${HOURS}T12:25:00Z`)));
  const { id, tally, daysWithoutRaw } = await rerate(bench);
  assert.equal(daysWithoutRaw, 2);
  // Twelve and twenty events, less two that nothing prices, before and after.
  assert.deepEqual(tally, [
    { became: "rated", rows: 22, requests: 22 },
    { became: "other_model", rows: 1, requests: 4 },
    { became: "pool", rows: 2, requests: 2 },
    { became: "turn", rows: 1, requests: 1 },
  ]);
  const [usd] = await totalsOf(database, id);
  assert.deepEqual(usd?.applied.slice(1), [22, 22, String(22 * 1_020_000), String(22 * 3_020_000)]);
  await undo(bench, id);
  const narrow = await rerate(bench, { orgId: "acme", modelId: "m" });
  assert.deepEqual(narrow.tally, [{ became: "rated", rows: 4, requests: 4 }]);
});

test("15-minute rows that retention deletes after an apply are not missed by its undo, nor is a day that is gone", async () => {
  const events = [
    at(`${QUARTERS}T12:01:00Z`),
    at(`${QUARTERS}T12:20:00Z`, { client_id: undefined }),
  ];
  await using bench = await benchWithout(events);
  const { database } = bench;
  const hours = async () => (await rollupsOf(database)).filter((row) => !row.includes("_15m"));
  const former = await hours();
  await apply(database, priced(3));
  const { id } = await rerate(bench);
  assert.notDeepEqual(await hours(), former);
  await database.transaction((tx) => purge15mDay(tx, TODAY - 3, [0, 1]));
  await undo(bench, id);
  assert.deepEqual(await hours(), former);

  const second = await rerate(bench);
  await database.transaction((tx) => purgeDay(tx, TODAY - 3));
  await database.sql`delete from ingestion_batches where committed_at < now() - interval '2 days'`;
  await bench.send([at(`${QUARTERS}T12:01:00Z`)]);
  await bench.fold();
  await retain(bench);
  const loaded = await rollupsOf(database);
  await undo(bench, second.id);
  assert.deepEqual(await rollupsOf(database), loaded, "what is loaded anew loses nothing");
});

test("an apply that ends before its commit has done nothing, and the next process does it", async () => {
  await using bench = await benchWithout([at(`${QUARTERS}T12:01:00Z`)]);
  const { database } = bench;
  await apply(database, priced(3));
  const { id } = await orderRerating(database, WISH, DID);
  await work(bench);
  const former = await rollupsOf(database);
  await applyRerating(database, id, DID);
  await using dying = startReratingWorker({
    database,
    clock,
    logger: silentLogger,
    intervalMs: 3_600_000,
    crash: (point) => assert.notEqual(point, "rerate_before_commit"),
  });
  await dying.step();
  assert.match((await getRerating(database, id)).failure?.error ?? "", /rerate_before_commit/);
  assert.deepEqual(await rollupsOf(database), former);
  await database.sql`update rerating_failure set retry_at = failed_at`;
  await work(bench);
  const [{ previewed, applied } = { previewed: [], applied: [] }] = await totalsOf(database, id);
  assert.deepEqual(applied, previewed);
  assert.notDeepEqual(await rollupsOf(database), former);
  await assertVerified(bench);
});

test("what comes late into a day without raw is rated event by event, and the others beside it, each once", async () => {
  await using bench = await benchWithout([at(`${QUARTERS}T12:01:00Z`), at(`${HOURS}T12:01:00Z`)]);
  const { database } = bench;
  await bench.send([at(`${QUARTERS}T12:02:00Z`), at(`${HOURS}T12:50:00Z`)]);
  await bench.fold();
  const former = await rollupsOf(database);
  await apply(database, priced(3));
  const { id, tally } = await rerate(bench);
  assert.deepEqual(tally, [{ became: "rated", rows: 2, requests: 2 }]);
  const [usd] = await totalsOf(database, id);
  assert.deepEqual(usd?.applied.slice(1), [4, 4, String(4 * 1_020_000), String(4 * 3_020_000)]);
  await undo(bench, id);
  assert.deepEqual(await rollupsOf(database), former);
});

test("what is added for nobody stays when the only event that is counted there moves away", async () => {
  await using bench = await benchWithout([at(`${QUARTERS}T12:01:00Z`)]);
  const { database } = bench;
  await apply(database, priced(3));
  await rerate(bench);
  await bench.send([at(`${QUARTERS}T12:02:00Z`, { client_id: undefined, actor_id: undefined })]);
  await bench.fold();
  await apply(database, priced(3, "", "EUR"));
  const { tally } = await rerate(bench);
  assert.deepEqual(tally, [{ became: "currency", rows: 1, requests: 1 }]);
});
