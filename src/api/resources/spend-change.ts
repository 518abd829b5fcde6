import { z } from "zod";
import { BASES, getSpendChange } from "#query";
import {
  amount,
  answerFields,
  completeParameter,
  groupParameters,
  modelParameter,
  outcomeParameters,
  pricing,
  pricingFields,
  refusedParameters,
  span,
  taggedQuery,
  windowParameters,
} from "../answers.ts";
import { databaseOf } from "../access.ts";
import { type CsvColumn, formatCsv } from "../csv.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { aliasNote, asReport, orgParams, questionOf } from "../parameters.ts";
import { sendReport } from "../report.ts";

const query = taggedQuery(
  z.strictObject({
    ...windowParameters,
    modelId: modelParameter,
    ...refusedParameters,
    ...outcomeParameters,
    limit: groupParameters.limit.describe(
      "Models shown by themselves, those whose spend changed most; 20 when left out. All others are one row more.",
    ),
    ...completeParameter,
  }),
);

const parts = z
  .object({
    requests: amount.describe("More or fewer requests, at the previous cost of a request."),
    tokensPerRequest: amount.describe(
      "More or fewer tokens per request, at the previous cost of a token.",
    ),
    modelMix: amount.describe("Tokens moved between models, at their previous costs of a token."),
    price: amount.describe(
      "The current tokens at the current cost of a token of their model, less the same tokens at the previous one. " +
        "How a model's tokens divide into input, cache and output is part of its cost of a token.",
    ),
    modelsCame: amount.describe("Models with spend in the current window only."),
    modelsWent: amount.describe("Models with spend in the previous window only."),
  })
  .meta({
    id: "SpendParts",
    description:
      "Add up to the change exactly. Each of the first four is what its factor changes when the factors are put to " +
      "their new value one after the other, in this order, among the models with spend in both windows. Models whose " +
      "spend has no tokens to go by are split by requests in place of tokens. Rounded half up to billionths per " +
      "model; the largest part takes what the rounding left.",
  });

const spendFields = {
  pricedRequests: z.int(),
  pricedTokens: z.int(),
  cost: amount,
};
const windowSpend = z
  .object({ ...span.shape, ...spendFields, ...pricingFields })
  .meta({ id: "WindowSpend" });
const modelChange = z
  .object({
    modelId: z.string().nullable(),
    isOther: z.boolean().describe("True: all further models, added up."),
    basis: z
      .enum(BASES)
      .nullable()
      .describe(
        "What the change is split by: tokens, requests where there are no tokens to go by; or the model came or went. " +
          "Null: several models.",
      ),
    current: z.object(spendFields),
    previous: z.object(spendFields),
    change: amount,
    parts,
  })
  .meta({ id: "ModelSpendChange" });

const spendChangeAnswer = z
  .object({
    orgId: z.string(),
    ...answerFields,
    pricing,
    explained: z
      .object({
        current: windowSpend,
        previous: windowSpend,
        change: amount,
        parts,
        models: z.array(modelChange),
      })
      .nullable()
      .describe(
        "The elapsed part of the window against the same part of the period before, in the org's currency. Usage " +
          "without a price is left out (pricedShare). Null when nothing has elapsed.",
      ),
  })
  .meta({ id: "SpendChangeAnswer" });

type Row = z.output<typeof modelChange>;
const plain = (name: string, value: CsvColumn<Row>["value"]): CsvColumn<Row> => ({
  name,
  kind: "plain",
  value,
});
const COLUMNS: readonly CsvColumn<Row>[] = [
  { name: "modelId", kind: "text", value: (row) => row.modelId },
  plain("isOther", (row) => row.isOther),
  { name: "basis", kind: "text", value: (row) => row.basis },
  { name: "currency", kind: "text", value: (row) => row.change.currency },
  plain("previousCost", (row) => row.previous.cost.amount),
  plain("currentCost", (row) => row.current.cost.amount),
  plain("change", (row) => row.change.amount),
  plain("requests", (row) => row.parts.requests.amount),
  plain("tokensPerRequest", (row) => row.parts.tokensPerRequest.amount),
  plain("modelMix", (row) => row.parts.modelMix.amount),
  plain("price", (row) => row.parts.price.amount),
  plain("modelsCame", (row) => row.parts.modelsCame.amount),
  plain("modelsWent", (row) => row.parts.modelsWent.amount),
  plain("previousRequests", (row) => row.previous.pricedRequests),
  plain("currentRequests", (row) => row.current.pricedRequests),
  plain("previousTokens", (row) => row.previous.pricedTokens),
  plain("currentTokens", (row) => row.current.pricedTokens),
];

/** GET …/orgs/{orgId}/spend/change: why an org's spend differs from that of the period before. As CSV a row per model. */
export function spendChangeRoutes(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  const url = "/analytics/v1/orgs/:orgId/spend/change";
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "spend:read" },
    schema: {
      tags: ["Reports"],
      ...aliasNote(url, "getSpendChange"),
      summary: "Why the spend of an org changed",
      params: orgParams,
      querystring: query,
      response: asReport(spendChangeAnswer),
    },
    handler: async (request, reply) => {
      const question = { ...questionOf(request.query), orgId: request.params.orgId };
      return await sendReport(
        { request, reply, context },
        {
          name: "spend-change",
          schema: spendChangeAnswer,
          csv: ({ explained }) => formatCsv(COLUMNS, explained?.models ?? []),
        },
        () => getSpendChange(databaseOf(request), clock, question),
      );
    },
  });
}
