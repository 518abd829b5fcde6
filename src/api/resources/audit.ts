import { z } from "zod";
import { type AuditRow, listAuditPage } from "#query";
import { databaseOf, orgIdIn } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { pageOf, pageParameters } from "../lists.ts";
import { orgParams } from "../parameters.ts";

const told = {
  actorName: z.string().nullable(),
  target: z.string().nullable().describe("What it was done to, or what was asked."),
  requestId: z.string().nullable(),
  details: z.record(z.string(), z.unknown()).nullable(),
};
const entry = z
  .object({
    seq: z.int().describe("Its number in this log, without gaps."),
    at: z.string(),
    actor: z.string().describe("Id of a key, or issuer and subject of a token."),
    action: z.string(),
    ...told,
  })
  .meta({ id: "AuditEntry" });
const page = pageOf(entry, "AuditPage");

/** What of an entry is in its JSON alone. */
const stored = z
  .object({
    actorName: told.actorName.default(null),
    target: told.target.default(null),
    requestId: told.requestId.default(null),
    details: told.details.default(null),
  })
  // An entry that somebody wrote past the service is shown as far as it can be.
  .catch({ actorName: null, target: null, requestId: null, details: null });

function entryOf(row: AuditRow): z.output<typeof entry> {
  const { seq, at, actor, action } = row;
  return { seq, at: at.toISOString(), actor, action, ...stored.parse(parseJson(row.entry)) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const PLACES = [
  {
    url: "/analytics/v1/orgs/:orgId/audit",
    params: orgParams,
    operationId: "listOrgAudit",
    summary: "Who changed what in an org, and who outside of it read its data",
  },
  {
    url: "/analytics/v1/system/audit",
    params: z.strictObject({}),
    operationId: "listSystemAudit",
    summary: "Who changed what for all orgs, and who read all orgs' data",
  },
] as const;

/** The audit log of an org, and that of all orgs together. */
export function auditRoutes(server: Server, { limits }: RouteContext): void {
  for (const { url, params, operationId, summary } of PLACES) {
    server.route({
      method: "GET",
      url,
      handlerTimeout: limits.readMsMax,
      config: { scope: "audit:read" },
      schema: {
        tags: ["Audit"],
        operationId,
        summary,
        params,
        querystring: z.strictObject(pageParameters),
        response: { 200: page.describe("A page, newest first.") },
      },
      handler: async (request) => {
        const org = orgIdIn(request) ?? null;
        const { rows, nextCursor } = await listAuditPage(databaseOf(request), org, request.query);
        return { items: rows.map(entryOf), nextCursor };
      },
    });
  }
}
