import { z } from "zod";
import { modelIdField, nameField, orgIdField, parseNano } from "#contract";
import { BUDGET_THRESHOLDS_MAX, BUDGETS_MAX } from "#query";

const THRESHOLDS_DEFAULT = [50, 80, 100];
const PERCENT_MAX = 1000;
const ORGS_MAX = 1000;
/** Changed in one transaction, which holds the audit logs of their orgs meanwhile. */
const APPLIED_MAX = 2000;

/** The name of a budget. */
export const budgetIdField = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, "at most 64 of A-Z a-z 0-9 . _ -, no sign first")
  .describe("Chosen by whoever makes it.");

const percent = z.int().min(1).max(PERCENT_MAX);
const thresholdsOf = <Input>(one: z.ZodType<number, Input>) =>
  z
    .array(one)
    .min(1)
    .max(BUDGET_THRESHOLDS_MAX)
    .default(THRESHOLDS_DEFAULT)
    .transform((all) => [...new Set(all)].toSorted((a, b) => a - b))
    .describe("Per cent of the amount at which a crossing is recorded.");

/** What a budget is to be, but for its name: `amount` becomes billionths. */
export const budgetTermsOrder = z.strictObject({
  amount: z
    .string()
    .max(64)
    .describe("What a month may cost, in the org's currency: an exact decimal above 0.")
    .transform((text, context) => {
      const parsed = parseNano(text);
      if (parsed !== null && parsed.nano > 0n && !parsed.rounded) return parsed.nano;
      context.addIssue({
        code: "custom",
        message: "must be a decimal above 0 with at most 9 decimals",
      });
      return z.NEVER;
    }),
  modelId: modelIdField
    .nullable()
    .default(null)
    .describe("Only this model's spend; for good. All of the org's when left out."),
  name: nameField.nullable().default(null).describe("What people call it."),
  thresholds: thresholdsOf(percent),
});

/** A budget as it is asked for: `amount` in billionths of the org's currency, thresholds in per cent, ascending. */
export const budgetOrder = budgetTermsOrder.extend({ budgetId: budgetIdField });
export type BudgetOrder = z.output<typeof budgetOrder>;

const orgBudgets = z.strictObject({
  orgId: orgIdField,
  budgets: z.array(budgetOrder).max(BUDGETS_MAX),
});

/** Budgets of orgs, each org and each budget of it named once. */
export const budgetList = z
  .strictObject({ orgs: z.array(orgBudgets).max(ORGS_MAX) })
  .superRefine(({ orgs }, context) => {
    const repeated = (path: PropertyKey[], message: string): void =>
      context.addIssue({ code: "custom", path, message });
    for (const at of listRepeated(orgs.map(({ orgId }) => orgId)))
      repeated(["orgs", at, "orgId"], "is there twice");
    for (const [i, { budgets }] of orgs.entries())
      for (const at of listRepeated(budgets.map(({ budgetId }) => budgetId)))
        repeated(["orgs", i, "budgets", at, "budgetId"], "is there twice");
    if (orgs.reduce((sum, { budgets }) => sum + budgets.length, 0) > APPLIED_MAX)
      repeated(["orgs"], `at most ${APPLIED_MAX} budgets at once`);
  });
export type BudgetList = z.output<typeof budgetList>;

/** Places of what was there before. */
const listRepeated = (names: readonly string[]): number[] =>
  names.flatMap((name, at) => (names.indexOf(name) < at ? [at] : []));

/** An entry of a file: as in a request, but all of its scalars are text. */
export const budgetFileEntry = budgetOrder.extend({
  orgId: orgIdField,
  modelId: modelIdField.optional().transform((modelId) => modelId ?? null),
  name: nameField.optional().transform((name) => name ?? null),
  thresholds: thresholdsOf(
    z
      .string()
      .regex(/^\d{1,4}$/, "must be a whole number of per cent")
      .transform(Number)
      .pipe(percent),
  ),
});
