import { isUtf8 } from "node:buffer";
import { z } from "zod";
import { Failure, REJECTION_CODES } from "#contract";
import {
  dropQuarantinedItem,
  dropQuarantinedPage,
  replayQuarantineItem,
  replayQuarantinePage,
} from "#ingest";
import {
  formatCursor,
  getQuarantineEntry,
  getQuarantineOwner,
  listQuarantinePage,
  parseCursor,
  quarantineListName,
  QUARANTINE_STATES,
} from "#query";
import { principalOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { flagParameter, orgParams } from "../parameters.ts";

const PAGE_ITEMS_MAX = 500;
const REPLAY_ITEMS_MAX = 200;
const DROP_ITEMS_MAX = 5000;

const code = z.enum(REJECTION_CODES).optional().describe("Only items refused for this reason.");
const source = z.string().min(1).max(128).optional().describe("Only items from this source.");
const cursor = z.string().min(1).max(1024).optional().describe("`nextCursor` of the page before.");
const limit = (itemsMax: number) =>
  z.coerce
    .number()
    .int()
    .min(1)
    .max(itemsMax)
    .default(Math.min(100, itemsMax))
    .describe("Items of a page.");

const listQuery = z.strictObject({
  state: z.enum(QUARANTINE_STATES).default("pending"),
  code,
  source,
  cursor,
  limit: limit(PAGE_ITEMS_MAX),
});
const replayQuery = z.strictObject({
  backfill: flagParameter("Let events older than the raw retention through."),
});
const replayPageQuery = replayQuery.extend({
  code,
  source,
  cursor,
  limit: limit(REPLAY_ITEMS_MAX),
});
const dropPageQuery = z.strictObject({ code, source, limit: limit(DROP_ITEMS_MAX) });
const nothing = z.strictObject({});
const id = z
  .string()
  .regex(/^[1-9][0-9]{0,14}$/, "a whole number")
  .transform(Number)
  .describe("The item's number.");

const entryFields = {
  id: z.int(),
  source: z.string(),
  receivedAt: z.string(),
  code: z.string().describe("Why it was not counted."),
  pointer: z.string().describe("JSON pointer to what is wrong."),
  detail: z.string(),
  eventId: z.string().nullable(),
  occurredAt: z.string().nullable(),
  size: z.int().describe("Length of the kept bytes."),
  truncated: z.boolean().describe("True: only the beginning was kept."),
  state: z.enum(QUARANTINE_STATES),
  resolvedAt: z.string().nullable(),
  resolution: z.string().nullable(),
};
const page = z
  .object({ items: z.array(z.object(entryFields)), nextCursor: z.string().nullable() })
  .meta({ id: "QuarantinePage" });
const item = z
  .object({
    ...entryFields,
    bytes: z.string().describe("What was received, in base64."),
    text: z.string().nullable().describe("The same as text; null when it is not UTF-8."),
  })
  .meta({ id: "QuarantineItem" });
const replayResult = z
  .object({
    id: z.int(),
    status: z.enum(["accepted", "duplicate", "conflict", "rejected"]),
    code: z.string().optional(),
    pointer: z.string().optional(),
    detail: z.string().optional(),
  })
  .meta({
    id: "ReplayResult",
    description:
      "What became of a replayed item. A rejected one that cannot be read stays pending.",
  });
const replayPage = z
  .object({ results: z.array(replayResult), nextCursor: z.string().nullable() })
  .meta({ id: "ReplayPage" });
const dropped = z
  .object({
    dropped: z.int(),
    more: z.boolean().describe("True: there may be more that match; ask again."),
  })
  .meta({ id: "DropAnswer" });

/** Where the routes hang: under an org, or for items of no org under the system. */
const PLACES = [
  {
    prefix: "/analytics/v1/orgs/:orgId/quarantine",
    params: orgParams,
    itemParams: orgParams.extend({ id }),
    whose: "an org's",
    name: "Org",
    read: "usage:read",
  },
  {
    prefix: "/analytics/v1/system/quarantine",
    params: nothing,
    itemParams: nothing.extend({ id }),
    whose: "no known org's",
    name: "System",
    read: "system:read",
  },
] as const;
type Place = (typeof PLACES)[number];

/** Quarantine: list, show, replay, drop; one by one or by filter. */
export function quarantineRoutes(server: Server, context: RouteContext): void {
  for (const place of PLACES) {
    addReads(server, context, place);
    addReplays(server, context, place);
    addDrops(server, context, place);
  }
}

const ownerOf = (params: { orgId?: string; id?: number }, { database }: RouteContext) =>
  getQuarantineOwner(database, params.orgId ?? null);

const gone = () => new Failure("not_found", "There is no such pending item here.");

function addReads(
  server: Server,
  context: RouteContext,
  { prefix, params, itemParams, whose, name, read }: Place,
): void {
  const { database, limits } = context;
  server.route({
    method: "GET",
    url: prefix,
    handlerTimeout: limits.readMsMax,
    config: { scope: read },
    schema: {
      tags: ["Quarantine"],
      operationId: `list${name}Quarantine`,
      summary: `List ${whose} events that were not counted`,
      params,
      querystring: listQuery,
      response: { 200: page.describe("A page, newest first.") },
    },
    handler: async (request) => {
      const owner = await ownerOf(request.params, context);
      return await listQuarantinePage(database, owner, request.query);
    },
  });
  server.route({
    method: "GET",
    url: `${prefix}/:id`,
    handlerTimeout: limits.readMsMax,
    config: { scope: read },
    schema: {
      tags: ["Quarantine"],
      operationId: `get${name}QuarantineItem`,
      summary: "Show one of them, with what was received",
      params: itemParams,
      querystring: nothing,
      response: { 200: item.describe("The item.") },
    },
    handler: async (request) => {
      const owner = await ownerOf(request.params, context);
      const { bytes, ...entry } = await getQuarantineEntry(database, owner, request.params.id);
      return {
        ...entry,
        bytes: bytes.toString("base64"),
        text: isUtf8(bytes) ? bytes.toString("utf8") : null,
      };
    },
  });
}

function addReplays(
  server: Server,
  context: RouteContext,
  { prefix, params, itemParams, whose, name }: Place,
): void {
  server.route({
    method: "POST",
    url: `${prefix}/:id/replay`,
    config: { scope: "quarantine:write" },
    schema: {
      tags: ["Quarantine"],
      operationId: `replay${name}QuarantineItem`,
      summary: "Send one through ingestion again",
      description:
        "Safe to repeat. When a rule refuses it again (conflict, too old), it is in quarantine under a new number.",
      params: itemParams,
      querystring: replayQuery,
      response: { 200: replayResult.describe("What became of it.") },
    },
    handler: async (request) => {
      const owner = await ownerOf(request.params, context);
      const { backfill } = request.query;
      const options = { id: request.params.id, backfill, correlationId: request.id };
      const result = await replayQuarantineItem(context, owner, options);
      if (result === undefined) throw gone();
      return result;
    },
  });
  server.route({
    method: "POST",
    url: `${prefix}/replay`,
    config: { scope: "quarantine:write" },
    schema: {
      tags: ["Quarantine"],
      operationId: `replay${name}Quarantine`,
      summary: `Send a page of ${whose} pending items through ingestion again`,
      params,
      querystring: replayPageQuery,
      response: { 200: replayPage.describe("What became of each; go on with `nextCursor`.") },
    },
    handler: async (request) => {
      const owner = await ownerOf(request.params, context);
      const { cursor: after, ...rest } = request.query;
      const list = quarantineListName(owner);
      const options = { ...rest, beforeId: parseCursor(list, after), correlationId: request.id };
      const results = await replayQuarantinePage(context, owner, options);
      const last = results.at(-1);
      const isFull = last !== undefined && results.length === rest.limit;
      return { results, nextCursor: isFull ? formatCursor(list, last.id) : null };
    },
  });
}

function addDrops(
  server: Server,
  context: RouteContext,
  { prefix, params, itemParams, whose, name }: Place,
): void {
  const { database } = context;
  server.route({
    method: "POST",
    url: `${prefix}/:id/drop`,
    config: { scope: "quarantine:write" },
    schema: {
      tags: ["Quarantine"],
      operationId: `drop${name}QuarantineItem`,
      summary: "Give one up",
      params: itemParams,
      querystring: nothing,
      response: {
        200: dropped.describe(
          "It is marked as dropped; its bytes stay until quarantine retention.",
        ),
      },
    },
    handler: async (request) => {
      const owner = await ownerOf(request.params, context);
      const options = { id: request.params.id, by: principalOf(request).name };
      if (!(await dropQuarantinedItem(database, owner, options))) throw gone();
      return { dropped: 1, more: false };
    },
  });
  server.route({
    method: "POST",
    url: `${prefix}/drop`,
    config: { scope: "quarantine:write" },
    schema: {
      tags: ["Quarantine"],
      operationId: `drop${name}Quarantine`,
      summary: `Give up ${whose} pending items`,
      params,
      querystring: dropPageQuery,
      response: { 200: dropped.describe("How many were dropped, newest first.") },
    },
    handler: async (request) => {
      const owner = await ownerOf(request.params, context);
      const options = { ...request.query, by: principalOf(request).name };
      const count = await dropQuarantinedPage(database, owner, options);
      return { dropped: count, more: count === request.query.limit };
    },
  });
}
