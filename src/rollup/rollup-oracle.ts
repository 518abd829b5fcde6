import assert from "node:assert/strict";
import {
  binOf,
  CONSUMERS,
  type Consumer,
  type Dimension,
  type Grain,
  GRAINS,
  LatencySketch,
  rollupTable,
} from "#contract";
import { type Database, ROLLUP_MEASURES } from "#store";

const KEY = "org_id, member_id, bucket, outcome, currency, rating";
/** Written otherwise than where it is used: the currency of the rating, negative beside a cost of the event's own. */
const RATING = `(case when e.rated_nano is null then 0 else sign(0.5 - (e.cost_nano is not null)::int4) * e.rated_currency end)::int2`;
const WIDTHS = { "15m": "15 minutes", hour: "1 hour", day: "1 day" } as const satisfies Record<
  Grain,
  string
>;
const MEMBERS = {
  org: "0",
  model: "e.model_id",
  client: "e.client_id",
  actor: "e.actor_id",
  tag: "t.tag_id",
} as const satisfies Record<Dimension, string>;
const TOKENS =
  "(e.input_tokens::int8 + e.cache_read_tokens + e.cache_write_5m_tokens + e.cache_write_1h_tokens + e.output_tokens + e.reasoning_tokens)";

/** What a rollup table should hold by a plain aggregation of raw: own orgs, and for org and model all orgs together. */
function expected(dimension: Dimension, grain: Grain, measures: string): string {
  const rows = (orgId: string, member: string, join: string) => `
    select ${orgId} as org_id, ${member} as member_id,
           date_bin('${WIDTHS[grain]}', e.occurred_at, timestamptz 'epoch') as bucket, e.outcome, e.currency, ${RATING} as rating, ${measures}
      from usage_event e ${join}
     group by 1, 2, 3, 4, 5, 6`;
  const tags = dimension === "tag" ? "cross join unnest(e.tag_ids) as t (tag_id)" : "";
  const own = rows("e.org_id", MEMBERS[dimension], tags);
  if (dimension === "org") return `${own} union all ${rows("0", "0", "")}`;
  if (dimension !== "model") return own;
  const system = `left join dictionary d on d.id = e.model_id left join dictionary s on s.org_id = 0 and s.kind = 1 and s.value = d.value`;
  const member = "case when e.model_id <= 0 then e.model_id else s.id end";
  return `${own} union all ${rows("0", member, system)}`;
}

const SUMS = `sum(e.requests)::int8, coalesce(sum(e.requests) filter (where e.cost_nano is not null), 0)::int8,
  sum(e.input_tokens)::int8, sum(e.cache_read_tokens)::int8, sum(e.cache_write_5m_tokens)::int8,
  sum(e.cache_write_1h_tokens)::int8, sum(e.output_tokens)::int8, sum(e.reasoning_tokens)::int8,
  coalesce(sum(${TOKENS}) filter (where e.cost_nano is not null), 0)::int8, coalesce(sum(e.cost_nano), 0),
  count(e.latency_ms)::int8, coalesce(sum(e.latency_ms), 0)::int8, coalesce(sum(e.rated_nano), 0)`;

/** Fails unless every rollup of a consumer equals a re-aggregation of raw by SQL, to the last unit and latency bin. */
export async function assertRollupsEqualRaw(database: Database, consumer: Consumer): Promise<void> {
  for (const dimension of CONSUMERS[consumer]) {
    for (const grain of GRAINS) {
      const want = expected(dimension, grain, SUMS);
      const have = `select ${KEY}, ${ROLLUP_MEASURES.join(", ")} from ${rollupTable(dimension, grain)}`;
      const differing = await query(
        database,
        `((${want}) except (${have})) union all ((${have}) except (${want}))`,
      );
      assert.deepEqual(differing, [], `${rollupTable(dimension, grain)} differs from raw`);
      await assertSketchesEqualRaw(database, dimension, grain);
    }
  }
  if (consumer !== "usage") return;
  for (const grain of ["15m", "day"] as const) await assertErrorsEqualRaw(database, grain);
}

async function assertSketchesEqualRaw(
  database: Database,
  dimension: Dimension,
  grain: Grain,
): Promise<void> {
  const key =
    "org_id || '/' || member_id || '/' || extract(epoch from bucket)::int8 || '/' || outcome || '/' || currency || '/' || rating";
  const raw = await query(
    database,
    `select ${key} as row, latencies from (${expected(dimension, grain, "array_agg(e.latency_ms) filter (where e.latency_ms is not null) as latencies")}) as x`,
  );
  const stored = await query(
    database,
    `select ${key} as row, latency_sketch from ${rollupTable(dimension, grain)}`,
  );
  const sketches = new Map(stored.map((row) => [row["row"], row["latency_sketch"]]));
  for (const { row, latencies } of raw) {
    const bins = new Map<number, number>();
    for (const ms of Array.isArray(latencies) ? latencies : [])
      bins.set(binOf(ms), (bins.get(binOf(ms)) ?? 0) + 1);
    const sketch = sketches.get(row);
    assert.ok(sketch instanceof Buffer);
    const wanted = [...bins].toSorted((a, b) => a[0] - b[0]);
    assert.deepEqual(
      [...LatencySketch.decode(sketch).bins()],
      wanted,
      `${rollupTable(dimension, grain)} ${row}`,
    );
  }
}

async function assertErrorsEqualRaw(database: Database, grain: "15m" | "day"): Promise<void> {
  const bucket = `date_bin('${WIDTHS[grain]}', e.occurred_at, timestamptz 'epoch')`;
  const system = (id: string, kind: number) =>
    `case when ${id} <= 0 then ${id} else (select s.id from dictionary d join dictionary s on s.org_id = 0 and s.kind = ${kind} and s.value = d.value where d.id = ${id}) end`;
  const want = `
    select e.org_id, e.model_id, ${bucket}, e.outcome, e.error_code_id, sum(e.requests)::int8
      from usage_event e where e.outcome >= 2 group by 1, 2, 3, 4, 5
    union all
    select 0, ${system("e.model_id", 1)}, ${bucket}, e.outcome, ${system("e.error_code_id", 4)}, sum(e.requests)::int8
      from usage_event e where e.outcome >= 2 group by 1, 2, 3, 4, 5`;
  const have = `select org_id, model_id, bucket, outcome, error_code_id, requests from rollup_error_${grain}`;
  const differing = await query(
    database,
    `((${want}) except ${have}) union all (${have} except (${want}))`,
  );
  assert.deepEqual(differing, [], `rollup_error_${grain} differs from raw`);
}

/** Fails unless the delivery ledger is the sum of the batches' control totals. */
export async function assertLedgerEqualsRaw(database: Database): Promise<void> {
  const digest = `('x' || left(translate(event_key::text, '-', ''), 16))::bit(64)::int8 # ('x' || right(translate(event_key::text, '-', ''), 16))::bit(64)::int8`;
  const modulus = "18446744073709551616";
  const want = `
    select org_id, source_id, date_bin('1 hour', occurred_at, timestamptz 'epoch') as hour, count(*)::numeric as accepted,
           (sum(${digest}) % ${modulus} + ${modulus}) % ${modulus} as digest
      from usage_event group by 1, 2, 3`;
  const have = `
    select org_id, source_id, hour, sum(accepted) as accepted, sum(accepted_digest) % ${modulus} as digest
      from ledger where accepted > 0 group by 1, 2, 3`;
  const differing = await query(
    database,
    `((${want}) except (${have})) union all ((${have}) except (${want}))`,
  );
  assert.deepEqual(differing, [], "ledger differs from raw");
}

async function query(database: Database, text: string): Promise<Record<string, unknown>[]> {
  const result = await database.transaction((tx) => tx.exec(text));
  return result.rows;
}
