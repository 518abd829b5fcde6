import { z } from "zod";
import { ERROR_CLASSES, INCIDENT_KINDS, listIncidents, listSystemIncidents } from "#query";
import {
  measures,
  moneyAnswerFields,
  refusedParameters,
  taggedQuery,
  windowParameters,
} from "../answers.ts";
import { databaseOf } from "../access.ts";
import { type CsvColumn, formatCsv } from "../csv.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { aliasNote, asReport, orgParams, questionOf } from "../parameters.ts";
import { sendReport } from "../report.ts";
import type { Sees } from "../tables.ts";

const query = z.strictObject({
  ...windowParameters,
  kind: z.enum(INCIDENT_KINDS).optional().describe("Only these; both when left out."),
});

const orgQuery = taggedQuery(query.extend(refusedParameters));

const contributionFields = {
  requests: z.int().describe("All calls during the incident."),
  observed: z.int().describe("Those that failed, or were slower than the usual p95."),
  expected: z.number().describe("How many of them are usual."),
  excess: z.number(),
  share: z.number().describe("Part of all that was too much, 0 to 1."),
  isOther: z.boolean().describe("True: all further ones, added up."),
};

const incident = z
  .object({
    id: z.string().describe("The same whenever this incident is found."),
    kind: z.enum(INCIDENT_KINDS),
    start: z.string(),
    end: z.string().describe("The instant after; moves on while isOpen."),
    isOpen: z.boolean(),
    cause: z
      .enum(["client", "service"])
      .nullable()
      .describe("client: nearly all errors too many are the callers' own. Null for latency."),
    peak: z
      .object({
        start: z.string(),
        modelId: z.string().nullable(),
        isWholeOrg: z.boolean().describe("True: measured over all models, as none stands out."),
        value: z.number().describe("Error rate (0 to 1), or p95 in ms."),
        baseline: z.number().describe("What is usual, in the same unit."),
        magnitude: z.number().nullable().describe("Value by baseline; null when that is zero."),
      })
      .describe("The worst quarter of an hour, of the model hit hardest."),
    affected: z
      .object({
        requests: z.int(),
        errors: z.int(),
        slow: z.int().nullable().describe("Calls slower than the usual p95; null for error_rate."),
        cost: measures.shape.cost,
        otherCosts: measures.shape.otherCosts,
      })
      .describe("All calls of the time to the models that were hit."),
    models: z.array(z.object({ modelId: z.string().nullable(), ...contributionFields })),
    clients: z
      .array(z.object({ clientId: z.string().nullable(), ...contributionFields }))
      .nullable()
      .describe("Null across orgs."),
    errorClasses: z.array(
      z.object({ errorClass: z.enum(ERROR_CLASSES).nullable(), ...contributionFields }),
    ),
  })
  .meta({ id: "Incident" });

const incidentFields = {
  ...moneyAnswerFields,
  incidents: z.array(incident).describe("Those that overlap the window, the newest first."),
  omitted: z.int().describe("Older ones of the window, left out."),
};
const incidentsAnswer = z
  .object({ orgId: z.string(), ...incidentFields })
  .meta({ id: "IncidentsAnswer" });
const systemIncidentsAnswer = z
  .object({ orgId: z.null(), ...incidentFields })
  .meta({ id: "SystemIncidentsAnswer" });

const DESCRIPTION =
  "Stretches in which clearly more calls failed than usual, or were slower (p95), against the same hour of the week " +
  "in up to four weeks before. Found in quarters of an hour of which everything is counted.";

/** GET …/orgs/{orgId}/incidents and …/system/incidents: when errors or latencies spiked, how much, and where. */
export function incidentRoutes(server: Server, context: RouteContext): void {
  addOrgIncidents(server, context);
  addSystemIncidents(server, context);
}

function addOrgIncidents(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  const url = "/analytics/v1/orgs/:orgId/incidents";
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "reliability:read" },
    schema: {
      tags: ["Reports"],
      ...aliasNote(url, "listIncidents"),
      summary: "Incidents of an org: error and latency spikes",
      description: DESCRIPTION,
      params: orgParams,
      querystring: orgQuery,
      response: asReport(incidentsAnswer),
    },
    handler: async (request, reply) =>
      await sendReport(
        { request, reply, context },
        { name: "incidents", schema: incidentsAnswer, csv: incidentsTable },
        async () => {
          const { orgId } = request.params;
          const question = { ...questionOf(request.query), orgId };
          return { ...(await listIncidents(databaseOf(request), clock, question)), orgId };
        },
      ),
  });
}

function addSystemIncidents(server: Server, context: RouteContext): void {
  const { clock, limits } = context;
  const url = "/analytics/v1/system/incidents";
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["System"],
      ...aliasNote(url, "listSystemIncidents"),
      summary: "Incidents in the calls of all orgs together",
      description: DESCRIPTION,
      querystring: query,
      response: asReport(systemIncidentsAnswer),
    },
    handler: async (request, reply) =>
      await sendReport(
        { request, reply, context },
        { name: "system-incidents", schema: systemIncidentsAnswer, csv: incidentsTable },
        async () => ({
          ...(await listSystemIncidents(databaseOf(request), clock, request.query)),
          orgId: null,
        }),
      ),
  });
}

type Row = z.output<typeof incident>;
const COLUMNS: CsvColumn<Row>[] = [
  { name: "id", kind: "text", value: (row) => row.id },
  { name: "kind", kind: "text", value: (row) => row.kind },
  { name: "start", kind: "plain", value: (row) => row.start },
  { name: "end", kind: "plain", value: (row) => row.end },
  { name: "isOpen", kind: "plain", value: (row) => row.isOpen },
  { name: "cause", kind: "text", value: (row) => row.cause },
  { name: "peakStart", kind: "plain", value: (row) => row.peak.start },
  { name: "peakValue", kind: "plain", value: (row) => row.peak.value },
  { name: "baseline", kind: "plain", value: (row) => row.peak.baseline },
  { name: "magnitude", kind: "plain", value: (row) => row.peak.magnitude },
  { name: "modelId", kind: "text", value: (row) => row.models[0]?.modelId ?? null },
  { name: "clientId", kind: "text", value: (row) => row.clients?.[0]?.clientId ?? null },
  { name: "errorClass", kind: "text", value: (row) => row.errorClasses[0]?.errorClass ?? null },
  { name: "requests", kind: "plain", value: (row) => row.affected.requests },
  { name: "errors", kind: "plain", value: (row) => row.affected.errors },
  { name: "slow", kind: "plain", value: (row) => row.affected.slow },
];
const SPENT: CsvColumn<Row>[] = [
  { name: "cost", kind: "plain", value: (row) => row.affected.cost?.amount ?? null },
  { name: "currency", kind: "text", value: (row) => row.affected.cost?.currency ?? null },
];

/** A row per incident, with the model, client and error class that contributed most. */
const incidentsTable = ({ incidents }: { incidents: Row[] }, { spend }: Sees): string =>
  formatCsv(spend ? [...COLUMNS, ...SPENT] : COLUMNS, incidents);
