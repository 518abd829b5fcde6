import { CHARGED_OUTCOMES, OUTCOMES } from "#contract";
import type { Sql, Tx } from "./database.ts";
import type { StoredPrice } from "./prices.ts";
import { IS_FOLDED, rawPartitionOf } from "./rerate-rows.ts";
import { selectRows } from "./rows.ts";

/** Until when all is folded by both consumers, ms since the Unix epoch; null before the first fold. One row each. */
export const getFoldedThrough = async (sql: Sql): Promise<number | null> => {
  const [row] = await sql<{ ms: number | null }>`
    select case when isfinite(min(complete_through))
                then floor(extract(epoch from min(complete_through)) * 1000)::int8
            end as ms
      from fold_state`;
  return row?.ms ?? null;
};

/** Pools that are no longer in the book and have shared hours from `fromMs` on. Index: pool_hour's primary key. Reads only. */
export const listRetiredPools = (
  sql: Sql,
  fromMs: number,
): Promise<StoredPrice[]> => sql<StoredPrice>`
  select price.id,
         price.version,
         price.layer,
         price.kind,
         price.subject,
         org.external_id as "orgId",
         price.valid_from as "from",
         price.valid_to as "to",
         price.terms,
         price.source
    from price
    left join org
      on org.id = price.org_id
     and price.org_id > 0
   where price.retired_version is not null
     and price.kind = 'pool'
     and price.id in (select price_id from pool_hour where hour >= to_timestamp(${fromMs}::int8 / 1000))
   order by price.id`;

/** What is noted of a pool's hour. */
export type PoolHourNote = {
  priceId: number;
  hourMs: number;
  requestsSeen: number;
  isStale: boolean;
};

/** Notes of hours from `fromMs` on; of one price and hour when it is named. Primary key. Reads only. */
export const listPoolHourNotes = (
  sql: Sql,
  { fromMs, untilMs, priceId }: { fromMs: number; untilMs: number; priceId: number | null },
): Promise<PoolHourNote[]> => sql<PoolHourNote>`
  select price_id as "priceId",
         (extract(epoch from hour) * 1000)::int8 as "hourMs",
         requests_seen as "requestsSeen",
         is_stale as "isStale"
    from pool_hour
   where hour >= to_timestamp(${fromMs}::int8 / 1000)
     and hour < to_timestamp(${untilMs}::int8 / 1000)
     and (${priceId}::int4 is null or price_id = ${priceId})`;

/** Requests that are folded, by org (external id; null: all orgs together) and UTC hour. Index: rollup_org_hour's primary key. Reads only. */
export const listHourRequests = (
  sql: Sql,
  { orgIds, fromMs, untilMs }: { orgIds: readonly string[]; fromMs: number; untilMs: number },
): Promise<{ orgId: string | null; hourMs: number; requests: number }[]> => sql<{
  orgId: string | null;
  hourMs: number;
  requests: number;
}>`
  select case when org.id > 0 then org.external_id end as "orgId",
         (extract(epoch from r.bucket) * 1000)::int8 as "hourMs",
         sum(r.requests)::int8 as requests
    from org
    join rollup_org_hour r on r.org_id = org.id
   where (org.id = 0 or org.external_id = any(${orgIds}::text[]))
     and r.bucket >= to_timestamp(${fromMs}::int8 / 1000)
     and r.bucket < to_timestamp(${untilMs}::int8 / 1000)
   group by org.id, r.bucket`;

/** The limits of a step's transaction. Rows are found by when they occurred, in a day's raw that may be large. */
export const planToShare = (tx: Tx, msMax: number): Promise<unknown> =>
  tx.exec(`
  set local statement_timeout = ${Number(msMax)};
  set local idle_in_transaction_session_timeout = ${Number(msMax)};
  set local enable_hashjoin = on`);

/**
 * Makes the tables of a step, which go with its transaction: all rows that share the hour (`pool_row`), and of these the
 * ones whose share is another now (`pool_share`). The pairs are in `rerate_stretch`.
 */
export const createPoolTables = (tx: Tx): Promise<unknown> =>
  tx.exec(`
  create temp table pool_row (
    place tid not null, is_folded bool not null, event_key uuid not null, org_id int4 not null, tokens int8 not null,
    price_before int4, nano_before int8, currency_before int2
  ) on commit drop;
  create temp table pool_share (
    no int4 primary key, place tid not null, price_id int4 not null, nano int8 not null, currency int2 not null
  ) on commit drop`);

/** A pool's entry, and the part of one UTC hour in which it holds; half-open, ms since the Unix epoch. */
export type PoolPart = { priceId: number; day: string; fromMs: number; toMs: number };

const CHARGED = CHARGED_OUTCOMES.map((name) => OUTCOMES.indexOf(name)).join(", ");
const TOKENS =
  "e.input_tokens::int8 + e.cache_read_tokens + e.cache_write_5m_tokens + e.cache_write_1h_tokens + e.output_tokens + e.reasoning_tokens";
const USAGE_ABSENT = 2;

/**
 * Chooses the rows that share the hour: those that have a share already, and those of the pairs that have no price. Calls
 * that are not charged share nothing, which is a price; those whose usage nobody counted are left out. Returns how many
 * were left for later, not being folded yet. Index: usage_event_time of the day.
 */
export async function choosePoolRows(tx: Tx, part: PoolPart): Promise<{ waiting: number }> {
  const row = `e.ctid, ${IS_FOLDED}, e.event_key, e.org_id, case when e.outcome in (${CHARGED}) then ${TOKENS} else 0 end,
           e.price_id, e.rated_nano, e.rated_currency`;
  const inPart = `e.occurred_at >= ${instant(part.fromMs)} and e.occurred_at < ${instant(part.toMs)}`;
  await tx.exec(`
    insert into pool_row (place, is_folded, event_key, org_id, tokens, price_before, nano_before, currency_before)
    select ${row}
      from only ${rawPartitionOf(part.day)} e
     where ${inPart}
       and e.price_id = ${Number(part.priceId)}
     union all
    select ${row}
      from only ${rawPartitionOf(part.day)} e
      join rerate_stretch s
        on s.org_id = e.org_id
       and s.model_id = e.model_id
       and s.from_at <= e.occurred_at
       and s.to_at > e.occurred_at
     where ${inPart}
       and e.price_id is null
       and (e.outcome not in (${CHARGED}) or (e.flags >> 2) & 3 <> ${USAGE_ABSENT})`);
  const { rowCount } = await tx.exec("delete from pool_row where not is_folded");
  return { waiting: rowCount ?? 0 };
}

const instant = (ms: number): string => `timestamptz '${new Date(ms).toISOString()}'`;

/** How many rows share, and how many tokens they count. Reads only. */
export async function sumPoolRows(tx: Tx): Promise<{ events: number; tokens: number }> {
  const [sums] = await selectRows<{ events: number; tokens: number }>(
    tx,
    "select count(*)::int8 as events, coalesce(sum(tokens), 0)::int8 as tokens from pool_row",
  );
  if (sums === undefined) throw new Error("a sum has one row");
  return sums;
}

/** What is shared: below 2^53 billionths, so that any row can hold it. */
export type PoolCost = { priceId: number; nano: bigint; tokens: number; currency: number };

/**
 * Says which rows get another share than they have, at most `limit` of them, and returns how many. Each row's share is
 * what the tokens up to it cost, less what those before it do, in the order of event keys: so shares add up to the cost
 * exactly, and when a row came makes no difference. Shares that become less come first: rows never have more together than
 * the cost, wherever a limit cuts.
 */
export async function sharePoolCost(
  tx: Tx,
  { priceId, nano, tokens, currency }: PoolCost,
  limit: number,
): Promise<number> {
  const upTo = (count: string): string =>
    tokens === 0 ? "0" : `div(${String(nano)}::numeric * (${count}), ${String(tokens)})`;
  const { rowCount } = await tx.exec(`
    insert into pool_share (no, place, price_id, nano, currency)
    select row_number() over (), place, ${Number(priceId)}, nano, ${Number(currency)}
      from (
           select place, price_before, nano_before, currency_before,
                  (${upTo("so_far")} - ${upTo("so_far - tokens")})::int8 as nano
             from (
                  select *, sum(tokens) over (order by event_key, org_id rows unbounded preceding) as so_far
                    from pool_row) counted) shared
     where (price_before, nano_before, currency_before) is distinct from (${Number(priceId)}, nano, ${Number(currency)}::int2)
     order by nano - coalesce(nano_before, 0)
     limit ${Number(limit)}`);
  return rowCount ?? 0;
}

/** What the chosen rows have together once their new shares are written, in billionths, as text. Reads only. */
export async function sumPoolShares(tx: Tx): Promise<string> {
  const [sum] = await selectRows<{ nano: string }>(
    tx,
    `
    select coalesce(sum(coalesce(s.nano, r.nano_before)), 0)::text as nano
      from pool_row r
      left join pool_share s on s.place = r.place`,
  );
  return sum?.nano ?? "0";
}

/** Gives rows of a day their new share and returns how many. Not repeatable: `readChosenRaw` finds them where they are then. */
export const writePoolShares = async (tx: Tx, day: string): Promise<number> => {
  const { rowCount } = await tx.exec(`
    with written as (
      update only ${rawPartitionOf(day)} e
         set rated_nano = s.nano, rated_currency = s.currency, price_id = s.price_id
        from pool_share s
       where e.ctid = s.place
      returning s.no, e.ctid as place
    )
    update pool_share
       set place = written.place
      from written
     where pool_share.no = written.no`);
  return rowCount ?? 0;
};

/** An hour as it was shared. */
export type SharedPoolHour = PoolHourNote & {
  currency: number;
  costNano: bigint;
  sharedNano: string;
  tokens: number;
  events: number;
  ratedAt: Date;
};

/** Notes what became of an hour, in place of what was noted before. Primary key; repeatable. */
export const notePoolHour = (sql: Sql, hour: SharedPoolHour): Promise<never[]> => sql`
  insert into pool_hour
         (hour, price_id, currency, cost_nano, shared_nano, tokens, events, requests_seen, is_stale, rated_at)
  values (to_timestamp(${hour.hourMs}::int8 / 1000), ${hour.priceId}, ${hour.currency}, ${String(hour.costNano)}::numeric,
          ${hour.sharedNano}::numeric, ${hour.tokens}, ${hour.events}, ${hour.requestsSeen}, ${hour.isStale}, ${hour.ratedAt})
      on conflict (hour, price_id) do update
     set shared_nano = excluded.shared_nano,
         tokens = excluded.tokens,
         events = excluded.events,
         requests_seen = excluded.requests_seen,
         is_stale = excluded.is_stale,
         rated_at = excluded.rated_at`;

/** What a pool came to in an hour. Amounts are integers as text, in billionths of `currency` (packed). */
export type PoolHour = {
  hour: Date;
  pool: string;
  /** External id of the org whose alone the pool is; null: it is for all. */
  orgId: string | null;
  currency: number;
  costNano: string;
  sharedNano: string;
  tokens: number;
  events: number;
  isStale: boolean;
  ratedAt: Date;
};

/** Hours that begin in [start, end), after the first `offset`. Primary key, then a sort. Reads only. */
export const listPoolHours = (
  sql: Sql,
  { start, end, offset, limit }: { start: Date; end: Date; offset: number; limit: number },
): Promise<PoolHour[]> => sql<PoolHour>`
  select p.hour,
         price.subject as pool,
         org.external_id as "orgId",
         p.currency,
         p.cost_nano::text as "costNano",
         p.shared_nano::text as "sharedNano",
         p.tokens,
         p.events,
         p.is_stale as "isStale",
         p.rated_at as "ratedAt"
    from pool_hour p
    join price on price.id = p.price_id
    left join org
      on org.id = price.org_id
     and price.org_id > 0
   where p.hour >= ${start}
     and p.hour < ${end}
   order by p.hour, price.subject, p.price_id
  offset ${offset}
   limit ${limit}`;
