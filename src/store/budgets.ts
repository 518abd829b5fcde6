import type { Sql } from "./database.ts";

/** A budget as it stands in one month. */
export type BudgetRow = {
  budgetId: string;
  name: string | null;
  /** Null: all of the org's spend. */
  model: string | null;
  /** An integer as text: billionths of the currency's unit. */
  amountNano: string;
  /** Per cent, ascending. */
  thresholds: number[];
  createdAt: Date;
  updatedAt: Date;
};

/**
 * An org's budgets as they stand in a month ("2026-11"), by id; one that was made in a later month is none yet. Of one id
 * or (null) of all. Index: primary keys. Reads only.
 */
export const listBudgets = (
  sql: Sql,
  { orgId, budgetId, month, limit }: BudgetAsk,
): Promise<BudgetRow[]> => sql<BudgetRow>`
  select budget.budget_id as "budgetId",
         budget.name,
         budget.model,
         terms.amount_nano::text as "amountNano",
         terms.thresholds,
         budget.created_at as "createdAt",
         budget.updated_at as "updatedAt"
    from budget
   cross join lateral (
           select amount_nano, thresholds
             from budget_terms
            where budget_terms.org_id = budget.org_id
              and budget_terms.budget_id = budget.budget_id
              and budget_terms.month <= ${`${month}-01`}::date
            order by budget_terms.month desc
            limit 1) terms
   where budget.org_id = ${orgId}
     and (${budgetId}::text is null or budget.budget_id = ${budgetId})
   order by budget.budget_id
   limit ${limit}`;

export type BudgetAsk = { orgId: number; budgetId: string | null; month: string; limit: number };

/** How many budgets an org has. Primary key; reads only. */
export const countBudgets = async (sql: Sql, orgId: number): Promise<number> => {
  const [found] = await sql<{ count: number }>`
    select count(*) as count
      from budget
     where org_id = ${orgId}`;
  return found?.count ?? 0;
};

/** First key of the locks under which an org's budgets are changed; the second is the org. */
const BUDGET_LOCK_CLASS = 1_651_861_620;

/** Lets one transaction at a time change an org's budgets. Held until it ends; taken before the audit log's. */
export const lockBudgets = (sql: Sql, orgId: number): Promise<{ locked: unknown }[]> => sql<{
  locked: unknown;
}>`
  select pg_advisory_xact_lock(${BUDGET_LOCK_CLASS}, ${orgId}) as locked`;

/** Budgets as they are to be. `name` and `model` as in BudgetRow. */
export type BudgetsWanted = {
  orgId: number;
  /** The month from which on: "2026-11". */
  month: string;
  at: Date;
  budgets: readonly {
    budgetId: string;
    name: string | null;
    model: string | null;
    amountNano: bigint;
    /** Per cent, ascending. */
    thresholds: readonly number[];
  }[];
};

/**
 * Makes budgets of an org or changes them, by their ids, from a month on and in place of what was said in that month; their
 * models stay. Primary keys; repeatable.
 */
export const upsertBudgets = (
  sql: Sql,
  { orgId, month, at, budgets }: BudgetsWanted,
): Promise<never[]> => sql`
  with wanted as (
         select *
           from unnest(${budgets.map(({ budgetId }) => budgetId)}::text[],
                       ${budgets.map(({ name }) => name)}::text[],
                       ${budgets.map(({ model }) => model)}::text[],
                       ${budgets.map(({ amountNano }) => String(amountNano))}::numeric[],
                       ${budgets.map(({ thresholds }) => `{${thresholds.join()}}`)}::text[])
                as wanted (budget_id, name, model, amount_nano, thresholds)),
       made as (
         insert into budget (org_id, budget_id, name, model, created_at, updated_at)
         select ${orgId}::int4, budget_id, name, model, ${at}::timestamptz, ${at}::timestamptz
           from wanted
             on conflict (org_id, budget_id) do update set name = excluded.name, updated_at = excluded.updated_at)
  insert into budget_terms (org_id, budget_id, month, amount_nano, thresholds)
  select ${orgId}::int4, budget_id, ${`${month}-01`}::date, amount_nano, thresholds::int4[]
    from wanted
      on conflict (org_id, budget_id, month) do update set amount_nano = excluded.amount_nano, thresholds = excluded.thresholds`;

/** Deletes budgets, what they said and what they crossed; gives those that were there. Primary key; repeatable. */
export const deleteBudgets = (
  sql: Sql,
  { orgId, budgetIds }: { orgId: number; budgetIds: readonly string[] },
): Promise<{ budgetId: string }[]> => sql<{ budgetId: string }>`
  delete from budget
   where org_id = ${orgId}
     and budget_id = any(${budgetIds}::text[])
  returning budget_id as "budgetId"`;

/** A threshold that was reached. Amounts are integers as text: billionths, as they were found then. */
export type BudgetCrossing = {
  budgetId: string;
  percent: number;
  crossedAt: Date;
  spentNano: string;
  amountNano: string;
};

/** Thresholds that an org's budgets reached in a month ("2026-11"). Primary key; reads only. */
export const listBudgetCrossings = (
  sql: Sql,
  { orgId, month, limit }: { orgId: number; month: string; limit: number },
): Promise<BudgetCrossing[]> => sql<BudgetCrossing>`
  select budget_id as "budgetId",
         percent,
         crossed_at as "crossedAt",
         spent_nano::text as "spentNano",
         amount_nano::text as "amountNano"
    from budget_crossing
   where org_id = ${orgId}
     and month = ${`${month}-01`}::date
   order by budget_id, percent
   limit ${limit}`;

/**
 * Records thresholds that were reached in a month ("2026-11"), and gives those that nobody had recorded. Of budgets that
 * were changed or deleted since they were looked at it records nothing: they are looked at again. Locks these budgets
 * against deletion. Primary keys; repeatable, by many at once too.
 */
export const insertBudgetCrossings = (
  sql: Sql,
  found: {
    orgId: number;
    month: string;
    at: Date;
    crossings: readonly {
      budgetId: string;
      percent: number;
      spentNano: bigint;
      amountNano: bigint;
    }[];
  },
): Promise<{ budgetId: string; percent: number }[]> => sql<{ budgetId: string; percent: number }>`
  insert into budget_crossing (org_id, budget_id, month, percent, crossed_at, spent_nano, amount_nano)
  select budget.org_id, budget.budget_id, ${`${found.month}-01`}::date, crossing.percent, ${found.at}, crossing.spent, crossing.amount
    from unnest(${found.crossings.map(({ budgetId }) => budgetId)}::text[],
                ${found.crossings.map(({ percent }) => percent)}::int4[],
                ${found.crossings.map(({ spentNano }) => String(spentNano))}::numeric[],
                ${found.crossings.map(({ amountNano }) => String(amountNano))}::numeric[])
         as crossing (budget_id, percent, spent, amount)
    join budget
      on budget.org_id = ${found.orgId}
     and budget.budget_id = crossing.budget_id
   where (crossing.amount, true) = (
           select terms.amount_nano, crossing.percent = any(terms.thresholds)
             from budget_terms terms
            where terms.org_id = budget.org_id
              and terms.budget_id = budget.budget_id
              and terms.month <= ${`${found.month}-01`}::date
            order by terms.month desc
            limit 1)
   order by budget.budget_id, crossing.percent
     for key share of budget
      on conflict (org_id, budget_id, month, percent) do nothing
  returning budget_id as "budgetId", percent`;

/** Orgs that have a budget and are not deleted, by id, from the one after `after` on. Index: budget's primary key. Reads only. */
export const listBudgetOrgs = (
  sql: Sql,
  { after, limit }: { after: number; limit: number },
): Promise<{ id: number; externalId: string; timeZone: string }[]> => sql<{
  id: number;
  externalId: string;
  timeZone: string;
}>`
  select id, external_id as "externalId", time_zone as "timeZone"
    from org
   where id > ${after}
     and status <> 'deleted'
     and exists (select from budget where budget.org_id = org.id)
   order by id
   limit ${limit}`;
