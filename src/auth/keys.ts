import { Failure, refuseField } from "#contract";
import type { Clock } from "#kernel";
import {
  type ApiKey as StoredKey,
  appendAudit,
  type Database,
  expireApiKey,
  findApiKey,
  insertApiKey,
  listApiKeys,
  lockApiKey,
  revokeApiKey,
  type Tx,
} from "#store";
import { createApiKey, formatApiKey, hashSecret } from "./api-key.ts";
import { type Caller, entryOf, getVisibleOrg, readOrg, readSystem } from "./caller.ts";
import { checkGrant, requireMayGrant } from "./grants.ts";
import { requireScope } from "./principal.ts";
import { isRole, isScope, type Role, type Scope } from "./scopes.ts";

/** What may be known about a key. Its secret is known to its owner alone. */
export type KeyRecord = {
  id: string;
  name: string;
  /** External id of its org; null: it belongs to none (staff, and producers of several orgs). */
  orgId: string | null;
  roles: readonly Role[];
  /** null: all of the roles'. */
  scopes: readonly Scope[] | null;
  /** null: its own org only. */
  writesFor: readonly string[] | "any" | null;
  environment: string;
  createdAt: Date;
  createdBy: string;
  expiresAt: Date | null;
  revokedAt: Date | null;
  lastUsedAt: Date | null;
  /** Id of the key it came in place of. */
  replaces: string | null;
};

/** A key as it is asked for. Absent fields: no limit of scopes, its own org (a system_admin: any), no end. */
export type NewKey = {
  name: string;
  roles: readonly Role[];
  scopes?: readonly Scope[] | null | undefined;
  writesFor?: readonly string[] | "any" | null | undefined;
  expiresAt?: Date | null | undefined;
};

/** A key just made. `key` is its whole text, shown this once. */
export type MadeKey = { key: string; record: KeyRecord };

/**
 * The keys of one org, or with `orgId` null those of none. All throw Failure `not_found` for an org or key that the
 * caller cannot see, and `forbidden` for what would be more than the caller's own. Changes are audited in the same
 * transaction.
 */
export type Keys = {
  create(caller: Caller, orgId: string | null, key: NewKey): Promise<MadeKey>;
  /** Newest first; revoked and expired ones too. `before` is the id of the last key of the page before. */
  list(
    caller: Caller,
    orgId: string | null,
    page: { limit: number; before?: string | undefined },
  ): Promise<KeyRecord[]>;
  /** A new key like this one, for as long as this one was made for; this one works for `overlapHours` more (0: no longer). */
  rotate(
    caller: Caller,
    orgId: string | null,
    keyId: string,
    options: { overlapHours: number },
  ): Promise<MadeKey>;
  /** Safe to repeat: a key is revoked once, and the first time stays. */
  revoke(caller: Caller, orgId: string | null, keyId: string): Promise<KeyRecord>;
};

export type KeysOptions = {
  database: Database;
  clock: Clock;
  /** Stands in the keys made here. */
  environment: string;
  /** Told of a key that changed, once that is committed. */
  onChange: (keyId: string) => void;
};

const HOUR_MS = 3_600_000;
/** Where keys of no org are stored and audited. */
const NO_ORG = { id: 0, externalId: null };

type Owner = { id: number; externalId: string | null };

export function createKeys(options: KeysOptions): Keys {
  const { database, clock, environment, onChange } = options;
  const findOwner = async (caller: Caller, orgId: string | null): Promise<Owner> => {
    requireScope(caller.principal, orgId === null ? "system:write" : "keys:manage");
    return orgId === null ? NO_ORG : await getVisibleOrg(database, caller, orgId);
  };
  const change = <T>(owner: Owner, work: (tx: Tx) => Promise<T>): Promise<T> =>
    database.change(owner.id === 0 ? "*" : owner.id, work);
  const insert = async (
    tx: Tx,
    key: Omit<StoredKey, "id" | "environment" | "revokedAt" | "lastUsedAt">,
    owner: Owner,
  ): Promise<MadeKey> => {
    const made = createApiKey(environment);
    const stored = { ...key, id: made.id, environment };
    await insertApiKey(tx.sql, { ...stored, secretHash: hashSecret(made.secret) });
    const record = recordOf({ ...stored, revokedAt: null, lastUsedAt: null }, owner);
    return { key: formatApiKey(made), record };
  };

  return {
    create: async (caller, orgId, key) => {
      const owner = await findOwner(caller, orgId);
      const at = new Date(clock.now());
      const { name, roles, scopes = null, expiresAt = null } = key;
      const writesFor = key.writesFor ?? (roles.includes("system_admin") ? "any" : null);
      checkGrant({ orgId, roles, scopes, writesFor });
      requireMayGrant(caller.principal, { orgId, roles, scopes, writesFor });
      if (expiresAt !== null && expiresAt <= at) {
        throw refuseField("/body/expiresAt", "in_the_past", "A key must expire later than now.");
      }
      const wanted = {
        orgId: owner.id,
        name,
        roles: [...new Set(roles)],
        scopes: scopes && [...new Set(scopes)],
        writesFor: storedWritesFor(writesFor),
        createdAt: at,
        createdBy: caller.principal.id,
        expiresAt,
        replaces: null,
      };
      return await change(owner, async (tx) => {
        const made = await insert(tx, wanted, owner);
        const details = {
          name,
          roles: wanted.roles,
          scopes: wanted.scopes,
          writesFor: wanted.writesFor,
          expiresAt: expiresAt?.toISOString() ?? null,
        };
        const target = made.record.id;
        await appendAudit(
          tx,
          owner.id,
          entryOf(caller, { action: "key.create", target, at, details }),
        );
        return made;
      });
    },

    list: async (caller, orgId, { limit, before }) => {
      const owner = await findOwner(caller, orgId);
      const place = before === undefined ? undefined : await findPlace(database, owner, before);
      const read = ({ sql }: Tx) => listApiKeys(sql, { orgId: owner.id, before: place, limit });
      const found =
        owner.id === 0
          ? await readSystem(options, { caller, target: "listAdminKeys" }, read)
          : await readOrg(options, { caller, org: owner, target: "listOrgKeys" }, read);
      return found.map((key) => recordOf(key, owner));
    },

    rotate: async (caller, orgId, keyId, { overlapHours }) => {
      const owner = await findOwner(caller, orgId);
      const nowMs = clock.now();
      const at = new Date(nowMs);
      const rotated = await change(owner, async (tx) => {
        const old = await lockKey(tx, owner, keyId);
        requireMayGrant(caller.principal, { ...recordOf(old, owner), orgId });
        const hasEnded = old.expiresAt !== null && old.expiresAt.getTime() <= nowMs;
        if (old.revokedAt !== null || hasEnded) {
          throw new Failure(
            "invalid_request",
            "The key is revoked or has expired, so that nothing is left to renew: create one.",
          );
        }
        const livesMs = old.expiresAt && old.expiresAt.getTime() - old.createdAt.getTime();
        const expiresAt = livesMs === null ? null : new Date(nowMs + livesMs);
        const createdBy = caller.principal.id;
        const next = { ...old, createdAt: at, createdBy, expiresAt, replaces: old.id };
        const made = await insert(tx, next, owner);
        const endsAt = new Date(nowMs + overlapHours * HOUR_MS);
        await expireApiKey(tx.sql, { orgId: owner.id, id: old.id, at: endsAt });
        const details = { newKey: made.record.id, overlapHours };
        const did = { action: "key.rotate", target: old.id, at, details } as const;
        await appendAudit(tx, owner.id, entryOf(caller, did));
        return made;
      });
      onChange(keyId);
      return rotated;
    },

    revoke: async (caller, orgId, keyId) => {
      const owner = await findOwner(caller, orgId);
      const at = new Date(clock.now());
      const record = await change(owner, async (tx) => {
        const key = await lockKey(tx, owner, keyId);
        const [revoked] = await revokeApiKey(tx.sql, { orgId: owner.id, id: key.id, at });
        if (revoked === undefined) return recordOf(key, owner);
        const did = {
          action: "key.revoke",
          target: key.id,
          at,
          details: { name: key.name },
        } as const;
        await appendAudit(tx, owner.id, entryOf(caller, did));
        return recordOf({ ...key, revokedAt: at }, owner);
      });
      onChange(keyId);
      return record;
    },
  };
}

const noSuchKey = (): Failure => new Failure("not_found", "There is no such key.");

async function lockKey({ sql }: Tx, owner: Owner, keyId: string): Promise<StoredKey> {
  const key = await lockApiKey(sql, owner.id, keyId);
  if (key === undefined) throw noSuchKey();
  return key;
}

async function findPlace(
  { sql }: Database,
  owner: Owner,
  keyId: string,
): Promise<{ createdAt: Date; id: string }> {
  const key = await findApiKey(sql, keyId);
  if (key === undefined || key.orgId !== owner.id) throw noSuchKey();
  return { createdAt: key.createdAt, id: key.id };
}

const storedWritesFor = (writesFor: readonly string[] | "any" | null): string[] | null => {
  if (writesFor === "any") return ["*"];
  return writesFor && [...new Set(writesFor)];
};

const recordOf = (key: StoredKey, owner: Owner): KeyRecord => ({
  id: key.id,
  name: key.name,
  orgId: owner.externalId,
  roles: key.roles.filter(isRole),
  scopes: key.scopes && key.scopes.filter(isScope),
  writesFor: key.writesFor?.includes("*") === true ? "any" : key.writesFor,
  environment: key.environment,
  createdAt: key.createdAt,
  createdBy: key.createdBy,
  expiresAt: key.expiresAt,
  revokedAt: key.revokedAt,
  lastUsedAt: key.lastUsedAt,
  replaces: key.replaces,
});
