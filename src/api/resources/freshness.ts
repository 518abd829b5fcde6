import { z } from "zod";
import { getFreshness } from "#query";
import { freshnessAnswer } from "../answers.ts";
import { databaseOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { aliasNote, asReport, orgParams } from "../parameters.ts";
import { sendReport } from "../report.ts";
import { freshnessTable } from "../tables.ts";

/** GET …/orgs/{orgId}/freshness: how current the org's numbers are, by model and source. */
export function freshnessRoutes(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  const url = "/analytics/v1/orgs/:orgId/freshness";
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "usage:read" },
    schema: {
      tags: ["Freshness"],
      ...aliasNote(url, "getFreshness"),
      summary: "How current an org's numbers are",
      params: orgParams,
      querystring: z.strictObject({}),
      response: asReport(freshnessAnswer),
    },
    handler: async (request, reply) =>
      await sendReport(
        { request, reply, context },
        { name: "freshness", schema: freshnessAnswer, csv: freshnessTable },
        () => getFreshness(databaseOf(request), clock, { orgId: request.params.orgId }),
      ),
  });
}
