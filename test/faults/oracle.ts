import assert from "node:assert/strict";
import { DIMENSIONS, GRAINS, rollupTable, type Grain } from "#contract";
import { waitFor, type ServiceFace, type SpawnedService } from "#harness";
import { systemClock } from "#kernel";
import { verify } from "#rollup";
import { openDatabase, type Database } from "#store";
import { keyOf, type CountedEvent, type Traffic } from "./traffic.ts";

/** An owner's connection to the database under test, apart from the service's own. */
export const openOracle = (url: string): Promise<Database> =>
  openDatabase({
    url,
    ownerConnectionsMax: 2,
    apiConnectionsMax: 1,
    ownerStatementMsMax: 120_000,
    apiStatementMsMax: 10_000,
    connectMsMax: 10_000,
    onIdleError: () => undefined,
  });

/** Everything that must hold once the faults are over, the load has ended and the service has caught up. */
export async function assertAllCounted(
  url: string,
  traffic: Traffic,
  service: ServiceFace & Pick<SpawnedService, "stderr">,
): Promise<void> {
  await using database = await openOracle(url);
  await settle(database);
  assert.deepEqual(traffic.surprises.slice(0, 5), [], `${traffic.surprises.length} wrong answers`);
  await assertRawIs(database, traffic.counted);
  await assertQuarantineIs(database, traffic.refused);
  await assertBatchesAddUp(database);
  await assertRollupsAreSums(database);
  await assertVerified(database);
  await assertAnswersAreSums(database, service);
  await assertIndexesSound(database);
  assertNoSecrets(service.stderr(), service.adminKey);
  const ready = await service.request("/ready");
  assert.equal(ready.status, 200, await ready.text());
}

/** Resolves when every committed batch is folded, by both consumers. */
export async function settle(database: Database, msMax = 60_000): Promise<void> {
  const countLeft = async () => {
    const [row] = await database.sql<{ left: number }>`
      select count(*) as "left"
        from fold_state f
        cross join ingestion_batches b
        left join watermark w on w.consumer = f.consumer and w.lane_id = b.lane_id
       where b.batch_no > coalesce(w.batch_no, 0)`;
    return row?.left === 0;
  };
  await waitFor(countLeft, { msMax, what: "the rollups to catch up" });
}

/** Resolves after the leases of processes that were killed: what time would do, at once. */
export async function letLeasesEnd(database: Database): Promise<void> {
  await database.sql`update fold_state set lease_until = '-infinity'`;
  await database.sql`update lane set lease_until = '-infinity'`;
}

const listRaw = (database: Database): Promise<CountedEvent[]> => database.sql<CountedEvent>`
  select o.external_id as "orgId",
         coalesce(e.event_id, e.event_key::text) as "eventId",
         m.value as "modelId",
         c.value as "clientId",
         a.value as "actorId",
         to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "occurredAt",
         e.outcome,
         e.requests,
         array[e.input_tokens, e.cache_read_tokens, e.output_tokens, e.reasoning_tokens] as tokens,
         e.latency_ms as "latencyMs",
         e.cost_nano as "costNano"
    from usage_event e
    join org o on o.id = e.org_id
    join dictionary m on m.id = e.model_id
    left join dictionary c on c.id = e.client_id
    left join dictionary a on a.id = e.actor_id`;

/** Raw holds the events counted, each once and as first sent, and no other. */
export async function assertRawIs(
  database: Database,
  counted: ReadonlyMap<string, CountedEvent>,
): Promise<void> {
  const missing = new Map(counted);
  const wrong: unknown[] = [];
  for (const row of await listRaw(database)) {
    const key = keyOf(row);
    const wanted = missing.get(key);
    missing.delete(key);
    if (wanted === undefined) {
      wrong.push({ tooMany: row });
      continue;
    }
    try {
      assert.deepEqual({ ...row }, wanted);
    } catch {
      wrong.push({ stored: row, sent: wanted });
    }
  }
  assert.deepEqual(
    { wrong: wrong.slice(0, 3), missing: [...missing.values()].slice(0, 3) },
    { wrong: [], missing: [] },
    `raw differs from what was sent: ${wrong.length} wrong or too many, ${missing.size} of ${counted.size} missing`,
  );
}

/** Quarantine holds what was refused, byte for byte with its code, as often as it was answered so, and nothing else. */
export async function assertQuarantineIs(
  database: Database,
  refused: Traffic["refused"],
): Promise<void> {
  const rows = await database.sql<{ line: string; code: string; times: number }>`
    select convert_from(bytes, 'UTF8') as line, code, count(*) as times
      from quarantine
     group by bytes, code`;
  const missing = new Map(refused);
  const wrong = rows.filter(({ line, code, times }) => {
    const wanted = missing.get(line);
    missing.delete(line);
    // An attempt without an answer may have been stored as well.
    return wanted?.code !== code || times < wanted.answers || times > wanted.sends;
  });
  assert.deepEqual(
    { wrong: wrong.slice(0, 3), missing: [...missing].slice(0, 3) },
    { wrong: [], missing: [] },
    `quarantine differs: ${wrong.length} wrong, ${missing.size} missing`,
  );
}

/** Received = accepted + duplicate + conflict + rejected: in batches, in the ledger, and against raw and quarantine. */
export async function assertBatchesAddUp(database: Database): Promise<void> {
  const [sums] = await database.sql<Record<string, string>>`
    select (select array[sum(received), sum(accepted), sum(duplicate), sum(conflict), sum(rejected)]::text
              from ingestion_batches) as batches,
           (select array[sum(received), sum(accepted), sum(duplicate), sum(conflict), sum(rejected)]::text
              from ledger) as ledger,
           (select array[sum(accepted), sum(conflict) + sum(rejected)]::text from ingestion_batches) as outcomes,
           (select array[(select count(*) from usage_event), (select count(*) from quarantine)]::text) as stored`;
  assert.ok(sums);
  assert.equal(sums["ledger"], sums["batches"], "the ledger differs from the batches");
  assert.equal(sums["outcomes"], sums["stored"], "batches differ from raw and quarantine");
  const [received, ...parts] = (sums["batches"] ?? "").slice(1, -1).split(",").map(Number);
  assert.equal(
    received,
    parts.reduce((sum, part) => sum + part, 0),
  );
}

const WIDTHS = { "15m": "15 minutes", hour: "1 hour", day: "1 day" } as const satisfies Record<
  Grain,
  string
>;
const MEMBERS = {
  org: "0",
  model: "model_id",
  client: "client_id",
  actor: "actor_id",
  tag: "tag_id",
} as const;

/** Every rollup of every grain equals a plain aggregation of raw, both ways; and all orgs together equal their sum. */
export async function assertRollupsAreSums(database: Database): Promise<void> {
  await database.transaction(async (tx) => {
    for (const dimension of DIMENSIONS) {
      for (const grain of GRAINS) {
        const name = rollupTable(dimension, grain);
        const raw = `
          select org_id, ${MEMBERS[dimension]} as member_id,
                 date_bin('${WIDTHS[grain]}', occurred_at, timestamptz 'epoch') as bucket, outcome, currency,
                 sum(requests)::int8 as requests, sum(input_tokens)::int8, sum(cache_read_tokens)::int8,
                 sum(output_tokens)::int8, sum(reasoning_tokens)::int8, coalesce(sum(cost_nano), 0),
                 count(latency_ms)::int8, coalesce(sum(latency_ms), 0)::int8
            from usage_event ${dimension === "tag" ? "cross join unnest(tag_ids) as t (tag_id)" : ""}
           group by 1, 2, 3, 4, 5`;
        const rolled = `
          select org_id, member_id, bucket, outcome, currency, requests, input_tokens, cache_read_tokens,
                 output_tokens, reasoning_tokens, cost_nano, latency_count, latency_sum_ms
            from ${name}
           where org_id > 0`;
        const { rows } = await tx.exec(
          `((${raw}) except (${rolled})) union all ((${rolled}) except (${raw})) limit 3`,
        );
        assert.deepEqual(rows, [], `${name} differs from raw`);
        if (dimension !== "org" && dimension !== "model") continue;
        const of = (where: string) =>
          `select bucket, outcome, currency, sum(requests), sum(input_tokens), sum(cost_nano), sum(latency_sum_ms) from ${name} where ${where} group by 1, 2, 3`;
        const system = await tx.exec(`(${of("org_id = 0")}) except (${of("org_id > 0")})`);
        const parts = await tx.exec(`(${of("org_id > 0")}) except (${of("org_id = 0")})`);
        assert.deepEqual([...system.rows, ...parts.rows], [], `all orgs of ${name} differ`);
      }
    }
  });
}

/** Tallystick's own verification, latency bins, keys and digests included, finds nothing. */
export async function assertVerified(database: Database): Promise<void> {
  const report = await verify({ database, clock: systemClock });
  assert.deepEqual(report.differences.slice(0, 5), [], "verify found differences");
  assert.ok(report.isMatch);
}

type Totals = { requests: number; errors: number; totalTokens: number; cost: { amount: string } };

/** What the API answers for all of the time there is equals SQL over raw, in any zone. */
export async function assertAnswersAreSums(database: Database, face: ServiceFace): Promise<void> {
  const orgs = await database.sql<{ org: string } & Record<string, string>>`
    select o.external_id as org,
           sum(e.requests)::text as requests,
           (coalesce(sum(e.requests) filter (where e.outcome >= 2), 0))::text as errors,
           sum(e.input_tokens::int8 + e.cache_read_tokens + e.cache_write_5m_tokens + e.cache_write_1h_tokens
               + e.output_tokens + e.reasoning_tokens)::text as tokens,
           coalesce(sum(e.cost_nano), 0)::text as nano,
           to_char(date_bin('1 day', min(e.occurred_at), 'epoch') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as "from",
           to_char(date_bin('1 day', max(e.occurred_at), 'epoch') at time zone 'UTC' + interval '1 day', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as "to"
      from usage_event e
      join org o on o.id = e.org_id
     group by o.external_id`;
  const tally = { requests: 0, nano: 0n };
  for (const { org, from, to, ...sums } of orgs) {
    for (const timeZone of ["UTC", "Asia/Kathmandu", "America/St_Johns"]) {
      const query = new URLSearchParams({ start: from ?? "", end: to ?? "", timeZone });
      const path = `/analytics/v1/orgs/${encodeURIComponent(org)}/usage?${query}&granularity=day`;
      const { totals, series } = (await face.get(path)) as { totals: Totals; series: Totals[] };
      const found = {
        requests: String(totals.requests),
        errors: String(totals.errors),
        tokens: String(totals.totalTokens),
        nano: String(nanoOf(totals.cost.amount)),
      };
      assert.deepEqual(found, { ...sums }, `${org} in ${timeZone}`);
      assert.equal(
        series.reduce((sum, bucket) => sum + bucket.requests, 0),
        totals.requests,
        `days of ${org} in ${timeZone}`,
      );
    }
    tally.requests += Number(sums["requests"]);
    tally.nano += BigInt(sums["nano"] ?? 0);
  }
  const from = orgs.map((org) => org.from ?? "").toSorted()[0] ?? "";
  const to =
    orgs
      .map((org) => org.to ?? "")
      .toSorted()
      .at(-1) ?? "";
  const query = new URLSearchParams({ start: from, end: to });
  const system = (await face.get(`/analytics/v1/system/usage?${query}&granularity=day`)) as {
    totals: Totals;
  };
  assert.equal(system.totals.requests, tally.requests, "all orgs together");
  assert.equal(nanoOf(system.totals.cost.amount), tally.nano, "cost of all orgs together");
}

/** Billionths of a decimal amount. */
function nanoOf(amount: string): bigint {
  const [, sign = "", whole = "0", part = ""] = /^(-?)(\d+)(?:\.(\d{1,9}))?$/.exec(amount) ?? [];
  return BigInt(`${sign}${whole}${part.padEnd(9, "0")}`);
}

/** Every index agrees with its table, and no heap page is damaged, where the server has amcheck to say so. */
export async function assertIndexesSound(database: Database): Promise<void> {
  const [amcheck] = await database.sql`
    select 1 from pg_available_extensions where name = 'amcheck'`;
  if (!amcheck) return;
  await database.transaction(async (tx) => {
    await tx.exec("create extension if not exists amcheck");
    await tx.exec(`
      select bt_index_check(c.oid, true)
        from pg_class c join pg_am a on a.oid = c.relam
       where a.amname = 'btree' and c.relkind = 'i' and c.relpersistence = 'p'
         and c.relnamespace = 'public'::regnamespace`);
    const { rows } = await tx.exec(`
      select c.relname, v.*
        from pg_class c cross join lateral verify_heapam(c.oid) v
       where c.relkind = 'r' and c.relpersistence = 'p' and c.relnamespace = 'public'::regnamespace`);
    assert.deepEqual(rows, [], "damaged heap pages");
  });
}

/** Nothing that opens a door is in the log. */
export function assertNoSecrets(log: string, adminKey: string): void {
  assert.ok(adminKey.length >= 20);
  assert.ok(!log.includes(adminKey), "the admin key is in the log");
  assert.ok(!/postgres(ql)?:\/\/[^\s"]*:[^\s"@[]+@/.test(log), "a database password is in the log");
}
