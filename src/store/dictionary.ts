import type { Sql } from "./database.ts";

/**
 * Ids of orgs by their external ids, made on first sight. Two statements in one: the existing ones are read, the
 * missing ones inserted; one made by another process meanwhile is found by asking again. Durable when it returns.
 */
export const upsertOrgs = (
  sql: Sql,
  externalIds: readonly string[],
): Promise<{ id: number; externalId: string }[]> => sql<{
  id: number;
  externalId: string;
}>`
  with wanted as (
    select distinct unnest(${externalIds}::text[]) as external_id
  ), made as (
    insert into org (external_id)
    select w.external_id
      from wanted w
     where not exists (select from org o where o.external_id = w.external_id)
     order by w.external_id
        on conflict (external_id) do nothing
    returning id, external_id
  )
  select id, external_id as "externalId" from made
  union all
  select o.id, o.external_id from org o join wanted w using (external_id)`;

/** A text of one org and kind (contract's MEMBER_KIND) and its id. */
export type Member = { id: number; orgId: number; kind: number; value: string };

/** Every text of some orgs. Index: dictionary (org_id, kind, value). */
export const listMembers = (sql: Sql, orgIds: readonly number[]): Promise<Member[]> => sql<Member>`
  select id, org_id as "orgId", kind, value
    from dictionary
   where org_id = any(${orgIds}::int4[])`;

/** As `upsertOrgs`, for texts of orgs. Insert order is fixed, so that two processes cannot deadlock. */
export const upsertMembers = (
  sql: Sql,
  members: readonly Omit<Member, "id">[],
): Promise<Member[]> => sql<Member>`
  with wanted as (
    select distinct org_id, kind, value
      from unnest(
             ${members.map((member) => member.orgId)}::int4[],
             ${members.map((member) => member.kind)}::int2[],
             ${members.map((member) => member.value)}::text[]) as m (org_id, kind, value)
  ), made as (
    insert into dictionary (org_id, kind, value)
    select w.org_id, w.kind, w.value
      from wanted w
     where not exists (
             select from dictionary d where d.org_id = w.org_id and d.kind = w.kind and d.value = w.value)
     order by w.org_id, w.kind, w.value
        on conflict (org_id, kind, value) do nothing
    returning id, org_id, kind, value
  )
  select id, org_id as "orgId", kind, value from made
  union all
  select d.id, d.org_id, d.kind, d.value from dictionary d join wanted w using (org_id, kind, value)`;

/** As `upsertOrgs`, for sources. */
export const upsertSources = (
  sql: Sql,
  names: readonly string[],
): Promise<{ id: number; name: string }[]> => sql<{
  id: number;
  name: string;
}>`
  with wanted as (
    select distinct unnest(${names}::text[]) as name
  ), made as (
    insert into source (name)
    select w.name from wanted w where not exists (select from source s where s.name = w.name) order by w.name
        on conflict (name) do nothing
    returning id, name
  )
  select id, name from made
  union all
  select s.id, s.name from source s join wanted w using (name)`;

/** Ids of the orgs that exist among these external ids. Reads only. */
export const listOrgs = (
  sql: Sql,
  externalIds: readonly string[],
): Promise<{ id: number; externalId: string }[]> => sql<{
  id: number;
  externalId: string;
}>`
  select id, external_id as "externalId"
    from org
   where external_id = any(${externalIds}::text[])`;

/** How many orgs there are, the pseudo-org of all orgs left out. */
export async function countOrgs(sql: Sql): Promise<number> {
  const [row] = await sql<{ orgs: number }>`select count(*)::int4 as orgs from org where id > 0`;
  return row?.orgs ?? 0;
}
