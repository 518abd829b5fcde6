import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { testDatabase } from "#harness";
import { neverCrash, silentLogger } from "#kernel";
import { apply, assertVerified, type Bench, clock, DID, openBench, work } from "./rating-bench.ts";
import { startReratingWorker } from "./rerating-worker.ts";
import { applyRerating, getRerating, orderRerating, undoRerating } from "./reratings.ts";

const WISH = {
  orgId: null,
  modelId: null,
  start: new Date("2026-11-01T00:00:00Z"),
  end: new Date("2026-12-01T00:00:00Z"),
  reason: "a price was wrong",
};

type Rating = { nano: number | null; priceId: number | null; currency: number | null };
async function ratingsOf({ database }: Bench): Promise<Map<string, Rating>> {
  const rows = await database.sql<Rating & { key: string }>`
    select event_key as key, rated_nano as nano, price_id as "priceId", rated_currency as currency from usage_event`;
  return new Map(rows.map(({ key, ...rating }) => [key, { ...rating }]));
}

/** What rollups say the events cost by the price book, in all. */
async function ratedTotal({ database }: Bench): Promise<string> {
  const [row] = await database.sql<{ total: string }>`
    select coalesce(string_agg(rating::text || ':' || nano || '/' || requests, ' ' order by rating), '') as total
      from (select rating, sum(rated_nano) as nano, sum(requests) as requests
              from rollup_org_day where org_id > 0 group by rating) r`;
  return row?.total ?? "";
}

const sumsOf = ({ totals }: Awaited<ReturnType<typeof getRerating>>) => ({
  previewed: totals.map((t) => [
    t.currency,
    t.pricedBefore,
    t.pricedAfter,
    t.nanoBefore,
    t.nanoAfter,
  ]),
  applied: totals.map((t) => [
    t.currency,
    t.appliedBefore,
    t.appliedAfter,
    t.appliedNanoBefore,
    t.appliedNanoAfter,
  ]),
});

const amount = fc.integer({ min: 0, max: 4000 }).map((cents) => String(cents / 100));
const price = fc
  .record({
    model: fc.constantFrom("m", "n", "*"),
    orgId: fc.constantFrom(undefined, "acme"),
    currency: fc.constantFrom("USD", "EUR"),
    noon: fc.boolean(),
    input: amount,
    output: fc.option(amount),
  })
  .map(
    ({ model, orgId, currency, noon, input, output }) =>
      `- { model: "${model}", currency: ${currency}, ${orgId ? `orgId: ${orgId}, ` : ""}${noon ? "from: 2026-11-20T12:00:00Z, " : ""}` +
      `perMillion: { input: ${input}${output === null ? "" : `, output: ${output}`} } }`,
  );
const book = fc
  .uniqueArray(price, {
    maxLength: 4,
    selector: (line) => `${/model: "(.)"/.exec(line)?.[1]}/${/orgId/.test(line)}`,
  })
  .map((lines) => (lines.length === 0 ? "prices: []" : `prices:\n${lines.join("\n")}`));
const call = fc.record({
  org_id: fc.constantFrom("acme", "globex"),
  model_id: fc.constantFrom("m", "n", "o"),
  client_id: fc.constantFrom("web", undefined),
  occurred_at: fc.constantFrom(
    "2026-11-20T11:59:00Z",
    "2026-11-20T12:00:00Z",
    "2026-11-20T13:01:00Z",
    "2026-11-19T10:00:00Z",
  ),
  input_tokens: fc.integer({ min: 0, max: 100_000 }),
  output_tokens: fc.integer({ min: 0, max: 3 }),
  latency_ms: fc.option(fc.integer({ min: 0, max: 90_000 }), { nil: undefined }),
  status: fc.constantFrom("success", "cancelled"),
  cost_estimate: fc.option(fc.constant("0.125"), { nil: undefined }),
});

test("whatever the prices, an apply does what was previewed, raw and rollups agree after it, a second finds nothing, and an undo brings back every former rating", async () => {
  await fc.assert(
    fc.asyncProperty(
      book,
      book,
      fc.array(call, { minLength: 1, maxLength: 25 }),
      fc.array(call, { maxLength: 10 }),
      async (before, after, calls, late) => {
        await using bench = await openBench();
        const { database } = bench;
        await database.sql`insert into org (external_id) values ('acme'), ('globex')`;
        await apply(database, before);
        await bench.send(calls);
        await bench.fold();
        const former = await ratingsOf(bench);
        const formerTotal = await ratedTotal(bench);
        await apply(database, after);
        const { id } = await orderRerating(database, WISH, DID);
        await work(bench);
        assert.deepEqual(await ratingsOf(bench), former, "a preview changes nothing");
        // What comes later is rated by the new book already, and is none of the order's business.
        if (late.length > 0) await bench.send(late);
        await applyRerating(database, id, DID);
        await work(bench);
        const applied = await getRerating(database, id);
        const { previewed, applied: done } = sumsOf(applied);
        assert.deepEqual([applied.state, done], ["applied", previewed]);
        await assertVerified(bench);

        const again = await orderRerating(database, WISH, DID);
        await work(bench);
        assert.deepEqual((await getRerating(database, again.id)).totals, []);

        const lateOnes = new Map([...(await ratingsOf(bench))].filter(([key]) => !former.has(key)));
        await undoRerating(database, id, DID);
        await work(bench);
        assert.equal((await getRerating(database, id)).state, "undone");
        assert.deepEqual(await ratingsOf(bench), new Map([...former, ...lateOnes]));
        if (late.length === 0) assert.equal(await ratedTotal(bench), formerTotal);
        for (const { appliedNanoAfter, appliedAfter } of (await getRerating(database, id)).totals)
          assert.deepEqual([appliedNanoAfter, appliedAfter], ["0", 0]);
        await assertVerified(bench);
      },
    ),
    { numRuns: 6 },
  );
});

test("only what is asked for is rated again: an org, a model, half-open times", async () => {
  await using bench = await openBench();
  const { database } = bench;
  await apply(database, "prices: [{ model: '*', perMillion: { input: 1, output: 0 } }]");
  const at = (occurred_at: string, rest = {}) => ({ occurred_at, input_tokens: 1000, ...rest });
  await bench.send([
    at("2026-11-20T09:59:59.999999Z", { event_id: "before" }),
    at("2026-11-20T10:00:00Z", { event_id: "first" }),
    at("2026-11-20T10:59:59.999999Z", { event_id: "last" }),
    at("2026-11-20T11:00:00Z", { event_id: "behind" }),
    at("2026-11-20T10:30:00Z", { event_id: "org", org_id: "globex" }),
    at("2026-11-20T10:30:00Z", { event_id: "model", model_id: "other" }),
  ]);
  await bench.fold();
  await apply(database, "prices: [{ model: '*', perMillion: { input: 3, output: 0 } }]");
  const start = new Date("2026-11-20T10:00:00Z");
  const end = new Date("2026-11-20T11:00:00Z");
  const wish = { ...WISH, orgId: "acme", modelId: "chat-large", start, end };
  const { id } = await orderRerating(database, wish, DID);
  await work(bench);
  await applyRerating(database, id, DID);
  await work(bench);
  const rows = await database.sql<{ id: string }>`
    select event_id as id from usage_event where rated_nano = 3000000 order by event_id`;
  assert.deepEqual(
    rows.map((row) => row.id),
    ["first", "last"],
  );
  await assertVerified(bench);
});

test("events that are committed and not folded yet are waited for", async () => {
  await using bench = await openBench();
  const { database } = bench;
  await bench.send([{ event_id: "1", input_tokens: 1000, output_tokens: 0 }]);
  await apply(database, "prices: [{ model: '*', perMillion: { input: 1, output: 0 } }]");
  await bench.fold();
  await apply(database, "prices: [{ model: '*', perMillion: { input: 2, output: 0 } }]");
  const { id } = await orderRerating(database, WISH, DID);
  await work(bench);
  await applyRerating(database, id, DID);
  await database.sql`update watermark set batch_no = 0 where consumer = 'people'`;
  const results = [await bench.worker.step(), await bench.worker.step()];
  assert.deepEqual(results, ["worked", "waiting"]);
  assert.equal((await getRerating(database, id)).state, "applying");
  const [row] = await database.sql<{
    nano: number | null;
  }>`select rated_nano as nano from usage_event`;
  assert.equal(row?.nano, null);
  await database.sql`update watermark set batch_no = 1 where consumer = 'people'`;
  await work(bench);
  assert.equal((await getRerating(database, id)).state, "applied");
  await assertVerified(bench);
});

test("folds and batches go on while an apply is under way, and nothing is counted wrongly", async () => {
  await using bench = await openBench();
  const { database } = bench;
  const many = (name: string, count: number) =>
    Array.from({ length: count }, (_, i) => ({
      event_id: `${name}-${i}`,
      input_tokens: 1000 + i,
      latency_ms: i % 900,
      client_id: `client-${i % 5}`,
      model_id: `model-${i % 3}`,
    }));
  await bench.send(many("first", 8000));
  await bench.fold();
  await apply(database, "prices: [{ model: 'model-*', perMillion: { input: 2, output: 1 } }]");
  const { id } = await orderRerating(database, WISH, DID);
  await work(bench);
  await applyRerating(database, id, DID);
  let isApplying = true;
  const load = async (): Promise<void> => {
    for (let i = 0; isApplying; i++) {
      await bench.send(many(`live-${i}`, 50));
      await bench.fold();
    }
  };
  const loading = load();
  try {
    await work(bench);
  } finally {
    isApplying = false;
    await loading;
  }
  assert.equal((await getRerating(database, id)).state, "applied");
  const { previewed, applied } = sumsOf(await getRerating(database, id));
  assert.deepEqual(applied, previewed);
  const [row] = await database.sql<{ unpriced: number }>`
    select count(*) as unpriced from usage_event where rated_nano is null`;
  assert.equal(row?.unpriced, 0);
  await assertVerified(bench);
});

test("an order is refused in words when it makes no sense, and applied only as it was looked at", async () => {
  await using bench = await openBench();
  const { database } = bench;
  await bench.send([{ input_tokens: 1000 }]);
  await bench.fold();
  await assert.rejects(orderRerating(database, { ...WISH, end: WISH.start }, DID), /later than/);
  await assert.rejects(orderRerating(database, { ...WISH, orgId: "nobody" }, DID), /no such org/);
  await assert.rejects(getRerating(database, 77), /no such re-rating/);
  await apply(database, "prices: [{ model: '*', perMillion: { input: 1, output: 1 } }]");
  const first = await orderRerating(database, WISH, DID);
  await assert.rejects(
    applyRerating(database, first.id, DID),
    /is ordered: it has to be previewed/,
  );
  await work(bench);
  await apply(database, "prices: [{ model: '*', perMillion: { input: 2, output: 1 } }]");
  await assert.rejects(applyRerating(database, first.id, DID), /version 1 .* at 2 now/);
  const second = await orderRerating(database, WISH, DID);
  await work(bench);
  await assert.rejects(undoRerating(database, second.id, DID), /has to be applying or applied/);
  await applyRerating(database, second.id, DID);
  await work(bench);
  await apply(database, "prices: []");
  const third = await orderRerating(database, WISH, DID);
  await work(bench);
  await applyRerating(database, third.id, DID);
  await work(bench);
  await assert.rejects(undoRerating(database, second.id, DID), /Re-rating 3 came later/);
  await undoRerating(database, third.id, DID);
  await work(bench);
  await assertVerified(bench);
  const actions = await database.sql<{ entry: string }>`
    select entry::json ->> 'action' as entry from audit_log where org_id = 0 order by seq`;
  assert.deepEqual(
    actions.map(({ entry }) => entry).filter((action) => action.startsWith("rerating")),
    ["create", "create", "apply", "create", "apply", "undo"].map((what) => `rerating.${what}`),
  );
});

test("a worker without an order takes no connection of its own", async () => {
  await using db = await testDatabase();
  let opened = 0;
  const database = {
    ...db.database,
    openSession: (...prepare: Parameters<typeof db.database.openSession>) => {
      opened++;
      return db.database.openSession(...prepare);
    },
  };
  await using worker = startReratingWorker({
    database,
    clock,
    logger: silentLogger,
    crash: neverCrash,
    intervalMs: 3_600_000,
  });
  assert.equal(await worker.step(), "idle");
  assert.equal(opened, 0);
  await orderRerating(db.database, WISH, DID);
  assert.equal(await worker.step(), "worked");
  assert.equal(opened, 1);
});
