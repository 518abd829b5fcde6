import type { Consumer } from "#contract";
import type { Sql, Tx } from "./database.ts";
import { rawRowColumns } from "./folds.ts";
import { rawPartitionName } from "./partitions.ts";
import type { ReratingWork } from "./reratings.ts";

/** First key of the lock of whoever works off orders: one transaction of one process at a time. */
const WORK_LOCK_CLASS = 1_919_247_988;

/** An order whose days are to be worked off. Times are ISO texts with microseconds' room to spare. */
export type ReratingOrder = {
  id: number;
  state: "ordered" | ReratingWork;
  priceVersion: number;
  orgId: number;
  model: string | null;
  startsAt: Date;
  endsAt: Date;
};

/**
 * The order to be worked on at a time: the oldest with work left whose pause after a failure is over. One that changes
 * events waits for older ones that do, whatever keeps those; one that is only looked at waits for none. Reads small tables.
 */
export const findRerating = async (sql: Sql, at: Date): Promise<ReratingOrder | undefined> => {
  const [order] = await sql<ReratingOrder>`
    select r.id,
           r.state,
           r.price_version as "priceVersion",
           r.org_id as "orgId",
           r.model,
           r.starts_at as "startsAt",
           r.ends_at as "endsAt"
      from rerating r
     where r.state in ('ordered', 'previewing', 'applying', 'undoing')
       and not exists (
             select
               from rerating_failure f
              where f.rerating_id = r.id
                and f.failed_in = r.state
                and f.retry_at > ${at})
       and (r.state in ('ordered', 'previewing')
            or not exists (
             select
               from rerating older
              where older.id < r.id
                and older.state in ('applying', 'undoing')))
     order by r.id
     limit 1`;
  return order;
};

/** Whether this transaction is, until it ends, the only one that works off orders or shares hours of pools; else another is. */
export const tryRatingWorkLock = async (sql: Sql): Promise<boolean> => {
  const [row] = await sql<{ isAlone: boolean }>`
    select pg_try_advisory_xact_lock(${WORK_LOCK_CLASS}, 0) as "isAlone"`;
  return row?.isAlone === true;
};

/** Notes the UTC days of an order: those for which anything was counted. Repeatable. Index: rollup_org_day's primary key. */
export const insertReratingDays = (sql: Sql, order: ReratingOrder): Promise<never[]> => sql`
  insert into rerating_day (rerating_id, day)
  select distinct ${order.id}::int4, (bucket at time zone 'UTC')::date
    from rollup_org_day
   where org_id = ${order.orgId}
     and bucket > ${order.startsAt}::timestamptz - interval '1 day'
     and bucket < ${order.endsAt}
      on conflict (rerating_id, day) do nothing`;

/** Waits until nobody else works off orders or shares hours of pools, and lets nobody before the transaction ends. */
export const lockRatingWork = (sql: Sql): Promise<unknown> => sql<{ locked: unknown }>`
  select pg_advisory_xact_lock(${WORK_LOCK_CLASS}, 0) as locked`;

/** The next UTC day (YYYY-MM-DD) of an order that is not done in its state; undefined when all are. Primary key. */
export const findReratingDay = async (
  sql: Sql,
  { id, state }: Pick<ReratingOrder, "id" | "state">,
): Promise<string | undefined> => {
  const [row] = await sql<{ day: string }>`
    select day::text as day
      from rerating_day
     where rerating_id = ${id}
       and done_in is distinct from ${state}
     order by day
     limit 1`;
  return row?.day;
};

/** Notes that a day is done in the order's state. Primary key; repeatable. */
export const finishReratingDay = (
  sql: Sql,
  done: { id: number; day: string; state: ReratingWork; hasRaw: boolean },
): Promise<never[]> => sql`
  update rerating_day
     set done_in = ${done.state}, has_raw = ${done.hasRaw}
   where rerating_id = ${done.id}
     and day = ${done.day}::date`;

/** Whether there is a table of a UTC day's raw events. Catalog only. */
export const hasRawPartition = async (sql: Sql, day: string): Promise<boolean> => {
  const [row] = await sql<{ isThere: boolean }>`
    select to_regclass(${rawPartitionOf(day)}) is not null as "isThere"`;
  return row?.isThere === true;
};

/** The table of a UTC day's (YYYY-MM-DD) raw events, whether it is there or not. */
export const rawPartitionOf = (day: string): string =>
  rawPartitionName(Date.parse(`${day}T00:00:00Z`) / 86_400_000);

/** An org and a model that have used each other. */
export type RatedPair = { orgId: number; org: string; modelId: number; model: string };

/** Pairs whose events an order is about. Index: freshness's primary key. Reads only. */
export const listRatedPairs = (
  sql: Sql,
  { orgId, model }: Pick<ReratingOrder, "orgId" | "model">,
): Promise<RatedPair[]> => sql<RatedPair>`
  select f.org_id as "orgId", org.external_id as org, f.model_id as "modelId", word.value as model
    from freshness f
    join org on org.id = f.org_id
    join dictionary word on word.id = f.model_id
   where f.org_id > 0
     and (${orgId} = 0 or f.org_id = ${orgId})
     and (${model}::text is null or word.value = ${model})`;

/** From when until before when (µs; null: without end) a price holds for a pair. Price id null: none does. */
export type PairStretch = {
  orgId: number;
  modelId: number;
  fromUs: number | null;
  toUs: number | null;
  priceId: number | null;
};

/**
 * Makes the tables of a step, which go with its transaction: the prices that hold (`rerate_stretch`), and the rows to
 * change (`rerate_row`).
 */
export const createRerateTables = (tx: Tx): Promise<unknown> =>
  tx.exec(`
  create temp table rerate_stretch (
    org_id int4 not null, model_id int4 not null, from_at timestamptz not null, to_at timestamptz not null, price_id int4
  ) on commit drop;
  create temp table rerate_row (
    no int4 primary key, place tid not null, is_folded bool not null, org_id int4 not null, model_id int4 not null, requests int4 not null, input_tokens int4 not null, cache_read_tokens int4 not null,
    cache_write_5m_tokens int4 not null, cache_write_1h_tokens int4 not null, output_tokens int4 not null,
    reasoning_tokens int4 not null, latency_ms int4, outcome int2 not null, flags int2 not null,
    nano_before int8, currency_before int2, price_id int4, nano_after int8, currency_after int2
  ) on commit drop`);

/** The limits of a step's transaction, and plans for choosing rows among many, whatever the session plans else. */
export const planToChoose = (tx: Tx, msMax: number): Promise<unknown> =>
  tx.exec(`
  set local statement_timeout = ${Number(msMax)};
  set local idle_in_transaction_session_timeout = ${Number(msMax)};
  set local enable_hashjoin = on;
  set local enable_seqscan = on`);

/** Plans for rows that are looked up by where they are, as a fold's. */
export const planToMove = (tx: Tx): Promise<unknown> =>
  tx.exec("set local enable_hashjoin = off; set local enable_seqscan = off");

/** Says which price holds when, for the rows that are then chosen. */
export const insertStretches = (
  sql: Sql,
  stretches: readonly PairStretch[],
): Promise<never[]> => sql`
  insert into rerate_stretch
  select s.org_id, s.model_id,
         coalesce(timestamptz 'epoch' + s.from_us * interval '1 microsecond', '-infinity'),
         coalesce(timestamptz 'epoch' + s.to_us * interval '1 microsecond', 'infinity'),
         s.price_id
    from unnest(
           ${stretches.map((one) => one.orgId)}::int4[],
           ${stretches.map((one) => one.modelId)}::int4[],
           ${stretches.map((one) => one.fromUs)}::int8[],
           ${stretches.map((one) => one.toUs)}::int8[],
           ${stretches.map((one) => one.priceId)}::int4[])
         as s (org_id, model_id, from_us, to_us, price_id)`;

/** Folded by both consumers: what is not is left for later, for its rollup rows are not there to be changed. */
export const IS_FOLDED = ["usage", "people"]
  .map(
    (consumer) => `exists (
           select from watermark w
            where w.consumer = '${consumer}'
              and w.lane_id = (e.batch_id >> 36)::int4
              and w.batch_no >= e.batch_id & 68719476735)`,
  )
  .join(" and ");
const COLUMNS =
  "no, place, is_folded, org_id, model_id, requests, input_tokens, cache_read_tokens, cache_write_5m_tokens, " +
  "cache_write_1h_tokens, output_tokens, reasoning_tokens, latency_ms, outcome, flags, nano_before, currency_before, price_id";
/** Entries that are pools: their cost is shared by what has no other price (see `choosePoolRows`), and none of an order's. */
const POOLS = "array(select id from price where kind = 'pool')";
const ROW = `row_number() over (), e.ctid, ${IS_FOLDED}, e.org_id, e.model_id, e.requests, e.input_tokens,
         e.cache_read_tokens, e.cache_write_5m_tokens, e.cache_write_1h_tokens, e.output_tokens, e.reasoning_tokens,
         e.latency_ms, e.outcome, e.flags, e.rated_nano,
         case when e.price_id = any (${POOLS}) then null else e.rated_currency end`;
const instant = (at: Date): string => `timestamptz '${at.toISOString()}'`;

/** Where an order looks for rows: in some blocks of a UTC day's raw, half-open. */
export type RawBlocks = { day: string; order: ReratingOrder; fromBlock: number; toBlock: number };

/** How many blocks a UTC day's raw has. Catalog only. */
export const countRawBlocks = async (sql: Sql, day: string): Promise<number> => {
  const [row] = await sql<{ blocks: number }>`
    select pg_relation_size(${rawPartitionOf(day)}) / current_setting('block_size')::int8 as blocks`;
  return row?.blocks ?? 0;
};

const within = ({ order, fromBlock, toBlock }: RawBlocks): string => `
         e.ctid >= '(${Number(fromBlock)},0)'
     and e.ctid < '(${Number(toBlock)},0)'
     and e.occurred_at >= ${instant(order.startsAt)}
     and e.occurred_at < ${instant(order.endsAt)}`;

/**
 * Chooses the rows whose price is not the one that holds (`rerate_stretch`), in place of those chosen before. Rows that
 * share in a pool are chosen only where a price of their model holds. Reads these blocks.
 */
export const chooseRowsToRate = (tx: Tx, blocks: RawBlocks): Promise<number> =>
  choose(
    tx,
    `
    select ${ROW}, s.price_id
      from only ${rawPartitionOf(blocks.day)} e
      join rerate_stretch s
        on s.org_id = e.org_id
       and s.model_id = e.model_id
       and s.from_at <= e.occurred_at
       and s.to_at > e.occurred_at
     where ${within(blocks)}
       and e.price_id is distinct from s.price_id
       and not (s.price_id is null and e.price_id = any (${POOLS}))`,
  );

/** As `chooseRowsToRate`, the rows that the order has changed, with the price that they had. */
export const chooseRowsToUndo = (tx: Tx, blocks: RawBlocks): Promise<number> =>
  choose(
    tx,
    `
    select ${ROW}, e.former_price_id
      from only ${rawPartitionOf(blocks.day)} e
     where ${within(blocks)}
       and e.rerating_id = ${Number(blocks.order.id)}`,
  );

async function choose(tx: Tx, rows: string): Promise<number> {
  await tx.exec("truncate rerate_row");
  const { rowCount } = await tx.exec(`insert into rerate_row (${COLUMNS}) ${rows}`);
  return rowCount ?? 0;
}

/** Drops the chosen rows that are not folded yet, and returns how many: they are to be chosen again later. */
export const dropUnfoldedRows = async (tx: Tx): Promise<number> => {
  const { rowCount } = await tx.exec("delete from rerate_row where not is_folded");
  return rowCount ?? 0;
};

/** What of a chosen row its new rating depends on. */
export type RowToRate = {
  no: number;
  priceId: number | null;
  requests: number;
  inputTokens: number;
  cacheReadTokens: number;
  cacheWrite5mTokens: number;
  cacheWrite1hTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  latencyMs: number | null;
  outcome: number;
  flags: number;
};

/** The chosen rows. Reads only. */
export const listChosenRows = (sql: Sql): Promise<RowToRate[]> => sql<RowToRate>`
  select no,
         price_id as "priceId",
         requests,
         input_tokens as "inputTokens",
         cache_read_tokens as "cacheReadTokens",
         cache_write_5m_tokens as "cacheWrite5mTokens",
         cache_write_1h_tokens as "cacheWrite1hTokens",
         output_tokens as "outputTokens",
         reasoning_tokens as "reasoningTokens",
         latency_ms as "latencyMs",
         outcome,
         flags
    from rerate_row`;

/** Says what the chosen rows cost; null: they are unpriced. */
export const rateChosenRows = (
  sql: Sql,
  rated: { no: number[]; nano: (number | null)[]; currency: (number | null)[] },
): Promise<never[]> => sql`
  update rerate_row
     set nano_after = r.nano, currency_after = r.currency
    from unnest(${rated.no}::int4[], ${rated.nano}::int8[], ${rated.currency}::int2[]) as r (no, nano, currency)
   where rerate_row.no = r.no`;

/** Streams the chosen rows as they are in raw now, as `readRawRows` does. */
export const readChosenRaw = (
  tx: Tx,
  consumer: Consumer,
  day: string,
  chosen: "rerate_row" | "pool_share" = "rerate_row",
): AsyncIterable<Buffer> =>
  tx.copyOutChunks(`copy (
    select ${rawRowColumns(consumer)}
      from only ${rawPartitionOf(day)}
     where ctid = any (array(select place from ${chosen}))
    ) to stdout (format binary)`);

/**
 * Gives the chosen rows of a day their new rating and returns how many; the order is noted with it, or (undone) taken off.
 * Not repeatable: `readChosenRaw` finds them where they are then.
 */
export const writeRatings = async (
  tx: Tx,
  { day, order, isUndo }: Pick<RawBlocks, "day" | "order"> & { isUndo: boolean },
): Promise<number> => {
  const { rowCount } = await tx.exec(`
    with written as (
      update only ${rawPartitionOf(day)} e
         set rated_nano = r.nano_after,
             rated_currency = r.currency_after,
             price_id = r.price_id,
             former_price_id = ${isUndo ? "null" : "e.price_id"},
             rerating_id = ${isUndo ? "null" : Number(order.id)}
        from rerate_row r
       where e.ctid = r.place
      returning r.no, e.ctid as place
    )
    update rerate_row
       set place = written.place
      from written
     where rerate_row.no = written.no`);
  return rowCount ?? 0;
};

/**
 * Notes that the hours of the chosen rows are to be shared anew by the pools that have shared them: rows may leave a pool,
 * come back to it, or have no price now. Repeatable; reads no row where the day has no such hour.
 */
export const markPoolHours = (tx: Tx, day: string): Promise<unknown> => {
  const start = `timestamptz '${day}T00:00:00Z'`;
  const noted = `hour >= ${start} and hour < ${start} + interval '24 hours'`;
  return tx.exec(`
    update pool_hour
       set is_stale = true
     where ${noted}
       and hour in (
             select date_trunc('hour', e.occurred_at, 'UTC')
               from rerate_row r
               join only ${rawPartitionOf(day)} e on e.ctid = r.place
              where exists (select from pool_hour where ${noted}))`);
};

/**
 * Adds what becomes of the chosen rows to the order's lines: to what is foreseen, or to what is applied, or takes it off
 * that (undone). Rows whose rating has no currency before and after are in no line.
 */
export const addReratingLines = (
  tx: Tx,
  { day, order, as }: Pick<RawBlocks, "day" | "order"> & { as: ReratingWork },
): Promise<unknown> => {
  const columns = as === "previewing" ? PREVIEWED : APPLIED;
  // Undone, after and before have changed places, and both are taken off.
  const [before, after, sign] = as === "undoing" ? ["after", "before", -1] : ["before", "after", 1];
  return tx.exec(`
    insert into rerating_line as line (rerating_id, org_id, model_id, day, currency, ${columns.join(", ")})
    select ${Number(order.id)}, org_id, model_id, date '${day}', side.currency,
           ${sign} * sum(side.${before}_requests), ${sign} * sum(side.${after}_requests),
           ${sign} * sum(side.${before}_nano), ${sign} * sum(side.${after}_nano)
      from rerate_row
     cross join lateral (
             values (currency_before, requests, 0, nano_before, 0::int8),
                    (currency_after, 0, requests, 0::int8, nano_after))
           as side (currency, before_requests, after_requests, before_nano, after_nano)
     where side.currency is not null
     group by org_id, model_id, side.currency
     order by org_id, model_id, side.currency
        on conflict (rerating_id, day, org_id, model_id, currency) do update
       set ${columns.map((name) => `${name} = line.${name} + excluded.${name}`).join(", ")}`);
};

const PREVIEWED = ["priced_before", "priced_after", "nano_before", "nano_after"] as const;
const APPLIED = [
  "applied_before",
  "applied_after",
  "applied_nano_before",
  "applied_nano_after",
] as const;

/**
 * Ends every running fold's epoch and keeps new ones out until the transaction ends: rollup rows are changed under it,
 * and no sketch that a fold remembers is true afterwards. Locks both rows of fold_state.
 */
export const interruptFolds = (sql: Sql): Promise<never[]> => sql`
  update fold_state
     set epoch = epoch + 1, owner = null, lease_until = '-infinity'`;
