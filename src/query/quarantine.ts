import { ALL_ORGS, Failure, noSuchOrg } from "#contract";
import {
  findQuarantineItem,
  listQuarantine,
  type Database,
  type QuarantineItem,
  type QuarantineState,
  type Tx,
} from "#store";
import { formatCursor, parseCursor } from "./cursor.ts";
import { getOrg } from "./reading.ts";

/** Whose quarantine: an org's, or (ALL_ORGS and null) that of items which could not be told to be any org's. */
export type QuarantineOwner = { orgId: number; externalId: string | null };

export type QuarantineQuery = {
  state: QuarantineState;
  code?: string | undefined;
  source?: string | undefined;
  cursor?: string | undefined;
  limit: number;
};

/** One quarantined item as answered: instants in RFC 3339. */
export type QuarantineEntry = Omit<QuarantineItem, "receivedAt" | "occurredAt" | "resolvedAt"> & {
  receivedAt: string;
  occurredAt: string | null;
  resolvedAt: string | null;
};

export type QuarantinePage = { items: QuarantineEntry[]; nextCursor: string | null };

/** The owner by the org's external id; null stands for no org. Throws Failure `not_found`. */
export async function getQuarantineOwner(
  database: Database,
  externalId: string | null,
): Promise<QuarantineOwner> {
  if (externalId === null) return { orgId: ALL_ORGS, externalId };
  const { id } = await getOrg(database, externalId);
  if (id === ALL_ORGS) throw noSuchOrg();
  return { orgId: id, externalId };
}

/** What cursors of this owner's list are made for. */
export const quarantineListName = ({ externalId }: QuarantineOwner): string =>
  externalId === null ? "quarantine" : `quarantine/${externalId}`;

/** A page of quarantined items, newest first. Throws Failure `invalid_request` for a cursor of another list. */
export async function listQuarantinePage(
  database: Database,
  owner: QuarantineOwner,
  { state, code, source, cursor, limit }: QuarantineQuery,
): Promise<QuarantinePage> {
  const { orgId } = owner;
  const list = quarantineListName(owner);
  const beforeId = parseCursor(list, cursor);
  const items = await readAs(database, orgId, (tx) =>
    listQuarantine(tx.sql, { orgId, state, code, source, beforeId, limit: limit + 1 }),
  );
  const page = items.slice(0, limit);
  const last = page.at(-1);
  return {
    items: page.map(entryOf),
    nextCursor: items.length > limit && last !== undefined ? formatCursor(list, last.id) : null,
  };
}

/** One quarantined item with its bytes. Throws Failure `not_found` when it is not there or not this owner's. */
export async function getQuarantineEntry(
  database: Database,
  { orgId }: QuarantineOwner,
  id: number,
): Promise<QuarantineEntry & { bytes: Buffer }> {
  const [item] = await readAs(database, orgId, (tx) => findQuarantineItem(tx.sql, orgId, id));
  if (item === undefined) throw new Failure("not_found", "There is no such quarantined item here.");
  return { ...entryOf(item), bytes: item.bytes };
}

const readAs = <T>(database: Database, orgId: number, work: (tx: Tx) => Promise<T>): Promise<T> =>
  orgId === ALL_ORGS ? database.withSystem(work) : database.withOrg(orgId, work);

const entryOf = (item: QuarantineItem): QuarantineEntry => ({
  id: item.id,
  source: item.source,
  receivedAt: item.receivedAt.toISOString(),
  code: item.code,
  pointer: item.pointer,
  detail: item.detail,
  eventId: item.eventId,
  occurredAt: item.occurredAt?.toISOString() ?? null,
  size: item.size,
  truncated: item.truncated,
  state: item.state,
  resolvedAt: item.resolvedAt?.toISOString() ?? null,
  resolution: item.resolution,
});
