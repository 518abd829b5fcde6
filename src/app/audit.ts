import { resolve } from "node:path";
import { auditAnchorFile, openAuditAnchorFile } from "#auth";
import type { Config } from "#config";
import { OperatorError } from "#kernel";
import {
  type AuditVerification,
  type Database,
  getInstallationId,
  listOrgProfiles,
  verifyAuditChains,
} from "#store";
import { reachDatabase } from "./database.ts";
import type { AppDeps } from "./deps.ts";

export type { AuditFault } from "#store";

/** What a verification of the audit log found; `anchorFile`: the file it was held against, null when there was none. */
export type AuditReport = AuditVerification & { anchorFile: string | null };

export type AuditOrder = {
  /** External id; "*": the chain of all orgs together. Undefined: every chain. */
  org: string | undefined;
  /** Undefined: the data directory's, if it is there. */
  anchorFile: string | undefined;
  onVerified: (progress: { rowsDone: number; rows: number }) => void;
};

/**
 * Holds the audit log against itself and its anchors, whether the service runs or not: the database brought along is
 * started for the time when it does not. Reads only. Throws OperatorError when there is no database, no such org, or the
 * anchor file that was named cannot be used.
 */
export async function verifyAuditLog(
  config: Config,
  deps: AppDeps,
  order: AuditOrder,
): Promise<AuditReport> {
  await using scope = new AsyncDisposableStack();
  const { sql } = await reachDatabase(config, deps, scope);
  const orgId = order.org === undefined ? undefined : await getOrgId(sql, order.org);
  const path = resolve(order.anchorFile ?? auditAnchorFile(config.dataDir));
  // Before the log is read: what is anchored from now on may be beyond what is read.
  const anchors = await openAuditAnchorFile(path, await getInstallationId(sql));
  if (anchors === undefined && order.anchorFile !== undefined)
    throw new OperatorError(`There is no ${path}.`);
  if (anchors !== undefined) scope.use(anchors);
  const found = await verifyAuditChains(sql, {
    orgId,
    anchors,
    onProgress: (progress) => {
      deps.signal.throwIfAborted();
      order.onVerified(progress);
    },
  });
  return { ...found, anchorFile: anchors === undefined ? null : path };
}

async function getOrgId(sql: Database["sql"], externalId: string): Promise<number> {
  const [org] = await listOrgProfiles(sql, [externalId]);
  if (org === undefined) throw new OperatorError(`There is no org ${externalId}.`);
  return org.id;
}
