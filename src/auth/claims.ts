import { Failure } from "#contract";
import type { Principal } from "./principal.ts";
import { isRole, ROLES_OF, scopesOf, type Role } from "./scopes.ts";

/** How an issuer's claims are read. */
export type ClaimSettings = {
  issuer: string;
  /** Name of the claim with the org, or a path to it with dots. */
  orgClaim: string;
  /** The same for the roles: a text of several with spaces or commas, or a list. */
  rolesClaim: string;
  /** What the issuer calls roles → role, with `system:` in front for all orgs. Empty: it uses the names used here. */
  roleMap: ReadonlyMap<string, string>;
};

/** Claims of a token whose signature holds. */
export type Claims = Readonly<Record<string, unknown>>;

const SUBJECT_LETTERS_MAX = 255;
const ORG_LETTERS_MAX = 512;
const NAME_LETTERS_MAX = 200;
const ROLES_MAX = 200;

/** Whether a text may stand in a log and in a key of several parts: no line breaks, no control characters. */
export const isPlainText = (text: string): boolean => !CONTROL.test(text) && text.isWellFormed();
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

/** The subject of a token, or undefined when it is no text that may stand in a log. */
export function findSubject(claims: Claims): string | undefined {
  const subject = ownValue(claims, "sub");
  const isFit =
    typeof subject === "string" &&
    subject !== "" &&
    subject.length <= SUBJECT_LETTERS_MAX &&
    isPlainText(subject);
  return isFit ? subject : undefined;
}

/**
 * Who a token stands for. A role of all orgs leaves the org and the roles in it aside: else an engineer of one org who
 * is also in finance of all would be an engineer of all. Throws Failure `forbidden` when it grants nothing here.
 */
export function principalOfClaims(
  claims: Claims,
  settings: ClaimSettings,
  { subject, expiresAt }: { subject: string; expiresAt: Date },
): Principal {
  const granted = rolesIn(claims, settings);
  const about = {
    kind: "token",
    id: `${settings.issuer}#${subject}`,
    name: nameIn(claims) ?? subject,
    expiresAt,
    session: null,
    isSuspended: false,
  } as const;
  if (granted.system.length > 0) {
    const scopes = scopesOf(granted.system, "system");
    const writesFor = scopes.includes("events:write") ? ("any" as const) : [];
    return { ...about, roles: granted.system, scopes, orgId: null, writesFor };
  }
  const orgId = findClaim(claims, settings.orgClaim);
  if (granted.org.length === 0) {
    throw new Failure(
      "forbidden",
      `The token grants no role of this service. Its claim ${settings.rolesClaim} should name one.`,
    );
  }
  if (!isOrgId(orgId)) {
    throw new Failure(
      "forbidden",
      `The token belongs to no org. Its claim ${settings.orgClaim} should name one.`,
    );
  }
  const scopes = scopesOf(granted.org, "org");
  const writesFor = scopes.includes("events:write") ? [orgId] : [];
  return { ...about, roles: granted.org, scopes, orgId, writesFor };
}

/** An org's external id; "*" stands for all orgs and is none. */
const isOrgId = (value: unknown): value is string =>
  typeof value === "string" &&
  value !== "" &&
  value !== "*" &&
  value.length <= ORG_LETTERS_MAX &&
  value.isWellFormed() &&
  !value.includes("\0");

const SYSTEM = "system:";

function rolesIn(claims: Claims, settings: ClaimSettings): { org: Role[]; system: Role[] } {
  const claim = findClaim(claims, settings.rolesClaim);
  const listed: unknown[] = Array.isArray(claim)
    ? claim.slice(0, ROLES_MAX)
    : typeof claim === "string"
      ? claim.split(/[\s,]+/, ROLES_MAX)
      : [];
  const org = new Set<Role>();
  const system = new Set<Role>();
  for (const value of listed) {
    if (typeof value !== "string") continue;
    const given = settings.roleMap.size === 0 ? value : (settings.roleMap.get(value) ?? "");
    const isForAll = given.startsWith(SYSTEM) || given === "system_admin";
    const role = given.startsWith(SYSTEM) ? given.slice(SYSTEM.length) : given;
    if (!isRole(role) || !ROLES_OF[isForAll ? "system" : "org"].includes(role)) continue;
    (isForAll ? system : org).add(role);
  }
  return { org: [...org], system: [...system] };
}

/** A claim by its name, dots and all, or by a path of names with dots between them. */
function findClaim(claims: Claims, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path];
  let value: unknown = claims;
  for (const name of path.split(".")) value = ownValue(value, name);
  return value;
}

/** Never what every object inherits: a claim named "constructor" is a claim that is missing. */
function ownValue(of: unknown, name: string): unknown {
  if (typeof of !== "object" || of === null || !Object.hasOwn(of, name)) return undefined;
  const value: unknown = Reflect.get(of, name);
  return value;
}

function nameIn(claims: Claims): string | undefined {
  for (const claim of ["name", "preferred_username", "email", "client_id"]) {
    const value = ownValue(claims, claim);
    if (typeof value === "string" && value.trim() !== "" && isPlainText(value)) {
      return value.trim().slice(0, NAME_LETTERS_MAX);
    }
  }
  return undefined;
}
