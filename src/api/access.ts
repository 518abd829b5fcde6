import type { FastifyRequest, RouteOptions } from "fastify";
import type { Principal, Scope } from "#auth";
import { Failure } from "#contract";
import type { RouteContext, Server } from "./dependencies.ts";

/** What a route asks of its caller. `public` asks nothing: health and readiness alone. */
export type RouteScope = Scope | "public";

declare module "fastify" {
  interface FastifyContextConfig {
    /** What the caller needs. A route that does not say does not start. */
    scope?: RouteScope;
  }
}

/** Names under which clients put keys into URLs, where proxies and histories keep them. */
const KEY_PARAMETERS = new Set([
  "key",
  "apikey",
  "api_key",
  "api-key",
  "access_token",
  "token",
  "authorization",
  "bearer",
]);

const principals = new WeakMap<FastifyRequest, Principal>();

/** Who sent this request. Only for routes that are not public. */
export function principalOf(request: FastifyRequest): Principal {
  const principal = principals.get(request);
  if (principal === undefined) throw new Error("a public route asked who its caller is");
  return principal;
}

/**
 * Lets no route start without a scope and no request pass without the route's scope. Register before any route.
 * Throws (at start) for a route that declares none.
 */
export function guardRoutes(
  server: Server,
  { authenticator }: Pick<RouteContext, "authenticator">,
): void {
  const routes: RouteOptions[] = [];
  server.addHook("onRoute", (route) => void routes.push(route));
  server.addHook("onReady", async () => {
    const open = routes.filter((route) => route.config?.scope === undefined);
    if (open.length === 0) return;
    throw new Error(
      `routes without a scope: ${open.map(({ method, url }) => `${String(method)} ${url}`).join(", ")}`,
    );
  });
  server.addHook("onRequest", async (request) => {
    if (request.is404) return;
    const { scope } = request.routeOptions.config;
    if (scope === "public") return;
    refuseKeyInUrl(request);
    const principal = authenticator.authenticate(request.headers.authorization, {
      allowBasic: scope === "docs:read",
    });
    if (scope === undefined || !principal.scopes.includes(scope)) {
      throw new Failure("forbidden", `This key may not do what ${scope} stands for.`);
    }
    principals.set(request, principal);
  });
}

function refuseKeyInUrl(request: FastifyRequest): void {
  const { query } = request;
  if (typeof query !== "object" || query === null) return;
  for (const name of Object.keys(query)) {
    if (!KEY_PARAMETERS.has(name.toLowerCase())) continue;
    throw new Failure(
      "invalid_request",
      "A key in a URL ends up in logs: send it as `Authorization: Bearer <key>`.",
      {
        details: [
          {
            pointer: `/query/${name}`,
            code: "key_in_url",
            message: "Remove it, and replace that key.",
          },
        ],
      },
    );
  }
}
