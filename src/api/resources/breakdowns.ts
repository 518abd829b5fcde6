import { z } from "zod";
import { TAG_KEY } from "#contract";
import { getBreakdown, type BreakdownQuestion, type TagGrouping } from "#query";
import {
  breakdownAnswer,
  completeParameter,
  groupCursorParameter,
  groupParameters,
  memberParameters,
  outcomeParameters,
  taggedQuery,
  tagParameter,
  windowParameters,
} from "../answers.ts";
import { databaseOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { aliasNote, asReport, orgParams, questionOf } from "../parameters.ts";
import { type Exchange, sendReport } from "../report.ts";
import { breakdownTable } from "../tables.ts";

const parameters = z.strictObject({
  ...windowParameters,
  ...memberParameters,
  tag: tagParameter,
  ...outcomeParameters,
  ...groupParameters,
  ...groupCursorParameter,
  ...completeParameter,
});
const query = taggedQuery(parameters);
const tagsQuery = taggedQuery(
  parameters.extend({
    tagKey: z.string().regex(TAG_KEY).describe("A tag key that the org has declared."),
  }),
);

const BREAKDOWNS = [
  { path: "models", name: "Models", groupedBy: "model", isAliased: true },
  { path: "users", name: "Users", groupedBy: "actor", isAliased: true },
  { path: "clients", name: "Clients", groupedBy: "client", isAliased: false },
] as const;

const describe = (groupedBy: string): string =>
  `It can be filtered by ${groupedBy}, status and errorClass; other filters are refused, as usage is not kept per pair.`;

/**
 * GET …/orgs/{orgId}/models, /users, /clients, /tags: who used what, with shares and change; all others in one row
 * more.
 */
export function breakdownRoutes(server: Server, context: RouteContext): void {
  const { limits } = context;
  for (const { path, name, groupedBy, isAliased } of BREAKDOWNS) {
    const urls = [
      `/analytics/v1/orgs/:orgId/${path}`,
      ...(isAliased ? [`/api/v1/analytics/orgs/:orgId/${path}`] : []),
    ];
    for (const url of urls) {
      server.route({
        method: "GET",
        url,
        handlerTimeout: limits.readMsMax,
        config: { scope: "usage:read" },
        schema: {
          tags: ["Reports"],
          description: describe(groupedBy),
          ...aliasNote(url, `get${name}`),
          summary: `Usage and cost of an org by ${groupedBy}`,
          params: orgParams,
          querystring: query,
          response: asReport(breakdownAnswer),
        },
        handler: async (request, reply) => {
          const question = { ...questionOf(request.query), orgId: request.params.orgId };
          return await sendBreakdown({ request, reply, context }, path, {
            ...question,
            by: groupedBy,
          });
        },
      });
    }
  }
  addTags(server, context);
}

function addTags(server: Server, context: RouteContext): void {
  const url = "/analytics/v1/orgs/:orgId/tags";
  server.route({
    method: "GET",
    url,
    handlerTimeout: context.limits.readMsMax,
    config: { scope: "usage:read" },
    schema: {
      tags: ["Reports"],
      description: describe("tag (values of the same key)"),
      ...aliasNote(url, "getTags"),
      summary: "Usage and cost of an org by the values of a tag key",
      params: orgParams,
      querystring: tagsQuery,
      response: asReport(breakdownAnswer),
    },
    handler: async (request, reply) => {
      const { tagKey, ...rest } = request.query;
      const question = { ...questionOf(rest), orgId: request.params.orgId };
      return await sendBreakdown({ request, reply, context }, "tags", {
        ...question,
        by: `tag:${tagKey}`,
      });
    },
  });
}

const sendBreakdown = (
  exchange: Exchange,
  name: string,
  question: BreakdownQuestion & { orgId: string; by: "model" | "client" | "actor" | TagGrouping },
) =>
  sendReport(
    exchange,
    {
      name,
      schema: breakdownAnswer,
      csv: (answer, sees) => breakdownTable(answer, question.by, sees),
    },
    () => getBreakdown(databaseOf(exchange.request), exchange.context.clock, question),
  );
