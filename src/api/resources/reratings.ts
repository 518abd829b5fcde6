import type { FastifyRequest } from "fastify";
import { z } from "zod";
import {
  Failure,
  formatNano,
  unpackCurrency,
  modelIdField,
  orgIdField,
  printableText,
} from "#contract";
import { formatCursor, parseCursor } from "#query";
import {
  applyRerating,
  cancelRerating,
  getRerating,
  listReratingLinePage,
  listReratingPage,
  orderRerating,
  type Rerating,
  RERATING_STATES,
  type ReratingChange,
  type ReratingFailure,
  type ReratingLine,
  type ReratingRow,
  TALLIED,
  undoRerating,
} from "#rerating";
import { formatAccepted } from "../accept.ts";
import { callerOf, databaseOf, requireMore } from "../access.ts";
import { type CsvColumn, formatCsv } from "../csv.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { cutPage, pageOf, pageParameters } from "../lists.ts";
import { instantField } from "../parameters.ts";

/** Lines of one table. More are read as JSON, by page. */
const TABLE_LINES_MAX = 10_000;
/** Ids are int4: no order is beyond. */
const ID_MAX = 2 ** 31 - 1;
const REASON_CHARACTERS_MAX = 500;

const reratingParams = z.strictObject({
  reratingId: z
    .string()
    .regex(/^[1-9][0-9]{0,9}$/, "a whole number")
    .transform(Number)
    .refine((id) => id <= ID_MAX, "there is no such number")
    .describe("The order's number."),
});
const nothing = z.strictObject({});

const instant = instantField.refine((at) => at.getTime() >= 0, "must be 1970 or later");
const wish = z.strictObject({
  start: instant.describe("First instant at which a call occurred that is rated again."),
  end: instant.describe("The instant after the last."),
  orgId: orgIdField.nullable().default(null).describe("Only this org's; all orgs' when left out."),
  modelId: modelIdField
    .nullable()
    .default(null)
    .describe("Only of this model; of all models when left out."),
  reason: printableText(REASON_CHARACTERS_MAX).describe("Why; for the audit log."),
});

const failure = z
  .object({
    day: z.string().nullable().describe("The UTC day whose work failed; null: no day alone."),
    times: z.int().describe("How often in a row."),
    since: z.string().describe("The first time."),
    failedAt: z.string().describe("The last time."),
    nextTryAt: z.string().describe("Pauses grow from two seconds to five minutes."),
    error: z.string().describe("SQLSTATE and message of the last one, where these quote no data."),
  })
  .meta({ id: "ReratingFailure" });
const orderFields = {
  reratingId: z.int(),
  state: z
    .enum(RERATING_STATES)
    .describe(
      "What ends in -ing is under way: previewing, applying, undoing. What is cancelled has changed nothing and never will.",
    ),
  bookVersion: z.int().describe("The version of the price book by which it rates again."),
  orgId: z.string().nullable().describe("Null: all orgs."),
  modelId: z.string().nullable().describe("Null: all models."),
  start: z.string(),
  end: z.string(),
  reason: z.string(),
  createdAt: z.string(),
  createdBy: z.string(),
  createdByName: z.string(),
  finishedAt: z
    .string()
    .nullable()
    .describe(
      "When it came to be previewed, applied, undone or cancelled; null while work is under way.",
    ),
  days: z
    .object({
      total: z.int().describe("UTC days with usage; 0 while it is only ordered."),
      done: z.int().describe("Of these, done in the state it is in."),
      withoutRaw: z
        .int()
        .describe(
          "Of these, without single events any more: rated again from what is counted of them, where that is exact.",
        ),
    })
    .meta({ id: "ReratingDays" }),
  waitsFor: z
    .int()
    .nullable()
    .describe("The older order that has to be applied or undone before this one; null: none."),
  failure: failure
    .nullable()
    .describe("Why it does not go on; null while it does. What need not wait for it goes on."),
};
const rerating = z.object(orderFields).meta({ id: "Rerating" });
const orderPage = pageOf(rerating, "ReratingPage");

const decimal = z.string().describe("Exact decimal, in units of the currency.");
const change = z
  .object({
    requestsBefore: z.int().describe("Requests with a computed cost in this currency."),
    requestsAfter: z.int(),
    costBefore: decimal,
    costAfter: decimal,
    difference: decimal,
  })
  .meta({
    id: "ReratingSums",
    description: "Of the requests whose price changes: those that have a cost, and it.",
  });
const changeFields = {
  currency: z.string(),
  previewed: change.describe("As it was looked at."),
  applied: change.describe("As it was done; nothing before that, and after it was undone."),
};
const tally = z
  .object({
    became: z
      .enum(TALLIED)
      .describe(
        "`rated`, or the reason for which it is left as it is; contracts/prices.md lists them.",
      ),
    rows: z.int().describe("Hours or quarters of an hour of an org's model."),
    requests: z.int(),
  })
  .meta({ id: "ReratingTally" });
const reratingWithTotals = z
  .object({
    ...orderFields,
    withoutRaw: z
      .array(tally)
      .describe("Of usage without single events: what is rated again, and what is left and why."),
    totals: z
      .array(z.object(changeFields).meta({ id: "ReratingTotals" }))
      .describe("By currency; none where nothing with a computed cost changes."),
  })
  .meta({ id: "ReratingWithTotals" });
const line = z
  .object({
    day: z.string().describe("UTC."),
    orgId: z.string(),
    modelId: z
      .string()
      .nullable()
      .describe("Null: models beyond those that the org may name, together."),
    ...changeFields,
  })
  .meta({ id: "ReratingLine" });
const linePage = pageOf(line, "ReratingLinePage");

const iso = (at: Date | null): string | null => at?.toISOString() ?? null;

const shownOrder = (order: ReratingRow): z.output<typeof rerating> => ({
  reratingId: order.id,
  state: order.state,
  bookVersion: order.priceVersion,
  orgId: order.orgId,
  modelId: order.model,
  start: order.startsAt.toISOString(),
  end: order.endsAt.toISOString(),
  reason: order.reason,
  createdAt: order.createdAt.toISOString(),
  createdBy: order.createdBy,
  createdByName: order.createdByName,
  finishedAt: iso(order.finishedAt),
  days: { total: order.days, done: order.daysDone, withoutRaw: order.daysWithoutRaw },
  waitsFor: order.waitsFor,
  failure: order.failure && shownFailure(order.failure),
});

const shownFailure = ({ day, times, since, failedAt, retryAt, error }: ReratingFailure) => ({
  day,
  times,
  since: new Date(since).toISOString(),
  failedAt: new Date(failedAt).toISOString(),
  nextTryAt: new Date(retryAt).toISOString(),
  error,
});

function shownChange(
  [requestsBefore, requestsAfter]: readonly [number, number],
  nano: readonly [string, string],
): z.output<typeof change> {
  const [before, after] = [BigInt(nano[0]), BigInt(nano[1])];
  return {
    requestsBefore,
    requestsAfter,
    costBefore: formatNano(before),
    costAfter: formatNano(after),
    difference: formatNano(after - before),
  };
}

const shownSums = (sums: Rerating["totals"][number]) => ({
  currency: unpackCurrency(sums.currency),
  previewed: shownChange([sums.pricedBefore, sums.pricedAfter], [sums.nanoBefore, sums.nanoAfter]),
  applied: shownChange(
    [sums.appliedBefore, sums.appliedAfter],
    [sums.appliedNanoBefore, sums.appliedNanoAfter],
  ),
});

const shownLine = (one: ReratingLine): Line => ({
  day: one.day,
  orgId: one.orgId,
  modelId: one.model,
  ...shownSums(one),
});

type Line = z.output<typeof line>;
const sumColumns = (of: "previewed" | "applied"): CsvColumn<Line>[] =>
  (["requestsBefore", "requestsAfter", "costBefore", "costAfter", "difference"] as const).map(
    (name) => ({
      name: `${of}${name.charAt(0).toUpperCase()}${name.slice(1)}`,
      kind: "plain",
      value: (row) => row[of][name],
    }),
  );
const COLUMNS: readonly CsvColumn<Line>[] = [
  { name: "day", kind: "plain", value: ({ day }) => day },
  { name: "orgId", kind: "text", value: ({ orgId }) => orgId },
  { name: "modelId", kind: "text", value: ({ modelId }) => modelId },
  { name: "currency", kind: "text", value: ({ currency }) => currency },
  ...sumColumns("previewed"),
  ...sumColumns("applied"),
];

const PATH = "/analytics/v1/admin/reratings";

/** Rating again what an older version of the price book has rated: looked at first, then applied, and undone. */
export function reratingRoutes(server: Server, context: RouteContext): void {
  addOrder(server, context);
  addList(server, context);
  addOne(server, context);
  addLines(server, context);
  addStep(server, context, {
    name: "apply",
    summary: "Do what was previewed",
    description:
      "Refused (409) when prices have changed since the preview. The work goes on after the answer: ask for the order until it is applied. Safe to repeat.",
    step: applyRerating,
  });
  addStep(server, context, {
    name: "undo",
    summary: "Take back what was applied",
    description:
      "Refused (409) when a later one was applied: only the newest can be undone. One that is still being applied can always be. The work goes on after the answer: ask for the order until it is undone. Safe to repeat.",
    step: undoRerating,
  });
  addStep(server, context, {
    name: "cancel",
    summary: "Give up what was not applied",
    description:
      "Of an order that is ordered, previewing or previewed: it has changed nothing, and ends for good. Refused (409) once it was to be applied: undo it. Safe to repeat.",
    step: cancelRerating,
  });
}

/** Who changes what is about to be changed, and when. */
function changeOf(request: FastifyRequest, { clock }: Pick<RouteContext, "clock">): ReratingChange {
  const { principal, requestId } = callerOf(request);
  const at = new Date(clock.now());
  return { actor: principal.id, actorName: principal.name, requestId, at };
}

function addOrder(server: Server, context: RouteContext): void {
  server.route({
    method: "POST",
    url: PATH,
    config: { scope: "system:write" },
    schema: {
      tags: ["Prices"],
      operationId: "orderRerating",
      summary: "Look at what rating again would change",
      description:
        "By the newest version of the price book. Changes no cost: it is worked out after the answer, day by day, and can then be applied. Each request is an order of its own.",
      querystring: nothing,
      body: wish,
      response: { 201: rerating.describe("The order.") },
    },
    handler: async (request, reply) => {
      const wanted = request.body;
      const made = await orderRerating(databaseOf(request), wanted, changeOf(request, context));
      return reply.code(201).send(shownOrder(made));
    },
  });
}

function addList(server: Server, { limits }: RouteContext): void {
  server.route({
    method: "GET",
    url: PATH,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["Prices"],
      operationId: "listReratings",
      summary: "List orders to rate again",
      querystring: z.strictObject(pageParameters),
      response: { 200: orderPage.describe("A page, newest first.") },
    },
    handler: async (request) => {
      const { limit, cursor } = request.query;
      const before =
        cursor === undefined ? null : Math.min(parseCursor("reratings", cursor), ID_MAX);
      const found = await listReratingPage(databaseOf(request), { before, limit: limit + 1 });
      return cutPage(found, limit, {
        cursorOf: ({ id }) => formatCursor("reratings", id),
        show: shownOrder,
      });
    },
  });
}

function addOne(server: Server, { limits }: RouteContext): void {
  server.route({
    method: "GET",
    url: `${PATH}/:reratingId`,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["Prices"],
      operationId: "getRerating",
      summary: "Show an order to rate again, how far it is and what it changes",
      params: reratingParams,
      querystring: nothing,
      response: { 200: reratingWithTotals.describe("The order, with totals by currency.") },
    },
    handler: async (request) => {
      requireSpend(request);
      const {
        totals,
        tally: withoutRaw,
        ...order
      } = await getRerating(databaseOf(request), request.params.reratingId);
      return { ...shownOrder(order), withoutRaw, totals: totals.map(shownSums) };
    },
  });
}

/** Who may see all orgs, but no money, sees orders without what they come to. */
const requireSpend = (request: FastifyRequest): void =>
  requireMore(request, "spend:read", "What a re-rating changes");

const ORDERS = { day: "rerating-lines", difference: "rerating-lines-by-difference" } as const;

function addLines(server: Server, { limits }: RouteContext): void {
  server.route({
    method: "GET",
    url: `${PATH}/:reratingId/lines`,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["Prices"],
      operationId: "listReratingLines",
      summary: "Show what an order to rate again changes, by UTC day, org and model",
      description: `With \`Accept: text/csv\` all lines in one table, whatever the page; refused (400) when they are more than ${TABLE_LINES_MAX}.`,
      params: reratingParams,
      querystring: z.strictObject({
        orderBy: z
          .enum(["day", "difference"])
          .default("day")
          .describe(
            "day: by day, org and model. difference: the largest previewed one first, up or down, its number alone being compared.",
          ),
        ...pageParameters,
      }),
      response: {
        200: {
          description: "A page, or all lines as a table.",
          content: {
            "application/json": { schema: linePage },
            "text/csv": { schema: z.string() },
          },
        },
      },
    },
    handler: async (request, reply) => {
      requireSpend(request);
      const format = formatAccepted(request.headers.accept);
      const { reratingId: id } = request.params;
      const { limit, cursor, orderBy } = request.query;
      const list = ORDERS[orderBy];
      const offset = format === "csv" || cursor === undefined ? 0 : parseCursor(list, cursor);
      const length = format === "csv" ? TABLE_LINES_MAX : limit;
      const found = await listReratingLinePage(databaseOf(request), {
        id,
        orderBy,
        offset,
        limit: length + 1,
      });
      if (format === "json")
        return cutPage(found, limit, {
          cursorOf: () => formatCursor(list, offset + limit),
          show: shownLine,
        });
      if (found.length > length) throw tableTooLong();
      reply.header("content-type", "text/csv; charset=utf-8; header=present");
      reply.header("content-disposition", `attachment; filename="rerating-${id}.csv"`);
      return await reply.send(formatCsv(COLUMNS, found.map(shownLine)));
    },
  });
}

const tableTooLong = (): Failure =>
  new Failure(
    "range_too_large",
    `There are more than ${TABLE_LINES_MAX} lines: read them as JSON, by page.`,
  );

function addStep(
  server: Server,
  context: RouteContext,
  {
    name,
    summary,
    description,
    step,
  }: {
    name: "apply" | "undo" | "cancel";
    summary: string;
    description: string;
    step: typeof applyRerating;
  },
): void {
  server.route({
    method: "POST",
    url: `${PATH}/:reratingId/${name}`,
    config: { scope: "system:write" },
    schema: {
      tags: ["Prices"],
      operationId: `${name}Rerating`,
      summary,
      description,
      params: reratingParams,
      querystring: nothing,
      response: { 200: rerating.describe("The order as it is now.") },
    },
    handler: async (request) => {
      const { reratingId } = request.params;
      return shownOrder(await step(databaseOf(request), reratingId, changeOf(request, context)));
    },
  });
}
