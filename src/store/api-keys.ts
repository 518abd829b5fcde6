import type { OrgStatus } from "./orgs.ts";
import type { Sql } from "./database.ts";

/** A key without its secret. Roles and scopes are as stored: the reader knows which there are. */
export type ApiKey = {
  id: string;
  /** Internal id; 0: of the operator's staff. */
  orgId: number;
  name: string;
  roles: string[];
  /** Null: all that the roles allow. */
  scopes: string[] | null;
  /** External ids of the orgs it may write for; null: its own only; ["*"]: any. */
  writesFor: string[] | null;
  environment: string;
  createdAt: Date;
  createdBy: string;
  expiresAt: Date | null;
  revokedAt: Date | null;
  lastUsedAt: Date | null;
  /** Id of the key this one was made from when it was rotated. */
  replaces: string | null;
};

/** What authentication needs of a key; `secretHash` is SHA-256 of its secret. */
export type StoredApiKey = ApiKey & {
  secretHash: Buffer;
  orgExternalId: string;
  orgStatus: OrgStatus;
};

/** A key by its id, revoked and expired ones included. As the owner: no other role reads hashes. Primary key. */
export const findApiKey = async (sql: Sql, id: string): Promise<StoredApiKey | undefined> => {
  const [key] = await sql<StoredApiKey>`
    select k.id,
           k.org_id as "orgId",
           k.name,
           k.roles,
           k.scopes,
           k.writes_for as "writesFor",
           k.environment,
           k.created_at as "createdAt",
           k.created_by as "createdBy",
           k.expires_at as "expiresAt",
           k.revoked_at as "revokedAt",
           k.last_used_at as "lastUsedAt",
           k.replaces,
           k.secret_hash as "secretHash",
           o.external_id as "orgExternalId",
           o.status as "orgStatus"
      from api_key k
      join org o on o.id = k.org_id
     where k.id = ${id}`;
  return key;
};

/** Stores a new key. A taken id fails as a unique violation. */
export const insertApiKey = (
  sql: Sql,
  key: Omit<ApiKey, "revokedAt" | "lastUsedAt"> & { secretHash: Buffer },
): Promise<never[]> => sql`
  insert into api_key (
    id, org_id, name, roles, scopes, writes_for, environment, secret_hash, created_at, created_by, expires_at, replaces)
  values (
    ${key.id}, ${key.orgId}, ${key.name}, ${key.roles}::text[], ${key.scopes}::text[], ${key.writesFor}::text[],
    ${key.environment}, ${key.secretHash}, ${key.createdAt}, ${key.createdBy}, ${key.expiresAt}, ${key.replaces})`;

/** Where a page of keys goes on: below this one. */
export type ApiKeyPlace = { createdAt: Date; id: string };

/** One page of an org's keys (0: the staff's), the newest first. Index: api_key_org. Reads only. */
export const listApiKeys = (
  sql: Sql,
  { orgId, before, limit }: { orgId: number; before?: ApiKeyPlace | undefined; limit: number },
): Promise<ApiKey[]> => sql<ApiKey>`
  select id,
         org_id as "orgId",
         name,
         roles,
         scopes,
         writes_for as "writesFor",
         environment,
         created_at as "createdAt",
         created_by as "createdBy",
         expires_at as "expiresAt",
         revoked_at as "revokedAt",
         last_used_at as "lastUsedAt",
         replaces
    from api_key
   where org_id = ${orgId}
     and (${before?.id ?? null}::text is null
          or (created_at, id) < (${before?.createdAt ?? null}::timestamptz, ${before?.id ?? null}::text))
   order by created_at desc, id desc
   limit ${limit}`;

/**
 * A key of an org, locked until the transaction ends so that of two rotations or revocations one comes first. Under
 * `change`. Primary key.
 */
export const lockApiKey = async (
  sql: Sql,
  orgId: number,
  id: string,
): Promise<ApiKey | undefined> => {
  const [key] = await sql<ApiKey>`
    select id,
           org_id as "orgId",
           name,
           roles,
           scopes,
           writes_for as "writesFor",
           environment,
           created_at as "createdAt",
           created_by as "createdBy",
           expires_at as "expiresAt",
           revoked_at as "revokedAt",
           last_used_at as "lastUsedAt",
           replaces
      from api_key
     where id = ${id}
       and org_id = ${orgId}
       for no key update`;
  return key;
};

/** Has a key of an org expire at an instant, if it does not do so before. Repeatable. */
export const expireApiKey = (
  sql: Sql,
  { orgId, id, at }: { orgId: number; id: string; at: Date },
): Promise<{ expiresAt: Date }[]> => sql<{ expiresAt: Date }>`
  update api_key
     set expires_at = least(expires_at, ${at}::timestamptz)
   where id = ${id}
     and org_id = ${orgId}
  returning expires_at as "expiresAt"`;

/** Revokes a key of an org; none when it is not there or was revoked before. Repeating changes nothing. */
export const revokeApiKey = (
  sql: Sql,
  { orgId, id, at }: { orgId: number; id: string; at: Date },
): Promise<{ id: string }[]> => sql<{ id: string }>`
  update api_key
     set revoked_at = ${at}
   where id = ${id}
     and org_id = ${orgId}
     and revoked_at is null
  returning id`;

/** Revokes every key of an org and returns their ids. Index: api_key_org. Repeating changes nothing. */
export const revokeApiKeysOfOrg = (
  sql: Sql,
  { orgId, at }: { orgId: number; at: Date },
): Promise<{ id: string }[]> => sql<{ id: string }>`
  update api_key
     set revoked_at = ${at}
   where org_id = ${orgId}
     and org_id > 0
     and revoked_at is null
  returning id`;

/** Notes when keys were last used; a later note stays. As the owner. Locks the rows in the order of their ids. */
export const touchApiKeys = (
  sql: Sql,
  uses: readonly { id: string; at: Date }[],
): Promise<never[]> => sql`
  with used as (
    select k.id, u.at
      from api_key k
      join unnest(${uses.map((use) => use.id)}::text[], ${uses.map((use) => use.at.toISOString())}::timestamptz[])
             as u (id, at) on u.id = k.id
     order by k.id
       for no key update of k
  )
  update api_key k
     set last_used_at = greatest(k.last_used_at, u.at)
    from used u
   where k.id = u.id`;
