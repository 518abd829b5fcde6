import type {} from "@fastify/cookie";
import type { FastifyReply, FastifyRequest } from "fastify";
import { Failure } from "#contract";

/** The browser's session. With this prefix browsers take it from this very host over TLS alone, and for all paths. */
const SESSION_COOKIE = "__Host-tallystick";
/** Ties a sign-in at the identity provider to the browser that began it. */
const ATTEMPT_COOKIE = "__Host-tallystick-attempt";
/** 32 bytes in base64url. Anything else is nobody's token, and is not looked up. */
const TOKEN = /^[A-Za-z0-9_-]{43}$/;
const COOKIE_HEADER_CHARACTERS_MAX = 8192;

/** A page of another site cannot add a header of its own without asking first, and is never allowed to. */
const CROSS_SITE_HEADER = "tallystick-csrf";
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);

/** The token of the browser session this request came with; undefined: none, or nothing that could be one. */
export const sessionCookieOf = (request: FastifyRequest): string | undefined =>
  tokenIn(request, SESSION_COOKIE);

/** The token of the sign-in this browser has begun at the identity provider. */
export const attemptCookieOf = (request: FastifyRequest): string | undefined =>
  tokenIn(request, ATTEMPT_COOKIE);

/**
 * Read here and not by the cookie plugin: the plugin would read every request's, and takes the first of two cookies of
 * one name. Browsers never send two of this one.
 */
function tokenIn({ headers }: FastifyRequest, name: string): string | undefined {
  const { cookie } = headers;
  if (cookie === undefined || cookie.length > COOKIE_HEADER_CHARACTERS_MAX) return undefined;
  const [value, ...others] = cookie
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${name}=`))
    .map((pair) => pair.slice(name.length + 1));
  return value !== undefined && others.length === 0 && TOKEN.test(value) ? value : undefined;
}

const ATTRIBUTES = {
  path: "/",
  httpOnly: true,
  secure: true,
  // Lax, not Strict: a link to a view in a mail would else open signed out.
  sameSite: "lax",
} as const;

type CookieLife = { token: string; seconds: number };

/** Hands the browser its session. This and the others below need the cookie plugin on the route. */
export const setSessionCookie = (reply: FastifyReply, { token, seconds }: CookieLife) =>
  reply.setCookie(SESSION_COOKIE, token, { ...ATTRIBUTES, maxAge: Math.floor(seconds) });

/** Takes the session from the browser. */
export const clearSessionCookie = (reply: FastifyReply) =>
  reply.clearCookie(SESSION_COOKIE, ATTRIBUTES);

/** Remembers in the browser that it began a sign-in at the identity provider. */
export const setAttemptCookie = (reply: FastifyReply, { token, seconds }: CookieLife) =>
  reply.setCookie(ATTEMPT_COOKIE, token, { ...ATTRIBUTES, maxAge: Math.floor(seconds) });

/** Forgets it. */
export const clearAttemptCookie = (reply: FastifyReply) =>
  reply.clearCookie(ATTEMPT_COOKIE, ATTRIBUTES);

/**
 * For requests that came in by cookie. What only reads passes; the rest needs the header `tallystick-csrf: 1` and has to
 * come from this service's own pages. `publicUrl` is the origin that browsers use, where it is configured. Throws
 * Failure `cross_site`.
 */
export function refuseCrossSite(request: FastifyRequest, publicUrl: string | undefined): void {
  if (SAFE_METHODS.has(request.method)) return;
  if (request.headers[CROSS_SITE_HEADER] !== "1") {
    throw new Failure(
      "cross_site",
      `A change that comes with a browser's session needs the header \`${CROSS_SITE_HEADER}: 1\`.`,
    );
  }
  refuseForeignOrigin(request, publicUrl);
}

/**
 * The same for forms, which can send no header of their own: only where the browser says that the form stood on a page
 * of this service. Throws Failure `cross_site`.
 */
export function refuseForeignOrigin(request: FastifyRequest, publicUrl: string | undefined): void {
  const { origin, "sec-fetch-site": site } = request.headers;
  const isOwnSite = site === undefined || site === "same-origin";
  // Who says neither is no browser of these days, and has no business with cookies and forms.
  const isOwnOrigin =
    origin === undefined ? site !== undefined : isOriginOurs(origin, request, publicUrl);
  if (isOwnSite && isOwnOrigin) return;
  throw new Failure(
    "cross_site",
    "This has to be sent from a page of this service. Open the page again and repeat it there. " +
      "Operators: PUBLIC_URL has to be the address that browsers show.",
  );
}

/** Behind TLS only PUBLIC_URL itself: a page of the same host that came without TLS may be anybody's. */
function isOriginOurs(
  origin: string,
  { headers }: FastifyRequest,
  publicUrl: string | undefined,
): boolean {
  if (publicUrl !== undefined && origin === new URL(publicUrl).origin) return true;
  const isPlain = publicUrl === undefined || publicUrl.startsWith("http:");
  return isPlain && headers.host !== undefined && origin === `http://${headers.host}`;
}
