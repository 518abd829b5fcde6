import type { FastifyReply } from "fastify";
import { Failure } from "#contract";
import { getUsage, type Grouping, GROUPS_MAX, type Order, SERIES_POINTS_MAX } from "#query";
import { databaseOf, orgOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { type BucketWidth, createPage } from "../openai-page.ts";
import { costsQuery, usageQuery } from "../openai-parameters.ts";
import {
  completionsPage,
  costsPage,
  formatCompletions,
  formatCosts,
  formatPage,
  type FormatResults,
  type ResultField,
} from "../openai-results.ts";
import { type Exchange, formatPricing } from "../report.ts";

/** Buckets of a page: so many when nothing is said, and at most. */
const USAGE_BUCKETS = {
  "1h": { byDefault: 24, max: 168 },
  "1d": { byDefault: 7, max: 31 },
} as const satisfies Record<BucketWidth, object>;
const COSTS_BUCKETS = { byDefault: 7, max: 180 } as const;

/**
 * GET /v1/organization/usage/completions and /v1/organization/costs: an org's own numbers, those under /analytics/v1,
 * in the shape of OpenAI's API, for programs written for that.
 */
export function openAiUsageRoutes(server: Server, context: RouteContext): void {
  addCompletions(server, context);
  addCosts(server, context);
}

function addCompletions(server: Server, context: RouteContext): void {
  server.route({
    method: "GET",
    url: "/v1/organization/usage/completions",
    handlerTimeout: context.limits.readMsMax,
    config: { scope: "usage:read" },
    schema: {
      tags: ["In OpenAI's shape"],
      operationId: "getCompletionsUsage",
      summary: "Usage of an org, as OpenAI's API tells it",
      querystring: usageQuery,
      response: { 200: completionsPage.describe("A page of buckets.") },
    },
    handler: async (request, reply) => {
      const { query } = request;
      const { bucket_width: width } = query;
      if (width === "1m") throw tooFine();
      if (query.batch !== undefined) throw unknownBatch();
      const question: Question = {
        kind: "usage",
        width,
        startTime: query.start_time,
        endTime: query.end_time,
        page: query.page,
        limit: limitOf(query.limit, USAGE_BUCKETS[width]),
        models: join(query.models, query["models[]"]),
        users: join(query.user_ids, query["user_ids[]"]),
        keys: join(query.api_key_ids, query["api_key_ids[]"]),
        fields: new Set(join(query.group_by, query["group_by[]"])),
      };
      const orgId = orgOf(request, "project_ids", join(query.project_ids, query["project_ids[]"]));
      return await sendPage({ request, reply, context }, question, {
        orgId,
        orderBy: "requests",
        format: formatCompletions,
      });
    },
  });
}

function addCosts(server: Server, context: RouteContext): void {
  server.route({
    method: "GET",
    url: "/v1/organization/costs",
    handlerTimeout: context.limits.readMsMax,
    config: { scope: "spend:read" },
    schema: {
      tags: ["In OpenAI's shape"],
      operationId: "getCosts",
      summary: "Costs of an org, as OpenAI's API tells them",
      description:
        "They add up to the costs of usage, to the last digit. They are those that the org's reports show, which the header Tallystick-Cost-Basis names; Tallystick-Price-Book-Version is the price book's newest version. Usage without a cost is in no result; the header Tallystick-Priced-Request-Share tells the share of requests that have one.",
      querystring: costsQuery,
      response: { 200: costsPage.describe("A page of buckets.") },
    },
    handler: async (request, reply) => {
      const { query } = request;
      const question: Question = {
        kind: "costs",
        width: query.bucket_width,
        startTime: query.start_time,
        endTime: query.end_time,
        page: query.page,
        limit: limitOf(query.limit, COSTS_BUCKETS),
        models: join(query.line_items, query["line_items[]"]),
        users: join(query.user_ids, query["user_ids[]"]),
        keys: join(query.api_key_ids, query["api_key_ids[]"]),
        fields: new Set(join(query.group_by, query["group_by[]"])),
      };
      const orgId = orgOf(request, "project_ids", join(query.project_ids, query["project_ids[]"]));
      return await sendPage({ request, reply, context }, question, {
        orgId,
        orderBy: "cost",
        format: formatCosts,
      });
    },
  });
}

const join = <Item>(plain: Item[] = [], bracketed: Item[] = []): Item[] => [...plain, ...bracketed];

type Question = {
  kind: "usage" | "costs";
  width: BucketWidth;
  startTime: number;
  endTime: number | undefined;
  page: string | undefined;
  /** Buckets of the page. */
  limit: number;
  /** Lists of whom to count; empty: all. */
  models: readonly string[];
  users: readonly string[];
  keys: readonly string[];
  fields: ReadonlySet<ResultField>;
};

async function sendPage(
  { request, reply, context }: Exchange,
  question: Question,
  { orgId, orderBy, format }: { orgId: string; orderBy: Order; format: FormatResults },
): Promise<FastifyReply> {
  const { kind, models, users, keys, fields, limit } = question;
  const groupBy = groupingOf(question);
  const subject = [kind, orgId, models, users, keys, [...fields].toSorted()];
  const { span, granularity, nextPage } = createPage({ ...question, subject }, context.clock.now());
  const ask = async () =>
    span &&
    (await getUsage(databaseOf(request), context.clock, {
      orgId,
      start: new Date(span.startMs).toISOString(),
      end: new Date(span.endMs).toISOString(),
      timeZone: "UTC",
      granularity,
      modelIds: models,
      actorIds: users,
      clientIds: keys,
      groupBy,
      limit: Math.min(GROUPS_MAX, Math.floor(SERIES_POINTS_MAX / limit) - 1),
      orderBy,
    }));
  const tellFreshness = (completeThrough: string | null) =>
    reply.header("tallystick-complete-through", completeThrough ?? "never");
  const known = context.freshness.find(orgId);
  // For an outage: an error in this shape has no other place for it. An answer brings its own.
  if (span !== null && known !== undefined) tellFreshness(known.completeThrough);
  const leave = context.reads.enter(1);
  const answer = await ask().finally(leave);
  if (answer !== null) {
    const { completeThrough } = answer.freshness;
    context.freshness.remember(orgId, completeThrough);
    tellFreshness(completeThrough);
    const priced = answer.totals.pricedShare.requests;
    if (kind === "costs") {
      reply.headers(formatPricing(answer.pricing));
      if (priced !== null) reply.header("tallystick-priced-request-share", String(priced));
    }
  }
  reply.header("content-type", "application/json; charset=utf-8");
  return reply.send(formatPage(answer, { scope: { orgId, fields }, nextPage, format }));
}

/** What figures are kept by: each by itself, not per pair. */
type Kept = { field: ResultField; filter: string; grouping: Grouping; named: readonly string[] };

/**
 * What the answer is split by: project_id, batch, service_tier and api_source have one value each for an org, and split
 * nothing. Throws Failure `unsupported_combination` for a pair of which no figures are kept.
 */
function groupingOf({ kind, models, users, keys, fields }: Question): Grouping | undefined {
  const kept: Kept[] = [
    kind === "usage"
      ? { field: "model", filter: "models", grouping: "model", named: models }
      : { field: "line_item", filter: "line_items", grouping: "model", named: models },
    { field: "user_id", filter: "user_ids", grouping: "actor", named: users },
    { field: "api_key_id", filter: "api_key_ids", grouping: "client", named: keys },
  ];
  const wanted = kept.filter(({ field, named }) => fields.has(field) || named.length > 0);
  const [one, another] = wanted;
  if (another !== undefined) {
    const isGrouped = wanted.some(({ field }) => fields.has(field));
    const asked = wanted.map((each) => (fields.has(each.field) ? each.field : each.filter));
    const singles = kept.map(({ field, filter }) => `${field} (filter: ${filter})`);
    const message =
      `${asked.join(" and ")} do not go together: figures are kept per model, per user and per API key, not per pair of ` +
      `these. Filter by and give group_by one of ${singles.join(", ")}; every other field may be beside it`;
    throw failureAbout(isGrouped ? "group_by" : another.filter, "unsupported_combination", message);
  }
  return one !== undefined && fields.has(one.field) ? one.grouping : undefined;
}

function limitOf(
  asked: number | undefined,
  { byDefault, max }: { byDefault: number; max: number },
): number {
  if (asked === undefined) return byDefault;
  if (asked <= max) return asked;
  const message = `limit must be at most ${max} for buckets of this width`;
  throw failureAbout("limit", "invalid_request", message);
}

const tooFine = (): Failure =>
  failureAbout(
    "bucket_width",
    "unsupported_granularity",
    "minutes are not kept, quarters of an hour are: ask for bucket_width=1h, or for granularity=15m under /analytics/v1",
  );

const unknownBatch = (): Failure =>
  failureAbout(
    "batch",
    "unsupported_combination",
    "whether calls belonged to a batch is not known here: leave batch out",
  );

const failureAbout = (
  parameter: string,
  code: "invalid_request" | "unsupported_combination" | "unsupported_granularity",
  message: string,
): Failure =>
  new Failure(code, message, { details: [{ pointer: `/query/${parameter}`, code, message }] });
