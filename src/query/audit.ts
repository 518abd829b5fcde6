import { ALL_ORGS } from "#contract";
import { type AuditEntry, type AuditRow, type Database, listAudit, type Tx } from "#store";
import { formatCursor, parseCursor } from "./cursor.ts";
import { getOrg } from "./reading.ts";

export type AuditPage = { rows: AuditRow[]; nextCursor: string | null };

/**
 * A page of the audit log of one org, or (null) of what concerns all orgs; newest first. Throws Failure `not_found`, and
 * `invalid_request` for a cursor of another list.
 */
export async function listAuditPage(
  database: Database,
  externalId: string | null,
  { cursor, limit }: { cursor?: string | undefined; limit: number },
): Promise<AuditPage> {
  const list = externalId === null ? "audit" : `audit/${externalId}`;
  const beforeSeq = parseCursor(list, cursor);
  const orgId = externalId === null ? ALL_ORGS : (await getOrg(database, externalId)).id;
  const read = (tx: Tx) => listAudit(tx.sql, { orgId, beforeSeq, limit: limit + 1 });
  const found =
    orgId === ALL_ORGS ? await database.withSystem(read) : await database.withOrg(orgId, read);
  const rows = found.slice(0, limit);
  const last = rows.at(-1);
  return {
    rows,
    nextCursor: found.length > limit && last !== undefined ? formatCursor(list, last.seq) : null,
  };
}

/** Writes to the audit log what is about to be changed, where the change's own transaction cannot hold the entry. */
export const recordChange = (
  database: Database,
  { orgId }: { orgId: number },
  entry: AuditEntry,
): Promise<void> =>
  orgId === ALL_ORGS
    ? database.withSystem(async () => undefined, entry)
    : database.withOrg(orgId, async () => undefined, entry);
