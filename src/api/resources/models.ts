import { z } from "zod";
import type { ModelRecord } from "#auth";
import { modelIdField, nameField } from "#contract";
import { callerOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { cutPage, pageOf, pageParameters } from "../lists.ts";

const model = z
  .object({
    modelId: z.string(),
    displayName: z.string().nullable(),
    billingTier: z.string().nullable(),
    createdAt: z.string(),
    updatedAt: z.string().nullable(),
  })
  .meta({ id: "Model" });
const page = pageOf(model, "ModelPage");
const description = z.strictObject({
  displayName: nameField.nullable().default(null).describe("What people call it."),
  billingTier: nameField.nullable().default(null).describe("What it is billed as."),
});

const params = z.strictObject({ modelId: modelIdField });
const nothing = z.strictObject({});
const URL = "/analytics/v1/admin/models";

const modelOf = (record: ModelRecord): z.output<typeof model> => ({
  ...record,
  createdAt: record.createdAt.toISOString(),
  updatedAt: record.updatedAt?.toISOString() ?? null,
});

/** What models are called and billed as, for all orgs. */
export function modelRoutes(server: Server, { identity, limits }: RouteContext): void {
  server.route({
    method: "GET",
    url: URL,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["Models"],
      operationId: "listAdminModels",
      summary: "List the models that were described",
      querystring: z.strictObject(pageParameters),
      response: { 200: page.describe("A page in the order of their ids.") },
    },
    handler: async (request) => {
      const { limit, cursor } = request.query;
      const found = await identity.models.list(callerOf(request), {
        limit: limit + 1,
        after: cursor,
      });
      return cutPage(found, limit, { cursorOf: ({ modelId }) => modelId, show: modelOf });
    },
  });
  server.route({
    method: "GET",
    url: `${URL}/:modelId`,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["Models"],
      operationId: "getAdminModel",
      summary: "Show a model",
      params,
      querystring: nothing,
      response: { 200: model.describe("The model.") },
    },
    handler: async (request) =>
      modelOf(await identity.models.get(callerOf(request), request.params.modelId)),
  });
  server.route({
    method: "PUT",
    url: `${URL}/:modelId`,
    config: { scope: "system:write" },
    schema: {
      tags: ["Models"],
      operationId: "setAdminModel",
      summary: "Describe a model",
      description: "In place of what was said of it before. Safe to repeat.",
      params,
      querystring: nothing,
      body: description,
      response: { 200: model.describe("The model as it is now.") },
    },
    handler: async (request) =>
      modelOf(await identity.models.put(callerOf(request), request.params.modelId, request.body)),
  });
}
