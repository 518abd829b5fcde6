import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { neverCrash, silentLogger } from "#kernel";
import { createRawPartition } from "#store";
import { listPoolHourPage, type PoolHour } from "./pool-hours.ts";
import { type PoolRating, type PoolRatingDeps, startPoolRating } from "./pool-rating.ts";
import { apply, assertVerified, type Bench, clock, DID, openBench, work } from "./rating-bench.ts";
import { applyRerating, getRerating, orderRerating, undoRerating } from "./reratings.ts";

const HOUSE = "pools: [{ pool: house, perHour: '7', models: [house-*] }]";
const WISH = {
  orgId: null,
  modelId: null,
  start: new Date("2026-11-01T00:00:00Z"),
  end: new Date("2026-12-01T00:00:00Z"),
  reason: "a test",
};

const poolsOf = ({ database }: Bench, more: Partial<PoolRatingDeps> = {}): PoolRating =>
  startPoolRating({
    database,
    clock,
    logger: silentLogger,
    crash: neverCrash,
    intervalMs: 3_600_000,
    ...more,
  });

/** As if it were later than all hours of these tests. */
async function passTime({ database }: Bench, at = "2026-11-20T14:00:00Z"): Promise<void> {
  await database.sql`update fold_state set complete_through = ${new Date(at)}`;
}

/** Folds, and shares all hours; a turn more finds nothing to do. */
async function share(bench: Bench, more: Partial<PoolRatingDeps> = {}): Promise<void> {
  await bench.fold();
  await passTime(bench);
  await using pools = poolsOf(bench, more);
  await pools.run();
  assert.equal(await pools.run(), 0);
}

const hoursOf = ({ database }: Bench): Promise<PoolHour[]> =>
  listPoolHourPage(database, { ...WISH, offset: 0, limit: 1000 });

/** Hours as short text: pool, hour, cost, shared, tokens, events. */
const tellHours = async (bench: Bench): Promise<string[]> =>
  (await hoursOf(bench)).map(
    ({ pool, hour, costNano, sharedNano, tokens, events }) =>
      `${pool} ${hour.toISOString().slice(11, 13)}: ${costNano} ${sharedNano} ${tokens} ${events}`,
  );

/** By event id: "rated by price", "-" where there is none. */
async function tellRatings({ database }: Bench): Promise<Record<string, string>> {
  const rows = await database.sql<{ id: string; rating: string }>`
    select event_id as id, coalesce(rated_nano::text, '-') || ' by ' || coalesce(price.subject, '-') as rating
      from usage_event
      left join price on price.id = price_id`;
  return Object.fromEntries(rows.map(({ id, rating }) => [id, rating]));
}

const at = (event_id: string, time: string, tokens: number, rest = {}) => ({
  event_id,
  occurred_at: `2026-11-20T${time}Z`,
  model_id: "house-a",
  input_tokens: tokens,
  output_tokens: 0,
  ...rest,
});

const call = fc.record({
  time: fc.constantFrom("10:00:00", "10:59:59.999999", "11:00:00", "11:29:59.999999", "11:30:00"),
  org_id: fc.constantFrom("acme", "globex"),
  model_id: fc.constantFrom("house-a", "house-b", "house-priced", "elsewhere"),
  client_id: fc.constantFrom("web", undefined),
  tokens: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 1_000_000_000 })),
  output_tokens: fc.integer({ min: 0, max: 3 }),
  status: fc.constantFrom("success", "success", "cancelled", "error"),
  isCounted: fc.boolean(),
  cost_estimate: fc.option(fc.constant("0.125"), { nil: undefined }),
});
const book = fc
  .record({
    perHour: fc.constantFrom("0", "0.000000007", "1", "98.32", "7.123456789123"),
    other: fc.constantFrom("", "house-b", "*"),
    orgId: fc.constantFrom(undefined, "acme"),
  })
  .map(
    ({ perHour, other, orgId }) =>
      `prices: [{ model: house-priced, perMillion: { input: 1, output: 1 } }]\npools:\n` +
      `- { pool: house, perHour: "${perHour}", from: 2026-11-20T10:00:00Z, models: [house-*] }\n${
        other === ""
          ? ""
          : `- { pool: other, ${orgId ? `orgId: ${orgId}, ` : ""}perHour: "3", from: 2026-11-20T10:00:00Z, to: 2026-11-20T11:30:00Z, models: ["${other}"] }\n`
      }`,
  );

/** In small batches: within one, events are stored in the order of their keys. */
async function sendSome(bench: Bench, events: readonly Record<string, unknown>[]): Promise<void> {
  for (let i = 0; i < events.length; i += 4) await bench.send(events.slice(i, i + 4));
}

type Row = { priceId: number; hour: string; key: string; tokens: number; nano: number };

/** Of each pool and hour: whose shares they are, counted from raw by other means. */
async function assertShares(bench: Bench): Promise<void> {
  const rows = await bench.database.sql<Row>`
    select e.price_id as "priceId", date_trunc('hour', e.occurred_at, 'UTC')::text as hour, e.event_key as key,
           case when outcome > 1 then 0
                else input_tokens::int8 + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens
                     + output_tokens + reasoning_tokens
            end as tokens,
           e.rated_nano as nano
      from usage_event e
      join price p on p.id = e.price_id and p.kind = 'pool'
     order by e.event_key`;
  const [{ left } = { left: -1 }] = await bench.database.sql<{ left: number }>`
    select count(*) as left
      from usage_event e
      join dictionary model on model.id = e.model_id
     where e.price_id is null
       and model.value in ('house-a', 'house-b')
       and (e.outcome > 1 or (e.flags >> 2) & 3 <> 2)`;
  assert.equal(left, 0, "all that a pool serves has a share");
  const uncounted = await bench.database.sql`
    select 1
      from usage_event e
      join price p on p.id = e.price_id and p.kind = 'pool'
     where e.outcome <= 1
       and (e.flags >> 2) & 3 = 2`;
  assert.deepEqual(uncounted, [], "usage that nobody counted is not taken for none");
  const byHour = Map.groupBy(rows, ({ priceId, hour }) => `${priceId} ${hour}`);
  const hours = await hoursOf(bench);
  let seen = 0;
  for (const [i, note] of hours.entries()) {
    const [own] = await bench.database.sql<{ key: string }>`
      select price_id || ' ' || date_trunc('hour', hour, 'UTC') as key
        from pool_hour join price on price.id = price_id order by hour, subject, price_id offset ${i} limit 1`;
    const mine = byHour.get(own?.key ?? "") ?? [];
    seen += mine.length;
    const total = mine.reduce((sum, { tokens }) => sum + BigInt(tokens), 0n);
    const shared = mine.reduce((sum, { nano }) => sum + BigInt(nano), 0n);
    assert.equal(String(shared), total === 0n ? "0" : note.costNano, "to the last billionth");
    const { sharedNano, tokens, events, isStale } = note;
    assert.deepEqual(
      [sharedNano, tokens, events, isStale],
      [String(shared), Number(total), mine.length, false],
    );
    // No share is further than one billionth from its part of the cost.
    for (const row of mine) {
      const exact = total === 0n ? 0n : (BigInt(note.costNano) * BigInt(row.tokens)) / total;
      assert.ok([exact, exact + 1n].includes(BigInt(row.nano)), `${row.nano} for ${exact}`);
    }
  }
  assert.equal(seen, rows.length, "every share is in an hour's account");
}

test("whatever is called, whenever it comes: shares add up to the pool's cost, raw and rollups agree, and the order of arrival makes no difference", async () => {
  await fc.assert(
    fc.asyncProperty(
      book,
      fc.array(call, { minLength: 1, maxLength: 30 }),
      fc.array(call, { maxLength: 10 }),
      fc.infiniteStream(fc.nat()),
      async (text, early, late, order) => {
        const events = [...early, ...late].map(({ time, tokens, isCounted, ...one }, i) => ({
          ...one,
          event_id: `call-${i}`,
          occurred_at: `2026-11-20T${time}Z`,
          input_tokens: isCounted ? tokens : undefined,
          output_tokens: isCounted ? one.output_tokens : undefined,
        }));
        const results = [];
        const shuffled = events
          .map((event) => ({ event, place: order.next().value }))
          .toSorted((a, b) => a.place - b.place)
          .map(({ event }) => event);
        for (const list of [events, shuffled]) {
          await using bench = await openBench();
          await bench.database.sql`insert into org (external_id) values ('acme'), ('globex')`;
          await apply(bench.database, text);
          await sendSome(bench, list.slice(0, early.length));
          await share(bench);
          await assertShares(bench);
          await sendSome(bench, list.slice(early.length));
          await share(bench);
          await assertShares(bench);
          await assertVerified(bench);
          results.push([await tellRatings(bench), await tellHours(bench)]);
        }
        assert.deepEqual(results[0], results[1]);
      },
    ),
    { numRuns: 5 },
  );
});

test("an hour is shared when it is over and folded by both consumers, and idle where nothing was used", async () => {
  await using bench = await openBench();
  const { database } = bench;
  await apply(
    database,
    "pools: [{ pool: house, perHour: '7', from: 2026-11-20T09:00:00Z, models: [house-*] }]",
  );
  await bench.send([at("1", "11:10:00", 3), at("2", "11:20:00", 0), at("0", "10:20:00", 0)]);
  await bench.fold();
  await using pools = poolsOf(bench);
  await passTime(bench, "2026-11-20T12:14:59Z");
  await pools.run();
  assert.deepEqual(await tellHours(bench), [
    "house 09: 7000000000 0 0 0",
    "house 10: 7000000000 0 0 1",
  ]);
  await passTime(bench, "2026-11-20T12:15:00Z");
  await database.sql`update watermark set batch_no = 0 where consumer = 'people'`;
  await pools.run();
  assert.equal((await tellRatings(bench))["1"], "- by -", "what is not folded is left");
  await database.sql`update watermark set batch_no = 1 where consumer = 'people'`;
  assert.equal(await pools.run(), 1);
  assert.deepEqual((await tellHours(bench)).slice(2), ["house 11: 7000000000 7000000000 3 2"]);
  const ratings = await tellRatings(bench);
  assert.deepEqual(ratings, { "0": "0 by house", "1": "7000000000 by house", "2": "0 by house" });
  await assertVerified(bench);
});

test("an hour of very many events is shared in parts, and a process that ends in between leaves nothing to repair", async () => {
  await using bench = await openBench();
  await apply(bench.database, HOUSE);
  await bench.send(Array.from({ length: 20 }, (_, i) => at(`${i}`, "11:10:00", i)));
  const dieAt = async (name: string): Promise<void> => {
    await bench.fold();
    await passTime(bench);
    let left = 2;
    const crash = (point: string): void => {
      if (point === name && --left === 0) throw new Error("the end");
    };
    await using pools = poolsOf(bench, { rowsMax: 3, crash });
    await assert.rejects(pools.run(), /the end/);
    const [hour, ...behind] = await hoursOf(bench);
    assert.deepEqual([hour?.isStale, behind.length], [true, 1], "the hour behind it is shared");
    const [sum] = await bench.database.sql<{ nano: string }>`
      select sum(rated_nano)::text as nano from usage_event`;
    assert.equal(sum?.nano, hour?.sharedNano, "what is noted is what rows have");
    assert.ok(BigInt(sum?.nano ?? 0) <= 7_000_000_000n, "never more than the cost");
    await assertVerified(bench);
  };
  await dieAt("rerate_before_commit");
  await dieAt("rerate_after_commit");
  await passTime(bench);
  await share(bench, { rowsMax: 3 });
  await assertShares(bench);
  assert.deepEqual(await tellHours(bench), [
    "house 11: 7000000000 7000000000 190 20",
    "house 12: 7000000000 0 0 0",
  ]);
  await bench.send([at("late", "11:20:00", 500)]);
  await dieAt("rerate_before_commit");
  await dieAt("rerate_after_commit");
  await share(bench, { rowsMax: 3 });
  await assertShares(bench);
  await assertVerified(bench);
});

test("a price of the model comes before the pool: a re-rating takes what it holds for, shares of the rest add up, and the undo brings back every share", async () => {
  await using bench = await openBench();
  const { database } = bench;
  await apply(database, HOUSE);
  const b = { model_id: "house-b" };
  await bench.send([at("1", "11:10:00", 2), at("2", "11:20:00", 4, b), at("3", "12:20:00", 1, b)]);
  await share(bench);
  const former = await tellRatings(bench);
  assert.deepEqual(former, {
    "1": "2333333333 by house",
    "2": "4666666667 by house",
    "3": "7000000000 by house",
  });
  const rate = async (text: string) => {
    await apply(database, text);
    const { id } = await orderRerating(database, WISH, DID);
    await work(bench);
    await applyRerating(database, id, DID);
    await work(bench);
    const { totals } = await getRerating(database, id);
    for (const one of totals) {
      const { pricedBefore, pricedAfter, nanoBefore, nanoAfter } = one;
      assert.deepEqual(
        [one.appliedBefore, one.appliedAfter, one.appliedNanoBefore, one.appliedNanoAfter],
        [pricedBefore, pricedAfter, nanoBefore, nanoAfter],
      );
    }
    return { id, totals };
  };

  const { totals: none } = await rate(
    `prices: [{ model: other, perMillion: { input: 1 } }]\n${HOUSE}`,
  );
  assert.deepEqual(none, []);
  assert.deepEqual(await tellRatings(bench), former, "no share is taken away");

  const { id, totals } = await rate(
    `prices: [{ model: house-b, perMillion: { input: 1, output: 1 } }]\n${HOUSE}`,
  );
  assert.deepEqual(
    totals.map((one) => [one.appliedBefore, one.appliedAfter, one.appliedNanoAfter]),
    [[0, 2, "5000"]],
  );
  await share(bench);
  assert.deepEqual(await tellRatings(bench), {
    "1": "7000000000 by house",
    "2": "4000 by house-b",
    "3": "1000 by house-b",
  });
  assert.deepEqual(await tellHours(bench), [
    "house 11: 7000000000 7000000000 2 1",
    "house 12: 7000000000 0 0 0",
  ]);
  await assertVerified(bench);

  await undoRerating(database, id, DID);
  await work(bench);
  await share(bench);
  assert.deepEqual(await tellRatings(bench), former);
  for (const one of (await getRerating(database, id)).totals)
    assert.deepEqual([one.appliedAfter, one.appliedNanoAfter], [0, "0"]);
  await assertVerified(bench);
});

test("what loses its price by a re-rating takes its share, and the undo of that one leaves the order's account at nothing", async () => {
  await using bench = await openBench();
  const { database } = bench;
  const b = { model_id: "house-b" };
  await apply(
    database,
    `prices: [{ model: house-b, perMillion: { input: 1, output: 1 } }]\n${HOUSE}`,
  );
  await bench.send([at("1", "11:10:00", 2), at("2", "11:20:00", 5, b)]);
  await share(bench);
  const former = await tellRatings(bench);
  assert.deepEqual(former, { "1": "7000000000 by house", "2": "5000 by house-b" });
  await apply(database, HOUSE);
  const { id } = await orderRerating(database, WISH, DID);
  await work(bench);
  await applyRerating(database, id, DID);
  await work(bench);
  await share(bench);
  assert.deepEqual(await tellRatings(bench), {
    "1": "2000000000 by house",
    "2": "5000000000 by house",
  });
  await undoRerating(database, id, DID);
  await work(bench);
  await share(bench);
  assert.deepEqual(await tellRatings(bench), former);
  for (const one of (await getRerating(database, id)).totals)
    assert.deepEqual(
      [one.appliedBefore, one.appliedAfter, one.appliedNanoBefore, one.appliedNanoAfter],
      [0, 0, "0", "0"],
    );
  await assertVerified(bench);
});

test("a pool that costs another amount from an instant on is shared by the part of the hour; hours that were shared stay as they were, late calls included", async () => {
  await using bench = await openBench();
  const { database } = bench;
  await apply(database, HOUSE);
  await bench.send([at("1", "10:10:00", 2), at("2", "11:10:00", 1), at("3", "11:50:00", 1)]);
  await bench.fold();
  await passTime(bench, "2026-11-20T11:20:00Z");
  {
    await using pools = poolsOf(bench);
    assert.equal(await pools.run(), 1);
  }
  await apply(
    database,
    "pools:\n- { pool: house, perHour: '9', to: 2026-11-20T11:20:00Z, models: [house-*] }\n" +
      "- { pool: house, perHour: '30', from: 2026-11-20T11:20:00Z, models: [house-*] }",
  );
  await bench.send([at("late", "10:15:00", 6)]);
  await share(bench);
  assert.deepEqual(await tellRatings(bench), {
    "1": "1750000000 by house",
    late: "5250000000 by house",
    "2": "3000000000 by house",
    "3": "20000000000 by house",
  });
  assert.deepEqual(
    (await tellHours(bench)).map((text) => text.slice(0, 19)),
    ["house 10: 700000000", "house 11: 300000000", "house 11: 200000000", "house 12: 300000000"],
  );
  await apply(database, "pools: []");
  await bench.send([at("later", "10:16:00", 8)]);
  await share(bench);
  const ratings = await tellRatings(bench);
  assert.deepEqual(
    [ratings["1"], ratings["late"], ratings["later"]],
    ["875000000 by house", "2625000000 by house", "3500000000 by house"],
  );
  await assertVerified(bench);
});

test("batches and folds go on while hours are shared, and nothing is counted wrongly", async () => {
  await using bench = await openBench();
  await apply(bench.database, HOUSE);
  const many = (name: string, count: number) =>
    Array.from({ length: count }, (_, i) =>
      at(`${name}-${i}`, `1${i % 3}:10:00`, i, {
        client_id: `client-${i % 5}`,
        latency_ms: i % 900,
        org_id: i % 2 === 0 ? "acme" : "globex",
      }),
    );
  await bench.send(many("first", 3000));
  await bench.fold();
  await passTime(bench);
  let isSharing = true;
  const load = async (): Promise<void> => {
    for (let i = 0; isSharing; i++) {
      await bench.send(many(`live-${i}`, 50));
      await bench.fold();
    }
  };
  const loading = load();
  try {
    await using pools = poolsOf(bench, { rowsMax: 600 });
    await pools.run();
    await pools.run();
  } finally {
    isSharing = false;
    await loading;
  }
  await assertVerified(bench);
  await share(bench);
  await assertShares(bench);
  await assertVerified(bench);
});

test("what comes late for an hour whose events are gone is not shared the hour's cost again", async () => {
  await using bench = await openBench();
  await apply(bench.database, HOUSE);
  await bench.send([at("a", "10:10:00", 100), at("b", "10:20:00", 300)]);
  await share(bench);
  const shared = await hoursOf(bench);
  await bench.database.sql`drop table usage_event_20261120`;
  await bench.database.sql`insert into purged (what, org_id, day) values ('raw', 0, '2026-11-20')`;
  await createRawPartition(bench.database, Date.parse("2026-11-20") / 86_400_000);
  await bench.send([at("late", "10:30:00", 50)]);
  await share(bench);
  assert.deepEqual(await hoursOf(bench), shared);
  assert.deepEqual(await tellRatings(bench), { late: "- by -" });
});
