import { z } from "zod";
import { Failure } from "#contract";
import { findOrgRecord, type Sql } from "#store";
import type { Principal } from "./principal.ts";
import { ROLES, SCOPES } from "./scopes.ts";

const stored = z.object({
  kind: z.enum(["key", "token"]),
  id: z.string().min(1),
  name: z.string(),
  roles: z.array(z.enum(ROLES)).min(1),
  scopes: z.array(z.enum(SCOPES)),
  orgId: z.string().nullable(),
  writesFor: z.union([z.literal("any"), z.array(z.string())]),
  expiresAt: z.iso.datetime().nullable(),
});

/** A principal as sessions and links keep it: nothing in it is a secret, and nothing that changes by itself. */
export const packPrincipal = (principal: Principal): object => {
  const { session: _session, isSuspended: _isSuspended, expiresAt, ...rest } = principal;
  return { ...rest, expiresAt: expiresAt?.toISOString() ?? null };
};

/** The principal again; undefined when it was written by a version that knew other roles or scopes. */
export function parseStoredPrincipal(value: unknown): Principal | undefined {
  const { data } = stored.safeParse(value);
  if (data === undefined) return undefined;
  return {
    ...data,
    expiresAt: data.expiresAt === null ? null : new Date(data.expiresAt),
    session: null,
    isSuspended: false,
  };
}

/** Internal id of the principal's org; 0: it belongs to none. Throws Failure `unauthenticated` when there is none such. */
export async function findOrgIdOf(sql: Sql, { orgId }: Principal): Promise<number> {
  if (orgId === null) return 0;
  const org = await findOrgRecord(sql, orgId);
  if (org !== undefined && org.status !== "deleted") return org.id;
  throw new Failure("unauthenticated", "The org of this credential is not known here.");
}
