import { z } from "zod";
import { Failure, formatNano, unpackCurrency } from "#contract";
import { formatCursor, parseCursor } from "#query";
import { listPoolHourPage, type PoolHour } from "#rerating";
import { databaseOf, requireMore } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { cutPage, pageOf, pageParameters } from "../lists.ts";
import { instantField } from "../parameters.ts";

const LIST = "pool-hours";

const amount = z.string().describe("Exact decimal, in units of the currency.");
const poolHour = z
  .object({
    pool: z.string(),
    orgId: z.string().nullable().describe("The org whose alone the pool is; null: all orgs'."),
    hour: z.string().describe("Its beginning, UTC."),
    currency: z.string(),
    cost: amount.describe("Of the part of the hour in which the pool's price holds."),
    shared: amount.describe(
      "What its calls took of it together: all of it, but for an idle hour and one that is not finished.",
    ),
    tokens: z.int().describe("Of the calls that it was shared by."),
    events: z.int(),
    isIdle: z.boolean().describe("No tokens were used: nobody took a share."),
    isFinished: z.boolean().describe("False: some of it is left for the next turn."),
    ratedAt: z.string().describe("When it was shared, the last time."),
  })
  .meta({ id: "PoolHour" });
const poolHourPage = pageOf(poolHour, "PoolHourPage");

const shown = (one: PoolHour): z.output<typeof poolHour> => ({
  pool: one.pool,
  orgId: one.orgId,
  hour: one.hour.toISOString(),
  currency: unpackCurrency(one.currency),
  cost: formatNano(BigInt(one.costNano)),
  shared: formatNano(BigInt(one.sharedNano)),
  tokens: one.tokens,
  events: one.events,
  isIdle: one.tokens === 0,
  isFinished: !one.isStale,
  ratedAt: one.ratedAt.toISOString(),
});

/** What capacity cost by the hour, and what calls took of it. */
export function poolRoutes(server: Server, { limits }: RouteContext): void {
  server.route({
    method: "GET",
    url: "/analytics/v1/admin/pools",
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["Prices"],
      operationId: "listPoolHours",
      summary: "List what pools cost by the hour, and what of it was shared",
      description:
        "Hours that begin in [start, end). An hour is listed when it was shared, a quarter of an hour after its end at the earliest. Takes the scope spend:read besides.",
      querystring: z.strictObject({
        start: instantField.describe("The first hours begin then."),
        end: instantField.describe("Half-open: no hour that begins then."),
        ...pageParameters,
      }),
      response: { 200: poolHourPage.describe("A page, by hour and pool.") },
    },
    handler: async (request) => {
      requireMore(request, "spend:read", "What pools cost");
      const { start, end, limit, cursor } = request.query;
      if (start >= end) throw noWindow();
      const offset = cursor === undefined ? 0 : parseCursor(LIST, cursor);
      const page = { start, end, offset, limit: limit + 1 };
      const found = await listPoolHourPage(databaseOf(request), page);
      return cutPage(found, limit, {
        cursorOf: () => formatCursor(LIST, offset + limit),
        show: shown,
      });
    },
  });
}

const noWindow = (): Failure =>
  new Failure("invalid_request", "The end must be later than the start.", {
    details: [
      { pointer: "/query/end", code: "invalid_range", message: "Half-open: [start, end)." },
    ],
  });
