import type { Sql, Tx } from "./database.ts";

/** What audit entries are about. The first two are reads across orgs; all others changed something. */
export const AUDIT_ACTIONS = [
  "org.read",
  "system.read",
  "org.create",
  "org.update",
  "org.suspend",
  "org.activate",
  "org.delete",
  "key.create",
  "key.rotate",
  "key.revoke",
  "model.set",
  "prices.apply",
  "rerating.create",
  "rerating.apply",
  "rerating.undo",
  "rerating.cancel",
  "budget.set",
  "budget.delete",
  "token.revoke",
  "session.start",
  "session.end",
  "sign_in_link.create",
  "quarantine.replay",
  "quarantine.drop",
] as const;
export type AuditAction = (typeof AUDIT_ACTIONS)[number];

/** Who did what to what. No secrets and no figures: the log is kept for good. */
export type AuditEntry = {
  /** A principal's id: of a key, or "<issuer>#<sub>". */
  actor: string;
  actorName: string;
  action: AuditAction;
  /** What it was done to: an id, or a route and the names of its parameters. */
  target: string;
  requestId: string;
  details?: Record<string, string | number | boolean | null | string[]>;
  at: Date;
};

const TEXT_CHARACTERS_MAX = 1000;

/**
 * The entry as the JSON that is stored and hashed: keys sorted, texts such as PostgreSQL takes (no NUL, no halves of
 * characters) and no longer than 1000 characters.
 */
export function formatAuditEntry(entry: AuditEntry): string {
  const { at, details, ...texts } = entry;
  const values = { ...texts, at: at.toISOString(), ...(details && { details: sorted(details) }) };
  return JSON.stringify(sorted(values), (_key, value: unknown) =>
    typeof value === "string" ? storable(value) : value,
  );
}

const sorted = <T>(values: Record<string, T>): Record<string, T> =>
  Object.fromEntries(
    Object.entries(values)
      .map(([name, value]) => [storable(name), value] as const)
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );

const storable = (text: string): string =>
  text.slice(0, TEXT_CHARACTERS_MAX).toWellFormed().replaceAll("\0", "\uFFFD");

/**
 * Appends to an org's chain (0: all orgs'), in the transaction of what it tells of: both happen or neither. Waits for the
 * chain's lock and holds it until the transaction ends, so append last, and to several chains in the order of their ids.
 * Not safe to repeat: it appends again.
 */
export async function appendAudit(
  tx: Pick<Tx, "sql">,
  orgId: number,
  entry: AuditEntry,
): Promise<void> {
  await tx.sql`select seq from append_audit(${orgId}, ${formatAuditEntry(entry)})`;
}

/** One row of an org's chain. */
export type AuditRow = { seq: number; at: Date; actor: string; action: string; entry: string };

/** One page of an org's chain (0: all orgs'), newest first, from the one below `beforeSeq` on. Primary key; reads only. */
export const listAudit = (
  sql: Sql,
  { orgId, beforeSeq, limit }: { orgId: number; beforeSeq: number; limit: number },
): Promise<AuditRow[]> => sql<AuditRow>`
  select seq, at, actor, action, entry
    from audit_log
   where org_id = ${orgId}
     and seq < ${beforeSeq}
   order by seq desc
   limit ${limit}`;
