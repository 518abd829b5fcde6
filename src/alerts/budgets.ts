import { Failure, monthAt, parseNano } from "#contract";
import { BUDGETS_MAX, type BudgetTerms, noSuchOrg, termsOf } from "#query";
import {
  appendAudit,
  type AuditEntry,
  type BudgetRow,
  countBudgets,
  type Database,
  deleteBudget as deleteStored,
  findOrgRecord,
  listBudgets,
  lockBudgets,
  type OrgRecord,
  type Tx,
  upsertBudget,
  upsertBudgetTerms,
} from "#store";

/** A budget as it is asked for: an amount a month as decimal text in the org's currency, thresholds in per cent. */
export type BudgetOrder = {
  budgetId: string;
  name: string | null;
  modelId: string | null;
  amount: string;
  thresholds: readonly number[];
};

/** After all others: what a budget says last. */
const LAST_MONTH = "9999-12";

/** Who changes a budget and when, for the audit log. */
export type BudgetChange = Omit<AuditEntry, "action" | "target" | "details">;

/**
 * Makes a budget, or changes one from the current month on: what former months said stays. The same again changes
 * nothing and leaves no trace. Throws Failure `not_found` (no such org), `already_exists` (it is for another model) and
 * `invalid_request` (an amount that is none, or one budget too many).
 */
export async function setBudget(
  database: Database,
  orgId: string,
  order: BudgetOrder,
  did: BudgetChange,
): Promise<BudgetTerms> {
  const amountNano = parseAmount(order.amount);
  const org = await findOrg(database, orgId);
  const place = { orgId: org.id, budgetId: order.budgetId };
  const month = monthAt(org.timeZone, did.at.getTime());
  const thresholds = [...new Set(order.thresholds)].toSorted((a, b) => a - b);
  return await database.change(org.id, async (tx) => {
    await lockBudgets(tx.sql, org.id);
    const before = await findBudget(tx, place, month);
    if (before === undefined) await refuseTooMany(tx, org.id);
    else refuseOtherModel(before, order.modelId);
    const changed = listChanged(before, { name: order.name, amountNano, thresholds });
    if (before !== undefined && changed.length === 0) return termsOf(before, org.currency);
    await upsertBudget(tx.sql, { ...place, name: order.name, model: order.modelId, at: did.at });
    await upsertBudgetTerms(tx.sql, { ...place, month, amountNano, thresholds });
    const after = await findBudget(tx, place, month);
    if (after === undefined) throw new Error("a budget that was written is not there");
    const details = { modelId: order.modelId, changed };
    const entry = { ...did, action: "budget.set", target: order.budgetId, details } as const;
    await appendAudit(tx, org.id, entry);
    return termsOf(after, org.currency);
  });
}

/** Deletes a budget with all that was recorded of it, and tells what it was. Throws Failure `not_found`. */
export async function deleteBudget(
  database: Database,
  orgId: string,
  budgetId: string,
  did: BudgetChange,
): Promise<BudgetTerms> {
  const org = await findOrg(database, orgId);
  const place = { orgId: org.id, budgetId };
  return await database.change(org.id, async (tx) => {
    await lockBudgets(tx.sql, org.id);
    const before = await findBudget(tx, place, LAST_MONTH);
    if (before === undefined) throw new Failure("not_found", "There is no such budget.");
    await deleteStored(tx.sql, place);
    await appendAudit(tx, org.id, { ...did, action: "budget.delete", target: budgetId });
    return termsOf(before, org.currency);
  });
}

async function findOrg(database: Database, orgId: string): Promise<OrgRecord> {
  const org = await findOrgRecord(database.sql, orgId);
  if (org === undefined || org.status === "deleted") throw noSuchOrg();
  return org;
}

const findBudget = async (
  { sql }: Tx,
  place: { orgId: number; budgetId: string },
  month: string,
): Promise<BudgetRow | undefined> => (await listBudgets(sql, { ...place, month, limit: 1 }))[0];

/** Billionths. Throws Failure `invalid_request` unless it is above 0 and has at most nine digits after the point. */
function parseAmount(text: string): bigint {
  const parsed = parseNano(text);
  if (parsed !== null && parsed.nano > 0n && !parsed.rounded) return parsed.nano;
  throw refuse(
    "/body/amount",
    "invalid_amount",
    "must be a decimal above 0 with at most 9 decimals",
  );
}

async function refuseTooMany({ sql }: Tx, orgId: number): Promise<void> {
  if ((await countBudgets(sql, orgId)) < BUDGETS_MAX) return;
  throw refuse("/params/budgetId", "too_many_budgets", `an org has at most ${BUDGETS_MAX} budgets`);
}

function refuseOtherModel({ model }: BudgetRow, modelId: string | null): void {
  if (model === modelId) return;
  throw new Failure(
    "already_exists",
    "There is a budget of this id for another model, or for all of them: delete it first, or choose another id.",
  );
}

function listChanged(
  before: BudgetRow | undefined,
  now: { name: string | null; amountNano: bigint; thresholds: readonly number[] },
): string[] {
  const changes = {
    name: before?.name !== now.name,
    amount: before?.amountNano !== String(now.amountNano),
    thresholds: before?.thresholds.join() !== now.thresholds.join(),
  };
  return Object.entries(changes).flatMap(([field, isChanged]) => (isChanged ? [field] : []));
}

const refuse = (pointer: string, code: string, message: string): Failure =>
  new Failure("invalid_request", message, { details: [{ pointer, code, message }] });
