import { type Consumer, type CostBasis, MEMBER_KIND, tagOtherWord, tagWord } from "#contract";
import type { Sql } from "./database.ts";
import type { OrgStatus } from "./orgs.ts";

/** An org as answers speak of it. */
export type OrgProfile = {
  id: number;
  externalId: string;
  name: string | null;
  timeZone: string;
  currency: string;
  costBasis: CostBasis;
  /** Keys of metadata by which it may be asked about. */
  tagKeys: readonly string[];
  status: OrgStatus;
};

/** An org by its external id, deleted ones included, the pseudo-org of all orgs included. Index: org (external_id). */
export const listOrgProfiles = (
  sql: Sql,
  externalIds: readonly string[],
): Promise<OrgProfile[]> => sql<OrgProfile>`
  select id, external_id as "externalId", name, time_zone as "timeZone", currency, cost_basis as "costBasis",
         tag_keys as "tagKeys", status
    from org
   where external_id = any(${externalIds}::text[])`;

/** Names of orgs by id. Index: org's primary key. */
export const listOrgLabels = (
  sql: Sql,
  ids: readonly number[],
): Promise<Pick<OrgProfile, "id" | "externalId" | "name">[]> => sql<
  Pick<OrgProfile, "id" | "externalId" | "name">
>`
  select id, external_id as "externalId", name
    from org
   where id = any(${ids}::int4[])`;

/** Ids of an org's words of one kind. Index: dictionary (org_id, kind, value). */
export const listWordIds = (
  sql: Sql,
  ask: { orgId: number; kind: number; values: readonly string[] },
): Promise<{ id: number }[]> => sql<{ id: number }>`
  select id
    from dictionary
   where org_id = ${ask.orgId}
     and kind = ${ask.kind}
     and value = any(${ask.values}::text[])`;

/** How many words of one kind an org has, counted up to `most`. Index: dictionary (org_id, kind, value). */
export const countWords = async (
  sql: Sql,
  ask: { orgId: number; kind: number; most: number },
): Promise<number> => {
  const [row] = await sql<{ words: number }>`
    select count(*) as words
      from (select from dictionary where org_id = ${ask.orgId} and kind = ${ask.kind} limit ${ask.most}) d`;
  return row?.words ?? 0;
};

/**
 * A key's words in an org's dictionary: those of its values, and that of all values beyond the cap.
 * Index: dictionary (org_id, kind, value), the org's tags, of which there are few.
 */
export const listTagWords = (
  sql: Sql,
  ask: { orgId: number; key: string },
): Promise<{ id: number; value: string }[]> => sql<{ id: number; value: string }>`
  select id, value
    from dictionary
   where org_id = ${ask.orgId}
     and kind = ${MEMBER_KIND.tag}
     and (value = ${tagOtherWord(ask.key)} or starts_with(value, ${tagWord(ask.key, "")}))`;

/** Words by id. Index: dictionary's primary key. */
export const listWords = (
  sql: Sql,
  ids: readonly number[],
): Promise<{ id: number; value: string }[]> => sql<{
  id: number;
  value: string;
}>`
  select id, value
    from dictionary
   where id = any(${ids}::int4[])`;

/** How far a consumer has come; null: nothing yet. The lag is by the database's clock. */
export type ConsumerProgress = {
  consumer: Consumer;
  completeThrough: Date | null;
  lagSeconds: number | null;
};

export const listConsumerProgress = (
  sql: Sql,
): Promise<ConsumerProgress[]> => sql<ConsumerProgress>`
  select consumer,
         case when isfinite(complete_through) then complete_through end as "completeThrough",
         case when isfinite(complete_through)
              then greatest(0, extract(epoch from clock_timestamp() - complete_through))::float8
         end as "lagSeconds"
    from fold_state`;

/** Newest instants seen; null when nothing was. */
export type NewestInstants = {
  lastOccurredAt: Date | null;
  lastIngestedAt: Date | null;
  lastAggregatedAt: Date | null;
};

/** The newest of one org, over all its models. Index: freshness's primary key. One row. */
export const listNewestOfOrg = (
  sql: Sql,
  orgId: number,
): Promise<NewestInstants[]> => sql<NewestInstants>`
  select max(last_occurred_at) as "lastOccurredAt",
         max(last_ingested_at) as "lastIngestedAt",
         max(last_aggregated_at) as "lastAggregatedAt"
    from freshness
   where org_id = ${orgId}`;

/** The newest of all orgs: read from the sources, which are few. One row. */
export const listNewestOfAll = (sql: Sql): Promise<NewestInstants[]> => sql<NewestInstants>`
  select max(last_occurred_at) as "lastOccurredAt",
         max(last_ingested_at) as "lastIngestedAt",
         max(last_aggregated_at) as "lastAggregatedAt"
    from source_freshness`;

/** Newest instants of something with a name; null: it has none. */
export type NamedInstants = {
  name: string | null;
  lastOccurredAt: Date;
  lastIngestedAt: Date;
  lastAggregatedAt: Date;
};

/** Freshness per model of one org, the most recent first. Index: freshness's primary key. */
export const listModelFreshness = (
  sql: Sql,
  orgId: number,
  limit: number,
): Promise<NamedInstants[]> => sql<NamedInstants>`
  select d.value as name,
         f.last_occurred_at as "lastOccurredAt",
         f.last_ingested_at as "lastIngestedAt",
         f.last_aggregated_at as "lastAggregatedAt"
    from freshness f
    left join dictionary d on d.id = f.model_id
   where f.org_id = ${orgId}
   order by f.last_occurred_at desc, d.value
   limit ${limit}`;

/** Of a source; `lagMessages` is how far its streams are behind, null where that is not known or it has none. */
export type SourceInstants = NamedInstants & { lagMessages: number | null };

/**
 * Freshness of the sources that delivered for one org since an instant: others are not the org's business.
 * Index: ledger's primary key.
 */
export const listSourceFreshnessOfOrg = (
  sql: Sql,
  ask: { orgId: number; since: Date; limit: number },
): Promise<SourceInstants[]> => sql<SourceInstants>`
  select s.name,
         (select sum(greatest(0, lane.head_offset - coalesce(substring(lane.position from '^[0-9]+')::int8, -1)))::int8
            from lane
           where lane.transport = s.name
             and lane.head_offset is not null) as "lagMessages",
         f.last_occurred_at as "lastOccurredAt",
         f.last_ingested_at as "lastIngestedAt",
         f.last_aggregated_at as "lastAggregatedAt"
    from (select distinct source_id from ledger where org_id = ${ask.orgId} and updated_at >= ${ask.since}) l
    join source_freshness f on f.source_id = l.source_id
    join source s on s.id = l.source_id
   order by f.last_ingested_at desc, s.name
   limit ${ask.limit}`;

/** Freshness of every source, the most recent first. */
export const listSourceFreshness = (
  sql: Sql,
  limit: number,
): Promise<SourceInstants[]> => sql<SourceInstants>`
  select s.name,
         (select sum(greatest(0, lane.head_offset - coalesce(substring(lane.position from '^[0-9]+')::int8, -1)))::int8
            from lane
           where lane.transport = s.name
             and lane.head_offset is not null) as "lagMessages",
         f.last_occurred_at as "lastOccurredAt",
         f.last_ingested_at as "lastIngestedAt",
         f.last_aggregated_at as "lastAggregatedAt"
    from source_freshness f
    join source s on s.id = f.source_id
   order by f.last_ingested_at desc, s.name
   limit ${limit}`;

/** Freshness of every org, the longest silent first: those are the ones to look at. */
export const listOrgFreshness = (
  sql: Sql,
  limit: number,
): Promise<NamedInstants[]> => sql<NamedInstants>`
  select o.external_id as name,
         max(f.last_occurred_at) as "lastOccurredAt",
         max(f.last_ingested_at) as "lastIngestedAt",
         max(f.last_aggregated_at) as "lastAggregatedAt"
    from freshness f
    join org o on o.id = f.org_id
   where o.id > 0
   group by o.id
   order by max(f.last_occurred_at), o.external_id
   limit ${limit}`;

/** What checks found about the hours of a window; `checkedAt` is the oldest that still stands. */
export type ReconciliationSums = {
  closedHours: number;
  checkedHours: number;
  checkedAt: Date | null;
  differingHours: Date[] | null;
};

export type ReconciliationAsk = { orgId: number; start: Date; end: Date };

/**
 * Checks of one org's hours that overlap a span and are closed: over, and everything of them counted. A check stands
 * when the hour has not changed since. Index: primary keys of ledger and reconciliation. One row. Reads only; repeatable.
 */
export const listReconciliationOfOrg = (
  sql: Sql,
  ask: ReconciliationAsk,
): Promise<ReconciliationSums[]> => sql<ReconciliationSums>`
  with counted as (
    select hour, max(updated_at) as updated_at
      from ledger
     where org_id = ${ask.orgId}
       and hour > ${ask.start}::timestamptz - interval '1 hour'
       and hour < ${ask.end}
       and hour <= (select complete_through - interval '1 hour' from fold_state where consumer = 'usage')
     group by hour
  ), checked as (
    select hour, state, checked_at
      from reconciliation
     where org_id = ${ask.orgId}
       and hour > ${ask.start}::timestamptz - interval '1 hour'
       and hour < ${ask.end}
  )
  select count(c.hour)::int4 as "closedHours",
         count(*) filter (where k.checked_at >= c.updated_at)::int4 as "checkedHours",
         min(k.checked_at) filter (where c.hour is null or k.checked_at >= c.updated_at) as "checkedAt",
         (array_agg(k.hour order by k.hour) filter (where k.state = 'differs'))[1:100] as "differingHours"
    from counted c
    full join checked k using (hour)`;

/**
 * As `listReconciliationOfOrg`, over every org: an hour of an org is one. Hours that differ are found in the whole
 * span; whether hours were checked is counted from `countedFrom` on, for of all orgs and months they are millions.
 * Index: primary keys of ledger and reconciliation, one range an org, and reconciliation_differs.
 */
export const listReconciliationOfAll = (
  sql: Sql,
  ask: Omit<ReconciliationAsk, "orgId"> & { countedFrom: Date },
): Promise<ReconciliationSums[]> => sql<ReconciliationSums>`
  select count(*)::int4 as "closedHours",
         count(*) filter (where k.checked_at >= c.updated_at)::int4 as "checkedHours",
         min(k.checked_at) filter (where k.checked_at >= c.updated_at) as "checkedAt",
         (select array_agg(d.hour order by d.hour)
            from (select distinct hour
                    from reconciliation
                   where state = 'differs'
                     and hour > ${ask.start}::timestamptz - interval '1 hour'
                     and hour < ${ask.end}
                   order by hour
                   limit 100) d) as "differingHours"
    from org o
   cross join lateral (
           select hour, max(updated_at) as updated_at
             from ledger
            where org_id = o.id
              and hour > ${ask.countedFrom}::timestamptz - interval '1 hour'
              and hour < ${ask.end}
              and hour <= (select complete_through - interval '1 hour' from fold_state where consumer = 'usage')
            group by hour) c
    left join reconciliation k on k.org_id = o.id and k.hour = c.hour`;
