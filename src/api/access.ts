import type { FastifyReply, FastifyRequest, RouteOptions } from "fastify";
import { type Caller, type Principal, requireScope, type Scope, type Sessions } from "#auth";
import { Failure, noSuchOrg, refuseField } from "#contract";
import { auditedDatabase, type AuditEntry, type Database, recordChange } from "#query";
import { refuseCrossSite, sessionCookieOf } from "./cookies.ts";
import type { ApiDependencies, Server } from "./dependencies.ts";
import {
  formatRateLimits,
  type RateLimits,
  type RateQuota,
  refuseExceeded,
} from "./rate-limits.ts";

/** What a route asks of its caller. `public` asks nothing: health, readiness and the way in. */
export type RouteScope = Scope | "public";

declare module "fastify" {
  interface FastifyContextConfig {
    /** What the caller needs. A route that does not say does not start. */
    scope?: RouteScope;
    /** Asked by load balancers: answered however often they ask. */
    isProbe?: boolean;
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

/** Routes about all orgs together: whoever belongs to one has no business there, whatever the scope. */
const ALL_ORGS_ROUTE = /\/(?:system|admin)\//;

type Admission = {
  principal: Principal;
  quotas: readonly RateQuota[];
  database: Database;
  /** What the audit log says of this request, but for the action. */
  entry: () => Omit<AuditEntry, "action">;
};
const admissions = new WeakMap<FastifyRequest, Admission>();

function admissionOf(request: FastifyRequest): Admission {
  const admission = admissions.get(request);
  if (admission === undefined) throw new Error("a public route asked who its caller is");
  return admission;
}

/** Who sent this request. Only for routes that are not public. */
export const principalOf = (request: FastifyRequest): Principal => admissionOf(request).principal;

/** Whether the request was let in: what concerns an org may be told to its sender. */
export const isAdmitted = (request: FastifyRequest): boolean => admissions.has(request);

/** What is left of the sender's rate limits. */
export const quotasOf = (request: FastifyRequest): readonly RateQuota[] =>
  admissionOf(request).quotas;

/** Who asks, for changes, which are audited. */
export const callerOf = (request: FastifyRequest): Caller => ({
  principal: principalOf(request),
  requestId: request.id,
});

/**
 * The database to answer this request with. For whoever belongs to no org it writes each read of an org, or of all, to
 * the audit log, in the read's own transaction: without the entry there is no answer.
 */
export function databaseOf(request: FastifyRequest): Database {
  const { principal, database, entry } = admissionOf(request);
  return principal.orgId === null ? auditedDatabase(database, entry()) : database;
}

/** Writes a change that is about to be made to an org's audit log, whoever makes it; what fails then has been tried. */
export async function auditChange(
  request: FastifyRequest,
  org: { orgId: number },
  action: AuditEntry["action"],
): Promise<void> {
  const { database, entry } = admissionOf(request);
  await recordChange(database, org, { ...entry(), action });
}

/** The org in the path, as it was sent. */
export function orgIdIn({ params }: FastifyRequest): string | undefined {
  if (typeof params !== "object" || params === null || !("orgId" in params)) return undefined;
  return typeof params.orgId === "string" ? params.orgId : undefined;
}

/**
 * The org that a request is about whose path names none: the sender's own, or for whoever belongs to none the one that
 * the parameter `name` names. Throws Failure `not_found` when it names an org that is not the sender's, in the words for
 * one that never was, and `invalid_request` when it names none or several and has to.
 */
export function orgOf(request: FastifyRequest, name: string, named: readonly string[]): string {
  const { orgId } = principalOf(request);
  if (orgId !== null) {
    if (named.some((each) => each !== orgId)) throw noSuchOrg();
    return orgId;
  }
  const [asked, ...more] = new Set(named);
  if (asked !== undefined && more.length === 0) return asked;
  const message = `This credential belongs to no org: name one in ${name}.`;
  throw refuseField(`/query/${name}`, "org_missing", message);
}

/** Throws Failure `forbidden` unless the sender has a scope more than the route's. `what` begins the sentence. */
export function requireMore(request: FastifyRequest, scope: Scope, what: string): void {
  if (principalOf(request).scopes.includes(scope)) return;
  throw new Failure("forbidden", `${what} takes the scope ${scope}.`);
}

export type GuardContext = Pick<ApiDependencies, "authenticator" | "database" | "clock"> & {
  rateLimits: RateLimits;
  /** Absent: nobody comes in by cookie. */
  sessions?: Pick<Sessions, "authenticate">;
  publicUrl?: string | undefined;
};

const routesByServer = new WeakMap<Server, RouteOptions[]>();

/** Every route that the server has, those without a description too. */
export const routesOf = (server: Server): readonly RouteOptions[] =>
  routesByServer.get(server) ?? [];

/**
 * Lets no route start without a scope, and no request pass that its sender may not make: who it is, how often, what
 * for, and in which org. Register before any route. Throws (at start) for a route that declares no scope.
 */
export function guardRoutes(server: Server, context: GuardContext): void {
  const routes: RouteOptions[] = [];
  routesByServer.set(server, routes);
  server.addHook("onRoute", (route) => void routes.push(route));
  server.addHook("onReady", async () => {
    const open = routes.filter((route) => route.config?.scope === undefined);
    if (open.length === 0) return;
    throw new Error(
      `routes without a scope: ${open.map(({ method, url }) => `${String(method)} ${url}`).join(", ")}`,
    );
  });
  server.addHook("onRequest", async (request, reply) => {
    const { scope, isProbe } = request.routeOptions.config;
    if (isProbe !== true) await context.rateLimits.countAddress(request.ip);
    if (request.is404) return;
    refuseKeyInUrl(request);
    if (scope === "public") return;
    await admit(request, reply, context);
  });
}

async function admit(
  request: FastifyRequest,
  reply: FastifyReply,
  context: GuardContext,
): Promise<void> {
  const { scope } = request.routeOptions.config;
  const principal = await identify(request, context);
  const isIngestion = scope === "events:write";
  const quotas = await context.rateLimits.countPrincipal(principal, { isIngestion });
  reply.headers(formatRateLimits(quotas));
  refuseExceeded(quotas);
  if (scope === undefined || scope === "public") throw new Error("a route without a scope started");
  requireScope(principal, scope);
  requireOrg(principal, request);
  admissions.set(request, {
    principal,
    quotas,
    database: context.database,
    entry: () => ({
      actor: principal.id,
      actorName: principal.name,
      target: describeOperation(request),
      requestId: request.id,
      at: new Date(context.clock.now()),
    }),
  });
}

/** By the Authorization header, or by cookie when there is none. */
async function identify(
  request: FastifyRequest,
  { authenticator, rateLimits, sessions, publicUrl }: GuardContext,
): Promise<Principal> {
  const { authorization } = request.headers;
  const cookie = authorization === undefined ? sessionCookieOf(request) : undefined;
  if (cookie !== undefined && sessions !== undefined) {
    refuseCrossSite(request, publicUrl);
    return await rateLimits.tryCredential(request.ip, cookie, () => sessions.authenticate(cookie));
  }
  const allowBasic = request.routeOptions.config.scope === "docs:read";
  const authenticate = () => authenticator.authenticate(authorization, { allowBasic });
  // Who sends nothing guesses nothing.
  if (authorization === undefined) return await authenticate();
  return await rateLimits.tryCredential(request.ip, authorization, authenticate);
}

/**
 * The one place where a credential meets an org: whoever belongs to one sees no other. Decided without asking the
 * database, so that an org of others and one that never was cannot be told apart, not by time either.
 */
function requireOrg({ orgId }: Principal, request: FastifyRequest): void {
  if (orgId === null) return;
  if (ALL_ORGS_ROUTE.test(request.routeOptions.url ?? "")) {
    throw new Failure("forbidden", "This is about all orgs; the credential belongs to one.");
  }
  const asked = orgIdIn(request);
  if (asked !== undefined && asked !== orgId) throw noSuchOrg();
}

/** What is asked, for the audit log: the operation and the names of its parameters. Values may be names of people. */
function describeOperation(request: FastifyRequest): string {
  const operation = request.routeOptions.schema?.operationId ?? request.routeOptions.url ?? "";
  const [, query = ""] = request.url.split("?", 2);
  const names = [...new Set(new URLSearchParams(query).keys())].toSorted();
  return names.length === 0 ? operation : `${operation}?${names.join("&")}`;
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
