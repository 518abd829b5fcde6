import type { RouteContext, Server } from "./dependencies.ts";
import { withJsonBodies } from "./json-body.ts";
import { auditRoutes } from "./resources/audit.ts";
import { breakdownRoutes } from "./resources/breakdowns.ts";
import { budgetRoutes } from "./resources/budgets.ts";
import { eventRoutes } from "./resources/events.ts";
import { freshnessRoutes } from "./resources/freshness.ts";
import { healthRoutes } from "./resources/health.ts";
import { incidentRoutes } from "./resources/incidents.ts";
import { keyRoutes } from "./resources/keys.ts";
import { meRoutes } from "./resources/me.ts";
import { metricRoutes } from "./resources/metrics.ts";
import { modelRoutes } from "./resources/models.ts";
import { openAiUsageRoutes } from "./resources/openai-usage.ts";
import { orgRoutes } from "./resources/orgs.ts";
import { poolRoutes } from "./resources/pools.ts";
import { priceRoutes } from "./resources/prices.ts";
import { quarantineRoutes } from "./resources/quarantine.ts";
import { reliabilityRoutes } from "./resources/reliability.ts";
import { reratingRoutes } from "./resources/reratings.ts";
import { revocationRoutes } from "./resources/revocations.ts";
import { signInRoutes } from "./resources/sign-in.ts";
import { spendChangeRoutes } from "./resources/spend-change.ts";
import { systemRoutes } from "./resources/system.ts";
import { unpricedRoutes } from "./resources/unpriced.ts";
import { usageRoutes } from "./resources/usage.ts";

/** Every route that this process serves but the API's own description. */
export async function addRoutes(server: Server, context: RouteContext): Promise<void> {
  if (context.serves.events) await eventRoutes(server, context);
  if (context.serves.answers) {
    usageRoutes(server, context);
    reliabilityRoutes(server, context);
    incidentRoutes(server, context);
    breakdownRoutes(server, context);
    spendChangeRoutes(server, context);
    unpricedRoutes(server, context);
    freshnessRoutes(server, context);
    openAiUsageRoutes(server, context);
    systemRoutes(server, context);
    poolRoutes(server, context);
    quarantineRoutes(server, context);
    auditRoutes(server, context);
    await signInRoutes(server, context);
    await withJsonBodies(server, (inner) => {
      orgRoutes(inner, context);
      keyRoutes(inner, context);
      modelRoutes(inner, context);
      priceRoutes(inner, context);
      reratingRoutes(inner, context);
      budgetRoutes(inner, context);
      revocationRoutes(inner, context);
    });
  }
  meRoutes(server, context);
  healthRoutes(server, context);
  metricRoutes(server, context);
}
