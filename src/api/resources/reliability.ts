import { z } from "zod";
import { getReliability } from "#query";
import {
  completeParameter,
  granularityParameter,
  groupByParameter,
  groupParameters,
  memberParameters,
  outcomeParameters,
  reliabilityAnswer,
  taggedQuery,
  tagParameter,
  windowParameters,
} from "../answers.ts";
import { databaseOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { aliasNote, asReport, listParameter, orgParams, questionOf } from "../parameters.ts";
import { sendReport } from "../report.ts";
import { reliabilityTable } from "../tables.ts";

const PERCENTILES_MAX = 10;

const query = taggedQuery(
  z.strictObject({
    ...windowParameters,
    granularity: granularityParameter,
    ...memberParameters,
    tag: tagParameter,
    ...outcomeParameters,
    groupBy: groupByParameter,
    ...groupParameters,
    percentile: listParameter(
      z.coerce.number().gt(0).lte(100),
      PERCENTILES_MAX,
      "Latency percentile in per cent, as 95 or 99.9; may be repeated. 50, 90, 95 and 99 when left out.",
    ),
    ...completeParameter,
  }),
);

/** GET …/orgs/{orgId}/reliability: error rate, errors by class and code, latency percentiles of one org. */
export function reliabilityRoutes(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  const url = "/analytics/v1/orgs/:orgId/reliability";
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "reliability:read" },
    schema: {
      tags: ["Reports"],
      ...aliasNote(url, "getReliability"),
      summary: "Errors and latencies of an org",
      params: orgParams,
      querystring: query,
      response: asReport(reliabilityAnswer),
    },
    handler: async (request, reply) => {
      const { percentile, ...rest } = request.query;
      const question = { ...questionOf(rest), percentiles: percentile };
      return await sendReport(
        { request, reply, context },
        {
          name: "reliability",
          schema: reliabilityAnswer,
          csv: (answer) => reliabilityTable(answer, question.groupBy),
        },
        () =>
          getReliability(databaseOf(request), clock, { ...question, orgId: request.params.orgId }),
      );
    },
  });
}
