import type { Price } from "#contract";
import type { Sql, Tx } from "./database.ts";

/** Whose word a price is: the operator's own, or a published list's, which any own price comes before. */
export const PRICE_LAYERS = ["own", "catalogue"] as const;
export type PriceLayer = (typeof PRICE_LAYERS)[number];

/** What capacity costs that models share: units of currency per hour as decimal text, and the models it serves. */
export type PoolTerms = { currency: string; perHour: string; models: readonly string[] };

/** What a price is for: calls of a model (an id, or with `*` at the end all ids that begin so), or a pool by its name. */
export type PriceTerms =
  | { kind: "model"; subject: string; terms: Price }
  | { kind: "pool"; subject: string; terms: PoolTerms };

/** An entry of the price book. It holds from `from` until before `to`; null: since ever, or for ever. */
export type PriceEntry = PriceTerms & {
  layer: PriceLayer;
  /** External id; null: for all orgs. */
  orgId: string | null;
  from: Date | null;
  to: Date | null;
  /** Where it was said: a file's name, a catalogue's. */
  source: string;
};

/** An entry that is in the book, and by which version of the book it came in. */
export type StoredPrice = PriceEntry & { id: number; version: number };

/** First key of the lock under which the book is changed. */
const PRICE_LOCK_CLASS = 1_885_956_963;

/** Lets one transaction at a time change the book. Held until it ends; taken before the audit log's. */
export const lockPrices = (sql: Sql): Promise<{ locked: unknown }[]> => sql<{ locked: unknown }>`
  select pg_advisory_xact_lock(${PRICE_LOCK_CLASS}, 0) as locked`;

/**
 * The lock between those who rate events by the newest version and those who make a newer one. While a transaction holds
 * it shared, what it then reads as the newest stays that.
 */
export const RATING_LOCK = `${PRICE_LOCK_CLASS}, 1`;

/** Waits for those who rate by the version before. Taken last, by the one transaction that holds `lockPrices`. */
export const lockRatingAlone = (tx: Tx): Promise<unknown> =>
  tx.exec(`select pg_advisory_xact_lock(${RATING_LOCK})`);

/** The newest version of the book. Primary key; reads only. */
export const getPriceVersion = async (sql: Sql): Promise<number> => {
  const [newest] = await sql<{ version: number }>`
    select version
      from price_version
     order by version desc
     limit 1`;
  return newest?.version ?? 0;
};

/**
 * Entries in force of one layer, or (null) of all, as far as the transaction sees them. Index: price_subject. Reads only.
 */
export const listPrices = (
  sql: Sql,
  { layer, limit }: { layer: PriceLayer | null; limit: number },
): Promise<StoredPrice[]> => sql<StoredPrice>`
  select price.id,
         price.version,
         price.layer,
         price.kind,
         price.subject,
         org.external_id as "orgId",
         price.valid_from as "from",
         price.valid_to as "to",
         price.terms,
         price.source
    from price
    left join org
      on org.id = price.org_id
     and price.org_id > 0
   where price.retired_version is null
     and (${layer}::text is null or price.layer = ${layer})
   order by price.subject, price.id
   limit ${limit}`;

/** The entries that were in force under a version of the book. Reads the whole book, what was retired included. */
export const listPricesAt = (
  sql: Sql,
  { version, limit }: { version: number; limit: number },
): Promise<StoredPrice[]> => sql<StoredPrice>`
  select price.id,
         price.version,
         price.layer,
         price.kind,
         price.subject,
         org.external_id as "orgId",
         price.valid_from as "from",
         price.valid_to as "to",
         price.terms,
         price.source
    from price
    left join org
      on org.id = price.org_id
     and price.org_id > 0
   where price.version <= ${version}
     and (price.retired_version is null or price.retired_version > ${version})
   order by price.subject, price.id
   limit ${limit}`;

/** Every entry that was ever in force, by the version in which it came. Reads the whole book, what was retired included. */
export const listPricesEver = (sql: Sql): Promise<StoredPrice[]> => sql<StoredPrice>`
  select price.id,
         price.version,
         price.layer,
         price.kind,
         price.subject,
         org.external_id as "orgId",
         price.valid_from as "from",
         price.valid_to as "to",
         price.terms,
         price.source
    from price
    left join org
      on org.id = price.org_id
     and price.org_id > 0
   order by price.version, price.id`;

/** What entries say, retired ones too. Primary key; reads only. */
export const listPriceTerms = (
  sql: Sql,
  ids: readonly number[],
): Promise<{ id: number; terms: Price }[]> => sql<{ id: number; terms: Price }>`
  select id, terms
    from price
   where id = any(${ids}::int4[])
     and kind = 'model'`;

/** Which entries a page shows; null: whatever it is. */
export type PriceFilter = {
  layer: PriceLayer | null;
  /** External id. */
  orgId: string | null;
  /** Prices that this model could have. */
  model: string | null;
};

/** One page of the entries in force, by subject, from the one after the entry `after` (0: the first) on. Index: price_subject. */
export const listPricePage = (
  sql: Sql,
  { layer, orgId, model }: PriceFilter,
  { after, limit }: { after: number; limit: number },
): Promise<StoredPrice[]> => sql<StoredPrice>`
  select price.id,
         price.version,
         price.layer,
         price.kind,
         price.subject,
         org.external_id as "orgId",
         price.valid_from as "from",
         price.valid_to as "to",
         price.terms,
         price.source
    from price
    left join org
      on org.id = price.org_id
     and price.org_id > 0
   where price.retired_version is null
     and (${after}::int8 = 0
          or (price.subject, price.id) > (select last.subject, last.id from price last where last.id = ${after}))
     and (${layer}::text is null or price.layer = ${layer})
     and (${orgId}::text is null or org.external_id = ${orgId})
     and (${model}::text is null
          or (price.kind = 'model'
              and (price.subject = ${model}
                   or (right(price.subject, 1) = '*'
                       and starts_with(${model}, left(price.subject, -1))))))
   order by price.subject, price.id
   limit ${limit}`;

/** Ids of orgs by their external ids; those that are not there, or deleted, are left out. Index: org (external_id). */
export const listOrgIds = (
  sql: Sql,
  externalIds: readonly string[],
): Promise<{ id: number; externalId: string }[]> => sql<{ id: number; externalId: string }>`
  select id, external_id as "externalId"
    from org
   where external_id = any(${externalIds}::text[])
     and id > 0
     and status <> 'deleted'`;

/** Begins a version of the book. Not safe to repeat. */
export const insertPriceVersion = (
  sql: Sql,
  made: {
    version: number;
    layer: PriceLayer;
    at: Date;
    by: string;
    added: number;
    retired: number;
  },
): Promise<{ version: number }[]> => sql<{ version: number }>`
  insert into price_version (version, layer, applied_at, applied_by, added, retired)
  values (${made.version}, ${made.layer}, ${made.at}, ${made.by}, ${made.added}, ${made.retired})
  returning version`;

/** Takes entries out of force. Primary key; repeatable: what was retired stays as it is. */
export const retirePrices = (
  sql: Sql,
  { ids, version }: { ids: readonly number[]; version: number },
): Promise<{ id: number }[]> => sql<{ id: number }>`
  update price
     set retired_version = ${version}
   where id = any(${ids}::int8[])
     and retired_version is null
  returning id`;

/** An entry as it is written: its org by id. */
export type NewPrice = Omit<PriceEntry, "orgId"> & { orgId: number };

/** Adds entries. Fails (23P01) when two in force would hold at the same time. Not safe to repeat. */
export const insertPrices = (
  sql: Sql,
  { prices, version }: { prices: readonly NewPrice[]; version: number },
): Promise<{ id: number }[]> => sql<{ id: number }>`
  insert into price (org_id, layer, kind, subject, valid_from, valid_to, terms, source, version)
  select made."orgId", made.layer, made.kind, made.subject, made."from", made."to", made.terms, made.source, ${version}
    from jsonb_to_recordset(${JSON.stringify(prices)}::jsonb)
      as made ("orgId" int4, layer text, kind text, subject text, "from" timestamptz, "to" timestamptz, terms jsonb, source text)
  returning id`;
