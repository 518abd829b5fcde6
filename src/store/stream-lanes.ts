import type { Sql } from "./database.ts";
import type { Lane } from "./lanes.ts";

/** What a lane of a stream looks like to those who share the lanes. */
export type SharedLane = {
  laneId: number;
  partition: string;
  epoch: number;
  owner: string | null;
  /** Nobody holds it, or its holder's lease has run out. */
  isFree: boolean;
};

/** Makes a lane of a transport for each partition that has none yet. Repeatable. */
export const ensureLanes = (
  sql: Sql,
  transport: string,
  partitions: readonly string[],
): Promise<never[]> => sql`
  insert into lane (transport, partition)
  select ${transport}, name
    from unnest(${partitions}::text[]) as name
   order by name
      on conflict (transport, partition) do nothing`;

/**
 * Keeps this member's place among those who share a transport's lanes, and forgets members whose lease has run out.
 * Returns all that are left, in order of name.
 */
export const renewMember = async (
  sql: Sql,
  member: { transport: string; member: string; leaseSeconds: number },
): Promise<string[]> => {
  await sql`
    insert into lane_member (transport, member, lease_until)
    values (${member.transport}, ${member.member}, clock_timestamp() + make_interval(secs => ${member.leaseSeconds}))
        on conflict (transport, member) do update
       set lease_until = excluded.lease_until`;
  await sql`
    delete from lane_member
     where (transport, member) in (
             select transport, member
               from lane_member
              where transport = ${member.transport}
                and lease_until < clock_timestamp()
                for update skip locked)`;
  const rows = await sql<{ member: string }>`
    select member
      from lane_member
     where transport = ${member.transport}
       and lease_until >= clock_timestamp()
     order by member collate "C"
     limit 10000`;
  return rows.map((row) => row.member);
};

/** Leaves those who share a transport's lanes. */
export const removeMember = (
  sql: Sql,
  { transport, member }: { transport: string; member: string },
): Promise<never[]> => sql`
  delete from lane_member
   where transport = ${transport}
     and member = ${member}`;

/** The lanes of these partitions, in order of name. Reads only. */
export const listSharedLanes = (
  sql: Sql,
  transport: string,
  partitions: readonly string[],
): Promise<SharedLane[]> => sql<SharedLane>`
  select id as "laneId", partition, epoch, owner, lease_until < clock_timestamp() as "isFree"
    from lane
   where transport = ${transport}
     and partition = any(${partitions}::text[])
   order by partition collate "C"`;

/**
 * Takes a free lane under the next epoch, so that its former holder can no longer commit; undefined when somebody else
 * was faster. Locks one row; does not wait for it.
 */
export const claimLane = async (
  sql: Sql,
  request: { laneId: number; owner: string; leaseSeconds: number },
): Promise<Lane | undefined> => {
  const [lane] = await sql<Lane>`
    update lane
       set epoch = epoch + 1,
           owner = ${request.owner},
           lease_until = clock_timestamp() + make_interval(secs => ${request.leaseSeconds})
     where id = (
             select id
               from lane
              where id = ${request.laneId}
                and lease_until < clock_timestamp()
                for update skip locked)
    returning id as "laneId", epoch, batch_no as "batchNo", position`;
  return lane;
};

/**
 * Renews the leases that are still ours and notes how far the streams reach. A lane that is being committed to at this
 * moment is left out: the commit renews it. Locks rows without waiting.
 */
export const renewLanes = (
  sql: Sql,
  held: readonly { laneId: number; epoch: number; headOffset: number | null }[],
  leaseSeconds: number,
): Promise<never[]> => sql`
  update lane l
     set lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds}),
         head_offset = coalesce(mine.head_offset, l.head_offset),
         head_seen_at = case when mine.head_offset is null then l.head_seen_at else clock_timestamp() end
    from (
           select lane.id, h.head_offset
             from lane
             join unnest(
                    ${held.map((lane) => lane.laneId)}::int4[],
                    ${held.map((lane) => lane.epoch)}::int8[],
                    ${held.map((lane) => lane.headOffset)}::int8[]) as h (id, epoch, head_offset)
               on lane.id = h.id and lane.epoch = h.epoch
            order by lane.id
              for update of lane skip locked) as mine
   where l.id = mine.id`;

/** Something a stream no longer held, or does not hand over, or that it was made anew. Offsets are both included. */
export type StreamIncident = {
  kind: "gap" | "recreated" | "unreadable";
  fromOffset: number;
  toOffset: number | null;
  detail: string;
};

/**
 * Notes what was found at the lane's present place; found again at the same place (after a crash, or a new connection)
 * it is the same incident. Undefined when the lane is no longer held under this epoch, and then nothing is written.
 */
export const insertStreamIncident = async (
  sql: Sql,
  lane: Lane,
  incident: StreamIncident,
): Promise<"new" | "known" | undefined> => {
  const [row] = await sql<{ isNew: boolean }>`
    insert into stream_incident as i (lane_id, batch_no, kind, from_offset, to_offset, detail)
    select id, batch_no, ${incident.kind}, ${incident.fromOffset}::int8, ${incident.toOffset}::int8, ${incident.detail}
      from lane
     where id = ${lane.laneId}
       and epoch = ${lane.epoch}
        on conflict (lane_id, batch_no, kind, from_offset) do update
       set to_offset = greatest(i.to_offset, excluded.to_offset)
    returning xmax = 0 as "isNew"`;
  return row && (row.isNew ? "new" : "known");
};

/** An incident in the words of answers. */
export type StreamIncidentRow = StreamIncident & {
  source: string;
  partition: string;
  foundAt: Date;
};

/** The newest incidents of all streams. Reads only. */
export const listStreamIncidents = (sql: Sql, limit: number): Promise<StreamIncidentRow[]> =>
  sql<StreamIncidentRow>`
  select l.transport as source, l.partition, i.kind, i.from_offset as "fromOffset", i.to_offset as "toOffset", i.detail, i.found_at as "foundAt"
    from stream_incident i join lane l on l.id = i.lane_id
   order by i.id desc
   limit ${limit}`;

/** How far one stream is read. Offsets of messages; null: none yet, or not known. */
export type StreamProgressRow = {
  source: string;
  partition: string;
  lastOffset: number | null;
  /** The last offset the stream held when its reader looked, at `headSeenAt`. */
  headOffset: number | null;
  headSeenAt: Date | null;
  lagMessages: number | null;
  /** A process reads it at present. */
  isRead: boolean;
  lastCommittedAt: Date | null;
};

/**
 * Every stream with its progress, in order of name. A position is `<offset>[+<items>]:<digest>`.
 * Reads only; index: ingestion_batches (lane_id, batch_no).
 */
export const listStreamProgress = (sql: Sql, limit: number): Promise<StreamProgressRow[]> =>
  sql<StreamProgressRow>`
  select p.source, p.partition, p.last_offset as "lastOffset", p.head_offset as "headOffset",
         p.head_seen_at as "headSeenAt",
         case when p.head_offset is not null
              then greatest(0, p.head_offset - coalesce(p.last_offset, -1)) end as "lagMessages",
         p.is_read as "isRead", b.committed_at as "lastCommittedAt"
    from (
           select id, batch_no, transport as source, partition, head_offset, head_seen_at,
                  lease_until >= clock_timestamp() as is_read,
                  substring(position from '^[0-9]+')::int8 as last_offset
             from lane
            where starts_with(transport, 'stream/')) as p
    left join ingestion_batches b on b.lane_id = p.id and b.batch_no = p.batch_no
   order by p.source collate "C", p.partition collate "C"
   limit ${limit}`;
