import { z } from "zod";
import type { RouteContext, Server } from "../dependencies.ts";

/** GET /metrics: everything the process measures, in the Prometheus text format. */
export function metricRoutes(server: Server, { registry }: RouteContext): void {
  server.route({
    method: "GET",
    url: "/metrics",
    config: { scope: "metrics:read" },
    schema: {
      tags: ["Operations"],
      operationId: "getMetrics",
      summary: "Metrics for Prometheus",
      response: {
        200: {
          description: "Prometheus text format.",
          content: { "text/plain": { schema: z.string() } },
        },
      },
    },
    handler: async (_request, reply) =>
      reply.header("content-type", registry.contentType).send(await registry.metrics()),
  });
}
