import type { StoredPrice } from "#store";

/** Which price is wanted: of a model, for an org (external ids), at an instant (µs since 1970, as `occurredAtUs`). */
export type PriceQuestion = { modelId: string; orgId: string; atUs: number };

/** An entry that prices a model's calls. */
export type ModelPrice = Extract<StoredPrice, { kind: "model" }>;
/** An entry that says what a pool costs. */
export type PoolPrice = Extract<StoredPrice, { kind: "pool" }>;

/** One version of all prices, arranged to be looked up. */
export type PriceBook = {
  readonly version: number;
  /** In the order in which they are asked: an org's own come before these, the catalogue's last. */
  readonly general: readonly [own: Shelf, catalogue: Shelf];
  readonly byOrg: ReadonlyMap<string, Shelf>;
  readonly pools: readonly PoolPrice[];
};

/** Entries of one rank. Those of one subject never hold at the same time. */
type Shelf = {
  exact: Map<string, ModelPrice[]>;
  /** By the text before the `*`. */
  byPrefix: Map<string, ModelPrice[]>;
  /** Lengths of those texts, the longest first. */
  prefixLengths: number[];
};

/** Arranges the entries in force of one version. */
export function createPriceBook(version: number, entries: readonly StoredPrice[]): PriceBook {
  const own = emptyShelf();
  const catalogue = emptyShelf();
  const byOrg = new Map<string, Shelf>();
  const pools: PoolPrice[] = [];
  for (const entry of entries) {
    if (entry.kind === "pool") pools.push(entry);
    else if (entry.orgId === null) put(entry.layer === "own" ? own : catalogue, entry);
    else put(shelfOf(byOrg, entry.orgId), entry);
  }
  for (const shelf of [own, catalogue, ...byOrg.values()])
    shelf.prefixLengths = [
      ...new Set([...shelf.byPrefix.keys()].map(({ length }) => length)),
    ].toSorted((a, b) => b - a);
  return { version, general: [own, catalogue], byOrg, pools };
}

const emptyShelf = (): Shelf => ({ exact: new Map(), byPrefix: new Map(), prefixLengths: [] });

function shelfOf(byOrg: Map<string, Shelf>, orgId: string): Shelf {
  const known = byOrg.get(orgId);
  if (known !== undefined) return known;
  const made = emptyShelf();
  byOrg.set(orgId, made);
  return made;
}

function put(shelf: Shelf, entry: ModelPrice): void {
  const prefix = prefixOf(entry.subject);
  const places = prefix === null ? shelf.exact : shelf.byPrefix;
  const key = prefix ?? entry.subject;
  const beside = places.get(key);
  if (beside === undefined) places.set(key, [entry]);
  else beside.push(entry);
}

/** The text before the `*` that ends a pattern; null for a model's id. */
const prefixOf = (subject: string): string | null =>
  subject.endsWith("*") ? subject.slice(0, -1) : null;

/**
 * The one price of a model's calls, for an org, at an instant; undefined: there is none, and what was used is unpriced.
 * The org's own prices come before the operator's for all, and those before the catalogue's. Among those of one rank that
 * hold at the instant the one that says most of the model's id wins: the id itself, then the longest beginning.
 */
export function findPrice(book: PriceBook, question: PriceQuestion): ModelPrice | undefined {
  const ownShelf = book.byOrg.get(question.orgId);
  if (ownShelf !== undefined) {
    const own = findOnShelf(ownShelf, question);
    if (own !== undefined) return own;
  }
  for (const shelf of book.general) {
    const found = findOnShelf(shelf, question);
    if (found !== undefined) return found;
  }
  return undefined;
}

function findOnShelf(shelf: Shelf, { modelId, atUs }: PriceQuestion): ModelPrice | undefined {
  const exact = findHolding(shelf.exact.get(modelId), atUs);
  if (exact !== undefined) return exact;
  for (const length of shelf.prefixLengths) {
    const found = findHolding(shelf.byPrefix.get(modelId.slice(0, length)), atUs);
    if (found !== undefined) return found;
  }
  return undefined;
}

const findHolding = (
  entries: readonly ModelPrice[] | undefined,
  atUs: number,
): ModelPrice | undefined => entries?.find((entry) => holdsAt(entry, atUs));

/** Half-open: an entry holds at its first instant and no longer at its `to`. */
export const holdsAt = ({ from, to }: Pick<StoredPrice, "from" | "to">, atUs: number): boolean =>
  (from === null || from.getTime() * 1000 <= atUs) && (to === null || atUs < to.getTime() * 1000);

/** Every entry of the book that is about a model's calls and an org, whenever it holds and whichever comes first. */
export const listPricesAbout = (
  book: PriceBook,
  { modelId, orgId }: Pick<PriceQuestion, "modelId" | "orgId">,
): ModelPrice[] =>
  [book.byOrg.get(orgId), ...book.general].flatMap((shelf) =>
    shelf === undefined
      ? []
      : [
          ...(shelf.exact.get(modelId) ?? []),
          ...shelf.prefixLengths.flatMap(
            (length) => shelf.byPrefix.get(modelId.slice(0, length)) ?? [],
          ),
        ],
  );

/** As `listPricesAbout`, the pools that the calls may share. */
export const listPoolsAbout = (
  book: PriceBook,
  { modelId, orgId }: Pick<PriceQuestion, "modelId" | "orgId">,
): PoolPrice[] =>
  book.pools.filter(
    (pool) =>
      (pool.orgId === null || pool.orgId === orgId) &&
      pool.terms.models.some((pattern) => {
        const prefix = prefixOf(pattern);
        return prefix === null ? pattern === modelId : modelId.startsWith(prefix);
      }),
  );

/**
 * The instants (µs) at which the price of a model's calls for an org may become another, in rising order: between two of
 * them `findPrice` answers the same.
 */
export function listPriceTurns(
  book: PriceBook,
  calls: Pick<PriceQuestion, "modelId" | "orgId">,
): number[] {
  const turns = new Set<number>();
  for (const { from, to } of listPricesAbout(book, calls))
    for (const at of [from, to]) if (at !== null) turns.add(at.getTime() * 1000);
  return [...turns].toSorted((a, b) => a - b);
}

const beginningsOf = (text: string): string[] =>
  Array.from({ length: text.length + 1 }, (_, length) => text.slice(0, length));

/**
 * The prices of models that hold for an org at an instant, by subject: each is the price of at least one model id. One
 * that is wholly behind another of higher rank is left out.
 */
export function listPricesInForce(
  book: PriceBook,
  { orgId, atUs }: Pick<PriceQuestion, "orgId" | "atUs">,
): ModelPrice[] {
  const shelves = [book.byOrg.get(orgId), ...book.general];
  const inForce: ModelPrice[] = [];
  const covers = new Set<string>();
  const prefixes = new Set<string>();
  for (const shelf of shelves) {
    if (shelf === undefined) continue;
    const holding = [...shelf.exact.values(), ...shelf.byPrefix.values()].flatMap(
      (entries) => findHolding(entries, atUs) ?? [],
    );
    const isHidden = ({ subject }: ModelPrice): boolean =>
      covers.has(subject) || beginningsOf(subject).some((text) => prefixes.has(text));
    inForce.push(...holding.filter((entry) => !isHidden(entry)));
    for (const { subject } of holding) {
      const prefix = prefixOf(subject);
      if (prefix === null) covers.add(subject);
      else prefixes.add(prefix);
    }
  }
  return inForce.toSorted((a, b) => (a.subject < b.subject ? -1 : 1));
}
