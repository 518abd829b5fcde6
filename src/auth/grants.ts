import { Failure, refuseField } from "#contract";
import { type Principal, requireScope } from "./principal.ts";
import { type Role, ROLES_OF, type Scope, scopesOf } from "./scopes.ts";

/** What a key is to be allowed. */
export type Grant = {
  /** External id of the key's org; null: none. */
  orgId: string | null;
  roles: readonly Role[];
  scopes: readonly Scope[] | null;
  writesFor: readonly string[] | "any" | null;
};

/**
 * Throws Failure `invalid_request` for a grant that nobody can make: a role or scope that does not exist for such a key.
 */
export function checkGrant({ orgId, roles, scopes, writesFor }: Grant): void {
  const reach = orgId === null ? "system" : "org";
  if (roles.length === 0) throw refuseField("/body/roles", "too_few", "A key needs a role.");
  const stray = roles.find((role) => !ROLES_OF[reach].includes(role));
  if (stray !== undefined) {
    throw refuseField(
      "/body/roles",
      "role_of_other_reach",
      orgId === null
        ? `A key of no org cannot be ${stray}. It may be: ${ROLES_OF.system.join(", ")}.`
        : `A key of an org cannot be ${stray}. It may be: ${ROLES_OF.org.join(", ")}.`,
    );
  }
  const allowed = scopesOf(roles, reach);
  const extra = scopes?.find((scope) => !allowed.includes(scope));
  if (extra !== undefined) {
    throw refuseField(
      "/body/scopes",
      "scope_beyond_roles",
      `The roles do not have the scope ${extra}: scopes can only make a key less.`,
    );
  }
  // "*" would be stored as what stands for any.
  if (Array.isArray(writesFor) && (writesFor.length === 0 || writesFor.includes("*"))) {
    throw refuseField("/body/writesFor", "not_orgs", 'Name orgs, or say "any".');
  }
}

/** Throws Failure `forbidden` when a key of this grant would be allowed more than who makes, or renews, it. */
export function requireMayGrant(principal: Principal, grant: Grant): void {
  requireScope(principal, grant.orgId === null ? "system:write" : "keys:manage");
  if (principal.orgId === null && principal.roles.includes("system_admin")) {
    requireWholeOrWithin(principal, grant);
    return;
  }
  if (principal.orgId === null || grant.orgId !== principal.orgId) {
    throw new Failure("forbidden", "Only a system_admin may do that for keys of other orgs.");
  }
  const isOwn = (writes: Grant["writesFor"]): boolean =>
    writes === null || (writes !== "any" && writes.every((orgId) => orgId === principal.orgId));
  if (!isOwn(grant.writesFor)) {
    throw new Failure("forbidden", "A key of an org may send events for that org alone.");
  }
  requireWholeOrWithin(principal, grant);
}

/**
 * An administrator gives roles away that it does not have itself: it sends no events and makes keys that do. One whose key
 * was cut down gives no more than what is left, or it would be whole again with the next key.
 */
function requireWholeOrWithin(principal: Principal, { orgId, roles, scopes }: Grant): void {
  const whole = scopesOf(principal.roles, principal.orgId === null ? "system" : "org");
  if (whole.length === principal.scopes.length) return;
  const wanted = scopesOf(roles, orgId === null ? "system" : "org", scopes);
  const extra = wanted.find((scope) => !principal.scopes.includes(scope));
  if (extra === undefined) return;
  throw new Failure(
    "forbidden",
    `This credential was made with fewer scopes than its role has, and cannot give ${extra} to a key.`,
  );
}
