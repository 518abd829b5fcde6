import { z } from "zod";
import type { RevocationRecord } from "#auth";
import { printableText } from "#contract";
import { callerOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { instantField } from "../parameters.ts";

const LIST_ITEMS_MAX = 1000;

const kind = z
  .enum(["jti", "sub"])
  .describe("jti: one token. sub: all tokens of one subject that were issued until now.");
const newRevocation = z.strictObject({
  kind,
  value: printableText(512).describe("The token's jti, or the subject."),
  issuer: printableText(2048).optional().describe("The configured one when left out."),
  until: instantField.describe("RFC 3339: when all these tokens have expired by themselves."),
});
const revocation = z
  .object({
    kind,
    issuer: z.string(),
    value: z.string(),
    until: z.string(),
    createdAt: z.string(),
    createdBy: z.string(),
  })
  .meta({ id: "Revocation" });

const revocationOf = (record: RevocationRecord): z.output<typeof revocation> => ({
  ...record,
  until: record.until.toISOString(),
  createdAt: record.createdAt.toISOString(),
});

const URL = "/analytics/v1/admin/revocations";

/** Access tokens that are refused although they have not expired. Keys are revoked by themselves. */
export function revocationRoutes(server: Server, { identity, limits }: RouteContext): void {
  server.route({
    method: "GET",
    url: URL,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:write" },
    schema: {
      tags: ["Access"],
      operationId: "listAdminRevocations",
      summary: "List the tokens and subjects that are refused",
      querystring: z.strictObject({
        limit: z.coerce.number().int().min(1).max(LIST_ITEMS_MAX).default(100),
      }),
      response: {
        200: z
          .object({ items: z.array(revocation) })
          .meta({ id: "RevocationList" })
          .describe("Those in force, in the order of what they name."),
      },
    },
    handler: async (request) => {
      const found = await identity.revocations.list(callerOf(request), request.query);
      return { items: found.map(revocationOf) };
    },
  });
  server.route({
    method: "POST",
    url: URL,
    config: { scope: "system:write" },
    schema: {
      tags: ["Access"],
      operationId: "createAdminRevocation",
      summary: "Refuse a token, or all tokens of a subject",
      description: "In force at once here, and within 30 seconds everywhere. Safe to repeat.",
      querystring: z.strictObject({}),
      body: newRevocation,
      response: { 201: revocation.describe("It is refused from now on.") },
    },
    handler: async (request, reply) => {
      const made = await identity.revocations.create(callerOf(request), request.body);
      return reply.code(201).send(revocationOf(made));
    },
  });
}
