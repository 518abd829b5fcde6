import { createHash, timingSafeEqual } from "node:crypto";
import { Failure } from "#contract";

/** What a credential may be allowed to do. Each route names the one it needs. */
export const SCOPES = [
  "events:write",
  "usage:read",
  "system:read",
  "quarantine:write",
  "docs:read",
] as const;
export type Scope = (typeof SCOPES)[number];

/** Who is asking. */
export type Principal = {
  /** Stable name for logs and answers; never the credential. */
  name: string;
  role: "system_admin";
  scopes: readonly Scope[];
};

/** Tells who is behind an `Authorization` header. */
export type Authenticator = {
  /**
   * The principal behind `Authorization: Bearer <key>`. With `allowBasic`, also behind HTTP Basic with the key as
   * the password: the only way a browser can show a page that needs a key. Throws Failure `unauthenticated`, the
   * same for a missing and for a wrong key.
   */
  authenticate(authorization: string | undefined, options?: { allowBasic: boolean }): Principal;
};

const ADMIN: Principal = { name: "admin-key", role: "system_admin", scopes: SCOPES };
const KEY_CHARACTERS_MAX = 512;

const digestOf = (text: string): Buffer => createHash("sha256").update(text, "utf8").digest();

/** Knows one key, the admin's. The key itself is not kept, only its SHA-256 digest. */
export function createAuthenticator(options: { adminKey: string }): Authenticator {
  const admin = digestOf(options.adminKey);
  return {
    authenticate: (authorization, { allowBasic } = { allowBasic: false }) => {
      const key = keyIn(authorization ?? "", allowBasic);
      // Digests have one length, so the comparison takes the same time whatever was sent.
      if (timingSafeEqual(digestOf(key), admin) && key !== "") return ADMIN;
      throw new Failure("unauthenticated", "Send the API key as `Authorization: Bearer <key>`.");
    },
  };
}

function keyIn(authorization: string, allowBasic: boolean): string {
  const [, scheme = "", value = ""] = /^(Bearer|Basic) +([^\s]+)$/i.exec(authorization) ?? [];
  if (value.length > KEY_CHARACTERS_MAX) return "";
  if (scheme.toLowerCase() === "bearer") return value;
  if (!allowBasic) return "";
  const pair = Buffer.from(value, "base64").toString("utf8");
  return pair.slice(pair.indexOf(":") + 1);
}
