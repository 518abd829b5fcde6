import { noSuchOrg } from "#contract";
import type { Clock } from "#kernel";
import { type AuditEntry, type Database, findOrgRecord, type OrgRecord } from "#store";
import type { Principal } from "./principal.ts";

/** Who asks for a change, and by which request: both are written to the audit log. */
export type Caller = { principal: Principal; requestId: string };

/** What the administration of who may come in rests on. */
export type AdministrationDependencies = {
  database: Database;
  clock: Clock;
};

/** What a caller did, for the audit log. */
export const entryOf = (
  { principal, requestId }: Caller,
  did: Pick<AuditEntry, "action" | "target" | "at" | "details">,
): AuditEntry => ({ actor: principal.id, actorName: principal.name, requestId, ...did });

/**
 * Reads in an org's name, for a caller of that org or one of all orgs; the latter's read is told in the org's audit log,
 * in the same transaction. `target` names what was read.
 */
export async function readOrg<T>(
  { database, clock }: AdministrationDependencies,
  { caller, org, target }: { caller: Caller; org: { id: number }; target: string },
  work: Parameters<typeof database.withOrg<T>>[1],
): Promise<T> {
  if (caller.principal.orgId !== null) return await database.withOrg(org.id, work);
  const at = new Date(clock.now());
  const entry = entryOf(caller, { action: "org.read", target, at });
  return await database.withOrg(org.id, work, entry);
}

/** The same across all orgs; told in the log of all. */
export const readSystem = <T>(
  { database, clock }: AdministrationDependencies,
  { caller, target }: { caller: Caller; target: string },
  work: Parameters<typeof database.withSystem<T>>[0],
): Promise<T> =>
  database.withSystem(
    work,
    entryOf(caller, { action: "system.read", target, at: new Date(clock.now()) }),
  );

/**
 * The org that a caller means. Throws Failure `not_found`, in the same words for one that is not there, is deleted, or is
 * not the caller's; the last without a question to the database.
 */
export async function getVisibleOrg(
  database: Pick<Database, "sql">,
  { principal }: Caller,
  orgId: string,
): Promise<OrgRecord> {
  if (principal.orgId !== null && principal.orgId !== orgId) throw noSuchOrg();
  const org = await findOrgRecord(database.sql, orgId);
  if (org === undefined || org.status === "deleted") throw noSuchOrg();
  return org;
}
