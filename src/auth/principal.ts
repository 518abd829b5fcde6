import { Failure } from "#contract";
import type { Role, Scope } from "./scopes.ts";

/** Who is asking. Nothing in it is a secret. */
export type Principal = {
  /** What it came with. A browser session carries one of these and adds `session`. */
  kind: "key" | "token";
  /** Id of the key, or `<issuer>#<subject>` of the token: for logs and audit. */
  id: string;
  /** What a person calls it. */
  name: string;
  /** One or more. */
  roles: readonly Role[];
  /** Union of the roles' scopes, cut down by the key's own. Of a suspended org: `self:read` alone. */
  scopes: readonly Scope[];
  /** External id of the org it belongs to; null: all orgs, and every read of one is then audited. */
  orgId: string | null;
  /** External ids of the orgs it may write events for. */
  writesFor: readonly string[] | "any";
  expiresAt: Date | null;
  /** Id of the browser session it came by; null: it sent the credential itself. */
  session: string | null;
  /** Its org is suspended: it may know itself and nothing else. */
  isSuspended: boolean;
};

/** Throws Failure `org_suspended` or `forbidden` unless the principal has the scope. */
export function requireScope(principal: Principal, scope: Scope): void {
  if (principal.scopes.includes(scope)) return;
  if (principal.isSuspended) {
    throw new Failure(
      "org_suspended",
      "The org of this credential is suspended. Ask the operator of this service to activate it.",
    );
  }
  throw new Failure(
    "forbidden",
    `This credential has no scope ${scope}. Ask an administrator of the org for one whose role has it.`,
  );
}
