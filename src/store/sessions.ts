import type { Sql } from "./database.ts";
import type { OrgStatus } from "./orgs.ts";

/** A browser's session. `principal` is whatever was stored as JSON: the reader parses it. */
export type StoredSession = {
  id: string;
  /** Internal id; 0: belongs to no org. */
  orgId: number;
  principalId: string;
  principal: unknown;
  createdAt: Date;
  lastSeenAt: Date;
  expiresAt: Date;
  revokedAt: Date | null;
  orgStatus: OrgStatus;
};

/** A session, and what has become of whoever signed in. */
export type FoundSession = StoredSession & {
  /** The API key that signed in; null: it was none, or there is no such key. */
  keyId: string | null;
  /** When that key was revoked, or will expire. */
  keyEndsAt: Date | null;
  /** All tokens of the subject that signed in were revoked since. */
  isSubjectRevoked: boolean;
};

/** Stores a new session; `tokenHash` is SHA-256 of its token. */
export const insertSession = (
  sql: Sql,
  session: Omit<StoredSession, "lastSeenAt" | "revokedAt" | "orgStatus"> & { tokenHash: Buffer },
): Promise<never[]> => sql`
  insert into browser_session (
    id, token_hash, org_id, principal_id, principal, created_at, last_seen_at, expires_at)
  values (
    ${session.id}, ${session.tokenHash}, ${session.orgId}, ${session.principalId},
    ${JSON.stringify(session.principal)}::jsonb, ${session.createdAt}, ${session.createdAt}, ${session.expiresAt})`;

/**
 * A session by the hash of its token, ended ones included. As the owner or under `change`. Index: token_hash, then the
 * primary keys of the others.
 */
export const findSession = async (
  sql: Sql,
  tokenHash: Buffer,
): Promise<FoundSession | undefined> => {
  const [session] = await sql<FoundSession>`
    select s.id,
           s.org_id as "orgId",
           s.principal_id as "principalId",
           s.principal,
           s.created_at as "createdAt",
           s.last_seen_at as "lastSeenAt",
           s.expires_at as "expiresAt",
           s.revoked_at as "revokedAt",
           o.status as "orgStatus",
           k.id as "keyId",
           least(k.revoked_at, k.expires_at) as "keyEndsAt",
           exists (
             select from token_revocation r
              where r.kind = 'sub'
                and r.issuer || '#' || r.value = s.principal_id
                and r.created_at >= s.created_at) as "isSubjectRevoked"
      from browser_session s
      join org o on o.id = s.org_id
      left join api_key k on k.id = s.principal_id
     where s.token_hash = ${tokenHash}`;
  return session;
};

/** Notes that a session was used; a later note stays. Primary key. */
export const touchSession = (
  sql: Sql,
  { id, at }: { id: string; at: Date },
): Promise<never[]> => sql`
  update browser_session
     set last_seen_at = greatest(last_seen_at, ${at}::timestamptz)
   where id = ${id}`;

/** Ends one session; none when it had ended. Primary key; repeating changes nothing. */
export const revokeSession = (
  sql: Sql,
  { id, at }: { id: string; at: Date },
): Promise<{ id: string }[]> => sql<{ id: string }>`
  update browser_session
     set revoked_at = ${at}
   where id = ${id}
     and revoked_at is null
  returning id`;

/** Ends every session of a key or subject and returns their ids. Index: browser_session_principal. */
export const revokeSessionsOfPrincipal = (
  sql: Sql,
  { principalId, at }: { principalId: string; at: Date },
): Promise<{ id: string }[]> => sql<{ id: string }>`
  update browser_session
     set revoked_at = ${at}
   where principal_id = ${principalId}
     and revoked_at is null
  returning id`;

/** Ends every session of an org's principals and returns their ids. Index: browser_session_org. */
export const revokeSessionsOfOrg = (
  sql: Sql,
  { orgId, at }: { orgId: number; at: Date },
): Promise<{ id: string }[]> => sql<{ id: string }>`
  update browser_session
     set revoked_at = ${at}
   where org_id = ${orgId}
     and org_id > 0
     and revoked_at is null
  returning id`;

/** Stores a link that signs in once; `tokenHash` is SHA-256 of its token. */
export const insertSignInLink = (
  sql: Sql,
  link: { tokenHash: Buffer; principal: unknown; createdAt: Date; expiresAt: Date },
): Promise<never[]> => sql`
  insert into sign_in_link (token_hash, principal, created_at, expires_at)
  values (${link.tokenHash}, ${JSON.stringify(link.principal)}::jsonb, ${link.createdAt}, ${link.expiresAt})`;

/** Uses a link up: of two that try, one gets the principal. None when it is unknown, used or expired. Primary key. */
export const takeSignInLink = (
  sql: Sql,
  { tokenHash, at }: { tokenHash: Buffer; at: Date },
): Promise<{ principal: unknown }[]> => sql<{ principal: unknown }>`
  update sign_in_link
     set used_at = ${at}
   where token_hash = ${tokenHash}
     and used_at is null
     and expires_at > ${at}
  returning principal`;

/** What an identity provider's answer must match. `stateHash` is SHA-256 of the state. */
export type SignInAttempt = { nonce: string; verifier: string; returnPath: string };

/** Remembers a sign-in that goes to the identity provider. */
export const insertSignInAttempt = (
  sql: Sql,
  attempt: SignInAttempt & { stateHash: Buffer; createdAt: Date; expiresAt: Date },
): Promise<never[]> => sql`
  insert into sign_in_attempt (state_hash, nonce, verifier, return_path, created_at, expires_at)
  values (
    ${attempt.stateHash}, ${attempt.nonce}, ${attempt.verifier}, ${attempt.returnPath}, ${attempt.createdAt},
    ${attempt.expiresAt})`;

/** Takes a remembered sign-in away: of two answers one gets it. None when it is unknown or expired. Primary key. */
export const takeSignInAttempt = (
  sql: Sql,
  { stateHash, at }: { stateHash: Buffer; at: Date },
): Promise<SignInAttempt[]> => sql<SignInAttempt>`
  delete from sign_in_attempt
   where state_hash = ${stateHash}
     and expires_at > ${at}
  returning nonce, verifier, return_path as "returnPath"`;

/**
 * Forgets sessions, links and attempts that ended before an instant, at most `limit` of each. As the owner. Indexes:
 * those on expires_at. Repeatable; returns how many there were.
 */
export async function deleteEndedSignIns(
  sql: Sql,
  { before, limit }: { before: Date; limit: number },
): Promise<number> {
  const [row] = await sql<{ deleted: number }>`
    with sessions as (
      delete from browser_session
       where id in (select id from browser_session where expires_at < ${before} order by expires_at limit ${limit})
      returning 1
    ), links as (
      delete from sign_in_link
       where token_hash in (
               select token_hash from sign_in_link where expires_at < ${before} order by expires_at limit ${limit})
      returning 1
    ), attempts as (
      delete from sign_in_attempt
       where state_hash in (
               select state_hash from sign_in_attempt where expires_at < ${before} order by expires_at limit ${limit})
      returning 1
    )
    select (select count(*) from sessions) + (select count(*) from links) + (select count(*) from attempts) as deleted`;
  return row?.deleted ?? 0;
}
