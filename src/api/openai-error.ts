import { z } from "zod";
import type { Problem } from "./problem.ts";

/** Under this lies what has the shape of OpenAI's API, its errors too. */
const PREFIX = "/v1/";

/** Whether errors of a path have OpenAI's shape. */
export const hasOpenAiErrors = (url: string): boolean => url.startsWith(PREFIX);

/** What went wrong, as OpenAI's API says it and its client libraries read it. */
export const openAiError = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.enum(["invalid_request_error", "rate_limit_error", "server_error"]),
      param: z.string().nullable().describe("The parameter it is about."),
      code: z
        .string()
        .describe("As in problems elsewhere; invalid_api_key and rate_limit_exceeded as OpenAI's."),
    }),
  })
  .meta({ id: "OpenAiError", description: "What went wrong, in the shape of OpenAI's API." });

/** Codes that programs written for OpenAI know by another name. */
const CODES: Readonly<Record<string, string>> = {
  unauthenticated: "invalid_api_key",
  rate_limited: "rate_limit_exceeded",
};

/** Parameters of ours by the name they have there. */
const PARAMETERS: Readonly<Record<string, string>> = {
  start: "start_time",
  end: "end_time",
  granularity: "bucket_width",
  modelId: "models",
  clientId: "api_key_ids",
  actorId: "user_ids",
  groupBy: "group_by",
};

/** A problem as OpenAI's API would tell it. Says nothing that the problem does not. */
export function openAiErrorOf(problem: Problem): z.output<typeof openAiError> {
  const details = problem.errors.map((each) => ({ ...each, param: parameterIn(each.pointer) }));
  const more = details
    .filter(({ message }) => !problem.detail.includes(message))
    .map(({ param, message }) => (param === null ? message : `${param}: ${message}`));
  return {
    error: {
      message: [problem.detail, ...more].join(" "),
      type: typeOf(problem.status),
      param: details[0]?.param ?? null,
      code: CODES[problem.code] ?? problem.code,
    },
  };
}

function typeOf(status: number) {
  if (status === 429) return "rate_limit_error" as const;
  return status >= 500 ? ("server_error" as const) : ("invalid_request_error" as const);
}

/** "/query/group_by[]/0" → "group_by"; null: it is about no parameter. */
function parameterIn(pointer: string): string | null {
  const name = /^\/query\/([^/]+)/.exec(pointer)?.[1]?.replace(/\[\]$/, "");
  return name === undefined ? null : (PARAMETERS[name] ?? name);
}
