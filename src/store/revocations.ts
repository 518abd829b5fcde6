import type { Sql } from "./database.ts";

/** One token (jti), or all of a subject (sub) issued up to `createdAt`, refused although not expired. */
export type TokenRevocation = {
  kind: "jti" | "sub";
  issuer: string;
  value: string;
  /** From then on none of them is valid by itself. */
  until: Date;
  createdAt: Date;
  createdBy: string;
};

/** Revokes; a repeated revocation counts from now and lasts as long as the longer of both. */
export const upsertTokenRevocation = (
  sql: Sql,
  revocation: TokenRevocation,
): Promise<never[]> => sql`
  insert into token_revocation (kind, issuer, value, until, created_at, created_by)
  values (
    ${revocation.kind}, ${revocation.issuer}, ${revocation.value}, ${revocation.until}, ${revocation.createdAt},
    ${revocation.createdBy})
      on conflict (kind, issuer, value) do update
     set until = greatest(token_revocation.until, excluded.until),
         created_at = greatest(token_revocation.created_at, excluded.created_at),
         created_by = excluded.created_by`;

/** Revocations that a token of this issuer, subject and (if it has one) jti may fall under: two at most. Primary key. */
export const findTokenRevocations = (
  sql: Sql,
  token: { issuer: string; subject: string; jti: string | null },
): Promise<TokenRevocation[]> => sql<TokenRevocation>`
  select kind, issuer, value, until, created_at as "createdAt", created_by as "createdBy"
    from token_revocation
   where issuer = ${token.issuer}
     and ((kind = 'sub' and value = ${token.subject}) or (kind = 'jti' and value = ${token.jti}))`;

/** Where a page of revocations goes on: after this one. */
export type TokenRevocationPlace = Pick<TokenRevocation, "kind" | "issuer" | "value">;

/** One page of the revocations still needed at an instant, by kind, issuer and value. Primary key. */
export const listTokenRevocations = (
  sql: Sql,
  { at, after, limit }: { at: Date; after?: TokenRevocationPlace | undefined; limit: number },
): Promise<TokenRevocation[]> => sql<TokenRevocation>`
  select kind, issuer, value, until, created_at as "createdAt", created_by as "createdBy"
    from token_revocation
   where until > ${at}
     and (kind, issuer, value) > (${after?.kind ?? ""}::text, ${after?.issuer ?? ""}::text, ${after?.value ?? ""}::text)
   order by kind, issuer, value
   limit ${limit}`;

/** Forgets at most `limit` revocations no longer needed at an instant. As the owner. Index: token_revocation_until. */
export const deleteEndedTokenRevocations = (
  sql: Sql,
  { at, limit }: { at: Date; limit: number },
): Promise<{ value: string }[]> => sql<{ value: string }>`
  delete from token_revocation
   where (kind, issuer, value) in (
           select kind, issuer, value
             from token_revocation
            where until < ${at}
            order by until
            limit ${limit})
  returning value`;
