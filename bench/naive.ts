import pg from "pg";
import { parseUsageEvents, type UsageEvent } from "#contract";
import { getReliability } from "#query";
import type { Bench } from "./bench.ts";
import { median, timeSeconds } from "./measure.ts";
import type { BenchDatabase } from "./server.ts";
import { assertAllAccepted, ingestBodies, openService } from "./service.ts";
import { BODY_EVENTS, lastMinutes, orgName, Traffic, WORLD } from "./traffic.ts";

const NAME = "naive design";
const CONNECTIONS = 4;
const DAYS = 7;
const REPEATS = 10;
const DAY_MS = 86_400_000;

const TABLE = `
  create table usage_event_naive (
    org_id text not null,
    event_id text not null,
    occurred_at timestamptz not null,
    model_id text not null,
    client_id text,
    actor_id text,
    input_tokens int4 not null,
    cache_read_tokens int4 not null,
    output_tokens int4 not null,
    latency_ms int4,
    outcome int2 not null,
    cost_nano int8,
    metadata jsonb,
    primary key (org_id, event_id)
  );
  create index on usage_event_naive (org_id, occurred_at)`;

/**
 * What most would write first, on the same server and the same events: one indexed table, a statement per event, a
 * transaction per body, percentiles from the events themselves.
 */
export async function measureNaive(bench: Bench): Promise<void> {
  const speed = await measureNaiveInserts(bench);
  bench.report.add({
    bench: NAME,
    what: `insert … on conflict do nothing, row by row, ${CONNECTIONS} connections`,
    value: speed,
    unit: "events/s",
    ratio: { value: speed / bench.calibration, to: "calibration" },
  });
  await compareQueries(bench);
}

async function measureNaiveInserts({ server, size, clock, say }: Bench): Promise<number> {
  await using db = await server.createDatabase({ isMigrated: false });
  await db.database.transaction((tx) => tx.exec(TABLE));
  const bodies = new Traffic(700).bodies(size.naiveEvents, lastMinutes(clock.now()));
  const left = bodies.values();
  const seconds = await timeSeconds(() =>
    Promise.all(
      Array.from({ length: CONNECTIONS }, async () => {
        const client = new pg.Client({ connectionString: db.url });
        await client.connect();
        try {
          for (const body of left) await insertBody(client, body);
        } finally {
          await client.end();
        }
      }),
    ),
  );
  const speed = (bodies.length * BODY_EVENTS) / seconds;
  say(`${NAME}: ${Math.round(speed)} events/s`);
  return speed;
}

async function insertBody(client: pg.Client, body: Buffer): Promise<void> {
  const events = parseUsageEvents(body, "ndjson", { eventsMax: BODY_EVENTS }).flatMap(
    ({ event }) => event ?? [],
  );
  await client.query("begin");
  for (const event of events) await insertEvent(client, event);
  await client.query("commit");
}

const insertEvent = (client: pg.Client, event: UsageEvent): Promise<pg.QueryResult> =>
  client.query({
    name: "insert_event",
    text: `insert into usage_event_naive
           values ($1, $2, to_timestamp($3), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
           on conflict (org_id, event_id) do nothing`,
    values: [
      event.orgId,
      event.eventId,
      event.occurredAtUs / 1_000_000,
      event.modelId,
      event.clientId,
      event.actorId,
      event.inputTokens,
      event.cacheReadTokens,
      event.outputTokens,
      event.latencyMs,
      event.outcome,
      event.costNano,
      event.metadata,
    ],
  });

/** One org's week by hour and by model with percentiles, from the same events: from rollups, and from the events. */
async function compareQueries(bench: Bench): Promise<void> {
  const { server, size, clock, report, say } = bench;
  await using db = await server.createDatabase();
  const endMs = Math.floor(clock.now() / DAY_MS) * DAY_MS;
  const span = { fromMs: endMs - DAYS * DAY_MS + 60_000, toMs: endMs };
  await fillBoth(bench, db, span);
  const window = {
    start: new Date(endMs - DAYS * DAY_MS).toISOString(),
    end: new Date(endMs).toISOString(),
  };
  const naive = () => askNaively(db, window);
  const rollups = () =>
    getReliability(db.database, clock, {
      orgId: orgName(0),
      ...window,
      granularity: "hour",
      groupBy: "model",
      limit: 40,
    });
  const time = async (ask: () => Promise<unknown>): Promise<number> => {
    const ms: number[] = [];
    for (let run = -1; run < REPEATS; run++) {
      const seconds = await timeSeconds(ask);
      if (run >= 0) ms.push(seconds * 1000);
    }
    return median(ms);
  };
  const [naiveMs, rollupMs] = [await time(naive), await time(rollups)];
  say(`${NAME}: ${naiveMs.toFixed(1)} ms from events, ${rollupMs.toFixed(1)} ms from rollups`);
  const what = `${DAYS} days by hour and by model with percentiles, ${size.naiveQueryEvents / 1000} k events of one org`;
  report.add({
    bench: NAME,
    what: `${what}: percentile_cont over events`,
    value: naiveMs,
    unit: "ms",
  });
  report.add({
    bench: NAME,
    what: `${what}: Tallystick`,
    value: rollupMs,
    unit: "ms",
    ratio: { value: rollupMs / naiveMs, to: "the naive" },
  });
}

/** The events through Tallystick, and then copied over, which does not wait for a naive insert of each. */
async function fillBoth(
  { server, size }: Bench,
  db: BenchDatabase,
  span: { fromMs: number; toMs: number },
): Promise<void> {
  {
    await using service = await openService(server, db, { rollup: "same process" });
    const bodies = new Traffic(701, { ...WORLD, orgs: 1 }).bodies(size.naiveQueryEvents, span);
    assertAllAccepted(await ingestBodies(service.ingestor, bodies), bodies.length * BODY_EVENTS);
    await service.foldAll();
  }
  await db.database.transaction(async (tx) => {
    await tx.exec(TABLE);
    await tx.exec(`
      insert into usage_event_naive
      select o.external_id, e.event_key::text, e.occurred_at, m.value, c.value, a.value, e.input_tokens,
             e.cache_read_tokens, e.output_tokens, e.latency_ms, e.outcome, e.cost_nano, e.metadata::jsonb
        from usage_event e
        join org o on o.id = e.org_id
        join dictionary m on m.id = e.model_id
        join dictionary c on c.id = e.client_id
        join dictionary a on a.id = e.actor_id`);
  });
  await db.database.sql`vacuum analyze`;
}

async function askNaively(
  { database }: BenchDatabase,
  { start, end }: { start: string; end: string },
): Promise<void> {
  const measures = `
    count(*) as requests,
    count(*) filter (where outcome > 1) as errors,
    percentile_cont(array[0.5, 0.9, 0.95, 0.99]) within group (order by latency_ms) as percentiles`;
  const where = `where org_id = '${orgName(0)}' and occurred_at >= '${start}' and occurred_at < '${end}'`;
  await database.transaction(async (tx) => {
    await tx.exec(
      `select date_trunc('hour', occurred_at) as hour, ${measures} from usage_event_naive ${where} group by 1`,
    );
    await tx.exec(`select model_id, ${measures} from usage_event_naive ${where} group by 1`);
  });
}
