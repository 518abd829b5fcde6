import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { type KeyRecord, type MadeKey, ROLES, SCOPES } from "#auth";
import { nameField, orgIdField } from "#contract";
import { callerOf, orgIdIn } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { cutPage, pageOf, pageParameters } from "../lists.ts";
import { instantField, orgParams } from "../parameters.ts";

const OVERLAP_HOURS_DEFAULT = 24;
const OVERLAP_HOURS_MAX = 720;
const WRITABLE_ORGS_MAX = 1000;

const newKey = z.strictObject({
  name: nameField.describe("What people will call it."),
  roles: z.array(z.enum(ROLES)).min(1).max(ROLES.length),
  scopes: z
    .array(z.enum(SCOPES))
    .min(1)
    .max(SCOPES.length)
    .nullish()
    .describe("Less than the roles allow; never more. All of it when left out."),
  writesFor: z
    .union([z.literal("any"), z.array(orgIdField).min(1).max(WRITABLE_ORGS_MAX)])
    .nullish()
    .describe("The orgs it may send events for, for keys of no org. Its own when left out."),
  expiresAt: instantField.nullish().describe("RFC 3339; never when left out."),
});

const rotation = z.strictObject({
  overlapHours: z
    .int()
    .min(0)
    .max(OVERLAP_HOURS_MAX)
    .default(OVERLAP_HOURS_DEFAULT)
    .describe("Hours for which the old key works beside the new one."),
});

const keyFields = {
  id: z.string(),
  name: z.string(),
  orgId: z.string().nullable().describe("null: it belongs to no org."),
  roles: z.array(z.enum(ROLES)),
  scopes: z.array(z.enum(SCOPES)).nullable().describe("null: all of the roles'."),
  writesFor: z
    .union([z.literal("any"), z.array(z.string())])
    .nullable()
    .describe("null: its own org."),
  environment: z.string(),
  createdAt: z.string(),
  createdBy: z.string(),
  expiresAt: z.string().nullable(),
  revokedAt: z.string().nullable(),
  lastUsedAt: z.string().nullable().describe("To the minute or so."),
  replaces: z.string().nullable().describe("The key that it was made in place of."),
};
const key = z.object(keyFields).meta({ id: "Key" });
const madeKey = z
  .object({ ...keyFields, key: z.string().describe("The key itself, told this once.") })
  .meta({ id: "MadeKey" });
const page = pageOf(key, "KeyPage");

const nothing = z.strictObject({});
const keyId = z
  .string()
  .regex(/^[0-9A-Za-z]{1,64}$/, "the id of a key")
  .describe("The key's id: its third part.");

/** Where the routes hang: under an org, or for keys of no org under the administration. */
const PLACES = [
  {
    prefix: "/analytics/v1/orgs/:orgId/keys",
    params: orgParams,
    keyParams: orgParams.extend({ keyId }),
    whose: "an org's",
    name: "Org",
    scope: "keys:manage",
  },
  {
    prefix: "/analytics/v1/admin/keys",
    params: nothing,
    keyParams: nothing.extend({ keyId }),
    whose: "no org's",
    name: "Admin",
    scope: "system:write",
  },
] as const;
type Place = (typeof PLACES)[number];

/** API keys: list, create, rotate, revoke. */
export function keyRoutes(server: Server, context: RouteContext): void {
  for (const place of PLACES) {
    addList(server, context, place);
    addCreate(server, context, place);
    addRotate(server, context, place);
    addRevoke(server, context, place);
  }
}

/** The org whose keys are meant; null: those of none. */
const ownerIn = (request: FastifyRequest): string | null => orgIdIn(request) ?? null;

const keyOf = (record: KeyRecord): z.output<typeof key> => ({
  ...record,
  roles: [...record.roles],
  scopes: record.scopes === null ? null : [...record.scopes],
  writesFor: isList(record.writesFor) ? [...record.writesFor] : record.writesFor,
  createdAt: record.createdAt.toISOString(),
  expiresAt: record.expiresAt?.toISOString() ?? null,
  revokedAt: record.revokedAt?.toISOString() ?? null,
  lastUsedAt: record.lastUsedAt?.toISOString() ?? null,
});

const isList = (orgs: KeyRecord["writesFor"]): orgs is readonly string[] =>
  orgs !== null && orgs !== "any";

/** The only answers that hold a secret: nothing on the way may keep them. */
const sendMade = (reply: FastifyReply, made: MadeKey): z.output<typeof madeKey> => {
  reply.code(201).header("cache-control", "no-store");
  return { ...keyOf(made.record), key: made.key };
};

function addList(
  server: Server,
  { identity, limits }: RouteContext,
  { prefix, params, whose, name, scope }: Place,
): void {
  server.route({
    method: "GET",
    url: prefix,
    handlerTimeout: limits.readMsMax,
    config: { scope },
    schema: {
      tags: ["Keys"],
      operationId: `list${name}Keys`,
      summary: `List ${whose} API keys`,
      params,
      querystring: z.strictObject(pageParameters),
      response: { 200: page.describe("A page, newest first; revoked and expired ones too.") },
    },
    handler: async (request) => {
      const { limit, cursor } = request.query;
      const found = await identity.keys.list(callerOf(request), ownerIn(request), {
        limit: limit + 1,
        before: cursor,
      });
      return cutPage(found, limit, { cursorOf: ({ id }) => id, show: keyOf });
    },
  });
}

function addCreate(
  server: Server,
  { identity }: RouteContext,
  { prefix, params, name, scope }: Place,
): void {
  server.route({
    method: "POST",
    url: prefix,
    config: { scope },
    schema: {
      tags: ["Keys"],
      operationId: `create${name}Key`,
      summary: "Make an API key",
      params,
      querystring: nothing,
      body: newKey,
      response: { 201: madeKey.describe("The key. Keep it: it is told this once.") },
    },
    handler: async (request, reply) =>
      sendMade(
        reply,
        await identity.keys.create(callerOf(request), ownerIn(request), request.body),
      ),
  });
}

function addRotate(
  server: Server,
  { identity }: RouteContext,
  { prefix, keyParams, name, scope }: Place,
): void {
  server.route({
    method: "POST",
    url: `${prefix}/:keyId/rotate`,
    config: { scope },
    schema: {
      tags: ["Keys"],
      operationId: `rotate${name}Key`,
      summary: "Make a key like this one in its place",
      description: "The old key works for some hours more, so that its users can change over.",
      params: keyParams,
      querystring: nothing,
      body: rotation,
      response: { 201: madeKey.describe("The new key. Keep it: it is told this once.") },
    },
    handler: async (request, reply) => {
      const caller = callerOf(request);
      const { keyId: id } = request.params;
      const owner = ownerIn(request);
      return sendMade(reply, await identity.keys.rotate(caller, owner, id, request.body));
    },
  });
}

function addRevoke(
  server: Server,
  { identity }: RouteContext,
  { prefix, keyParams, name, scope }: Place,
): void {
  server.route({
    method: "DELETE",
    url: `${prefix}/:keyId`,
    config: { scope },
    schema: {
      tags: ["Keys"],
      operationId: `revoke${name}Key`,
      summary: "Revoke a key",
      description: "In force at once here, and within 30 seconds everywhere. Safe to repeat.",
      params: keyParams,
      querystring: nothing,
      response: { 200: key.describe("It is revoked for good.") },
    },
    handler: async (request) => {
      const { keyId: id } = request.params;
      const owner = ownerIn(request);
      return keyOf(await identity.keys.revoke(callerOf(request), owner, id));
    },
  });
}
