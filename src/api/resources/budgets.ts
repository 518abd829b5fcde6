import { z } from "zod";
import { type BudgetChange, deleteBudget, setBudget } from "#alerts";
import { BUDGET_THRESHOLDS_MAX, getBudgets } from "#query";
import { callerOf, databaseOf } from "../access.ts";
import { amount, answerFields, pricingFields } from "../answers.ts";
import { type CsvColumn, formatCsv } from "../csv.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { asReport, modelIdField, nameField, orgIdField, orgParams } from "../parameters.ts";
import { sendReport } from "../report.ts";

const THRESHOLDS_DEFAULT = [50, 80, 100];
const PERCENT_MAX = 1000;

const budgetParams = z.strictObject({
  orgId: orgIdField,
  budgetId: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, "at most 64 of A-Z a-z 0-9 . _ -, no sign first")
    .describe("Chosen by whoever makes it."),
});

const order = z.strictObject({
  amount: z
    .string()
    .max(64)
    .describe("What a month may cost, in the org's currency: an exact decimal above 0."),
  modelId: modelIdField
    .nullable()
    .default(null)
    .describe("Only this model's spend; for good. All of the org's when left out."),
  name: nameField.nullable().default(null).describe("What people call it."),
  thresholds: z
    .array(z.int().min(1).max(PERCENT_MAX))
    .min(1)
    .max(BUDGET_THRESHOLDS_MAX)
    .default(THRESHOLDS_DEFAULT)
    .describe("Per cent of the amount at which a crossing is recorded."),
});

const termFields = {
  budgetId: z.string(),
  name: z.string().nullable(),
  modelId: z.string().nullable().describe("Null: all of the org's spend."),
  amount: amount.describe("Per month."),
};
const stampFields = { createdAt: z.string(), updatedAt: z.string() };
const budget = z
  .object({ ...termFields, thresholds: z.array(z.int()), ...stampFields })
  .meta({ id: "Budget" });

const threshold = z
  .object({
    percent: z.int(),
    isReached: z.boolean().describe("By the figures of now."),
    crossedAt: z
      .string()
      .nullable()
      .describe("When it was first found reached, whatever changed since; null: not recorded."),
    crossedAtSpent: amount.nullable().describe("What was spent then."),
  })
  .meta({ id: "BudgetThreshold" });
const budgetState = z
  .object({
    ...termFields,
    spent: amount.describe("In this month, as far as it is counted."),
    ...pricingFields,
    share: z.number().describe("Spent as a share of the amount, six digits, rounded down."),
    burnPerDay: amount
      .nullable()
      .describe(
        "Spent per 24 hours over the last seven times 24 hours, or since the first of these days on which the org used " +
          "anything. Null: it used nothing, or the month is over.",
      ),
    daysLeft: z
      .string()
      .nullable()
      .describe(
        "Days until the amount is used up at this rate: a decimal, rounded down; 0.00 when it is. Null: nothing burns.",
      ),
    expected: amount.nullable().describe("Spent at the month's end if this rate goes on."),
    thresholds: z.array(threshold),
    ...stampFields,
  })
  .meta({ id: "BudgetState" });

const budgetsAnswer = z
  .object({
    orgId: z.string(),
    month: z.string().describe("Of the org's own calendar: 2026-11."),
    ...answerFields,
    budgets: z.array(budgetState).describe("By id."),
  })
  .meta({ id: "BudgetsAnswer" });

type Row = z.output<typeof budgetState>;
const plain = (name: string, value: CsvColumn<Row>["value"]): CsvColumn<Row> => ({
  name,
  kind: "plain",
  value,
});
const COLUMNS: readonly CsvColumn<Row>[] = [
  { name: "budgetId", kind: "text", value: (row) => row.budgetId },
  { name: "name", kind: "text", value: (row) => row.name },
  { name: "modelId", kind: "text", value: (row) => row.modelId },
  { name: "currency", kind: "text", value: (row) => row.amount.currency },
  plain("amount", (row) => row.amount.amount),
  plain("spent", (row) => row.spent.amount),
  plain("share", (row) => row.share),
  plain("burnPerDay", (row) => row.burnPerDay?.amount ?? null),
  plain("daysLeft", (row) => row.daysLeft),
  plain("expected", (row) => row.expected?.amount ?? null),
  plain("percentReached", (row) => reachedOf(row)),
  plain("pricedRequests", (row) => row.pricedShare.requests),
];
/** The highest threshold that is reached. */
const reachedOf = ({ thresholds }: Row): number | null =>
  thresholds.findLast(({ isReached }) => isReached)?.percent ?? null;

const nothing = z.strictObject({});
const PATH = "/analytics/v1/orgs/:orgId/budgets";

/** What an org means to spend in a month, and how that goes. */
export function budgetRoutes(server: Server, context: RouteContext): void {
  addList(server, context);
  addSet(server, context);
  addDelete(server, context);
}

function addList(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  server.route({
    method: "GET",
    url: PATH,
    handlerTimeout: limits.readMsMax,
    config: { scope: "spend:read" },
    schema: {
      tags: ["Budgets"],
      operationId: "listBudgets",
      summary: "Show an org's budgets and how much of them is spent",
      params: orgParams,
      querystring: z.strictObject({
        month: z
          .string()
          .max(16)
          .optional()
          .describe("2026-11, of the org's own calendar; the current month when left out."),
      }),
      response: { 200: asReport(budgetsAnswer), 304: z.undefined().describe("Nothing new.") },
    },
    handler: async (request, reply) =>
      await sendReport(
        { request, reply, context },
        {
          name: "budgets",
          schema: budgetsAnswer,
          csv: ({ budgets }) => formatCsv(COLUMNS, budgets),
        },
        () =>
          getBudgets(databaseOf(request), clock, {
            orgId: request.params.orgId,
            month: request.query.month,
          }),
      ),
  });
}

/** Who changes what is about to be changed, and when. */
function changeOf(
  request: Parameters<typeof callerOf>[0],
  { clock }: Pick<RouteContext, "clock">,
): BudgetChange {
  const { principal, requestId } = callerOf(request);
  const at = new Date(clock.now());
  return { actor: principal.id, actorName: principal.name, requestId, at };
}

function addSet(server: Server, context: RouteContext): void {
  server.route({
    method: "PUT",
    url: `${PATH}/:budgetId`,
    config: { scope: "budgets:manage" },
    schema: {
      tags: ["Budgets"],
      operationId: "setBudget",
      summary: "Make a budget or change it",
      description:
        "In place of what was said of it before, from the current month on: former months stay as they were planned, and what was crossed stays recorded. Safe to repeat.",
      params: budgetParams,
      querystring: nothing,
      body: order,
      response: { 200: budget.describe("The budget as it is now.") },
    },
    handler: async (request) => {
      const { orgId, budgetId } = request.params;
      const wanted = { budgetId, ...request.body };
      return await setBudget(databaseOf(request), orgId, wanted, changeOf(request, context));
    },
  });
}

function addDelete(server: Server, context: RouteContext): void {
  server.route({
    method: "DELETE",
    url: `${PATH}/:budgetId`,
    config: { scope: "budgets:manage" },
    schema: {
      tags: ["Budgets"],
      operationId: "deleteBudget",
      summary: "Delete a budget",
      description: "With what was recorded of it.",
      params: budgetParams,
      querystring: nothing,
      response: { 200: budget.describe("The budget as it was.") },
    },
    handler: async (request) => {
      const { orgId, budgetId } = request.params;
      return await deleteBudget(databaseOf(request), orgId, budgetId, changeOf(request, context));
    },
  });
}
