import fastifyCookie from "@fastify/cookie";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Principal, SignInWay } from "#auth";
import { Failure } from "#contract";
import { callerOf, principalOf } from "../access.ts";
import {
  attemptCookieOf,
  clearAttemptCookie,
  clearSessionCookie,
  refuseForeignOrigin,
  sessionCookieOf,
  setAttemptCookie,
  setSessionCookie,
} from "../cookies.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { failureOf } from "../fault.ts";
import { localPathOf } from "../local-path.ts";
import { problemOf } from "../problem.ts";
import {
  formatLinkPage,
  formatSignedInPage,
  formatSignInPage,
  formatSignInProblem,
  SIGN_IN_HEADERS,
} from "../sign-in-page.ts";

const FORM_BYTES_MAX = 16 * 1024;
const FORM_MEDIA_TYPE = "application/x-www-form-urlencoded";
const TOKEN_CHARACTERS_MAX = 200;
/** Where a browser goes that asked for nothing in particular: the page that says who is signed in. */
const SIGN_IN_PATH = "/sign-in";
const CALLBACK_PATH = "/sign-in/oidc/callback";

/** Names of this machine alone. Browsers trust them without TLS. */
const THIS_MACHINE = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/;

const returnField = z
  .string()
  .optional()
  .describe("Path of this service to go on to; any other is left aside.");
const returnQuery = z.object({ return: returnField });
const linkParams = z.object({ token: z.string().max(TOKEN_CHARACTERS_MAX) });
const keyForm = z.strictObject({ key: z.string(), return: returnField });
const signOutForm = z.strictObject({
  everywhere: z.enum(["true", "false"]).default("false").describe("All sessions of this person."),
});
const madeLink = z
  .object({
    path: z.string().describe("Follows the address that browsers use for this service."),
    expiresAt: z.string(),
  })
  .meta({ id: "SignInLink" });

const page = { description: "A page.", content: { "text/html": { schema: z.string() } } };
const onwards = z.undefined().describe("Signed in: the browser goes on to a path of this service.");
const about = { tags: ["Sign-in"] };

/** How a browser gets a session: with a key, a one-time link, or at the identity provider; and how it ends it. */
export async function signInRoutes(parent: Server, context: RouteContext): Promise<void> {
  addLinkMaking(parent, context);
  await parent.register(async (scope) => {
    const server: Server = scope;
    // For setting cookies alone: reading them costs every request something, and is done where it is needed.
    await server.register(fastifyCookie, { hook: false });
    server.addContentTypeParser(
      FORM_MEDIA_TYPE,
      { parseAs: "string", bodyLimit: FORM_BYTES_MAX },
      (_request, body, done) => done(null, parseForm(String(body))),
    );
    server.setErrorHandler((error, request, reply) =>
      sendProblemPage(error, { request, reply, context }),
    );
    addKeySignIn(server, context);
    addLinkSignIn(server, context);
    addProviderSignIn(server, context);
    addSignOut(server, context);
  });
}

/** The fields of a form. One that comes twice stays a list, which no field may be. */
function parseForm(body: string): Record<string, unknown> {
  const form = new URLSearchParams(body);
  return Object.fromEntries(
    [...new Set(form.keys())].map((name) => {
      const values = form.getAll(name);
      return [name, values.length === 1 ? values[0] : values];
    }),
  );
}

type Exchange = { request: FastifyRequest; reply: FastifyReply; context: RouteContext };

/** What a person can do something about is told on a page; outages and faults of ours as everywhere. */
function sendProblemPage(error: unknown, { request, reply, context }: Exchange): FastifyReply {
  const failure = failureOf(error);
  if (failure === null) throw error;
  const { problem, retryAfterSeconds } = problemOf(failure, request.id);
  if (problem.status >= 500 && failure.code !== "identity_unavailable") throw error;
  const reason = failure.code === "invalid_request" ? undefined : reasonOf(failure.cause);
  if (reason !== undefined) {
    const where = { requestId: request.id, route: request.routeOptions.url };
    context.logger.warn({ ...where, code: failure.code, reason }, "sign-in not completed");
  }
  if (retryAfterSeconds !== undefined) reply.header("retry-after", Math.ceil(retryAfterSeconds));
  return sendPage(reply.code(problem.status), formatSignInProblem(problem.detail));
}

/** Messages alone: beside them, errors about a provider's answer carry the answer, tokens and all. */
function reasonOf(cause: unknown): string | undefined {
  if (!(cause instanceof Error)) return undefined;
  const deeper = reasonOf(cause.cause);
  return deeper === undefined ? cause.message : `${cause.message}: ${deeper}`;
}

const sendPage = (reply: FastifyReply, html: string) => reply.headers(SIGN_IN_HEADERS).send(html);

/** Gives the browser a session of its own, never one that it brought along, and sends it on. */
async function startSession(
  { request, reply, context }: Exchange,
  principal: Principal,
  { by, returnPath }: { by: SignInWay; returnPath: string | null },
): Promise<FastifyReply> {
  const { token, id, seconds } = await context.sessions.open(
    { principal, requestId: request.id },
    { by, replaces: sessionCookieOf(request) },
  );
  setSessionCookie(reply, { token, seconds });
  context.logger.info(
    { requestId: request.id, principal: principal.id, session: id, by },
    "signed in",
  );
  return reply.redirect(returnPath ?? SIGN_IN_PATH, 303);
}

/** Who is signed in in this browser; undefined: nobody. */
async function findSignedIn(
  request: FastifyRequest,
  { sessions, rateLimits }: RouteContext,
): Promise<Principal | undefined> {
  const cookie = sessionCookieOf(request);
  if (cookie === undefined) return undefined;
  try {
    return await rateLimits.tryCredential(request.ip, cookie, () => sessions.authenticate(cookie));
  } catch (error) {
    if (error instanceof Failure && error.code === "unauthenticated") return undefined;
    throw error;
  }
}

function addKeySignIn(server: Server, context: RouteContext): void {
  const { authenticator, rateLimits, publicUrl, codeFlow } = context;
  const offer = { provider: codeFlow?.provider ?? null };
  const isPlain = ({ headers }: FastifyRequest): boolean =>
    publicUrl?.startsWith("https:") !== true && !THIS_MACHINE.test(headers.host ?? "");
  server.route({
    method: "GET",
    url: SIGN_IN_PATH,
    config: { scope: "public" },
    schema: {
      ...about,
      operationId: "getSignInPage",
      summary: "The page to sign in on, or who is signed in",
      querystring: returnQuery,
      response: { 200: page },
    },
    handler: async (request, reply) => {
      const returnPath = localPathOf(request.query.return);
      const principal = await findSignedIn(request, context);
      return sendPage(
        reply,
        principal === undefined
          ? formatSignInPage({ ...offer, returnPath, isPlain: isPlain(request), problem: null })
          : formatSignedInPage(principal, returnPath),
      );
    },
  });
  server.route({
    method: "POST",
    url: SIGN_IN_PATH,
    config: { scope: "public" },
    schema: {
      ...about,
      operationId: "signIn",
      summary: "Sign a browser in with an API key",
      consumes: [FORM_MEDIA_TYPE],
      body: keyForm,
      response: { 303: onwards, 401: page },
    },
    handler: async (request, reply) => {
      refuseForeignOrigin(request, publicUrl);
      const key = request.body.key.trim();
      const returnPath = localPathOf(request.body.return);
      try {
        const principal = await rateLimits.tryCredential(request.ip, key, () =>
          authenticator.authenticateCredential(key),
        );
        requireKey(principal);
        return await startSession({ request, reply, context }, principal, {
          by: "key",
          returnPath,
        });
      } catch (error) {
        if (!(error instanceof Failure) || error.code !== "unauthenticated") throw error;
        const problem = "This key is not known here, or is no longer valid.";
        const html = formatSignInPage({
          ...offer,
          returnPath,
          isPlain: isPlain(request),
          problem,
        });
        return sendPage(reply.code(401).header("www-authenticate", "Bearer"), html);
      }
    },
  });
}

/** A session outlives an access token and would not hear of its revocation. */
function requireKey({ kind }: Principal): void {
  if (kind === "key") return;
  throw new Failure("forbidden", "Sign in with an API key; an access token stands for itself.");
}

function addLinkSignIn(server: Server, context: RouteContext): void {
  const { signInLinks, rateLimits, publicUrl } = context;
  const url = `${SIGN_IN_PATH}/link/:token`;
  server.route({
    method: "GET",
    url,
    config: { scope: "public" },
    schema: {
      ...about,
      operationId: "getSignInLinkPage",
      summary: "The page behind a one-time link: looking at it does not use the link up",
      params: linkParams,
      response: { 200: page },
    },
    handler: async (_request, reply) => sendPage(reply, formatLinkPage()),
  });
  server.route({
    method: "POST",
    url,
    config: { scope: "public" },
    schema: {
      ...about,
      operationId: "signInByLink",
      summary: "Sign a browser in with a one-time link",
      params: linkParams,
      response: { 303: onwards },
    },
    handler: async (request, reply) => {
      refuseForeignOrigin(request, publicUrl);
      const { token } = request.params;
      const principal = await rateLimits.tryCredential(request.ip, token, () =>
        signInLinks.take(token),
      );
      return await startSession({ request, reply, context }, principal, {
        by: "link",
        returnPath: null,
      });
    },
  });
}

function addProviderSignIn(server: Server, context: RouteContext): void {
  const getCodeFlow = () => {
    if (context.codeFlow !== undefined) return context.codeFlow;
    throw new Failure("not_found", "No identity provider is set up here. Sign in with a key.");
  };
  const redirectUrlFor = (request: FastifyRequest): string =>
    `${context.publicUrl ?? addressOf(request)}${CALLBACK_PATH}`;
  server.route({
    method: "GET",
    url: `${SIGN_IN_PATH}/oidc`,
    config: { scope: "public" },
    schema: {
      ...about,
      operationId: "beginProviderSignIn",
      summary: "Send a browser to the identity provider",
      querystring: returnQuery,
      response: { 303: z.undefined().describe("To the identity provider.") },
    },
    handler: async (request, reply) => {
      const { url, browserToken, seconds } = await getCodeFlow().begin({
        redirectUrl: redirectUrlFor(request),
        returnPath: localPathOf(request.query.return),
      });
      setAttemptCookie(reply, { token: browserToken, seconds });
      return reply.redirect(url, 303);
    },
  });
  server.route({
    method: "GET",
    url: CALLBACK_PATH,
    config: { scope: "public" },
    schema: {
      ...about,
      operationId: "finishProviderSignIn",
      summary: "Where the identity provider sends a browser back to",
      response: { 303: onwards },
    },
    handler: async (request, reply) => {
      const [, query = ""] = request.url.split("?", 2);
      clearAttemptCookie(reply);
      const { principal, returnPath } = await getCodeFlow().finish({
        redirectUrl: redirectUrlFor(request),
        browserToken: attemptCookieOf(request),
        answer: new URLSearchParams(query),
      });
      return await startSession({ request, reply, context }, principal, {
        by: "provider",
        returnPath,
      });
    },
  });
}

/**
 * Without PUBLIC_URL: where this connection came in. What a Host header says is believed for names of this machine alone,
 * between which a browser's cookies make a difference.
 */
function addressOf({ headers, socket }: FastifyRequest): string {
  const { host = "" } = headers;
  if (THIS_MACHINE.test(host)) return `http://${host}`;
  const address = (socket.localAddress ?? "127.0.0.1").replace(/^::ffff:/, "");
  return `http://${address.includes(":") ? `[${address}]` : address}:${socket.localPort}`;
}

function addSignOut(server: Server, context: RouteContext): void {
  server.route({
    method: "POST",
    url: "/sign-out",
    config: { scope: "public" },
    schema: {
      ...about,
      operationId: "signOut",
      summary: "End this browser's session, or all sessions of the person who is signed in",
      consumes: [FORM_MEDIA_TYPE],
      body: signOutForm.nullish(),
      response: { 303: z.undefined().describe("Signed out: to the page to sign in on.") },
    },
    handler: async (request, reply) => {
      refuseForeignOrigin(request, context.publicUrl);
      const principal = await findSignedIn(request, context);
      if (principal !== undefined) {
        const isEverywhere = request.body?.everywhere === "true";
        const caller = { principal, requestId: request.id };
        const sessions = await context.sessions.close(caller, { isEverywhere });
        context.logger.info(
          { requestId: request.id, principal: principal.id, sessions },
          "signed out",
        );
      }
      clearSessionCookie(reply);
      return reply.redirect(SIGN_IN_PATH, 303);
    },
  });
}

function addLinkMaking(server: Server, { signInLinks }: RouteContext): void {
  server.route({
    method: "POST",
    url: "/analytics/v1/sign-in-links",
    config: { scope: "self:read" },
    schema: {
      tags: ["Access"],
      operationId: "createSignInLink",
      summary: "A link that signs one browser in as the caller, once and within 15 minutes",
      response: { 201: madeLink.describe("The link. Its path is a secret until it is used.") },
    },
    handler: async (request, reply) => {
      const principal = principalOf(request);
      requireKey(principal);
      if (principal.session !== null) {
        // Else whoever got hold of a session could make it last for ever.
        throw new Failure("forbidden", "A link is made with an API key, not with a session.");
      }
      const { path, expiresAt } = await signInLinks.create(callerOf(request));
      reply.code(201).header("cache-control", "no-store");
      return { path, expiresAt: expiresAt.toISOString() };
    },
  });
}
