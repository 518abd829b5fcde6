import type { CostBasis } from "#contract";
import type { Sql } from "./database.ts";

/** Whether an org is served: see the column's comment. */
export const ORG_STATUSES = ["active", "suspended", "deleted"] as const;
export type OrgStatus = (typeof ORG_STATUSES)[number];

/** All that is known of an org itself. */
export type OrgRecord = {
  id: number;
  externalId: string;
  name: string | null;
  billingContact: string | null;
  timeZone: string;
  currency: string;
  costBasis: CostBasis;
  tagKeys: string[];
  entitlements: Record<string, unknown>;
  status: OrgStatus;
  statusChangedAt: Date | null;
  createdAt: Date;
  updatedAt: Date;
};

/** An org by its external id, deleted ones included, the pseudo-org of all left out. Index: org (external_id). */
export const findOrgRecord = async (
  sql: Sql,
  externalId: string,
): Promise<OrgRecord | undefined> => {
  const [org] = await sql<OrgRecord>`
    select id,
           external_id as "externalId",
           name,
           billing_contact as "billingContact",
           time_zone as "timeZone",
           currency,
           cost_basis as "costBasis",
           tag_keys as "tagKeys",
           entitlements,
           status,
           status_changed_at as "statusChangedAt",
           created_at as "createdAt",
           updated_at as "updatedAt"
      from org
     where external_id = ${externalId}
       and id > 0`;
  return org;
};

/** One page of orgs, by external id, from the one after `after` on; of one status, or (absent) of any. Index: org (external_id). */
export const listOrgRecords = (
  sql: Sql,
  {
    after = "",
    status = null,
    limit,
  }: { after?: string | undefined; status?: OrgStatus | null | undefined; limit: number },
): Promise<OrgRecord[]> => sql<OrgRecord>`
  select id,
         external_id as "externalId",
         name,
         billing_contact as "billingContact",
         time_zone as "timeZone",
         currency,
         cost_basis as "costBasis",
         tag_keys as "tagKeys",
         entitlements,
         status,
         status_changed_at as "statusChangedAt",
         created_at as "createdAt",
         updated_at as "updatedAt"
    from org
   where external_id > ${after}
     and id > 0
     and (${status}::text is null or status = ${status})
   order by external_id
   limit ${limit}`;

/** Orgs that are not served, and how. Index: org_not_active. Reads only. */
export const findOrgStatuses = (
  sql: Sql,
): Promise<{ id: number; externalId: string; status: OrgStatus }[]> => sql<{
  id: number;
  externalId: string;
  status: OrgStatus;
}>`
  select id, external_id as "externalId", status
    from org
   where status <> 'active'
   order by id
   limit 1000000`;

/** Orgs that have declared tag keys, and which. Index: org_with_tag_keys. Reads only. */
export const listTagKeys = (sql: Sql): Promise<{ externalId: string; tagKeys: string[] }[]> => sql<{
  externalId: string;
  tagKeys: string[];
}>`
  select external_id as "externalId", tag_keys as "tagKeys"
    from org
   where tag_keys <> '{}'
     and id > 0
   limit 1000000`;

/** What a new org is given; the rest has defaults. */
export type NewOrg = {
  externalId: string;
  name: string | null;
  billingContact: string | null;
  timeZone: string;
  currency: string;
  costBasis?: CostBasis | undefined;
  tagKeys?: readonly string[] | undefined;
  entitlements: Record<string, unknown>;
  at: Date;
};

/** Makes an org and returns its id; undefined when there is one of that external id, deleted or not. */
export const insertOrg = async (sql: Sql, org: NewOrg): Promise<number | undefined> => {
  const [made] = await sql<{ id: number }>`
    insert into org (external_id, name, billing_contact, time_zone, currency, cost_basis, tag_keys, entitlements, created_at, updated_at)
    values (
      ${org.externalId}, ${org.name}, ${org.billingContact}, ${org.timeZone}, ${org.currency},
      coalesce(${org.costBasis ?? null}::text, 'event_or_computed'), ${org.tagKeys ?? []}::text[],
      ${JSON.stringify(org.entitlements)}::jsonb, ${org.at}, ${org.at})
        on conflict (external_id) do nothing
    returning id`;
  return made?.id;
};

/** What may change of an org's profile; absent stays. */
export type OrgChange = {
  name?: string | null | undefined;
  billingContact?: string | null | undefined;
  timeZone?: string | undefined;
  costBasis?: CostBasis | undefined;
  tagKeys?: readonly string[] | undefined;
  entitlements?: Record<string, unknown> | undefined;
};

/** Changes an org's profile. Primary key; repeatable. */
export const updateOrg = (
  sql: Sql,
  id: number,
  { change, at }: { change: OrgChange; at: Date },
): Promise<{ id: number }[]> => sql<{ id: number }>`
  update org
     set name = case when ${change.name !== undefined} then ${change.name ?? null}::text else name end,
         billing_contact = case when ${change.billingContact !== undefined}
                                then ${change.billingContact ?? null}::text else billing_contact end,
         time_zone = coalesce(${change.timeZone ?? null}::text, time_zone),
         cost_basis = coalesce(${change.costBasis ?? null}::text, cost_basis),
         tag_keys = coalesce(${change.tagKeys ?? null}::text[], tag_keys),
         entitlements = coalesce(${change.entitlements === undefined ? null : JSON.stringify(change.entitlements)}::jsonb, entitlements),
         updated_at = ${at}
   where id = ${id}
     and id > 0
  returning id`;

/** Sets an org's status; none when it has it already or is deleted, which is for good. Primary key; repeatable. */
export const setOrgStatus = (
  sql: Sql,
  id: number,
  { status, at }: { status: OrgStatus; at: Date },
): Promise<{ id: number }[]> => sql<{ id: number }>`
  update org
     set status = ${status}, status_changed_at = ${at}, updated_at = ${at}
   where id = ${id}
     and id > 0
     and status not in (${status}, 'deleted')
  returning id`;
