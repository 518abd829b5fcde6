import { createEventRater, type EventRater, type UsageEvent } from "#contract";
import type { Tx } from "#store";
import {
  findPrice,
  listPriceTurns,
  type ModelPrice,
  type PriceBook,
  type PriceQuestion,
} from "./price-book.ts";
import { readPriceBook } from "./prices.ts";

/** A price of the book, ready to rate with. */
export type RatingPrice = EventRater & { readonly priceId: number };

/** What of a call decides which price it has: external ids, and µs since the Unix epoch. */
export type PricedCall = Pick<UsageEvent, "orgId" | "modelId" | "occurredAtUs">;

/** A stretch of time, from `fromUs` until before the next one's, in which one price holds, or none. */
export type PriceStretch = { readonly fromUs: number; readonly price: RatingPrice | undefined };

/** Distinct pairs of org and model whose prices are remembered; beyond, all are forgotten and looked up anew. */
const PAIRS_MAX = 200_000;

/** One version of the book, arranged to rate many events: the looking up is done once for an org and a model. */
export class PriceRater {
  readonly version: number;
  readonly #book: PriceBook;
  readonly #raters = new Map<number, RatingPrice>();
  readonly #byOrg = new Map<string, Map<string, PriceStretch[]>>();
  #pairs = 0;

  constructor(book: PriceBook) {
    this.#book = book;
    this.version = book.version;
  }

  /** The price of a call, by `findPrice`; undefined: there is none. */
  find(call: PricedCall): RatingPrice | undefined {
    const stretches = this.listStretches(call);
    // What comes in is mostly new: it falls into the last stretch.
    for (let i = stretches.length - 1; i >= 0; i--) {
      const stretch = stretches[i];
      if (stretch !== undefined && stretch.fromUs <= call.occurredAtUs) return stretch.price;
    }
    return undefined;
  }

  /** Which price holds when for the calls of a model by an org, from the beginning of time on. */
  listStretches(calls: Pick<PricedCall, "orgId" | "modelId">): readonly PriceStretch[] {
    return this.#byOrg.get(calls.orgId)?.get(calls.modelId) ?? this.#arrange(calls);
  }

  #arrange({ orgId, modelId }: Pick<PricedCall, "orgId" | "modelId">): PriceStretch[] {
    if (this.#pairs >= PAIRS_MAX) {
      this.#byOrg.clear();
      this.#pairs = 0;
    }
    const turns = listPriceTurns(this.#book, { orgId, modelId });
    const stretches = [Number.NEGATIVE_INFINITY, ...turns].map((fromUs) => ({
      fromUs,
      price: this.#rateWith({ orgId, modelId, atUs: fromUs }),
    }));
    const ofOrg = this.#byOrg.get(orgId);
    if (ofOrg === undefined) this.#byOrg.set(orgId, new Map([[modelId, stretches]]));
    else ofOrg.set(modelId, stretches);
    this.#pairs++;
    return stretches;
  }

  #rateWith(question: PriceQuestion): RatingPrice | undefined {
    const entry = findPrice(this.#book, question);
    if (entry === undefined) return undefined;
    const known = this.#raters.get(entry.id);
    if (known !== undefined) return known;
    const price = createRatingPrice(entry);
    this.#raters.set(entry.id, price);
    return price;
  }
}

/** An entry of the book, ready to rate with. */
export const createRatingPrice = ({
  id,
  terms,
}: Pick<ModelPrice, "id" | "terms">): RatingPrice => ({
  ...createEventRater(terms),
  priceId: id,
});

/** Keeps the newest version of the book that was asked for. */
export class PriceRaters {
  #newest: PriceRater | undefined;

  /**
   * The book of a version, which is the newest that the transaction sees: read in it, unless it is known. Under
   * `RATING_LOCK` no other becomes the newest before the transaction ends.
   */
  async at(tx: Pick<Tx, "sql">, version: number): Promise<PriceRater> {
    if (this.#newest?.version === version) return this.#newest;
    const rater = new PriceRater(await readPriceBook(tx));
    this.#newest = rater;
    return rater;
  }
}
