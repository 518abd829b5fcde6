import { Failure, type FailureDetail, noSuchOrg } from "#contract";
import {
  appendAudit,
  type AuditEntry,
  type Database,
  findOrgRecord,
  getPriceVersion,
  insertPrices,
  insertPriceVersion,
  listOrgIds,
  listPricePage,
  listPrices,
  listPricesAt,
  listPricesEver,
  lockPrices,
  lockRatingAlone,
  type PriceEntry,
  type PriceFilter,
  type PriceLayer,
  retirePrices,
  type StoredPrice,
  type Tx,
} from "#store";
import {
  createPriceBook,
  findPrice,
  holdsAt,
  listPricesInForce,
  type ModelPrice,
  type PoolPrice,
  type PriceBook,
} from "./price-book.ts";
import { comparePrices, type PriceChange } from "./price-changes.ts";
import {
  entriesOf,
  listEntryFaults,
  type PlacedEntry,
  type PriceList,
  PRICES_MAX,
} from "./price-order.ts";

/** Entries written by one statement, so that each stays far within its time limit. */
const WRITE_PRICES_MAX = 500;

/** The prices in force, as far as a transaction sees them: all, or an org's and those of all orgs. */
export async function readPriceBook({ sql }: Pick<Tx, "sql">): Promise<PriceBook> {
  const version = await getPriceVersion(sql);
  const entries = await listPrices(sql, { layer: null, limit: 4 * PRICES_MAX });
  return createPriceBook(version, entries);
}

/** The prices that were in force under a version of the book. */
export async function readPriceBookAt(
  { sql }: Pick<Tx, "sql">,
  version: number,
): Promise<PriceBook> {
  const entries = await listPricesAt(sql, { version, limit: 4 * PRICES_MAX });
  return createPriceBook(version, entries);
}

/** All prices that were ever in force, some beside one another: a book to ask what there was, and not what holds. */
export async function readPricesEver({ sql }: Pick<Tx, "sql">): Promise<PriceBook> {
  return createPriceBook(await getPriceVersion(sql), await listPricesEver(sql));
}

/** What an apply did, or would do: the version of the book that it leads to, and every difference. */
export type AppliedPrices = { version: number; changes: PriceChange[] };

/** All prices of a layer, to take the place of those that it has. */
export type PriceOrder = { layer: PriceLayer; list: PriceList };

/**
 * Makes a layer of the book what the list says, all of it or nothing, under a new version, with an entry in the audit log
 * of all orgs; a list that says what is there already changes nothing and leaves no trace, so that it is safe to repeat.
 * Throws Failure `invalid_request` for prices that hold at the same time and for orgs that are not there.
 */
export async function applyPrices(
  database: Database,
  order: PriceOrder,
  did: Omit<AuditEntry, "action" | "target" | "details">,
): Promise<AppliedPrices> {
  const placed = requireSound(order);
  return await database.change("*", async (tx) => {
    await lockPrices(tx.sql);
    const { version, changes, orgIds } = await preview(tx, order.layer, placed);
    if (changes.length === 0) return { version, changes };
    const next = version + 1;
    const added = changes.flatMap(({ after }) => after ?? []);
    const retired = changes.flatMap(({ before }) => before?.id ?? []);
    await insertPriceVersion(tx.sql, {
      version: next,
      layer: order.layer,
      at: did.at,
      by: did.actor,
      added: added.length,
      retired: retired.length,
    });
    if (retired.length > 0) await retirePrices(tx.sql, { ids: retired, version: next });
    for (let at = 0; at < added.length; at += WRITE_PRICES_MAX) {
      const prices = added
        .slice(at, at + WRITE_PRICES_MAX)
        .map((entry) => ({ ...entry, orgId: orgIdOf(entry, orgIds) }));
      await insertPrices(tx.sql, { prices, version: next });
    }
    await appendAudit(tx, 0, {
      ...did,
      action: "prices.apply",
      target: order.layer,
      details: { version: next, added: added.length, retired: retired.length },
    });
    await lockRatingAlone(tx);
    return { version: next, changes };
  });
}

/** What `applyPrices` would do at this moment. Changes nothing; throws the same failures. */
export async function previewPrices(database: Database, order: PriceOrder): Promise<AppliedPrices> {
  const placed = requireSound(order);
  return await database.withSystem(async (tx) => {
    const { version, changes } = await preview(tx, order.layer, placed);
    return { version: changes.length === 0 ? version : version + 1, changes };
  });
}

async function preview(
  { sql }: Tx,
  layer: PriceLayer,
  placed: readonly PlacedEntry[],
): Promise<AppliedPrices & { orgIds: ReadonlyMap<string, number> }> {
  const orgIds = await resolveOrgs(sql, placed);
  const current = await listPrices(sql, { layer, limit: 2 * PRICES_MAX });
  const changes = comparePrices(
    current,
    placed.map(({ entry }) => entry),
  );
  return { version: await getPriceVersion(sql), changes, orgIds };
}

function requireSound({ layer, list }: PriceOrder): PlacedEntry[] {
  const placed = entriesOf(list, layer);
  refuse(listEntryFaults(placed), "These prices cannot be together in one book.");
  return placed;
}

async function resolveOrgs(
  sql: Tx["sql"],
  placed: readonly PlacedEntry[],
): Promise<ReadonlyMap<string, number>> {
  const named = new Set(placed.flatMap(({ entry }) => entry.orgId ?? []));
  const found = named.size === 0 ? [] : await listOrgIds(sql, [...named]);
  const orgIds = new Map(found.map(({ externalId, id }) => [externalId, id]));
  const faults = placed.flatMap(({ entry, pointer }) =>
    entry.orgId === null || orgIds.has(entry.orgId)
      ? []
      : [
          {
            pointer: `${pointer}/orgId`,
            code: "unknown_org",
            message: `There is no org ${entry.orgId} (${entry.source}).`,
          },
        ],
  );
  refuse(faults, "Prices are for orgs that are not there.");
  return orgIds;
}

const FAULTS_SHOWN_MAX = 100;

function refuse(faults: readonly FailureDetail[], message: string): void {
  if (faults.length === 0) return;
  const details = faults
    .slice(0, FAULTS_SHOWN_MAX)
    .map((fault) => ({ ...fault, pointer: `/body${fault.pointer}` }));
  throw new Failure("invalid_request", message, { details });
}

function orgIdOf({ orgId }: PriceEntry, orgIds: ReadonlyMap<string, number>): number {
  if (orgId === null) return 0;
  const id = orgIds.get(orgId);
  if (id === undefined) throw new Error("a price of an org that was not looked up");
  return id;
}

/** A page of the entries in force by subject, and the book's version. `after` is the id of the last entry before it. */
export const listBookPage = (
  database: Database,
  filter: PriceFilter,
  page: { after: number; limit: number },
): Promise<{ version: number; entries: StoredPrice[] }> =>
  database.withSystem(async ({ sql }) => ({
    version: await getPriceVersion(sql),
    entries: await listPricePage(sql, filter, page),
  }));

/** What holds for an org: see `getOrgPrices`. */
export type OrgPrices = { version: number; prices: ModelPrice[]; pools: PoolPrice[] };

/**
 * The prices that hold for an org at an instant, by subject; of one model only, when it is named: at most one. Pools are
 * those that are for this org alone: what shared capacity costs is not each customer's to know. Throws Failure `not_found`.
 */
export async function getOrgPrices(
  database: Database,
  { orgId, model, atMs }: { orgId: string; model?: string | undefined; atMs: number },
): Promise<OrgPrices> {
  const org = await findOrgRecord(database.sql, orgId);
  if (org === undefined || org.status === "deleted") throw noSuchOrg();
  const book = await database.withOrg(org.id, readPriceBook);
  const at = { orgId, atUs: atMs * 1000 };
  const found = model === undefined ? undefined : findPrice(book, { ...at, modelId: model });
  const prices =
    model === undefined ? listPricesInForce(book, at) : [found].flatMap((one) => one ?? []);
  const pools = book.pools.filter((pool) => pool.orgId === orgId && holdsAt(pool, at.atUs));
  return { version: book.version, prices, pools };
}
