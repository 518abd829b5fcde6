import { z } from "zod";
import type { ProbeResult, ReadinessProbe, RouteContext, Server } from "../dependencies.ts";

const alive = z.object({ status: z.literal("ok") }).meta({ id: "HealthAnswer" });

const readiness = z
  .object({
    status: z.enum(["ready", "not_ready", "shutting_down"]),
    checks: z.record(
      z.string(),
      z.object({
        ok: z.boolean(),
        detail: z.string(),
        durationMs: z.number().describe("How long the check took."),
      }),
    ),
  })
  .meta({ id: "ReadinessAnswer" });

const PROBE_MS_MAX = 900;

/**
 * Health (this process answers) and readiness (what it needs is in order), for load balancers and people: no key.
 * Readiness fails first when the service is stopping.
 */
export function healthRoutes(server: Server, context: RouteContext): void {
  const { probes, clock } = context;
  for (const url of ["/health", "/analytics/v1/status/healthz"]) {
    server.route({
      method: "GET",
      url,
      config: { scope: "public", isProbe: true },
      schema: {
        tags: ["Operations"],
        operationId: url === "/health" ? "getHealth" : "getHealthz",
        summary: "Whether the process answers",
        response: { 200: alive.describe("It does; this says nothing about the database.") },
      },
      handler: async () => ({ status: "ok" as const }),
    });
  }
  for (const url of ["/ready", "/analytics/v1/status/readyz"]) {
    server.route({
      method: "GET",
      url,
      config: { scope: "public", isProbe: true },
      schema: {
        tags: ["Operations"],
        operationId: url === "/ready" ? "getReadiness" : "getReadyz",
        summary: "Whether everything the service needs is in order",
        response: {
          200: readiness.describe("It is: send traffic."),
          503: readiness.describe("It is not, or the service is stopping: send no traffic."),
        },
      },
      handler: async (_request, reply) => {
        const names = Object.keys(probes);
        const results = await Promise.all(
          Object.values(probes).map((probe) => askProbe(probe, clock)),
        );
        const checks = Object.fromEntries(results.map((result, i) => [names[i] ?? "", result]));
        const isGood = results.every((result) => result.ok);
        const status = !context.isReady() ? "shutting_down" : isGood ? "ready" : "not_ready";
        return reply.code(status === "ready" ? 200 : 503).send({ status, checks });
      },
    });
  }
}

/** One probe's word, or that it gave none in time: an answer about health must not hang on what is ill. */
async function askProbe(probe: ReadinessProbe, clock: RouteContext["clock"]) {
  const startMs = clock.now();
  const { promise: overdue, resolve } = Promise.withResolvers<ProbeResult>();
  const timer = setTimeout(
    () => resolve({ ok: false, detail: `no answer within ${PROBE_MS_MAX} ms` }),
    PROBE_MS_MAX,
  );
  try {
    const { ok, detail } = await Promise.race([probe(), overdue]);
    return { ok, detail, durationMs: clock.now() - startMs };
  } catch {
    return {
      ok: false,
      detail: "the check failed; the log has more",
      durationMs: clock.now() - startMs,
    };
  } finally {
    clearTimeout(timer);
  }
}
