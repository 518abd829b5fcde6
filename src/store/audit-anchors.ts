import type { Sql } from "./database.ts";

/** A row of a chain as it was when it was told outside: its hash in hex. */
export type AuditAnchor = { orgId: number; seq: number; hash: string };

/** The end of a chain. `org` is the org's external id; "*": all orgs'. */
export type AuditHead = AuditAnchor & { org: string };

/**
 * Ends of chains that have grown since they were last anchored, by org, from the one after `afterOrg` on. Indexes: the
 * primary keys of org, audit_log and audit_anchor, one row of each an org. Reads only.
 */
export const listMovedHeads = (
  sql: Sql,
  { afterOrg, limit }: { afterOrg: number; limit: number },
): Promise<AuditHead[]> => sql<AuditHead>`
  select o.id as "orgId", o.external_id as org, h.seq, encode(h.hash, 'hex') as hash
    from org o
   cross join lateral (
           select seq, hash from audit_log where org_id = o.id order by seq desc limit 1) h
    left join lateral (
           select seq from audit_anchor where org_id = o.id order by seq desc limit 1) a on true
   where o.id > ${afterOrg}
     and h.seq > coalesce(a.seq, 0)
   order by o.id
   limit ${limit}`;

/** Notes that ends of chains have been told outside. Repeating changes nothing. */
export const insertAnchors = (
  sql: Sql,
  { anchors, at }: { anchors: readonly AuditAnchor[]; at: Date },
): Promise<never[]> => sql`
  insert into audit_anchor (org_id, seq, hash, at)
  select org_id, seq, decode(hash, 'hex'), ${at}
    from unnest(
           ${anchors.map((anchor) => anchor.orgId)}::int4[],
           ${anchors.map((anchor) => anchor.seq)}::int8[],
           ${anchors.map((anchor) => anchor.hash)}::text[]) as a (org_id, seq, hash)
      on conflict (org_id, seq) do nothing`;

/** One page of the anchors in the database up to one org's, by org and number, from the one after `after` on. Primary key. */
export const listAnchors = (
  sql: Sql,
  { after, lastOrg, limit }: { after: Omit<AuditAnchor, "hash">; lastOrg: number; limit: number },
): Promise<AuditAnchor[]> => sql<AuditAnchor>`
  select org_id as "orgId", seq, encode(hash, 'hex') as hash
    from audit_anchor
   where (org_id, seq) > (${after.orgId}::int4, ${after.seq}::int8)
     and org_id <= ${lastOrg}
   order by org_id, seq
   limit ${limit}`;

/** An anchor that the log does not bear out: the row is not there, or is another. `lastSeq`: the chain's end, 0 for none. */
export type BrokenAnchor = { orgId: number; seq: number; isThere: boolean; lastSeq: number };

/** Those of some anchors that the log does not bear out. Primary key of audit_log. Reads only. */
export const listBrokenAnchors = (
  sql: Sql,
  anchors: readonly AuditAnchor[],
): Promise<BrokenAnchor[]> => sql<BrokenAnchor>`
  select a.org_id as "orgId",
         a.seq,
         l.hash is not null as "isThere",
         coalesce((select max(seq) from audit_log where org_id = a.org_id), 0) as "lastSeq"
    from unnest(
           ${anchors.map((anchor) => anchor.orgId)}::int4[],
           ${anchors.map((anchor) => anchor.seq)}::int8[],
           ${anchors.map((anchor) => anchor.hash)}::text[]) as a (org_id, seq, hash)
    left join audit_log l on l.org_id = a.org_id and l.seq = a.seq
   where l.hash is distinct from decode(a.hash, 'hex')
   order by a.org_id, a.seq`;

/** Which installation this database is: what is told outside says so. */
export async function getInstallationId(sql: Sql): Promise<string> {
  const [row] = await sql<{ id: string }>`select id from installation`;
  if (!row) throw new Error("installation has no row");
  return row.id;
}
