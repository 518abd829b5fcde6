import { z } from "zod";
import {
  applyBudgets,
  type BudgetChange,
  type BudgetDifference,
  budgetIdField,
  budgetList,
  budgetTermsOrder,
  deleteBudget,
  previewBudgets,
  setBudget,
} from "#alerts";
import { orgIdField } from "#contract";
import { getBudgets } from "#query";
import { callerOf, databaseOf } from "../access.ts";
import { amount, answerFields, pricing, pricingFields } from "../answers.ts";
import { type CsvColumn, formatCsv } from "../csv.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { asReport, flagParameter, orgParams } from "../parameters.ts";
import { sendReport } from "../report.ts";

/** Longest list of budgets that are applied at once. */
const BODY_BYTES_MAX = 4 * 1024 * 1024;

const budgetParams = z.strictObject({ orgId: orgIdField, budgetId: budgetIdField });

const termFields = {
  budgetId: z.string(),
  name: z.string().nullable(),
  modelId: z.string().nullable().describe("Null: all of the org's spend."),
  amount: amount.describe("Per month."),
};
const stampFields = { createdAt: z.string(), updatedAt: z.string() };
const saidFields = { ...termFields, thresholds: z.array(z.int()) };
const budget = z.object({ ...saidFields, ...stampFields }).meta({ id: "Budget" });

const said = z.object(saidFields).meta({ id: "BudgetTerms" });
const applied = z
  .object({
    isApplied: z.boolean().describe("False: it was only asked what would change, or nothing did."),
    counts: z.object({ added: z.int(), changed: z.int(), removed: z.int() }),
    changes: z
      .array(
        z.object({
          what: z.enum(["added", "changed", "removed"]),
          orgId: z.string(),
          before: said.nullable(),
          after: said.nullable(),
        }),
      )
      .describe("Every difference, by org."),
  })
  .meta({ id: "AppliedBudgets" });

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
    pricing,
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
  addApply(server, context);
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
      response: asReport(budgetsAnswer),
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
      body: budgetTermsOrder,
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

function addApply(server: Server, context: RouteContext): void {
  server.route({
    method: "PUT",
    url: "/analytics/v1/admin/budgets",
    bodyLimit: BODY_BYTES_MAX,
    config: { scope: "budgets:manage" },
    schema: {
      tags: ["Budgets"],
      operationId: "applyAdminBudgets",
      summary: "Set budgets of many orgs at once",
      description:
        "Each as by itself, from the current month of its org on. All of it or nothing; budgets that are not in the body stay, unless `prune` says otherwise. Safe to repeat: the same budgets again change nothing.",
      querystring: z.strictObject({
        prune: flagParameter("Delete the other budgets of the orgs in the body."),
        dryRun: flagParameter("Tell what would change, and change nothing."),
      }),
      body: budgetList,
      response: { 200: applied.describe("What changed.") },
    },
    handler: async (request) => {
      const { prune, dryRun } = request.query;
      const order = { list: request.body, prune };
      const database = databaseOf(request);
      const did = changeOf(request, context);
      const changes = dryRun
        ? await previewBudgets(database, order, did.at)
        : await applyBudgets(database, order, did);
      const count = (kind: BudgetDifference["what"]): number =>
        changes.filter(({ what }) => what === kind).length;
      const counts = {
        added: count("added"),
        changed: count("changed"),
        removed: count("removed"),
      };
      return { isApplied: !dryRun && changes.length > 0, counts, changes };
    },
  });
}
