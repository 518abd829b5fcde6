import { createHash, randomBytes } from "node:crypto";
import { Failure } from "#contract";
import type { Clock } from "#kernel";
import { appendAudit, insertSignInLink, takeSignInLink, type Database } from "#store";
import type { Caller } from "./caller.ts";
import type { Principal } from "./principal.ts";
import { findOrgIdOf, packPrincipal, parseStoredPrincipal } from "./stored-principal.ts";

/** A link just made. `path` holds its secret; it follows the address that browsers use for this service. */
export type MadeSignInLink = { path: string; expiresAt: Date };

const LINK_SECONDS = 900;
const TOKEN_BYTES = 32;

const hashOf = (token: string): Buffer => createHash("sha256").update(token, "utf8").digest();

type LinkDependencies = { database: Pick<Database, "change">; clock: Clock };

/** A link that signs one browser in as the caller, once and within 15 minutes. Audited. */
export async function createSignInLink(
  { database, clock }: LinkDependencies,
  { principal, requestId }: Caller,
): Promise<MadeSignInLink> {
  const token = randomBytes(TOKEN_BYTES).toString("base64url");
  const at = new Date(clock.now());
  const expiresAt = new Date(at.getTime() + LINK_SECONDS * 1000);
  await database.change("*", async (tx) => {
    const orgId = await findOrgIdOf(tx.sql, principal);
    await insertSignInLink(tx.sql, {
      tokenHash: hashOf(token),
      principal: packPrincipal(principal),
      createdAt: at,
      expiresAt,
    });
    await appendAudit(tx, orgId, {
      actor: principal.id,
      actorName: principal.name,
      action: "sign_in_link.create",
      target: principal.id,
      requestId,
      at,
    });
  });
  return { path: `/sign-in/link/${token}`, expiresAt };
}

/** Links that sign a browser in without a credential being typed. */
export type SignInLinks = {
  /** See `createSignInLink`. */
  create(caller: Caller): Promise<MadeSignInLink>;
  /**
   * Uses a link up: who made it. Of two that try, one gets it. Throws Failure `unauthenticated` for one that is used,
   * expired or was never made.
   */
  take(token: string): Promise<Principal>;
};

/** Makes links, and takes them from those who bring them. */
export const createSignInLinks = (deps: LinkDependencies): SignInLinks => ({
  create: (caller) => createSignInLink(deps, caller),
  take: async (token) => {
    const at = new Date(deps.clock.now());
    const [taken] = await deps.database.change("*", ({ sql }) =>
      takeSignInLink(sql, { tokenHash: hashOf(token), at }),
    );
    const principal = parseStoredPrincipal(taken?.principal);
    if (principal !== undefined) return principal;
    throw new Failure(
      "unauthenticated",
      "This link was used before or is too old: it works once, for 15 minutes. Make another.",
    );
  },
});
