import { type CostBasis, Failure, noSuchOrg } from "#contract";
import type { Clock } from "#kernel";
import {
  appendAudit,
  type AuditAction,
  type Database,
  findOrgRecord,
  insertOrg,
  listOrgRecords,
  type OrgRecord as StoredOrg,
  type OrgStatus,
  revokeApiKeysOfOrg,
  revokeSessionsOfOrg,
  setOrgStatus,
  type Tx,
  updateOrg,
} from "#store";
import { type Caller, entryOf, getVisibleOrg, readOrg, readSystem } from "./caller.ts";
import { requireScope } from "./principal.ts";

export { ORG_STATUSES, type OrgStatus } from "#store";

/** An org as its administrators see it. */
export type OrgRecord = {
  orgId: string;
  name: string | null;
  timeZone: string;
  currency: string;
  costBasis: CostBasis;
  tagKeys: readonly string[];
  billingContact: string | null;
  entitlements: Readonly<Record<string, unknown>>;
  status: OrgStatus;
  statusChangedAt: Date | null;
  createdAt: Date;
  updatedAt: Date;
};

/** An org as it is asked for. Absent: no name, UTC, USD, cost the event's own or else computed, no tags,
 * no contact, no entitlements. */
export type NewOrg = {
  orgId: string;
  name?: string | undefined;
  timeZone?: string | undefined;
  currency?: string | undefined;
  costBasis?: CostBasis | undefined;
  tagKeys?: readonly string[] | undefined;
  billingContact?: string | undefined;
  entitlements?: Readonly<Record<string, unknown>> | undefined;
};

/** What is absent stays as it is; null empties. */
export type OrgChange = {
  name?: string | null | undefined;
  timeZone?: string | undefined;
  costBasis?: CostBasis | undefined;
  tagKeys?: readonly string[] | undefined;
  billingContact?: string | null | undefined;
  entitlements?: Readonly<Record<string, unknown>> | undefined;
};

/**
 * The orgs of this service. Every change needs `system:write` and is audited in the same transaction. Failure `not_found`:
 * there is no such org, or it is deleted.
 */
export type Orgs = {
  /** Failure `already_exists`: this id is taken, by a deleted org too. */
  create(caller: Caller, org: NewOrg): Promise<OrgRecord>;
  /** In the order of their ids; deleted ones too. `after` is the last id of the page before. */
  list(caller: Caller, page: { limit: number; after?: string | undefined }): Promise<OrgRecord[]>;
  get(caller: Caller, orgId: string): Promise<OrgRecord>;
  update(caller: Caller, orgId: string, change: OrgChange): Promise<OrgRecord>;
  /** Deleting revokes the org's keys and sessions and has no way back. Safe to repeat. */
  setStatus(caller: Caller, orgId: string, status: OrgStatus): Promise<OrgRecord>;
};

export type OrgsOptions = {
  database: Database;
  clock: Clock;
  /** Told of an org whose status or tags changed, by its external id, once that is committed. */
  onChange: (orgId: string) => void | Promise<void>;
};

const ACTIONS: Record<OrgStatus, AuditAction> = {
  active: "org.activate",
  suspended: "org.suspend",
  deleted: "org.delete",
};

export function createOrgs(options: OrgsOptions): Orgs {
  const { database, clock, onChange } = options;
  return {
    create: async (caller, { orgId, ...org }) => {
      requireScope(caller.principal, "system:write");
      const at = new Date(clock.now());
      const made = await database.change("*", async (tx) => {
        const id = await insertOrg(tx.sql, {
          externalId: orgId,
          name: org.name ?? null,
          billingContact: org.billingContact ?? null,
          timeZone: org.timeZone ?? "UTC",
          currency: org.currency ?? "USD",
          costBasis: org.costBasis,
          tagKeys: org.tagKeys,
          entitlements: { ...org.entitlements },
          at,
        });
        if (id === undefined) {
          throw new Failure("already_exists", "There is an org of this id, or there was one.");
        }
        await appendAudit(tx, id, entryOf(caller, { action: "org.create", target: orgId, at }));
        return await getRecord(tx, orgId);
      });
      // It may be remembered as one that is not there.
      await onChange(orgId);
      return made;
    },

    list: async (caller, { limit, after }) => {
      requireScope(caller.principal, "system:read");
      const found = await readSystem(options, { caller, target: "listAdminOrgs" }, ({ sql }) =>
        listOrgRecords(sql, { after, limit }),
      );
      return found.map(recordOf);
    },

    get: async (caller, orgId) => {
      const org = await getVisibleOrg(database, caller, orgId);
      return await readOrg(options, { caller, org, target: "getOrg" }, (tx) =>
        getRecord(tx, orgId),
      );
    },

    update: async (caller, orgId, change) => {
      requireScope(caller.principal, "system:write");
      const org = await getVisibleOrg(database, caller, orgId);
      const at = new Date(clock.now());
      const changed = Object.entries(change).flatMap(([field, value]) =>
        value === undefined ? [] : [field],
      );
      const updated = await database.change(org.id, async (tx) => {
        await updateOrg(tx.sql, org.id, { change: storedChange(change), at });
        // The names of the fields tell enough: what is in them may be about people.
        const { costBasis, tagKeys } = change;
        const details = {
          changed,
          ...(costBasis !== undefined && { costBasis }),
          ...(tagKeys !== undefined && { tagKeys: [...tagKeys] }),
        };
        const did = { action: "org.update", target: orgId, at, details } as const;
        await appendAudit(tx, org.id, entryOf(caller, did));
        return await getRecord(tx, orgId);
      });
      if (change.tagKeys !== undefined) await onChange(orgId);
      return updated;
    },

    setStatus: async (caller, orgId, status) => {
      requireScope(caller.principal, "system:write");
      const org = await findOrgRecord(database.sql, orgId);
      if (org === undefined || (org.status === "deleted" && status !== "deleted"))
        throw noSuchOrg();
      const at = new Date(clock.now());
      const changed = await database.change(org.id, async (tx) => {
        const [isSet] = await setOrgStatus(tx.sql, org.id, { status, at });
        const now = await getRecord(tx, orgId);
        // Another deleted it meanwhile.
        if (now.status !== status) throw noSuchOrg();
        if (isSet === undefined) return now;
        const details = status === "deleted" ? await endAccess(tx, org.id, at) : {};
        const did = { action: ACTIONS[status], target: orgId, at, details };
        await appendAudit(tx, org.id, entryOf(caller, did));
        return now;
      });
      await onChange(orgId);
      return changed;
    },
  };
}

/** Ends everything by which somebody of an org comes in. */
async function endAccess(
  { sql }: Tx,
  orgId: number,
  at: Date,
): Promise<{ keysRevoked: number; sessionsEnded: number }> {
  const keys = await revokeApiKeysOfOrg(sql, { orgId, at });
  const sessions = await revokeSessionsOfOrg(sql, { orgId, at });
  return { keysRevoked: keys.length, sessionsEnded: sessions.length };
}

async function getRecord({ sql }: Tx, orgId: string): Promise<OrgRecord> {
  const org = await findOrgRecord(sql, orgId);
  if (org === undefined) throw noSuchOrg();
  return recordOf(org);
}

const storedChange = ({ entitlements, ...rest }: OrgChange) => ({
  ...rest,
  entitlements: entitlements && { ...entitlements },
});

const recordOf = ({ id: _id, externalId, ...org }: StoredOrg): OrgRecord => ({
  orgId: externalId,
  ...org,
});
