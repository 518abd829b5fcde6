import { z } from "zod";
import { SCOPES } from "#auth";
import { principalOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";

const answer = z
  .object({
    name: z.string(),
    role: z.string(),
    scopes: z.array(z.enum(SCOPES)),
    limits: z
      .object({ bodyBytesMax: z.int(), eventsMax: z.int() })
      .describe("Of one request with events."),
  })
  .meta({ id: "PrincipalAnswer" });

/** GET /analytics/v1/me: who the key belongs to and what it may do. */
export function meRoutes(
  server: Server,
  { limits: { bodyBytesMax, eventsMax } }: RouteContext,
): void {
  server.route({
    method: "GET",
    url: "/analytics/v1/me",
    config: { scope: "usage:read" },
    schema: {
      tags: ["Access"],
      operationId: "getPrincipal",
      summary: "Who this key belongs to, and what it may do",
      response: { 200: answer.describe("The key's principal.") },
    },
    handler: async (request) => {
      const { name, role, scopes } = principalOf(request);
      return { name, role, scopes: [...scopes], limits: { bodyBytesMax, eventsMax } };
    },
  });
}
