import type { FastifyRequest } from "fastify";
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
  type QuarantineOwner,
  QUARANTINE_STATES,
} from "#query";
import { auditChange, databaseOf, orgIdIn, principalOf, requireMore } from "../access.ts";
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
  backfill: flagParameter(
    "Let events older than the raw retention through, which takes the scope system:write.",
  ),
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
    read: "quarantine:read",
    write: "quarantine:write",
  },
  {
    prefix: "/analytics/v1/system/quarantine",
    params: nothing,
    itemParams: nothing.extend({ id }),
    whose: "no known org's",
    name: "System",
    read: "system:write",
    write: "system:write",
  },
] as const;
type Place = (typeof PLACES)[number];

/** Quarantine: list, show, replay, drop; one by one or by filter. */
export function quarantineRoutes(server: Server, context: RouteContext): void {
  for (const place of PLACES) {
    addReads(server, context, place);
    addReplays(server, context, place);
    addDrops(server, place);
  }
}

const ownerOf = (request: FastifyRequest) =>
  getQuarantineOwner(databaseOf(request), orgIdIn(request) ?? null);

/** The same before a change, which is written to the audit log first. */
async function ownerToChange(
  request: FastifyRequest,
  action: "quarantine.replay" | "quarantine.drop",
): Promise<QuarantineOwner> {
  const owner = await ownerOf(request);
  await auditChange(request, owner, action);
  return owner;
}

const gone = () => new Failure("not_found", "There is no such pending item here.");

function addReads(
  server: Server,
  context: RouteContext,
  { prefix, params, itemParams, whose, name, read }: Place,
): void {
  const { limits } = context;
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
      const owner = await ownerOf(request);
      return await listQuarantinePage(databaseOf(request), owner, request.query);
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
      const owner = await ownerOf(request);
      const { bytes, ...entry } = await getQuarantineEntry(
        databaseOf(request),
        owner,
        request.params.id,
      );
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
  { ingestor }: RouteContext,
  { prefix, params, itemParams, whose, name, write }: Place,
): void {
  server.route({
    method: "POST",
    url: `${prefix}/:id/replay`,
    config: { scope: write },
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
      const { backfill } = request.query;
      if (backfill) requireMore(request, "system:write", "Loading history");
      const owner = await ownerToChange(request, "quarantine.replay");
      const options = { id: request.params.id, backfill, correlationId: request.id };
      const deps = { ingestor, database: databaseOf(request) };
      const result = await replayQuarantineItem(deps, owner, options);
      if (result === undefined) throw gone();
      return result;
    },
  });
  server.route({
    method: "POST",
    url: `${prefix}/replay`,
    config: { scope: write },
    schema: {
      tags: ["Quarantine"],
      operationId: `replay${name}Quarantine`,
      summary: `Send a page of ${whose} pending items through ingestion again`,
      params,
      querystring: replayPageQuery,
      response: { 200: replayPage.describe("What became of each; go on with `nextCursor`.") },
    },
    handler: async (request) => {
      const { cursor: after, ...rest } = request.query;
      if (rest.backfill) requireMore(request, "system:write", "Loading history");
      const owner = await ownerToChange(request, "quarantine.replay");
      const list = quarantineListName(owner);
      const options = { ...rest, beforeId: parseCursor(list, after), correlationId: request.id };
      const deps = { ingestor, database: databaseOf(request) };
      const results = await replayQuarantinePage(deps, owner, options);
      const last = results.at(-1);
      const isFull = last !== undefined && results.length === rest.limit;
      return { results, nextCursor: isFull ? formatCursor(list, last.id) : null };
    },
  });
}

function addDrops(server: Server, { prefix, params, itemParams, whose, name, write }: Place): void {
  server.route({
    method: "POST",
    url: `${prefix}/:id/drop`,
    config: { scope: write },
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
      const owner = await ownerToChange(request, "quarantine.drop");
      const options = { id: request.params.id, by: principalOf(request).name };
      if (!(await dropQuarantinedItem(databaseOf(request), owner, options))) throw gone();
      return { dropped: 1, more: false };
    },
  });
  server.route({
    method: "POST",
    url: `${prefix}/drop`,
    config: { scope: write },
    schema: {
      tags: ["Quarantine"],
      operationId: `drop${name}Quarantine`,
      summary: `Give up ${whose} pending items`,
      params,
      querystring: dropPageQuery,
      response: { 200: dropped.describe("How many were dropped, newest first.") },
    },
    handler: async (request) => {
      const owner = await ownerToChange(request, "quarantine.drop");
      const options = { ...request.query, by: principalOf(request).name };
      const count = await dropQuarantinedPage(databaseOf(request), owner, options);
      return { dropped: count, more: count === request.query.limit };
    },
  });
}
