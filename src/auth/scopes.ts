/** What a credential may be allowed to do. Each route names the one it needs. */
export const SCOPES = [
  "events:write",
  "usage:read",
  "spend:read",
  "reliability:read",
  "quarantine:read",
  "quarantine:write",
  "keys:manage",
  "budgets:manage",
  "org:read",
  "audit:read",
  "system:read",
  "system:write",
  "metrics:read",
  "docs:read",
  "self:read",
] as const;
export type Scope = (typeof SCOPES)[number];

/** What people and programs are given. A role stands for scopes; nothing asks for a role itself. */
export const ROLES = ["org_admin", "engineer", "finance", "producer", "system_admin"] as const;
export type Role = (typeof ROLES)[number];

/** Whether a role is held in one org or in all of them. */
export type Reach = "org" | "system";

/** Roles by reach. An org_admin of all orgs does not exist: that is a system_admin; nor one of a single org's. */
export const ROLES_OF: Record<Reach, readonly Role[]> = {
  org: ["org_admin", "engineer", "finance", "producer"],
  system: ["engineer", "finance", "producer", "system_admin"],
};

const SCOPES_OF: Record<Role, readonly Scope[]> = {
  org_admin: [
    "usage:read",
    "spend:read",
    "reliability:read",
    "quarantine:read",
    "quarantine:write",
    "keys:manage",
    "budgets:manage",
    "org:read",
    "audit:read",
    "docs:read",
    "self:read",
  ],
  engineer: [
    "usage:read",
    "reliability:read",
    "quarantine:read",
    "org:read",
    "docs:read",
    "self:read",
  ],
  finance: ["usage:read", "spend:read", "org:read", "docs:read", "self:read"],
  // Writes and reads nothing: a producer's key lies on many machines.
  producer: ["events:write", "self:read"],
  system_admin: SCOPES,
};

/**
 * The scopes of these roles together, in the order of SCOPES. Roles that do not exist at this reach give nothing.
 * `limit` cuts them down to those it names and never adds one; `self:read` always stays.
 */
export function scopesOf(
  roles: readonly Role[],
  reach: Reach,
  limit: readonly string[] | null = null,
): Scope[] {
  const held = roles.filter((role) => ROLES_OF[reach].includes(role));
  if (held.length === 0) return [];
  const granted = new Set<Scope>(held.flatMap((role) => SCOPES_OF[role]));
  if (reach === "system" && held.includes("finance")) granted.add("system:read");
  return SCOPES.filter(
    (scope) =>
      granted.has(scope) && (scope === "self:read" || limit === null || limit.includes(scope)),
  );
}

/** Whether a text is the name of a role. */
export const isRole = (text: string): text is Role => ROLES.some((role) => role === text);

/** Whether a text is the name of a scope. */
export const isScope = (text: string): text is Scope => SCOPES.some((scope) => scope === text);
