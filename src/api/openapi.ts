import swagger, { type SwaggerTransform, type SwaggerTransformObject } from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import { jsonSchemaTransform, jsonSchemaTransformObject } from "fastify-type-provider-zod";
import { z } from "zod";
import usageEvent from "../../contracts/usage-event.schema.json" with { type: "json" };
import type { RouteScope } from "./access.ts";
import type { ApiDependencies, Server } from "./dependencies.ts";
import { hasOpenAiErrors, openAiError } from "./openai-error.ts";
import { PROBLEMS } from "./problem.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** What the route takes as its body, where that is no JSON schema of one media type. */
    requestBody?: "events";
  }
}

const DOCS_PREFIX = "/docs";

/** What the page of Swagger UI needs, and nothing from elsewhere. */
const DOCS_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.enum([...Object.keys(PROBLEMS), "internal_error"]),
    requestId: z.string().describe("The id under which the service's log has more."),
    errors: z.array(
      z.object({
        pointer: z
          .string()
          .describe(
            "What it is about: /query/… for a query parameter, /params/… for the path, /headers/…, /body/…",
          ),
        code: z.string(),
        message: z.string(),
      }),
    ),
    freshness: z
      .object({ completeThrough: z.string().nullable(), asOf: z.string() })
      .optional()
      .describe("During an outage: how fresh the last answer was."),
  })
  .meta({ id: "Problem", description: "What went wrong (RFC 9457)." });

const problemResponse = {
  description: "What went wrong. With Retry-After when trying again makes sense.",
  content: { "application/problem+json": { schema: problem } },
};

const openAiErrorResponse = {
  description: "What went wrong. With Retry-After when trying again makes sense.",
  content: { "application/json": { schema: openAiError } },
};

const EVENT = { $ref: "#/components/schemas/UsageEvent" };

/** Lets the routes added from here on be described, and serves the description and a page to read it on. */
export async function documentRoutes(
  server: Server,
  { version }: Pick<ApiDependencies, "version">,
): Promise<void> {
  await server.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Tallystick",
        version,
        description:
          "Usage, cost and reliability of an inference platform. Windows are half-open; times are RFC 3339; money is exact decimal text.",
        license: { name: "Apache-2.0", identifier: "Apache-2.0" },
      },
      components: {
        securitySchemes: {
          apiKey: {
            type: "http",
            scheme: "bearer",
            description:
              "An API key (tally_…), or an access token of the identity provider that is configured.",
          },
        },
      },
    },
    transform: describeRoute,
    transformObject: describeSchemas,
  });
  await server.register(async (docs) => {
    docs.addHook("onRoute", (route) => {
      route.config = { ...route.config, scope: "docs:read" };
    });
    await docs.register(swaggerUi, {
      routePrefix: DOCS_PREFIX,
      staticCSP: DOCS_POLICY,
      theme: { title: "Tallystick API" },
      uiConfig: { url: "/openapi.json", deepLinking: true, persistAuthorization: false },
    });
  });
  server.route({
    method: "GET",
    url: "/openapi.json",
    config: { scope: "docs:read" },
    schema: {
      tags: ["Operations"],
      operationId: "getDescription",
      summary: "This description",
      response: { 200: z.looseObject({}).describe("OpenAPI 3.1.") },
    },
    handler: async () => ({ ...server.swagger() }),
  });
}

/** Adds to each route what all have: the key it needs, and problems. */
const describeRoute: SwaggerTransform = (route) => {
  const { config } = route.route;
  const { response, ...schema } = route.schema ?? {};
  const scope = config?.scope;
  const needs = scope === undefined || scope === "public" ? [] : [`Needs the scope ${scope}.`];
  const described = jsonSchemaTransform({
    ...route,
    schema: {
      ...schema,
      description: [schema.description, ...needs].filter((text) => text !== undefined).join(" "),
      response: {
        ...(typeof response === "object" ? response : {}),
        default: hasOpenAiErrors(route.url) ? openAiErrorResponse : problemResponse,
      },
    },
  });
  return {
    url: described.url,
    schema: { ...described.schema, ...securityOf(scope), ...bodyOf(config?.requestBody) },
  };
};

/** The named schemas: those of answers, for parameters have none that is named. */
const describeSchemas: SwaggerTransformObject = (document) => {
  const described = jsonSchemaTransformObject(document);
  const schemas = "components" in described ? (described.components?.schemas ?? {}) : {};
  for (const name of Object.keys(schemas)) if (name.endsWith("Input")) delete schemas[name];
  Object.assign(schemas, { UsageEvent: eventSchema() });
  return described;
};

/** The event's schema as a part of this document: its inner references start at this document's root. */
function eventSchema(): object {
  const { $id: _id, $schema: _schema, ...schema } = usageEvent;
  const moved = JSON.stringify(schema).replaceAll('"#/$defs/', `"${EVENT.$ref}/$defs/`);
  return z.looseObject({}).parse(JSON.parse(moved));
}

const securityOf = (scope: RouteScope | undefined) => ({
  security: scope === "public" ? [] : [{ apiKey: [] }],
});

const bodyOf = (requestBody: "events" | undefined) =>
  requestBody === undefined
    ? {}
    : {
        body: {
          content: {
            "application/json": {
              schema: { anyOf: [EVENT, { type: "array", minItems: 1, items: EVENT }] },
            },
            "application/x-ndjson": {
              schema: { type: "string", description: "One event a line." },
            },
          },
        },
      };
