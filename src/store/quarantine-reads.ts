import type { Sql } from "./database.ts";

/** What became of a quarantined item: waiting, sent through ingestion again, or given up by an operator. */
export const QUARANTINE_STATES = ["pending", "replayed", "dropped"] as const;
export type QuarantineState = (typeof QUARANTINE_STATES)[number];

/** Which items of one org (0: those whose org could not be told). Absent means any. */
export type QuarantineFilter = {
  orgId: number;
  state: QuarantineState;
  code?: string | undefined;
  source?: string | undefined;
};

/** One quarantined item without its bytes. */
export type QuarantineItem = {
  id: number;
  source: string;
  receivedAt: Date;
  code: string;
  pointer: string;
  detail: string;
  eventId: string | null;
  occurredAt: Date | null;
  /** Length of the kept bytes. */
  size: number;
  /** The item was longer than what is kept of one. */
  truncated: boolean;
  state: QuarantineState;
  resolvedAt: Date | null;
  resolution: string | null;
};

/**
 * One page of the items that match, newest first, from the one below `beforeId` on.
 * Index: quarantine (org_id, state, id desc). Reads only.
 */
export const listQuarantine = (
  sql: Sql,
  {
    orgId,
    state,
    code = "",
    source = "",
    beforeId,
    limit,
  }: QuarantineFilter & { beforeId: number; limit: number },
): Promise<QuarantineItem[]> => sql<QuarantineItem>`
  select q.id,
         s.name as source,
         q.received_at as "receivedAt",
         q.code,
         q.pointer,
         q.detail,
         q.event_id as "eventId",
         q.occurred_at as "occurredAt",
         length(q.bytes) as size,
         q.truncated,
         q.state,
         q.resolved_at as "resolvedAt",
         q.resolution
    from quarantine q
    join source s on s.id = q.source_id
   where q.org_id = ${orgId}
     and q.state = ${state}
     and q.id < ${beforeId}
     and ${code} in ('', q.code)
     and ${source} in ('', s.name)
   order by q.id desc
   limit ${limit}`;

/** One item of one org, with its bytes; none when it is not there or another org's. Index: the primary key. Reads only. */
export const findQuarantineItem = (
  sql: Sql,
  orgId: number,
  id: number,
): Promise<(QuarantineItem & { bytes: Buffer })[]> => sql<QuarantineItem & { bytes: Buffer }>`
  select q.id,
         s.name as source,
         q.received_at as "receivedAt",
         q.code,
         q.pointer,
         q.detail,
         q.event_id as "eventId",
         q.occurred_at as "occurredAt",
         length(q.bytes) as size,
         q.truncated,
         q.state,
         q.resolved_at as "resolvedAt",
         q.resolution,
         q.bytes
    from quarantine q
    join source s on s.id = q.source_id
   where q.id = ${id}
     and q.org_id = ${orgId}`;

/** What replaying needs of an item. */
export type ReplayableItem = { id: number; bytes: Buffer; truncated: boolean };

/**
 * The bytes of a page of matching pending items, newest first. Callers bound `limit`: each may be as long as one event.
 * Index: quarantine (org_id, state, id desc). Locks nothing: of two that replay an item at once, one finds a duplicate.
 */
export const listReplayable = (
  sql: Sql,
  {
    orgId,
    code = "",
    source = "",
    beforeId,
    limit,
  }: Omit<QuarantineFilter, "state"> & { beforeId: number; limit: number },
): Promise<ReplayableItem[]> => sql<ReplayableItem>`
  select q.id, q.bytes, q.truncated
    from quarantine q
    join source s on s.id = q.source_id
   where q.org_id = ${orgId}
     and q.state = 'pending'
     and q.id < ${beforeId}
     and ${code} in ('', q.code)
     and ${source} in ('', s.name)
   order by q.id desc
   limit ${limit}`;

/**
 * Notes what replaying made of pending items of one org. Locks those rows in id order. An item somebody resolved
 * meanwhile keeps that resolution, so repeating changes nothing.
 */
export const resolveQuarantine = (
  sql: Sql,
  orgId: number,
  items: readonly { id: number; resolution: string }[],
): Promise<{ id: number }[]> => sql<{ id: number }>`
  with resolved as (
    select q.id, r.resolution
      from quarantine q
      join unnest(${items.map((item) => item.id)}::int8[], ${items.map((item) => item.resolution)}::text[])
             as r (id, resolution) on r.id = q.id
     where q.org_id = ${orgId}
       and q.state = 'pending'
     order by q.id
       for update of q
  )
  update quarantine q
     set state = 'replayed', resolved_at = now(), resolution = r.resolution
    from resolved r
   where q.id = r.id
  returning q.id`;

/** Gives up one pending item of one org. Returns it, or nothing when it is not pending there. Repeating changes nothing. */
export const dropQuarantineItem = (
  sql: Sql,
  orgId: number,
  id: number,
  resolution: string,
): Promise<{ id: number }[]> => sql<{
  id: number;
}>`
  update quarantine
     set state = 'dropped', resolved_at = now(), resolution = ${resolution}
   where id = ${id}
     and org_id = ${orgId}
     and state = 'pending'
  returning id`;

/**
 * Gives up at most `limit` pending items that match, newest first. Locks them in id order; those being resolved by
 * somebody else are left to them. Index: quarantine (org_id, state, id desc). Repeat until it returns fewer than `limit`.
 */
export const dropQuarantine = (
  sql: Sql,
  {
    orgId,
    code = "",
    source = "",
    limit,
    resolution,
  }: Omit<QuarantineFilter, "state"> & { limit: number; resolution: string },
): Promise<{ id: number }[]> => sql<{ id: number }>`
  with wanted as (
    select q.id
      from quarantine q
      join source s on s.id = q.source_id
     where q.org_id = ${orgId}
       and q.state = 'pending'
       and ${code} in ('', q.code)
       and ${source} in ('', s.name)
     order by q.id desc
     limit ${limit}
       for update of q skip locked
  )
  update quarantine q
     set state = 'dropped', resolved_at = now(), resolution = ${resolution}
    from wanted w
   where q.id = w.id
  returning q.id`;
