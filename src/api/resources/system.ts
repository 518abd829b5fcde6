import { z } from "zod";
import { getSystemFreshness, getSystemUsage, getTopOrgs } from "#query";
import {
  compareParameter,
  completeParameter,
  granularityParameter,
  groupCursorParameter,
  groupParameters,
  modelParameter,
  outcomeParameters,
  systemFreshnessAnswer,
  systemUsageAnswer,
  topOrgsAnswer,
  windowParameters,
} from "../answers.ts";
import { databaseOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { aliasNote, asReport, questionOf } from "../parameters.ts";
import { sendReport } from "../report.ts";
import { systemFreshnessTable, topOrgsTable, usageTable } from "../tables.ts";

const usageQuery = z.strictObject({
  ...windowParameters,
  granularity: granularityParameter,
  modelId: modelParameter,
  ...outcomeParameters,
  groupBy: z
    .enum(["model", "status", "errorClass"])
    .optional()
    .describe("Split the answer by this."),
  ...groupParameters,
  compare: compareParameter,
  ...completeParameter,
});

const { timeZone, start, end } = windowParameters;
const topOrgsQuery = z.strictObject({
  start,
  end,
  timeZone,
  ...outcomeParameters,
  ...groupParameters,
  ...groupCursorParameter,
  ...completeParameter,
});

/** GET …/system/usage, /system/orgs, /system/freshness: all orgs together, for operators. */
export function systemRoutes(server: Server, context: RouteContext): void {
  for (const url of ["/analytics/v1/system/usage", "/api/v1/analytics/system/usage"])
    addUsage(server, context, url);
  addTopOrgs(server, context);
  addFreshness(server, context);
}

function addUsage(server: Server, context: RouteContext, url: string): void {
  const { clock, limits } = context;
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["System"],
      ...aliasNote(url, "getSystemUsage"),
      summary: "Usage and cost of all orgs together",
      querystring: usageQuery,
      response: asReport(systemUsageAnswer),
    },
    handler: async (request, reply) => {
      const question = questionOf(request.query);
      return await sendReport(
        { request, reply, context },
        {
          name: "system-usage",
          schema: systemUsageAnswer,
          csv: (answer, sees) => usageTable(answer, question.groupBy, sees),
        },
        () => getSystemUsage(databaseOf(request), clock, question),
      );
    },
  });
}

function addTopOrgs(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  const url = "/analytics/v1/system/orgs";
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["System"],
      ...aliasNote(url, "getTopOrgs"),
      summary: "The orgs that use most",
      querystring: topOrgsQuery,
      response: asReport(topOrgsAnswer),
    },
    handler: async (request, reply) => {
      return await sendReport(
        { request, reply, context },
        { name: "top-orgs", schema: topOrgsAnswer, csv: topOrgsTable },
        () => getTopOrgs(databaseOf(request), clock, questionOf(request.query)),
      );
    },
  });
}

function addFreshness(server: Server, context: RouteContext): void {
  const { limits } = context;
  const url = "/analytics/v1/system/freshness";
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["System"],
      ...aliasNote(url, "getSystemFreshness"),
      summary: "How current all numbers are, by org and source",
      querystring: z.strictObject({}),
      response: asReport(systemFreshnessAnswer),
    },
    handler: async (request, reply) =>
      await sendReport(
        { request, reply, context },
        { name: "system-freshness", schema: systemFreshnessAnswer, csv: systemFreshnessTable },
        () => getSystemFreshness(databaseOf(request)),
      ),
  });
}
