import { z } from "zod";
import type { GroupKey, Measures, UsageAnswer } from "#query";

const count = z.int().min(0);
const groupField = (name: string) =>
  z.string().nullable().describe(`With group_by=${name}; else null.`);
const unknownField = z.null().describe("Not known here.");
const sourceField = z
  .literal("unlabeled")
  .nullable()
  .describe("With group_by=api_source, as no source is known here; else null.");

const completionsResult = z.object({
  object: z.literal("organization.usage.completions.result"),
  input_tokens: count.describe("The whole input: cached, written to a cache, and neither."),
  input_cached_tokens: count,
  input_cache_write_tokens: count,
  input_uncached_tokens: count,
  output_tokens: count.describe("Visible output and reasoning."),
  num_model_requests: count,
  project_id: groupField("project_id"),
  user_id: groupField("user_id"),
  api_key_id: groupField("api_key_id"),
  model: groupField("model"),
  batch: unknownField,
  service_tier: unknownField,
  api_source: sourceField,
});

const costsResult = z.object({
  object: z.literal("organization.costs.result"),
  amount: z.object({
    value: z.number().describe("Every digit of the exact amount."),
    currency: z.string().describe("ISO 4217, in small letters."),
  }),
  line_item: groupField("line_item").describe("With group_by=line_item, the model; else null."),
  project_id: groupField("project_id"),
  user_id: groupField("user_id"),
  api_key_id: groupField("api_key_id"),
  quantity: unknownField,
  quantity_unit: unknownField,
  api_source: sourceField,
});

const pageOfResults = <Result extends z.ZodType>(result: Result, id: string) =>
  z
    .object({
      object: z.literal("page"),
      data: z.array(
        z.object({
          object: z.literal("bucket"),
          start_time: z.int().describe("Unix seconds."),
          end_time: z.int().describe("Unix seconds; the first instant after the bucket."),
          results: z.array(result).describe("Empty where nothing happened."),
        }),
      ),
      has_more: z.boolean(),
      next_page: z.string().nullable().describe("`page` of the next request."),
    })
    .meta({ id });

export const completionsPage = pageOfResults(completionsResult, "OpenAiCompletionsPage");
export const costsPage = pageOfResults(costsResult, "OpenAiCostsPage");

/** What results can be grouped by. */
export type ResultField =
  | "project_id"
  | "user_id"
  | "api_key_id"
  | "model"
  | "line_item"
  | "batch"
  | "service_tier"
  | "api_source";

/** Whose results these are, and what they are grouped by. */
export type ResultScope = { orgId: string; fields: ReadonlySet<ResultField> };

type Names = Record<
  Exclude<ResultField, "batch" | "service_tier" | "api_source">,
  string | null
> & {
  api_source: "unlabeled" | null;
};

/** The name of a group in each field that was asked for, null in all others. */
function namesOf({ orgId, fields }: ResultScope, group: GroupKey | undefined): Names {
  const of = (field: ResultField, name: string | null | undefined) =>
    fields.has(field) ? (name ?? null) : null;
  return {
    project_id: of("project_id", orgId),
    user_id: of("user_id", group?.actorId),
    api_key_id: of("api_key_id", group?.clientId),
    model: of("model", group?.modelId),
    line_item: of("line_item", group?.modelId),
    api_source: fields.has("api_source") ? "unlabeled" : null,
  };
}

/** The JSON texts of the results of one group and bucket. */
export type FormatResults = (names: Names, measures: Measures) => string[];

/** Usage of a group: one result, or none where nothing was used. */
export const formatCompletions: FormatResults = (names, measures) => {
  if (measures.requests === 0) return [];
  const written = measures.cacheWrite5mTokens + measures.cacheWrite1hTokens;
  const result: z.output<typeof completionsResult> = {
    object: "organization.usage.completions.result",
    input_tokens: measures.inputTokens + measures.cacheReadTokens + written,
    input_cached_tokens: measures.cacheReadTokens,
    input_cache_write_tokens: written,
    input_uncached_tokens: measures.inputTokens,
    output_tokens: measures.outputTokens + measures.reasoningTokens,
    num_model_requests: measures.requests,
    project_id: names.project_id,
    user_id: names.user_id,
    api_key_id: names.api_key_id,
    model: names.model,
    batch: null,
    service_tier: null,
    api_source: names.api_source,
  };
  return [JSON.stringify(result)];
};

/** Costs of a group: one result a currency, for what has a price. Usage without one is no result: its cost is not 0. */
export const formatCosts: FormatResults = (names, { cost, otherCosts }) => {
  const rest: Omit<z.output<typeof costsResult>, "object" | "amount"> = {
    line_item: names.line_item,
    project_id: names.project_id,
    user_id: names.user_id,
    api_key_id: names.api_key_id,
    quantity: null,
    quantity_unit: null,
    api_source: names.api_source,
  };
  return [cost, ...otherCosts]
    .filter(({ amount }) => /[1-9]/.test(amount))
    .map(({ amount, currency }) => {
      // The amount's own digits: a number of JavaScript's holds fewer.
      const exact = `{"value":${amount},"currency":${JSON.stringify(currency.toLowerCase())}}`;
      return `{"object":"organization.costs.result","amount":${exact},${JSON.stringify(rest).slice(1)}`;
    });
};

/** A page's JSON text: a bucket after the other, each with the results of its groups. */
export function formatPage(
  answer: Pick<UsageAnswer, "series" | "groups"> | null,
  {
    scope,
    nextPage,
    format,
  }: { scope: ResultScope; nextPage: string | null; format: FormatResults },
): string {
  const groups = answer?.groups?.map(({ series, ...group }) => ({ series, group }));
  const rows = groups ?? [{ series: answer?.series ?? [], group: undefined }];
  const buckets = (answer?.series ?? []).map(({ start, end }, at) => {
    const results = rows.flatMap(({ series, group }) => {
      const measures = series[at];
      return measures === undefined ? [] : format(namesOf(scope, group), measures);
    });
    return (
      `{"object":"bucket","start_time":${secondsOf(start)},"end_time":${secondsOf(end)},` +
      `"results":[${results.join(",")}]}`
    );
  });
  return (
    `{"object":"page","data":[${buckets.join(",")}],"has_more":${nextPage !== null},` +
    `"next_page":${JSON.stringify(nextPage)}}`
  );
}

const secondsOf = (instant: string): number => Date.parse(instant) / 1000;
