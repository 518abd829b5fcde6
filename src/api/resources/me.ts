import { z } from "zod";
import { ROLES, SCOPES } from "#auth";
import { principalOf, quotasOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";

const answer = z
  .object({
    kind: z.enum(["key", "token"]).describe("What the caller came with."),
    name: z.string(),
    roles: z.array(z.enum(ROLES)),
    scopes: z.array(z.enum(SCOPES)),
    orgId: z.string().nullable().describe("The org it belongs to; null: all orgs."),
    writesFor: z
      .union([z.literal("any"), z.array(z.string())])
      .describe("The orgs it may send events for."),
    expiresAt: z.string().nullable(),
    isSuspended: z.boolean().describe("True: its org is suspended; nothing else is answered."),
    isSession: z.boolean().describe("True: it came in with a browser's session."),
    limits: z
      .object({ bodyBytesMax: z.int(), eventsMax: z.int() })
      .describe("Of one request with events."),
    rateLimits: z
      .array(
        z.object({
          policy: z.string(),
          quota: z.int().describe("Requests per minute."),
          remaining: z.int(),
          resetSeconds: z.int(),
        }),
      )
      .describe("What is left now, this request counted. Empty: there is no limit."),
  })
  .meta({ id: "PrincipalAnswer" });

/** GET /analytics/v1/me: who the caller is and what it may do. */
export function meRoutes(
  server: Server,
  { limits: { bodyBytesMax, eventsMax } }: RouteContext,
): void {
  server.route({
    method: "GET",
    url: "/analytics/v1/me",
    config: { scope: "self:read" },
    schema: {
      tags: ["Access"],
      operationId: "getPrincipal",
      summary: "Who this credential belongs to, and what it may do",
      response: { 200: answer.describe("The caller.") },
    },
    handler: async (request) => {
      const { kind, name, roles, scopes, orgId, writesFor, ...rest } = principalOf(request);
      return {
        kind,
        name,
        roles: [...roles],
        scopes: [...scopes],
        orgId,
        writesFor: writesFor === "any" ? writesFor : [...writesFor],
        expiresAt: rest.expiresAt?.toISOString() ?? null,
        isSuspended: rest.isSuspended,
        isSession: rest.session !== null,
        limits: { bodyBytesMax, eventsMax },
        rateLimits: quotasOf(request).map(({ policy, quota, remaining, resetSeconds }) => ({
          policy,
          quota,
          remaining,
          resetSeconds,
        })),
      };
    },
  });
}
