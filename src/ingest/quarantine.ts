import {
  Failure,
  type IngestOutcome,
  type ParsedItem,
  type Rejection,
  parseUsageEvents,
} from "#contract";
import {
  dropQuarantine,
  dropQuarantineItem,
  findQuarantineItem,
  listReplayable,
  resolveQuarantine,
  type Database,
  type ReplayableItem,
} from "#store";
import type { Ingestor } from "./ingestor.ts";
import { rejectedAs } from "./judge-time.ts";

/** Whose items: an org's, or those of no org (0 and null). */
type Owner = { orgId: number; externalId: string | null };

export type ReplayDeps = { database: Database; ingestor: Pick<Ingestor, "ingest"> };

export type ReplayOptions = {
  /** Lets events older than the raw retention through. */
  backfill: boolean;
  correlationId: string;
};

/** What became of one replayed item. One that is rejected before it is taken in stays pending. */
export type ReplayResult = { id: number } & IngestOutcome;

/** Pending items that match; those below `beforeId`, newest first, at most `limit`. */
export type ReplayPage = {
  code?: string | undefined;
  source?: string | undefined;
  beforeId: number;
  limit: number;
};

/**
 * Sends one pending item through ingestion again, as it was received. Undefined when it is not there or not pending.
 * Safe to repeat: what was counted is a duplicate the second time. Throws what `ingest` throws.
 */
export async function replayQuarantineItem(
  deps: ReplayDeps,
  owner: Owner,
  { id, ...options }: ReplayOptions & { id: number },
): Promise<ReplayResult | undefined> {
  const [item] = await deps.database.transaction((tx) =>
    findQuarantineItem(tx.sql, owner.orgId, id),
  );
  if (item === undefined || item.state !== "pending") return undefined;
  const [result] = await replay(deps, owner, { items: [item], ...options });
  return result;
}

/** Sends a page of pending items through ingestion again. As `replayQuarantineItem`, item by item. */
export async function replayQuarantinePage(
  deps: ReplayDeps,
  owner: Owner,
  { backfill, correlationId, ...page }: ReplayOptions & ReplayPage,
): Promise<ReplayResult[]> {
  const items = await deps.database.transaction((tx) =>
    listReplayable(tx.sql, { orgId: owner.orgId, ...page }),
  );
  return await replay(deps, owner, { items, backfill, correlationId });
}

/** Gives up one pending item. False when it is not there or not pending. */
export async function dropQuarantinedItem(
  database: Database,
  owner: Owner,
  item: { id: number; by: string },
): Promise<boolean> {
  const dropped = await database.transaction((tx) =>
    dropQuarantineItem(tx.sql, owner.orgId, item.id, `dropped by ${item.by}`),
  );
  return dropped.length > 0;
}

/** Gives up at most `limit` pending items that match, and says how many: fewer than `limit` means all of them. */
export async function dropQuarantinedPage(
  database: Database,
  owner: Owner,
  {
    by,
    ...page
  }: { code?: string | undefined; source?: string | undefined; limit: number; by: string },
): Promise<number> {
  const dropped = await database.transaction((tx) =>
    dropQuarantine(tx.sql, { orgId: owner.orgId, ...page, resolution: `dropped by ${by}` }),
  );
  return dropped.length;
}

async function replay(
  { database, ingestor }: ReplayDeps,
  owner: Owner,
  { items, backfill, correlationId }: ReplayOptions & { items: readonly ReplayableItem[] },
): Promise<ReplayResult[]> {
  const parsed = items.map((item) => ({ id: item.id, item: parseAgain(item, owner) }));
  // What cannot even be read stays where it is: taking it in again would only quarantine it a second time.
  const readable = parsed.filter(({ item }) => item.rejection === null);
  const outcomes = await ingestor.ingest(
    readable.map(({ item }) => item),
    {
      source: "replay",
      backfill,
      correlationId,
      writesFor: owner.externalId === null ? "any" : new Set([owner.externalId]),
    },
  );
  const taken = new Map(readable.map(({ id }, i) => [id, outcomes[i]]));
  const resolutions = [...taken].flatMap(([id, outcome]) =>
    outcome === undefined ? [] : [{ id, resolution: resolutionOf(outcome) }],
  );
  await database.transaction((tx) => resolveQuarantine(tx.sql, owner.orgId, resolutions));
  return parsed.flatMap(({ id, item }) => {
    const outcome = item.rejection === null ? taken.get(id) : rejectedAs(item.rejection);
    return outcome === undefined ? [] : [{ id, ...outcome }];
  });
}

/** An item that is refused again by a rule (conflict, too old) has a new quarantine row; this one points on. */
const resolutionOf = (outcome: IngestOutcome): string =>
  "code" in outcome ? `quarantined again: ${outcome.code}` : outcome.status;

function parseAgain({ bytes, truncated }: ReplayableItem, owner: Owner): ParsedItem {
  if (truncated)
    return refuse(
      bytes,
      "too_large",
      "",
      "Only the beginning of this item was kept, so it cannot be replayed.",
    );
  const item = parseAlone(bytes);
  if (owner.externalId === null || item.event === null || item.event.orgId === owner.externalId)
    return item;
  return refuse(bytes, "org_mismatch", "/org_id", "This event names another org.");
}

function parseAlone(bytes: Buffer): ParsedItem {
  try {
    const [item] = parseUsageEvents(bytes, "json", { eventsMax: 1 });
    return item ?? refuse(bytes, "invalid_json", "", "There is no event in these bytes.");
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return refuse(
      bytes,
      error.code === "invalid_encoding" ? "invalid_encoding" : "invalid_json",
      "",
      error.message,
    );
  }
}

function refuse(
  bytes: Buffer,
  code: Rejection["code"],
  pointer: string,
  detail: string,
): ParsedItem {
  const rejection = { code, pointer, detail, eventId: null, orgId: null, occurredAtUs: null };
  return { event: null, rejection, bytes };
}
