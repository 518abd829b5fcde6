import { z } from "zod";
import { getSystemUnpriced, getUnpriced } from "#query";
import {
  answerFields,
  completeParameter,
  groupParameters,
  moneyAnswerFields,
  pricing,
  refusedParameters,
  taggedQuery,
  windowParameters,
} from "../answers.ts";
import { databaseOf } from "../access.ts";
import { type CsvColumn, formatCsv } from "../csv.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { aliasNote, asReport, orgParams, questionOf } from "../parameters.ts";
import { sendReport } from "../report.ts";

const query = z.strictObject({
  ...windowParameters,
  limit: groupParameters.limit.describe(
    "Models shown by themselves, those with most such requests; 20 when left out. All others are one row more.",
  ),
  ...completeParameter,
});

const orgQuery = taggedQuery(query.extend(refusedParameters));

const tokenClass = z.int().nullable();
const unpricedFields = {
  requests: z.int(),
  share: z.number().nullable().describe("Part of all requests, 0 to 1; null when there are none."),
  totalTokens: z.int(),
  inputTokens: tokenClass,
  cacheReadTokens: tokenClass,
  cacheWrite5mTokens: tokenClass,
  cacheWrite1hTokens: tokenClass,
  outputTokens: tokenClass,
  reasoningTokens: tokenClass,
};
const unpricedModel = z
  .object({
    modelId: z.string().nullable(),
    isOther: z.boolean().describe("True: all further models, added up."),
    ...unpricedFields,
    since: z
      .string()
      .describe(
        "Start of the first bucket with usage without a cost, of the window or of thirteen months before now; UTC.",
      ),
  })
  .meta({ id: "UnpricedModel" });

const fields = {
  allRequests: z.int().describe("All requests of the window, those with a cost too."),
  totals: z
    .object(unpricedFields)
    .describe(
      "Usage without a cost. Classes of tokens are null where usage with and without one was counted together, so that " +
        "only the total is known.",
    ),
  models: z.array(unpricedModel),
  sinceGranularity: z.enum(["day"]).describe("Width of the buckets in which since was looked for."),
};
const unpricedAnswer = z
  .object({ orgId: z.string(), ...answerFields, pricing, ...fields })
  .meta({ id: "UnpricedAnswer" });
const systemUnpricedAnswer = z
  .object({ orgId: z.null(), ...moneyAnswerFields, ...fields })
  .meta({ id: "SystemUnpricedAnswer" });

type Row = z.output<typeof unpricedModel>;
const plain = (name: Exclude<keyof Row, "modelId">): CsvColumn<Row> => ({
  name,
  kind: "plain",
  value: (row) => row[name],
});
const COLUMNS: readonly CsvColumn<Row>[] = [
  { name: "modelId", kind: "text", value: (row) => row.modelId },
  plain("isOther"),
  plain("requests"),
  plain("share"),
  plain("totalTokens"),
  plain("inputTokens"),
  plain("cacheReadTokens"),
  plain("cacheWrite5mTokens"),
  plain("cacheWrite1hTokens"),
  plain("outputTokens"),
  plain("reasoningTokens"),
  plain("since"),
];
/** A row per model, the last one all others. */
const unpricedTable = ({ models }: { models: Row[] }): string => formatCsv(COLUMNS, models);

/** GET …/orgs/{orgId}/spend/unpriced and …/system/unpriced: what is used and has no cost, by model. */
export function unpricedRoutes(server: Server, context: RouteContext): void {
  addOrg(server, context);
  addSystem(server, context);
}

function addOrg(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  const url = "/analytics/v1/orgs/:orgId/spend/unpriced";
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "spend:read" },
    schema: {
      tags: ["Reports"],
      ...aliasNote(url, "getUnpriced"),
      summary: "Usage of an org without a cost, by model",
      description: "Without the cost that the org's reports show (costBasis). Unpriced is not 0.",
      params: orgParams,
      querystring: orgQuery,
      response: asReport(unpricedAnswer),
    },
    handler: async (request, reply) =>
      await sendReport(
        { request, reply, context },
        { name: "unpriced", schema: unpricedAnswer, csv: unpricedTable },
        async () => {
          const { orgId } = request.params;
          const question = { ...questionOf(request.query), orgId };
          return { ...(await getUnpriced(databaseOf(request), clock, question)), orgId };
        },
      ),
  });
}

function addSystem(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  const url = "/analytics/v1/system/unpriced";
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["System"],
      ...aliasNote(url, "getSystemUnpriced"),
      summary: "Usage of all orgs together without a cost, by model",
      description:
        "Without a cost of its own and without one by the price book, whatever the basis of its org is. Unpriced is not 0.",
      querystring: query,
      response: asReport(systemUnpricedAnswer),
    },
    handler: async (request, reply) =>
      await sendReport(
        { request, reply, context },
        { name: "system-unpriced", schema: systemUnpricedAnswer, csv: unpricedTable },
        async () => ({
          ...(await getSystemUnpriced(databaseOf(request), clock, request.query)),
          orgId: null,
        }),
      ),
  });
}
