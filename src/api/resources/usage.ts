import { z } from "zod";
import { getUsage } from "#query";
import {
  compareParameter,
  completeParameter,
  granularityParameter,
  groupByParameter,
  groupParameters,
  memberParameters,
  outcomeParameters,
  taggedQuery,
  tagParameter,
  usageAnswer,
  windowParameters,
} from "../answers.ts";
import { databaseOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { aliasNote, asReport, orgParams, questionOf } from "../parameters.ts";
import { sendReport } from "../report.ts";
import { usageTable } from "../tables.ts";

const query = taggedQuery(
  z.strictObject({
    ...windowParameters,
    granularity: granularityParameter,
    ...memberParameters,
    tag: tagParameter,
    ...outcomeParameters,
    groupBy: groupByParameter,
    ...groupParameters,
    compare: compareParameter,
    ...completeParameter,
  }),
);

/** GET …/orgs/{orgId}/usage: requests, errors, tokens and cost of one org, per bucket and in all. */
export function usageRoutes(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  for (const url of ["/analytics/v1/orgs/:orgId/usage", "/api/v1/analytics/orgs/:orgId/usage"]) {
    server.route({
      method: "GET",
      url,
      handlerTimeout: limits.readMsMax,
      config: { scope: "usage:read" },
      schema: {
        tags: ["Reports"],
        ...aliasNote(url, "getUsage"),
        summary: "Usage and cost of an org",
        params: orgParams,
        querystring: query,
        response: asReport(usageAnswer),
      },
      handler: async (request, reply) => {
        const question = questionOf(request.query);
        return await sendReport(
          { request, reply, context },
          {
            name: "usage",
            schema: usageAnswer,
            csv: (answer, sees) => usageTable(answer, question.groupBy, sees),
          },
          () => getUsage(databaseOf(request), clock, { ...question, orgId: request.params.orgId }),
        );
      },
    });
  }
}
