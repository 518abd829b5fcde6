import {
  findPrice,
  listPoolsAbout,
  listPricesAbout,
  listPriceTurns,
  type ModelPrice,
  type PoolPrice,
  type PriceBook,
  readPriceBookAt,
  readPricesEver,
} from "#pricing";
import {
  addChosenSums,
  addReratingSumLines,
  chooseSumsToRate,
  createRerateSums,
  dropUnratedSums,
  getPriceVersion,
  insertReratingSums,
  interruptFolds,
  listChosenSums,
  listRatedPairs,
  rateChosenSums,
  type RatedPair,
  replaceReratingTally,
  type ReratingOrder,
  type ReratingTally,
  type ReratingWork,
  type SumToRate,
  takeSumsToUndo,
  type Tallied,
  type Tx,
} from "#store";
import {
  createSumPrice,
  type PricesOfSum,
  rateSum,
  type SummedCalls,
  type SumPrice,
} from "./rate-sum.ts";

const SUMS_PER_STATEMENT = 20_000;

/** A UTC day (YYYY-MM-DD) of an order, and whether there is a table of its raw events. */
export type DayOfOrder = { order: ReratingOrder; day: string; hasRaw: boolean };

/**
 * Rates days again whose raw events are gone, from what the rollups have of them beside those that are there: where that
 * comes to what the events themselves would come to. What is left as it is, is counted.
 */
export class RollupDays {
  #books: Books | undefined;

  /**
   * All of a day's work in an order's state, in a transaction that then keeps folds out where it is not a preview. Throws
   * when rollups have less than they should: then nothing may stay of it.
   */
  async work(tx: Tx, { order, day, hasRaw, as }: DayOfOrder & { as: ReratingWork }): Promise<void> {
    await createRerateSums(tx);
    const target = { order, day };
    if (as === "undoing") {
      await interruptFolds(tx.sql);
      if ((await takeSumsToUndo(tx, target)) === 0) return;
    } else {
      const tally = await this.#rate(tx, { order, day, hasRaw });
      await replaceReratingTally(tx.sql, { id: order.id, day }, tally);
      if (!tally.some(({ became }) => became === "rated")) return;
      await dropUnratedSums(tx.sql);
      if (as === "applying") await insertReratingSums(tx.sql, order.id);
    }
    await addReratingSumLines(tx, { ...target, as });
    if (as === "previewing") return;
    // Whatever was folded since the sums were taken: they are less what raw has, and so is what is added to rows.
    await interruptFolds(tx.sql);
    if (!(await addChosenSums(tx, day)))
      throw new RangeError("rollups lack a row of what is rated again");
  }

  async #rate(tx: Tx, at: DayOfOrder): Promise<ReratingTally[]> {
    const tally = new Map<Tallied, ReratingTally>();
    const sums = await chooseSumsToRate(tx, at);
    if (sums === 0) return [];
    const prices = new PricesOfPairs(
      await this.#readBooks(tx, at.order),
      await listRatedPairs(tx.sql, at.order),
    );
    for (let from = 1; from <= sums; from += SUMS_PER_STATEMENT) {
      const rated: { no: number[]; nano: bigint[] } = { no: [], nano: [] };
      for (const sum of await listChosenSums(tx.sql, { from, to: from + SUMS_PER_STATEMENT })) {
        const nanoBefore = BigInt(sum.nanoBefore);
        const rating = prices.rate({ ...sum, nanoBefore }, at.order);
        if (rating === undefined || ("nano" in rating && rating.nano === nanoBefore)) continue;
        if ("nano" in rating) {
          rated.no.push(sum.no);
          rated.nano.push(rating.nano);
        }
        count(tally, "nano" in rating ? "rated" : rating.left, sum.requests);
      }
      await rateChosenSums(tx.sql, rated);
    }
    return [...tally.values()];
  }

  /** No version of the book ever changes. */
  async #readBooks(tx: Tx, { priceVersion }: ReratingOrder): Promise<Books> {
    const newest = await getPriceVersion(tx.sql);
    const known = this.#books;
    if (known?.inForce.version === priceVersion && known.ever.version === newest) return known;
    return (this.#books = {
      inForce: await readPriceBookAt(tx, priceVersion),
      ever: await readPricesEver(tx),
    });
  }
}

function count(tally: Map<Tallied, ReratingTally>, became: Tallied, requests: number): void {
  const one = tally.get(became) ?? { became, rows: 0, requests: 0 };
  one.rows++;
  one.requests += requests;
  tally.set(became, one);
}

/** The book by which an order rates, and all that ever was in one. */
type Books = { inForce: PriceBook; ever: PriceBook };

type Span = { fromUs: number; toUs: number };

/** An org's model, and every price that is about it. */
type PricedPair = {
  calls: { orgId: string; modelId: string };
  turns: number[];
  inForce: ModelPrice[];
  ever: ModelPrice[];
  pools: PoolPrice[];
};

/** The prices of an order's orgs and models, each looked up once. */
class PricesOfPairs {
  readonly #books: Books;
  readonly #pairs: Map<string, RatedPair>;
  readonly #priced = new Map<string, PricedPair>();
  readonly #prices = new Map<number, SumPrice>();

  constructor(books: Books, pairs: readonly RatedPair[]) {
    this.#books = books;
    this.#pairs = new Map(pairs.map((pair) => [`${pair.orgId}/${pair.modelId}`, pair]));
  }

  rate(
    sum: Omit<SumToRate, "nanoBefore"> & SummedCalls,
    order: ReratingOrder,
  ): ReturnType<typeof rateSum> {
    const pair = this.#find(`${sum.orgId}/${sum.modelId}`);
    // Models beyond those that an org may name: which they were, only their events knew.
    if (pair === undefined) return { left: "other_model" };
    const span = {
      fromUs: sum.bucketSeconds * 1_000_000,
      toUs: (sum.bucketSeconds + sum.seconds) * 1_000_000,
    };
    return rateSum(sum, this.#pricesIn(pair, span, order));
  }

  #find(key: string): PricedPair | undefined {
    const known = this.#priced.get(key);
    const pair = this.#pairs.get(key);
    if (known !== undefined || pair === undefined) return known;
    const calls = { orgId: pair.org, modelId: pair.model };
    const { inForce, ever } = this.#books;
    const made = {
      calls,
      turns: listPriceTurns(inForce, calls),
      inForce: listPricesAbout(inForce, calls),
      ever: listPricesAbout(ever, calls),
      pools: listPoolsAbout(ever, calls),
    };
    this.#priced.set(key, made);
    return made;
  }

  #pricesIn(pair: PricedPair, span: Span, order: ReratingOrder): PricesOfSum {
    const turns = pair.turns.filter((atUs) => atUs > span.fromUs && atUs < span.toUs);
    const pricesOf = (entries: readonly ModelPrice[]): SumPrice[] =>
      entries.filter((entry) => overlaps(entry, span)).map((entry) => this.#priceOf(entry));
    return {
      holding: [span.fromUs, ...turns].map((atUs) => {
        const entry = findPrice(this.#books.inForce, { ...pair.calls, atUs });
        return entry && this.#priceOf(entry);
      }),
      inForce: pricesOf(pair.inForce),
      ever: pricesOf(pair.ever),
      isPooled: pair.pools.some((pool) => overlaps(pool, span)),
      isCut:
        span.fromUs < order.startsAt.getTime() * 1000 || span.toUs > order.endsAt.getTime() * 1000,
    };
  }

  #priceOf(entry: ModelPrice): SumPrice {
    const known = this.#prices.get(entry.id);
    if (known !== undefined) return known;
    const made = createSumPrice(entry);
    this.#prices.set(entry.id, made);
    return made;
  }
}

/** Half-open, both. */
const overlaps = ({ from, to }: Pick<ModelPrice, "from" | "to">, span: Span): boolean =>
  (from === null || from.getTime() * 1000 < span.toUs) &&
  (to === null || to.getTime() * 1000 > span.fromUs);
