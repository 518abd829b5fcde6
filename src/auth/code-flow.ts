import { createHash, randomBytes } from "node:crypto";
import * as oidc from "openid-client";
import { Failure } from "#contract";
import type { Clock } from "#kernel";
import { insertSignInAttempt, takeSignInAttempt, type Database } from "#store";
import type { Claims } from "./claims.ts";
import type { Principal } from "./principal.ts";
import type { TokenVerifier } from "./token.ts";

export type CodeFlowOptions = {
  database: Pick<Database, "change">;
  clock: Clock;
  /** As the provider names itself. https, or http on loopback. */
  issuer: string;
  clientId: string;
  /** Undefined: a public client, held by PKCE alone. */
  clientSecret: string | undefined;
  /** Reads the claims of an ID token as those of an access token. */
  tokens: Pick<TokenVerifier, "principalOf">;
};

/** Signing in at the OpenID Connect provider: code flow with PKCE, state and nonce. */
export type CodeFlow = {
  /** What people may call the provider: its host. */
  readonly provider: string;
  /**
   * Where to send the browser. It has to keep `browserToken` to itself and bring it back; the sign-in may take
   * `seconds`. Throws Failure `identity_unavailable`.
   */
  begin(order: {
    redirectUrl: string;
    returnPath: string | null;
  }): Promise<{ url: string; browserToken: string; seconds: number }>;
  /**
   * Who came back from the provider with `answer`, and the path asked for at the start. Throws Failure
   * `unauthenticated` for an answer that does not belong to what this browser began, or was given before; `forbidden`
   * when the provider's claims grant nothing here; `identity_unavailable`.
   */
  finish(order: {
    redirectUrl: string;
    browserToken: string | undefined;
    answer: URLSearchParams;
  }): Promise<{ principal: Principal; returnPath: string | null }>;
};

/** Long enough to find a phone for the second factor. */
const ATTEMPT_SECONDS = 900;
const METADATA_MS_MAX = 600_000;
const ANSWER_SECONDS_MAX = 5;
const ANSWER_BYTES_MAX = 64 * 1024;
const BROWSER_TOKEN_BYTES = 32;
/** How far the provider's clock may be from ours. */
const CLOCK_TOLERANCE_SECONDS = 30;

/** Nothing is asked of the provider before somebody signs in. */
export function createCodeFlow(options: CodeFlowOptions): CodeFlow {
  const { database, clock, issuer, tokens } = options;
  const getProvider = createProviderMemory(options);
  return {
    provider: new URL(issuer).host,
    begin: async ({ redirectUrl, returnPath }) => {
      const provider = await getProvider();
      const browserToken = randomBytes(BROWSER_TOKEN_BYTES).toString("base64url");
      const state = stateOf(browserToken);
      const nonce = oidc.randomNonce();
      const verifier = oidc.randomPKCECodeVerifier();
      const url = oidc.buildAuthorizationUrl(provider, {
        redirect_uri: redirectUrl,
        scope: "openid profile",
        response_type: "code",
        state,
        nonce,
        code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
        code_challenge_method: "S256",
      });
      const nowMs = clock.now();
      await database.change("*", ({ sql }) =>
        insertSignInAttempt(sql, {
          stateHash: hashOf(state),
          nonce,
          verifier,
          returnPath: returnPath ?? "",
          createdAt: new Date(nowMs),
          expiresAt: new Date(nowMs + ATTEMPT_SECONDS * 1000),
        }),
      );
      return { url: url.href, browserToken, seconds: ATTEMPT_SECONDS };
    },
    finish: async ({ redirectUrl, browserToken, answer }) => {
      // Looked at before the attempt is taken: a foreign page that sends the browser here must not use it up.
      const state = stateOf(browserToken ?? "");
      if (browserToken === undefined || answer.get("state") !== state) throw lost();
      const at = new Date(clock.now());
      const [attempt] = await database.change("*", ({ sql }) =>
        takeSignInAttempt(sql, { stateHash: hashOf(state), at }),
      );
      if (attempt === undefined) throw lost();
      const currentUrl = new URL(`${redirectUrl}?${answer.toString()}`);
      const claims = await requestClaims(await getProvider(), { ...attempt, state }, currentUrl);
      const principal = await tokens.principalOf(claims, at);
      return {
        // The ID token is read once, now: the session that follows has an end of its own.
        principal: { ...principal, expiresAt: null },
        returnPath: attempt.returnPath === "" ? null : attempt.returnPath,
      };
    },
  };
}

const hashOf = (text: string): Buffer => createHash("sha256").update(text, "utf8").digest();

/**
 * What the provider sends back names the browser that began, and does not give away the token that proves it: addresses
 * are written to histories and logs.
 */
const stateOf = (browserToken: string): string => hashOf(browserToken).toString("base64url");

const lost = (cause?: unknown): Failure =>
  new Failure(
    "unauthenticated",
    "This sign-in was not begun in this browser, or is over already. Start again.",
    { cause },
  );

type Checks = { state: string; nonce: string; verifier: string };

async function requestClaims(
  provider: oidc.Configuration,
  { state, nonce, verifier }: Checks,
  currentUrl: URL,
): Promise<Claims> {
  try {
    const tokens = await oidc.authorizationCodeGrant(provider, currentUrl, {
      expectedState: state,
      expectedNonce: nonce,
      pkceCodeVerifier: verifier,
      idTokenExpected: true,
    });
    return { ...tokens.claims() };
  } catch (error) {
    throw failureOf(error);
  }
}

/** What the provider said, told in our words: its own may be anybody's, for they come through the address. */
function failureOf(error: unknown): Failure {
  if (error instanceof oidc.AuthorizationResponseError) {
    return new Failure(
      "unauthenticated",
      error.error === "access_denied"
        ? "The identity provider says that the sign-in was refused there."
        : "The identity provider could not complete the sign-in. Start again.",
      { cause: error },
    );
  }
  return isProviderAtFault(error) ? unavailable(error) : lost(error);
}

/** Codes of openid-client. */
const UNREACHABLE = new Set([
  "OAUTH_TIMEOUT",
  "OAUTH_ABORT",
  "OAUTH_RESPONSE_IS_NOT_CONFORM",
  "OAUTH_RESPONSE_IS_NOT_JSON",
  "OAUTH_PARSE_ERROR",
]);

/** Whether the provider is away, not itself, or does not know this service; else it is this sign-in that is wrong. */
function isProviderAtFault(error: unknown): boolean {
  if (error instanceof oidc.WWWAuthenticateChallengeError) return true;
  if (error instanceof oidc.ResponseBodyError) {
    // `invalid_grant`: a code that was used, is too old, or belongs to another verifier.
    return error.status >= 500 || error.error !== "invalid_grant";
  }
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === undefined || (typeof code === "string" && UNREACHABLE.has(code));
}

const unavailable = (cause: unknown): Failure =>
  new Failure(
    "identity_unavailable",
    "The identity provider cannot be reached, or does not know this service. Sign in with a key, or try again soon.",
    { cause },
  );

/** The provider's own description, asked for when it is needed and kept for ten minutes; the last one when it is away. */
function createProviderMemory({
  clock,
  clientId,
  clientSecret,
  issuer,
}: CodeFlowOptions): () => Promise<oidc.Configuration> {
  let known: { provider: oidc.Configuration; untilMs: number } | undefined;
  let underWay: Promise<oidc.Configuration> | undefined;
  const discover = async (): Promise<oidc.Configuration> => {
    try {
      const provider = await oidc.discovery(
        new URL(issuer),
        clientId,
        { [oidc.clockTolerance]: CLOCK_TOLERANCE_SECONDS },
        clientSecret === undefined ? oidc.None() : authenticateClient(clientSecret),
        {
          timeout: ANSWER_SECONDS_MAX,
          [oidc.customFetch]: fetchBounded,
          execute: [
            // The ID token's signature is checked although it comes straight from the provider.
            oidc.enableNonRepudiationChecks,
            ...(isLoopback(issuer) ? [oidc.allowInsecureRequests] : []),
          ],
        },
      );
      known = { provider, untilMs: clock.now() + METADATA_MS_MAX };
      return provider;
    } catch (error) {
      if (known !== undefined) return known.provider;
      throw unavailable(error);
    } finally {
      underWay = undefined;
    }
  };
  return async () => {
    if (known !== undefined && known.untilMs > clock.now()) return known.provider;
    underWay ??= discover();
    return await underWay;
  };
}

/** By HTTP Basic, which every provider has to know, unless it says that it wants the secret in the body. */
function authenticateClient(secret: string): oidc.ClientAuth {
  const basic = oidc.ClientSecretBasic(secret);
  const post = oidc.ClientSecretPost(secret);
  return (server, ...rest) => {
    const methods = server.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
    return (methods.includes("client_secret_basic") ? basic : post)(server, ...rest);
  };
}

const isLoopback = (url: string): boolean =>
  /^http:\/\/(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?(?:\/|$)/.test(url);

/** fetch that follows no redirect and reads at most 64 KiB: the provider is asked, not trusted with our memory. */
const fetchBounded: oidc.CustomFetch = async (url, options) => {
  const response = await fetch(url, {
    method: options.method,
    headers: options.headers,
    body: options.body ?? null,
    signal: options.signal ?? null,
    redirect: "manual",
  });
  const parts: Uint8Array[] = [];
  let bytes = 0;
  const body: AsyncIterable<Uint8Array> | readonly Uint8Array[] = response.body ?? [];
  for await (const part of body) {
    bytes += part.byteLength;
    // Leaving the loop cancels the rest.
    if (bytes > ANSWER_BYTES_MAX) throw new Error("the identity provider's answer is too large");
    parts.push(part);
  }
  return new Response(Buffer.concat(parts), {
    status: response.status,
    headers: response.headers,
  });
};
