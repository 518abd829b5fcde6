import { createHash, timingSafeEqual } from "node:crypto";
import { Failure } from "#contract";
import { parseApiKey, type ApiKey } from "./api-key.ts";
import type { Principal } from "./principal.ts";
import { SCOPES } from "./scopes.ts";

/** Tells who is behind an `Authorization` header. */
export type Authenticator = {
  /**
   * The principal behind `Authorization: Bearer <API key or access token>`. With `allowBasic`, also behind HTTP Basic
   * with the key as the password: the only way a browser can show a page that needs a key. At once for a key that is
   * known here, else as a promise. Throws (or rejects with) Failure `unauthenticated`, the same for a missing and for
   * a wrong credential; `forbidden` for a token that grants nothing here; `identity_unavailable` while tokens cannot
   * be checked.
   */
  authenticate(
    authorization: string | undefined,
    options?: { allowBasic: boolean },
  ): Principal | Promise<Principal>;
  /** The same for the bare text of a key or token, as a form sends it. */
  authenticateCredential(credential: string): Principal | Promise<Principal>;
};

/** Finds the principal of an API key; see `createKeyStore`. */
export type KeyAuthenticator = { authenticate(key: ApiKey): Principal | Promise<Principal> };
/** Finds the principal of an access token; see `createTokenVerifier`. */
export type TokenAuthenticator = { authenticate(token: string): Promise<Principal> };

export type AuthenticatorOptions = {
  /** The key of the file admin-key: it works before there is a database. Empty: there is none. */
  adminKey: string;
  /** Absent: the admin key is the only one. */
  keys?: KeyAuthenticator;
  /** Absent: no issuer of tokens is configured. */
  tokens?: TokenAuthenticator;
};

/** Who has the admin key. */
export const ADMIN: Principal = {
  kind: "key",
  id: "admin-key",
  name: "admin-key",
  roles: ["system_admin"],
  scopes: SCOPES,
  orgId: null,
  writesFor: "any",
  expiresAt: null,
  session: null,
  isSuspended: false,
};

/** Longer than any key or token: refused before anything looks inside. */
const CREDENTIAL_CHARACTERS_MAX = 8192;

const digestOf = (text: string): Buffer => createHash("sha256").update(text, "utf8").digest();

/** What everybody hears who is not let in, whatever was wrong. */
export const unauthenticated = (): Failure =>
  new Failure(
    "unauthenticated",
    "Send a valid API key or access token as `Authorization: Bearer <credential>`.",
  );

/** Knows the admin's key (its digest, not the key), and asks `keys` and `tokens` for the rest. */
export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const admin = digestOf(options.adminKey);
  const authenticateCredential = (credential: string): Principal | Promise<Principal> => {
    if (credential === "" || credential.length > CREDENTIAL_CHARACTERS_MAX) throw unauthenticated();
    // Digests have one length, so the comparison takes the same time whatever was sent.
    if (timingSafeEqual(digestOf(credential), admin) && options.adminKey !== "") return ADMIN;
    const key = parseApiKey(credential);
    if (key !== undefined && options.keys !== undefined) return options.keys.authenticate(key);
    if (isToken(credential) && options.tokens !== undefined) {
      return options.tokens.authenticate(credential);
    }
    throw unauthenticated();
  };
  return {
    authenticateCredential,
    authenticate: (authorization, { allowBasic } = { allowBasic: false }) =>
      authenticateCredential(credentialIn(authorization ?? "", allowBasic)),
  };
}

/** Three parts of base64url: what they say is the token verifier's to judge. */
const isToken = (text: string): boolean => /^[\w-]+\.[\w-]+\.[\w-]*$/.test(text);

function credentialIn(authorization: string, allowBasic: boolean): string {
  const [, scheme = "", value = ""] = /^(Bearer|Basic) +([^\s]+)$/i.exec(authorization) ?? [];
  if (scheme.toLowerCase() === "bearer") return value;
  if (!allowBasic || value.length > 2 * CREDENTIAL_CHARACTERS_MAX) return "";
  const pair = Buffer.from(value, "base64").toString("utf8");
  return pair.slice(pair.indexOf(":") + 1);
}
