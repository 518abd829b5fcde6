import { z } from "zod";
import { ORG_STATUSES, type OrgRecord } from "#auth";
import { nameField, orgIdField, TAG_KEY, TAG_KEYS_MAX } from "#contract";
import { callerOf } from "../access.ts";
import { costBasis } from "../answers.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { cutPage, pageOf, pageParameters } from "../lists.ts";
import { orgParams, zoneField } from "../parameters.ts";

const ENTITLEMENTS_MAX = 100;

const entitlements = z
  .record(
    z
      .string()
      .regex(/^[A-Za-z][A-Za-z0-9_.-]{0,63}$/, "a letter, then at most 63 of A-Z a-z 0-9 _ . -"),
    z.union([z.string().max(256), z.number(), z.boolean(), z.null()]),
  )
  .refine((given) => Object.keys(given).length <= ENTITLEMENTS_MAX, "too many entitlements")
  .describe("What the org bought, in the operator's own words.");
const tagKeys = z
  .array(z.string().regex(TAG_KEY, "1 to 64 of A-Z a-z 0-9 _ . -"))
  .max(TAG_KEYS_MAX)
  .refine((keys) => new Set(keys).size === keys.length, "each key once")
  .describe(
    "Keys of events' metadata whose values usage can be grouped and filtered by (tag:KEY): from the moment they are declared, for events that come then.",
  );
const billingContact = nameField.describe("Whom invoices go to.");
const profile = {
  name: nameField,
  timeZone: zoneField.describe("IANA name; decides where the org's days begin."),
  billingContact,
  entitlements,
};
const newOrg = z.strictObject({
  orgId: orgIdField,
  name: profile.name.optional(),
  timeZone: profile.timeZone.optional(),
  currency: z
    .string()
    .regex(/^[A-Z]{3}$/, "three capital letters of ISO 4217")
    .optional()
    .describe("ISO 4217; for good. USD when left out."),
  costBasis: costBasis.optional(),
  tagKeys: tagKeys.optional(),
  billingContact: billingContact.optional(),
  entitlements: entitlements.optional(),
});
const changedFields = {
  name: profile.name.nullable().optional(),
  timeZone: profile.timeZone.optional(),
  costBasis: costBasis.optional(),
  tagKeys: tagKeys.optional(),
  billingContact: billingContact.nullable().optional(),
  entitlements: entitlements.optional(),
};
const orgChange = z.strictObject(changedFields).describe("What is left out stays; null empties.");
const orgAdministration = z
  .strictObject({ ...changedFields, status: z.enum(ORG_STATUSES).optional() })
  .describe("What is left out stays; null empties. deleted has no way back.");

const org = z
  .object({
    orgId: z.string(),
    name: z.string().nullable(),
    timeZone: z.string(),
    currency: z.string(),
    costBasis,
    tagKeys: z.array(z.string()).describe("Keys of metadata that are broken down by."),
    billingContact: z.string().nullable(),
    entitlements: z.record(z.string(), z.unknown()),
    status: z.enum(ORG_STATUSES),
    statusChangedAt: z.string().nullable(),
    createdAt: z.string(),
    updatedAt: z.string().nullable(),
  })
  .meta({ id: "Org" });
const page = pageOf(org, "OrgPage");

const orgOf = (record: OrgRecord): z.output<typeof org> => ({
  ...record,
  tagKeys: [...record.tagKeys],
  entitlements: { ...record.entitlements },
  statusChangedAt: record.statusChangedAt?.toISOString() ?? null,
  createdAt: record.createdAt.toISOString(),
  updatedAt: record.updatedAt?.toISOString() ?? null,
});

const nothing = z.strictObject({});
const OWN = "/analytics/v1/orgs/:orgId";
const ADMIN = "/analytics/v1/admin/orgs";

/** An org's profile, and for operators all orgs: list, create, change, suspend, delete. */
export function orgRoutes(server: Server, context: RouteContext): void {
  addProfile(server, context, { url: OWN, operationId: "getOrg", scope: "org:read" });
  addProfile(server, context, {
    url: `${ADMIN}/:orgId`,
    operationId: "getAdminOrg",
    scope: "system:read",
  });
  addChange(server, context);
  addList(server, context);
  addCreate(server, context);
  addAdministration(server, context);
}

function addProfile(
  server: Server,
  { identity, limits }: RouteContext,
  {
    url,
    operationId,
    scope,
  }: { url: string; operationId: string; scope: "org:read" | "system:read" },
): void {
  server.route({
    method: "GET",
    url,
    handlerTimeout: limits.readMsMax,
    config: { scope },
    schema: {
      tags: ["Orgs"],
      operationId,
      summary: "Show an org's profile",
      params: orgParams,
      querystring: nothing,
      response: { 200: org.describe("The org.") },
    },
    handler: async (request) =>
      orgOf(await identity.orgs.get(callerOf(request), request.params.orgId)),
  });
}

function addChange(server: Server, { identity }: RouteContext): void {
  server.route({
    method: "PATCH",
    url: OWN,
    config: { scope: "system:write" },
    schema: {
      tags: ["Orgs"],
      operationId: "updateOrg",
      summary: "Change an org's profile",
      params: orgParams,
      querystring: nothing,
      body: orgChange,
      response: { 200: org.describe("The org as it is now.") },
    },
    handler: async (request) =>
      orgOf(await identity.orgs.update(callerOf(request), request.params.orgId, request.body)),
  });
}

function addList(server: Server, { identity, limits }: RouteContext): void {
  server.route({
    method: "GET",
    url: ADMIN,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["Orgs"],
      operationId: "listAdminOrgs",
      summary: "List all orgs",
      querystring: z.strictObject(pageParameters),
      response: { 200: page.describe("A page in the order of their ids; deleted ones too.") },
    },
    handler: async (request) => {
      const { limit, cursor } = request.query;
      const found = await identity.orgs.list(callerOf(request), {
        limit: limit + 1,
        after: cursor,
      });
      return cutPage(found, limit, { cursorOf: ({ orgId }) => orgId, show: orgOf });
    },
  });
}

function addCreate(server: Server, { identity }: RouteContext): void {
  server.route({
    method: "POST",
    url: ADMIN,
    config: { scope: "system:write" },
    schema: {
      tags: ["Orgs"],
      operationId: "createAdminOrg",
      summary: "Create an org",
      querystring: nothing,
      body: newOrg,
      response: { 201: org.describe("The org.") },
    },
    handler: async (request, reply) => {
      const made = await identity.orgs.create(callerOf(request), request.body);
      return reply.code(201).send(orgOf(made));
    },
  });
}

function addAdministration(server: Server, { identity }: RouteContext): void {
  server.route({
    method: "PATCH",
    url: `${ADMIN}/:orgId`,
    config: { scope: "system:write" },
    schema: {
      tags: ["Orgs"],
      operationId: "updateAdminOrg",
      summary: "Change an org, suspend, activate or delete it",
      description:
        "Nobody of a suspended org gets in and its events go into quarantine; a deleted org is unknown to all. In force at once here, and within 30 seconds everywhere.",
      params: orgParams,
      querystring: nothing,
      body: orgAdministration,
      response: { 200: org.describe("The org as it is now.") },
    },
    handler: async (request) => {
      const { orgId } = request.params;
      const { status, ...change } = request.body;
      const caller = callerOf(request);
      if (Object.keys(change).length > 0) await identity.orgs.update(caller, orgId, change);
      if (status !== undefined) return orgOf(await identity.orgs.setStatus(caller, orgId, status));
      return orgOf(await identity.orgs.get(caller, orgId));
    },
  });
}
