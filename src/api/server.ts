import Fastify, { type FastifyReply, type FastifyRequest } from "fastify";
import {
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from "fastify-type-provider-zod";
import type { Socket } from "node:net";
import { Failure } from "#contract";
import type { Logger } from "#kernel";
import { guardRoutes, isAdmitted, orgIdIn } from "./access.ts";
import type { ApiDependencies, RouteContext, Server } from "./dependencies.ts";
import { failureOf } from "./fault.ts";
import { ALL_ORGS_NAME, createFreshnessMemory } from "./freshness-memory.ts";
import { createGate } from "./gates.ts";
import { hasOpenAiErrors, openAiErrorOf } from "./openai-error.ts";
import { measureRequests } from "./request-metrics.ts";
import { documentRoutes } from "./openapi.ts";
import { createRateLimits } from "./rate-limits.ts";
import { internalProblem, PROBLEM_MEDIA_TYPE, problemOf, type Problem } from "./problem.ts";
import { requestIdOf } from "./request-id.ts";
import { addRoutes } from "./routes.ts";

/** Longest path parameter before its route's own schema looks at it: an org's id may be 256 characters of any script. */
const PARAMETER_CHARACTERS_MAX = 4096;
const HEADER_BYTES_MAX = 16 * 1024;
const HEADERS_MS_MAX = 10_000;
const REQUEST_MS_MAX = 30_000;
const KEEP_ALIVE_MS_MAX = 30_000;
const SILENCE_MS_MAX = 60_000;
const TIMEOUT_CHECK_MS = 1000;
const FRESHNESS_ORGS_MAX = 10_000;
/** Browsers that were here by TLS come by TLS alone, for a year. */
const TLS_SECONDS = 31_536_000;

/**
 * The whole API, not yet listening: hooks, problems, every route. `isReady` is asked by the readiness routes.
 * Throws when a route declares no scope.
 */
export async function createServer(deps: ApiDependencies, isReady: () => boolean): Promise<Server> {
  const { database, ...shared } = deps;
  const context: RouteContext = {
    ...shared,
    isReady,
    freshness: createFreshnessMemory(deps.clock, FRESHNESS_ORGS_MAX),
    reads: createGate(deps.limits.readsMax, "questions"),
    rateLimits: createRateLimits(deps.limits.rates, deps.clock),
  };
  const server = Fastify({
    logger: false,
    trustProxy: false,
    bodyLimit: deps.limits.bodyBytesMax,
    requestTimeout: REQUEST_MS_MAX,
    keepAliveTimeout: KEEP_ALIVE_MS_MAX,
    connectionTimeout: SILENCE_MS_MAX,
    http: {
      headersTimeout: HEADERS_MS_MAX,
      maxHeaderSize: HEADER_BYTES_MAX,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    },
    // A request that arrives while closing is answered like any other, with Connection: close.
    return503OnClosing: false,
    exposeHeadRoutes: true,
    routerOptions: { maxParamLength: PARAMETER_CHARACTERS_MAX },
    genReqId: (request) => requestIdOf(request.headers, deps.createId),
    frameworkErrors: (error, request, reply) => {
      secureHeaders(request, reply);
      sendProblem(error, { request, reply, context });
    },
    clientErrorHandler: answerBrokenRequest,
  }).withTypeProvider<ZodTypeProvider>();

  server.setValidatorCompiler(validatorCompiler);
  server.setSerializerCompiler(serializerCompiler);
  server.removeAllContentTypeParsers();
  server.addHook("onRequest", async (request, reply) => secureHeaders(request, reply));
  if (deps.publicUrl?.startsWith("https:"))
    server.addHook("onRequest", async (_request, reply) => {
      reply.header("strict-transport-security", `max-age=${TLS_SECONDS}`);
    });
  measureRequests(server, context);
  guardRoutes(server, { ...context, database });
  server.setErrorHandler((error, request, reply) =>
    sendProblem(error, { request, reply, context }),
  );
  server.setNotFoundHandler((request, reply) =>
    sendProblem(new Failure("not_found", "No such path, or not with this method."), {
      request,
      reply,
      context,
    }),
  );
  await documentRoutes(server, deps);
  await addRoutes(server, context);
  await server.ready();
  return server;
}

/** Headers of every answer. Data is nobody's to keep; routes that set an ETag say otherwise themselves. */
function secureHeaders(request: FastifyRequest, reply: FastifyReply): void {
  reply.headers({
    "x-request-id": request.id,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, no-store",
    vary: "Accept, Authorization, Cookie",
  });
}

type ProblemPlace = { request: FastifyRequest; reply: FastifyReply; context: RouteContext };

/** Answers with the problem behind `error`; faults of our own and outages are logged here, once. */
function sendProblem(error: unknown, { request, reply, context }: ProblemPlace): void {
  const failure = failureOf(error);
  if (failure === null) {
    context.logger.error({ ...whereOf(request), err: describeError(error) }, "request failed");
    send(reply, internalProblem(request.id));
    return;
  }
  const { problem, retryAfterSeconds } = problemOf(failure, request.id);
  if (failure.code === "unauthenticated") reply.header("www-authenticate", challengeOf(request));
  if (retryAfterSeconds !== undefined)
    reply.header("retry-after", Math.max(1, Math.ceil(retryAfterSeconds)));
  if (failure.code === "database_unavailable" || failure.code === "timeout") {
    logOutage(failure, request, context.logger);
    // Before it is known who asks, nothing of an org is told.
    const known = isAdmitted(request)
      ? context.freshness.find(orgIdIn(request) ?? ALL_ORGS_NAME)
      : undefined;
    send(reply, known === undefined ? problem : { ...problem, freshness: known });
    return;
  }
  if (failure.code === "broker_unavailable" || failure.code === "identity_unavailable")
    logOutage(failure, request, context.logger);
  send(reply, problem);
}

function send(reply: FastifyReply, problem: Problem): void {
  reply.code(problem.status);
  if (hasOpenAiErrors(reply.request.url))
    reply
      .header("content-type", "application/json; charset=utf-8")
      .send(JSON.stringify(openAiErrorOf(problem)));
  else reply.header("content-type", PROBLEM_MEDIA_TYPE).send(JSON.stringify(problem));
}

const challengeOf = (request: FastifyRequest): string =>
  request.routeOptions.config.scope === "docs:read"
    ? 'Basic realm="Tallystick: any name, the API key as the password", Bearer realm="Tallystick"'
    : 'Bearer realm="Tallystick"';

function logOutage(failure: Failure, request: FastifyRequest, logger: Logger): void {
  logger.warn(
    { ...whereOf(request), code: failure.code, err: describeError(failure.cause) },
    "request not answered",
  );
}

const whereOf = (request: FastifyRequest) => ({
  requestId: request.id,
  method: request.method,
  route: request.routeOptions.url,
});

/** Name, message, code and stack: a driver's error may carry rows in its other members. */
function describeError(error: unknown): Record<string, unknown> | undefined {
  if (error === undefined) return undefined;
  if (!(error instanceof Error)) return { message: String(error) };
  const code = "code" in error ? error.code : undefined;
  return { name: error.name, message: error.message, code, stack: error.stack };
}

const BROKEN: Record<string, readonly [number, string, string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, "Request Timeout", "The request did not arrive in time."],
  HPE_HEADER_OVERFLOW: [431, "Request Header Fields Too Large", "The headers are too large."],
};

/** What never became a request: broken HTTP, headers too large, a body that stopped coming. */
function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, title, detail] = BROKEN[error.code ?? ""] ?? [
    400,
    "Bad Request",
    "This is not HTTP.",
  ];
  const problem = {
    type: "about:blank",
    title,
    status,
    detail,
    code: "invalid_request",
    errors: [],
  };
  const body = JSON.stringify(problem);
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\nContent-Type: ${PROBLEM_MEDIA_TYPE}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
