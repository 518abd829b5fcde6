import { z } from "zod";
import { getBreakdown } from "#query";
import {
  breakdownAnswer,
  completeParameter,
  groupParameters,
  memberParameters,
  outcomeParameters,
  windowParameters,
} from "../answers.ts";
import { databaseOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { aliasNote, asReport, orgParams } from "../parameters.ts";
import { sendReport } from "../report.ts";
import { breakdownTable } from "../tables.ts";

const query = z.strictObject({
  ...windowParameters,
  ...memberParameters,
  ...outcomeParameters,
  ...groupParameters,
  ...completeParameter,
});

const BREAKDOWNS = [
  { path: "models", name: "Models", groupedBy: "model", isAliased: true },
  { path: "users", name: "Users", groupedBy: "actor", isAliased: true },
  { path: "clients", name: "Clients", groupedBy: "client", isAliased: false },
] as const;

/** GET …/orgs/{orgId}/models, /users, /clients: who used what, with shares and change; all others in one row more. */
export function breakdownRoutes(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
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
          ...aliasNote(url, `get${name}`),
          summary: `Usage and cost of an org by ${groupedBy}`,
          params: orgParams,
          querystring: query,
          response: asReport(breakdownAnswer),
        },
        handler: async (request, reply) => {
          const { modelId, clientId, actorId, status, errorClass, ...rest } = request.query;
          const question = {
            ...rest,
            modelIds: modelId,
            clientIds: clientId,
            actorIds: actorId,
            statuses: status,
            errorClasses: errorClass,
          };
          return await sendReport(
            { request, reply, context },
            {
              name: path,
              schema: breakdownAnswer,
              csv: (answer, sees) => breakdownTable(answer, groupedBy, sees),
            },
            () =>
              getBreakdown(databaseOf(request), clock, {
                ...question,
                orgId: request.params.orgId,
                by: groupedBy,
              }),
          );
        },
      });
    }
  }
}
