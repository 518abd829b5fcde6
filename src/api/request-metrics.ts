import { Histogram } from "prom-client";
import type { RouteContext, Server } from "./dependencies.ts";

/** Seconds; the budgets of a read (1 s) and of an ingest request lie on bounds. */
const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Counts and times every answer, by route template, method and status: never by org, user or path as sent. */
export function measureRequests(
  server: Server,
  { registry }: Pick<RouteContext, "registry">,
): void {
  const durations = new Histogram({
    name: "tallystick_http_request_duration_seconds",
    help: "Time to answer a request, by route template, method and status.",
    labelNames: ["method", "route", "status"],
    buckets: BUCKETS,
    registers: [registry],
  });
  server.addHook("onResponse", async (request, reply) => {
    const route = request.is404 ? "unmatched" : (request.routeOptions.url ?? "unmatched");
    durations.observe(
      { method: request.method, route, status: reply.statusCode },
      reply.elapsedTime / 1000,
    );
  });
}
