import type { Sql } from "./database.ts";

/** Where an order to rate again stands: what is under way ends in -ing, and what it came to in -ed. None comes back to one. */
export const RERATING_STATES = [
  "ordered",
  "previewing",
  "previewed",
  "applying",
  "applied",
  "undoing",
  "undone",
  "cancelled",
] as const;
export type ReratingState = (typeof RERATING_STATES)[number];
/** States in which days are worked off one after another. */
export type ReratingWork = "previewing" | "applying" | "undoing";

/** An order to rate again what occurred in [startsAt, endsAt) by a version of the price book. */
export type ReratingRow = {
  id: number;
  state: ReratingState;
  priceVersion: number;
  /** External id; null: all orgs. */
  orgId: string | null;
  /** Null: all models. */
  model: string | null;
  startsAt: Date;
  endsAt: Date;
  reason: string;
  createdAt: Date;
  createdBy: string;
  createdByName: string;
  /** When it came to the state it is in; null while work is under way. */
  finishedAt: Date | null;
  days: number;
  /** Of these, done in the state it is in. */
  daysDone: number;
  /** Days whose raw events were gone: nothing of them is rated again. */
  daysWithoutRaw: number;
  /** The oldest of those that have to be applied or undone before it; null: none. */
  waitsFor: number | null;
  /** Null: its work does not fail. */
  failure: ReratingFailure | null;
};

/** How the work of an order fails, in the state that it is in. Times are ISO texts. */
export type ReratingFailure = {
  /** UTC (YYYY-MM-DD); null: no day alone. */
  day: string | null;
  /** In a row, the first at `since`. */
  times: number;
  since: string;
  failedAt: string;
  /** Not tried again before. */
  retryAt: string;
  /** Without data of events or orgs, on one line. */
  error: string;
};

export type NewRerating = {
  priceVersion: number;
  /** 0: all orgs. */
  orgId: number;
  model: string | null;
  startsAt: Date;
  endsAt: Date;
  reason: string;
  createdAt: Date;
  createdBy: string;
  createdByName: string;
};

/** Orders a re-rating. Not safe to repeat. One row. */
export const insertRerating = (sql: Sql, order: NewRerating): Promise<{ id: number }[]> => sql<{
  id: number;
}>`
  insert into rerating (price_version, org_id, model, starts_at, ends_at, reason, created_at, created_by, created_by_name)
  values (${order.priceVersion}, ${order.orgId}, ${order.model}, ${order.startsAt}, ${order.endsAt}, ${order.reason},
          ${order.createdAt}, ${order.createdBy}, ${order.createdByName})
  returning id`;

/** Orders, the newest first, from before the id `before` (null: the newest) on; or (`id`) one. Primary key; reads only. */
export const listReratings = (
  sql: Sql,
  { id, before, limit }: { id: number | null; before: number | null; limit: number },
): Promise<ReratingRow[]> => sql<ReratingRow>`
  select r.id,
         r.state,
         r.price_version as "priceVersion",
         org.external_id as "orgId",
         r.model,
         r.starts_at as "startsAt",
         r.ends_at as "endsAt",
         r.reason,
         r.created_at as "createdAt",
         r.created_by as "createdBy",
         r.created_by_name as "createdByName",
         r.finished_at as "finishedAt",
         d.days,
         d.done as "daysDone",
         d.without_raw as "daysWithoutRaw",
         case when r.state in ('applying', 'undoing') then (
           select min(older.id)
             from rerating older
            where older.id < r.id
              and older.state in ('applying', 'undoing'))
         end as "waitsFor",
         case when f.rerating_id is not null then json_build_object(
           'day', f.day,
           'times', f.failures,
           'since', f.since,
           'failedAt', f.failed_at,
           'retryAt', f.retry_at,
           'error', f.error)
         end as failure
    from rerating r
    left join rerating_failure f
      on f.rerating_id = r.id
     and f.failed_in = r.state
    left join org
      on org.id = r.org_id
     and r.org_id > 0
   cross join lateral (
           select count(*) as days,
                  count(*) filter (where done_in = case r.state
                                                     when 'previewed' then 'previewing'
                                                     when 'applied' then 'applying'
                                                     when 'undone' then 'undoing'
                                                     when 'cancelled' then 'previewing'
                                                     else r.state
                                                   end) as done,
                  count(*) filter (where not has_raw) as without_raw
             from rerating_day
            where rerating_id = r.id) d
   where (${id}::int4 is null or r.id = ${id})
     and (${before}::int4 is null or r.id < ${before})
   order by r.id desc
   limit ${limit}`;

/** Waits for whoever moves an order, and keeps others from it until the transaction ends. Locks the row. Repeatable. */
export const lockRerating = (sql: Sql, id: number): Promise<{ id: number }[]> => sql<{
  id: number;
}>`
  select id
    from rerating
   where id = ${id}
     for no key update`;

/** Moves an order from one of some states to another; none when it is in no such state. Locks the row. One row. */
export const setReratingState = (
  sql: Sql,
  change: {
    id: number;
    from: readonly ReratingState[];
    to: ReratingState;
    /** Null: work begins. */
    finishedAt: Date | null;
  },
): Promise<{ id: number }[]> => sql<{ id: number }>`
  update rerating
     set state = ${change.to}, finished_at = ${change.finishedAt}
   where id = ${change.id}
     and state = any(${change.from}::text[])
  returning id`;

/** Orders after this one that change events or have done so: an event knows one former price only. Primary key; reads only. */
export const listLaterReratings = (sql: Sql, id: number): Promise<{ id: number }[]> => sql<{
  id: number;
}>`
  select id
    from rerating
   where id > ${id}
     and state in ('applying', 'applied', 'undoing', 'undone')
   order by id
   limit 1`;

const PAUSE_SECONDS = 2;
const PAUSE_SECONDS_MAX = 300;

/** A step of an order that failed, and in which state that was. */
export type NewReratingFailure = {
  id: number;
  state: ReratingState;
  day: string | null;
  at: Date;
  error: string;
};

/**
 * Notes that a step of an order failed, and returns how often in a row by now. It pauses for two seconds, and each time for
 * twice as long as before, up to five minutes. Locks the row; not repeatable: it counts.
 */
export const noteReratingFailure = async (
  sql: Sql,
  { id, state, day, at, error }: NewReratingFailure,
): Promise<number> => {
  const [noted] = await sql<{ failures: number }>`
    insert into rerating_failure as f (rerating_id, failed_in, day, failures, since, failed_at, retry_at, error)
    values (${id}, ${state}, ${day}, 1, ${at}, ${at}, ${at}::timestamptz + ${PAUSE_SECONDS} * interval '1 second', ${error})
        on conflict (rerating_id, failed_in) do update
       set day = excluded.day,
           failures = f.failures + 1,
           failed_at = excluded.failed_at,
           retry_at = excluded.failed_at
                      + least(${PAUSE_SECONDS_MAX}, ${PAUSE_SECONDS} * 2 ^ least(f.failures, 20)) * interval '1 second',
           error = excluded.error
    returning failures`;
  return noted?.failures ?? 1;
};

/** Deletes what is noted of an order's failures; returns it. Primary key; repeatable. */
export const deleteReratingFailures = (
  sql: Sql,
  id: number,
): Promise<{ failures: number }[]> => sql<{ failures: number }>`
  delete from rerating_failure
   where rerating_id = ${id}
  returning failures`;

/** Whether an order is in a state. Primary key; reads only. */
export const isReratingIn = async (
  sql: Sql,
  { id, state }: { id: number; state: ReratingState },
): Promise<boolean> => {
  const [row] = await sql<{ id: number }>`
    select id
      from rerating
     where id = ${id}
       and state = ${state}`;
  return row !== undefined;
};

/** Costs and requests that have one, before and after; `nano…` are integers as text, in billionths of the currency. */
type Sums = {
  pricedBefore: number;
  pricedAfter: number;
  nanoBefore: string;
  nanoAfter: string;
  appliedBefore: number;
  appliedAfter: number;
  appliedNanoBefore: string;
  appliedNanoAfter: string;
};

/** What an order changes in one currency (packed), as previewed and as applied. */
export type ReratingTotals = Sums & { currency: number };

/** Totals of an order by currency. Primary key; reads only. */
export const sumReratingLines = (
  sql: Sql,
  id: number,
): Promise<ReratingTotals[]> => sql<ReratingTotals>`
  select currency,
         sum(priced_before)::int8 as "pricedBefore",
         sum(priced_after)::int8 as "pricedAfter",
         sum(nano_before)::text as "nanoBefore",
         sum(nano_after)::text as "nanoAfter",
         sum(applied_before)::int8 as "appliedBefore",
         sum(applied_after)::int8 as "appliedAfter",
         sum(applied_nano_before)::text as "appliedNanoBefore",
         sum(applied_nano_after)::text as "appliedNanoAfter"
    from rerating_line
   where rerating_id = ${id}
   group by currency
   order by currency`;

/** What an order changes of an org's model (null: one beyond those that the org may name) on a UTC day (YYYY-MM-DD). */
export type ReratingLine = Sums & {
  day: string;
  orgId: string;
  model: string | null;
  currency: number;
};

/** By day, org and model; or by what is previewed to change, the most first. */
export type ReratingLineOrder = "day" | "difference";

/** Lines of an order after the first `offset`. Primary key, then a sort; reads only. */
export const listReratingLines = (
  sql: Sql,
  {
    id,
    orderBy,
    offset,
    limit,
  }: { id: number; orderBy: ReratingLineOrder; offset: number; limit: number },
): Promise<ReratingLine[]> => sql<ReratingLine>`
  select line.day::text as day,
         org.external_id as "orgId",
         word.value as model,
         line.currency,
         line.priced_before as "pricedBefore",
         line.priced_after as "pricedAfter",
         line.nano_before::text as "nanoBefore",
         line.nano_after::text as "nanoAfter",
         line.applied_before as "appliedBefore",
         line.applied_after as "appliedAfter",
         line.applied_nano_before::text as "appliedNanoBefore",
         line.applied_nano_after::text as "appliedNanoAfter"
    from rerating_line line
    join org on org.id = line.org_id
    left join dictionary word on word.id = line.model_id
   where line.rerating_id = ${id}
   order by case when ${orderBy} = 'difference' then -abs(line.nano_after - line.nano_before) end,
            line.day, line.org_id, line.model_id, line.currency
  offset ${offset}
   limit ${limit}`;
