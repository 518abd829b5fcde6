import Fastify from "fastify";
import {
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from "fastify-type-provider-zod";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { ADMIN, type Authenticator, createAuthenticator, type Principal } from "#auth";
import { Failure } from "#contract";
import manifest from "../../package.json" with { type: "json" };
import { guardRoutes, type GuardContext } from "./access.ts";
import type { Server } from "./dependencies.ts";
import { createOpenApiDocument, describedDependencies } from "./document.ts";
import { createFreshnessMemory } from "./freshness-memory.ts";
import { createGate } from "./gates.ts";
import { createRateLimits } from "./rate-limits.ts";
import { addRoutes } from "./routes.ts";

type Operation = {
  operationId: string;
  summary: string;
  security: unknown[];
  responses: Record<string, unknown>;
};
type Description = { openapi: string; paths: Record<string, Record<string, Operation>> };

const describe = async (): Promise<Description> =>
  JSON.parse(await createOpenApiDocument(manifest.version));

const bareServer = (): Server => {
  const server = Fastify().withTypeProvider<ZodTypeProvider>();
  server.setValidatorCompiler(validatorCompiler);
  server.setSerializerCompiler(serializerCompiler);
  return server;
};

/** A guard that knows one authenticator, and neither limits nor a database. */
function guardedBy(authenticator: Authenticator): GuardContext {
  const { database, clock, limits } = describedDependencies(manifest.version);
  return { authenticator, database, clock, rateLimits: createRateLimits(limits.rates, clock) };
}

test("contracts/openapi.json is what the routes say (npm run dev openapi writes it)", async () => {
  const written = await readFile(new URL("../../contracts/openapi.json", import.meta.url), "utf8");
  assert.deepEqual(JSON.parse(written), await describe());
});

test("S24: every route is described, and nothing else", async () => {
  const deps = describedDependencies(manifest.version);
  const server = bareServer();
  const routes: string[] = [];
  server.addHook("onRoute", ({ method, url }) => {
    for (const each of [method].flat())
      routes.push(`${each.toLowerCase()} ${url.replaceAll(/:(\w+)/g, "{$1}")}`);
  });
  const freshness = createFreshnessMemory(deps.clock, 1);
  const rateLimits = createRateLimits(deps.limits.rates, deps.clock);
  await addRoutes(server, {
    ...deps,
    freshness,
    reads: createGate(0, "questions"),
    rateLimits,
    isReady: () => false,
  });
  const { paths } = await describe();
  const described = Object.entries(paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method} ${path}`),
  );
  const answering = routes.filter((route) => !route.startsWith("head "));
  assert.deepEqual(described.toSorted(), [...answering, "get /openapi.json"].toSorted());
});

test("the description holds together: 3.1, references that resolve, unique operation names, a problem for each", async () => {
  const description = await describe();
  assert.equal(description.openapi, "3.1.0");
  const references = [...JSON.stringify(description).matchAll(/"\$ref":"#([^"]+)"/g)].map(
    ([, pointer = ""]) => pointer,
  );
  assert.ok(references.length > 50);
  for (const pointer of new Set(references)) {
    const found = pointer
      .slice(1)
      .split("/")
      .reduce<unknown>((at, key) => Reflect.get(Object(at), key), description);
    assert.equal(typeof found, "object", pointer);
  }
  const operations = Object.values(description.paths).flatMap((path) => Object.values(path));
  assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length);
  for (const { operationId, summary, responses } of operations) {
    assert.ok(operationId.length > 0 && summary.length > 0);
    assert.ok("default" in responses, operationId);
  }
  const open = operations
    .filter(({ security }) => security.length === 0)
    .map(({ operationId }) => operationId);
  assert.deepEqual(open.toSorted(), [
    "beginProviderSignIn",
    "finishProviderSignIn",
    "getHealth",
    "getHealthz",
    "getReadiness",
    "getReadyz",
    "getSignInLinkPage",
    "getSignInPage",
    "signIn",
    "signInByLink",
    "signOut",
  ]);
});

test("S4: a route that declares no scope does not start", async () => {
  const server = bareServer();
  guardRoutes(server, guardedBy(createAuthenticator({ adminKey: "key" })));
  server.get("/open", async () => ({}));
  await assert.rejects(async () => await server.ready(), /without a scope: GET \/open/);
});

test("S4: a key whose scopes lack the route's is refused with 403, before the route runs", async () => {
  const server = bareServer();
  const reader: Principal = { ...ADMIN, name: "reader", scopes: ["usage:read"] };
  const authenticate = () => reader;
  guardRoutes(server, guardedBy({ authenticate, authenticateCredential: authenticate }));
  let ran = 0;
  server.get("/read", { config: { scope: "usage:read" } }, async () => ({ ran: ++ran }));
  server.post("/write", { config: { scope: "events:write" } }, async () => ({ ran: ++ran }));
  server.setErrorHandler((error, _request, reply) =>
    reply.code(403).send({ code: error instanceof Failure ? error.code : "other" }),
  );
  assert.equal((await server.inject("/read")).statusCode, 200);
  const refused = await server.inject({ method: "POST", url: "/write" });
  assert.deepEqual([refused.statusCode, refused.json()], [403, { code: "forbidden" }]);
  assert.equal(ran, 1);
});
