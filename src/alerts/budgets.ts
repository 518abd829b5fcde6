import {
  ALL_ORGS,
  Failure,
  type FailureDetail,
  formatNano,
  monthAt,
  noSuchOrg,
  refuseField,
} from "#contract";
import { BUDGETS_MAX, type BudgetTerms, termsOf } from "#query";
import {
  appendAudit,
  type AuditEntry,
  type BudgetRow,
  countBudgets,
  type Database,
  deleteBudgets,
  listBudgets,
  listOrgProfiles,
  lockBudgets,
  type OrgProfile,
  type Tx,
  upsertBudgets,
} from "#store";
import type { BudgetList, BudgetOrder } from "./budget-order.ts";

/** After all others: what a budget says last. */
const LAST_MONTH = "9999-12";

/** Who changes budgets and when, for the audit log. */
export type BudgetChange = Omit<AuditEntry, "action" | "target" | "details">;

/** What a budget says, whenever that was. */
export type BudgetSaid = Omit<BudgetTerms, "createdAt" | "updatedAt">;

/** A budget that an apply made, changed or deleted, or would. */
export type BudgetDifference = { orgId: string } & (
  | { what: "added"; before: null; after: BudgetSaid }
  | { what: "changed"; before: BudgetSaid; after: BudgetSaid }
  | { what: "removed"; before: BudgetSaid; after: null }
);

/** Budgets that orgs are to have; with `prune` those orgs have no others. */
export type BudgetsOrder = { list: BudgetList; prune: boolean };

/** What has to happen to one budget. `changed` names the fields. */
type Step =
  | { what: "added" | "changed"; before: BudgetRow | null; order: BudgetOrder; changed: string[] }
  | { what: "removed"; before: BudgetRow; order: null };
type Plan = { org: OrgProfile; month: string; steps: Step[] };

/**
 * Makes a budget, or changes one from the current month on: what former months said stays. The same again changes
 * nothing and leaves no trace. Throws Failure `not_found` (no such org), `already_exists` (it is for another model) and
 * `invalid_request` (one budget too many).
 */
export async function setBudget(
  database: Database,
  orgId: string,
  order: BudgetOrder,
  did: BudgetChange,
): Promise<BudgetTerms> {
  const org = await getOrg(database, orgId);
  return await database.change(org.id, async (tx) => {
    await lockBudgets(tx.sql, org.id);
    const wanted = { budgets: [order], prune: false };
    const { faults, ...plan } = await planOrg(tx, org, { wanted, at: did.at });
    const [fault] = faults;
    if (fault?.code === "too_many_budgets")
      throw refuseField("/params/budgetId", fault.code, fault.message);
    if (fault !== undefined) throw new Failure("already_exists", fault.message);
    await write(tx, plan, did.at);
    await tell(tx, plan, did);
    const after = await findBudget(tx, { orgId: org.id, budgetId: order.budgetId }, plan.month);
    if (after === undefined) throw new Error("a budget that was written is not there");
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
  const org = await getOrg(database, orgId);
  return await database.change(org.id, async (tx) => {
    await lockBudgets(tx.sql, org.id);
    const before = await findBudget(tx, { orgId: org.id, budgetId }, LAST_MONTH);
    if (before === undefined) throw new Failure("not_found", "There is no such budget.");
    await deleteBudgets(tx.sql, { orgId: org.id, budgetIds: [budgetId] });
    await appendAudit(tx, org.id, { ...did, action: "budget.delete", target: budgetId });
    return termsOf(before, org.currency);
  });
}

/**
 * Makes the budgets of orgs what the order says, all of it or nothing, each as `setBudget` and `deleteBudget` do; what
 * already is so leaves no trace, so that it is safe to repeat. Throws Failure `invalid_request` with every budget that
 * cannot be as it is asked for: of an org that is not there, for another model than the one of that id, one too many.
 */
export const applyBudgets = (
  database: Database,
  order: BudgetsOrder,
  did: BudgetChange,
): Promise<BudgetDifference[]> =>
  database.change("*", async (tx) => {
    const orgs = await findOrgs(tx, order);
    for (const { id } of orgs.values()) await lockBudgets(tx.sql, id);
    const plans = await planAll(tx, orgs, { order, at: did.at });
    for (const plan of plans) await write(tx, plan, did.at);
    // Last, and by the orgs' ids: each holds its org's log until the end.
    for (const plan of plans) await tell(tx, plan, did);
    return plans.flatMap(differencesOf);
  });

/** What `applyBudgets` would do at this moment. Changes nothing; throws the same failures. */
export const previewBudgets = (
  database: Database,
  order: BudgetsOrder,
  at: Date,
): Promise<BudgetDifference[]> =>
  database.withSystem(async (tx) => {
    const plans = await planAll(tx, await findOrgs(tx, order), { order, at });
    return plans.flatMap(differencesOf);
  });

async function getOrg(database: Database, orgId: string): Promise<OrgProfile> {
  const [org] = await listServedOrgs(database, [orgId]);
  if (org === undefined) throw noSuchOrg();
  return org;
}

const listServedOrgs = async (
  { sql }: Pick<Tx, "sql">,
  names: readonly string[],
): Promise<OrgProfile[]> =>
  (await listOrgProfiles(sql, names)).filter(
    ({ id, status }) => id !== ALL_ORGS && status !== "deleted",
  );

/** The orgs of an order by their external ids, in the order of their own. */
async function findOrgs(tx: Tx, { list }: BudgetsOrder): Promise<Map<string, OrgProfile>> {
  const named = list.orgs.map(({ orgId }) => orgId);
  const found = await listServedOrgs(tx, named);
  const byName = found.toSorted((a, b) => a.id - b.id).map((org) => [org.externalId, org] as const);
  const orgs = new Map(byName);
  const faults = named.flatMap((orgId, i) =>
    orgs.has(orgId)
      ? []
      : [
          {
            pointer: `/body/orgs/${i}/orgId`,
            code: "unknown_org",
            message: `There is no org ${orgId}.`,
          },
        ],
  );
  refuse(faults, "Budgets are for orgs that are not there.");
  return orgs;
}

async function planAll(
  tx: Tx,
  orgs: ReadonlyMap<string, OrgProfile>,
  { order, at }: { order: BudgetsOrder; at: Date },
): Promise<Plan[]> {
  const { list, prune } = order;
  const plans: (Plan & { faults: FailureDetail[] })[] = [];
  for (const org of orgs.values()) {
    const i = list.orgs.findIndex(({ orgId }) => orgId === org.externalId);
    const wanted = { budgets: list.orgs[i]?.budgets ?? [], prune };
    const { faults, ...plan } = await planOrg(tx, org, { wanted, at });
    const placed = faults.map((fault) => ({
      ...fault,
      pointer: `/body/orgs/${i}${fault.pointer}`,
    }));
    plans.push({ ...plan, faults: placed });
  }
  refuse(
    plans.flatMap(({ faults }) => faults),
    "These budgets cannot be applied.",
  );
  return plans;
}

const FAULTS_SHOWN_MAX = 100;

function refuse(faults: readonly FailureDetail[], message: string): void {
  if (faults.length === 0) return;
  throw new Failure("invalid_request", message, { details: faults.slice(0, FAULTS_SHOWN_MAX) });
}

type Wanted = { budgets: readonly BudgetOrder[]; prune: boolean };

/** What is to be done to an org's budgets as they stand now, and what cannot be, by its place in `wanted`. */
async function planOrg(
  { sql }: Tx,
  org: OrgProfile,
  { wanted, at }: { wanted: Wanted; at: Date },
): Promise<Plan & { faults: FailureDetail[] }> {
  const month = monthAt(org.timeZone, at.getTime());
  const ask = { orgId: org.id, budgetId: null, month, limit: BUDGETS_MAX };
  const rows = await listBudgets(sql, ask);
  const known = new Map(rows.map((row) => [row.budgetId, row]));
  const faults = wanted.budgets.flatMap(({ budgetId, modelId }, j) => {
    const before = known.get(budgetId);
    return before === undefined || before.model === modelId ? [] : [otherModel(budgetId, j)];
  });
  const steps = listSteps(known, wanted);
  const count = (kind: Step["what"]): number => steps.filter(({ what }) => what === kind).length;
  const added = count("added") - count("removed");
  if (count("added") > 0 && (await countBudgets(sql, org.id)) + added > BUDGETS_MAX)
    faults.push({
      pointer: "/budgets",
      code: "too_many_budgets",
      message: `an org has at most ${BUDGETS_MAX} budgets`,
    });
  return { org, month, steps, faults };
}

const otherModel = (budgetId: string, j: number): FailureDetail => ({
  pointer: `/budgets/${j}/modelId`,
  code: "other_model",
  message: `There is a budget ${budgetId} for another model, or for all of them: delete it first, or choose another id.`,
});

function listSteps(known: ReadonlyMap<string, BudgetRow>, { budgets, prune }: Wanted): Step[] {
  const steps = budgets.flatMap((order): Step[] => {
    const before = known.get(order.budgetId) ?? null;
    const changed = listChanged(before, order);
    if (before !== null && changed.length === 0) return [];
    return [{ what: before === null ? "added" : "changed", before, order, changed }];
  });
  if (!prune) return steps;
  const wanted = new Set(budgets.map(({ budgetId }) => budgetId));
  const rest = [...known.values()].filter(({ budgetId }) => !wanted.has(budgetId));
  return [...steps, ...rest.map((before): Step => ({ what: "removed", before, order: null }))];
}

function listChanged(before: BudgetRow | null, now: BudgetOrder): string[] {
  const changes = {
    name: before?.name !== now.name,
    amount: before?.amountNano !== String(now.amount),
    thresholds: before?.thresholds.join() !== now.thresholds.join(),
  };
  return Object.entries(changes).flatMap(([field, isChanged]) => (isChanged ? [field] : []));
}

async function write({ sql }: Tx, { org, month, steps }: Plan, at: Date): Promise<void> {
  const orgId = org.id;
  const removed = steps.flatMap(({ what, before }) => (what === "removed" ? before.budgetId : []));
  if (removed.length > 0) await deleteBudgets(sql, { orgId, budgetIds: removed });
  const budgets = steps.flatMap(({ order }) =>
    order === null ? [] : [{ ...order, model: order.modelId, amountNano: order.amount }],
  );
  if (budgets.length > 0) await upsertBudgets(sql, { orgId, month, at, budgets });
}

/** An entry for each budget, whichever way it was changed. */
async function tell(tx: Tx, { org, steps }: Plan, did: BudgetChange): Promise<void> {
  for (const step of steps) {
    if (step.what === "removed") {
      const target = step.before.budgetId;
      await appendAudit(tx, org.id, { ...did, action: "budget.delete", target });
    } else {
      const { order, changed } = step;
      const details = { modelId: order.modelId, changed };
      const entry = { ...did, action: "budget.set", target: order.budgetId, details } as const;
      await appendAudit(tx, org.id, entry);
    }
  }
}

const findBudget = async (
  { sql }: Tx,
  place: { orgId: number; budgetId: string },
  month: string,
): Promise<BudgetRow | undefined> => (await listBudgets(sql, { ...place, month, limit: 1 }))[0];

const differencesOf = ({ org, steps }: Plan): BudgetDifference[] =>
  steps.map((step): BudgetDifference => {
    const orgId = org.externalId;
    const { currency } = org;
    if (step.what === "removed")
      return { orgId, what: "removed", before: saidOf(step.before, currency), after: null };
    const { amount, ...order } = step.order;
    const after = { ...order, amount: { amount: formatNano(amount), currency } };
    return step.before === null
      ? { orgId, what: "added", before: null, after }
      : { orgId, what: "changed", before: saidOf(step.before, currency), after };
  });

function saidOf(row: BudgetRow, currency: string): BudgetSaid {
  const { createdAt: _made, updatedAt: _changed, ...said } = termsOf(row, currency);
  return said;
}
