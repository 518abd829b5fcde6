import { CONSUMER_NAMES } from "#contract";
import { type Clock, type Crash, type Logger, sleepMs } from "#kernel";
import { createRatingPrice, PriceRater, type RatingPrice, readPriceBookAt } from "#pricing";
import { moveRows, SystemMembers } from "#rollup";
import {
  addReratingLines,
  chooseRowsToRate,
  chooseRowsToUndo,
  claimRerating,
  countRawBlocks,
  createRerateTables,
  type Database,
  dropUnfoldedRows,
  findReratingDay,
  finishReratingDay,
  hasRawPartition,
  hasReratingWork,
  insertReratingDays,
  insertStretches,
  interruptFolds,
  isRawPurged,
  listChosenRows,
  listPriceTerms,
  listRatedPairs,
  markPoolHours,
  type PairStretch,
  rateChosenRows,
  planToChoose,
  planToMove,
  prepareFoldSession,
  readChosenRaw,
  type RawBlocks,
  type ReratingOrder,
  type ReratingWork,
  type RowToRate,
  type Session,
  setReratingState,
  type Sql,
  type Tx,
  writeRatings,
} from "#store";
import { RollupDays } from "./rollup-days.ts";

export type ReratingWorkerDeps = {
  database: Database;
  clock: Clock;
  logger: Logger;
  crash: Crash;
  /** How often it looks for orders, ms; every second by itself. */
  intervalMs?: number;
};

/** The worker. Disposing lets the step finish that has begun. */
export type ReratingWorker = AsyncDisposable & {
  /** One step, now. "waiting": what is left of a day is not folded yet. */
  step(): Promise<StepResult>;
};
export type StepResult = "idle" | "worked" | "waiting";

const INTERVAL_MS = 1000;
/** Blocks of raw in one transaction of an apply or undo: about 20,000 events, for so long folds wait. */
const BLOCKS_PER_STEP = 512;
/** A day is foreseen in one transaction, which holds nobody up. */
const PREVIEW_MS_MAX = 3_600_000;
const STEP_MS_MAX = 60_000;

const DONE = {
  previewing: "previewed",
  applying: "applied",
  undoing: "undone",
} as const satisfies Record<ReratingWork, string>;

/**
 * Works off orders to rate again, day by day, oldest order first: looks what would change, and applies or undoes it when
 * somebody has said so. Every step is one transaction that changes raw, rollups and the order's own account of it
 * together, so a process may end anywhere. Any number of processes may run it; one at a time works.
 */
export function startReratingWorker(deps: ReratingWorkerDeps): ReratingWorker {
  const stop = new AbortController();
  const steps = new Steps(deps);
  let turn: Promise<unknown> = Promise.resolve();
  const step = (): Promise<StepResult> => {
    const result = turn.then(() => steps.step());
    turn = result.catch(() => undefined);
    return result;
  };
  const loop = async (): Promise<void> => {
    let isFailing = false;
    while (!stop.signal.aborted) {
      let result: StepResult = "idle";
      try {
        result = await step();
        isFailing = false;
      } catch (error) {
        if (!isFailing) deps.logger.warn({ err: error }, "Re-rating is tried again");
        isFailing = true;
      }
      const waitMs = result === "worked" ? 0 : (deps.intervalMs ?? INTERVAL_MS);
      await sleepMs(waitMs, stop.signal).catch(() => undefined);
    }
  };
  const running = loop();
  return {
    step,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await running;
      await turn;
      await steps.close();
    },
  };
}

/** A day under way, and how far it has come; forgotten with the process, for a day may be begun again. */
type Progress = { order: number; state: ReratingWork; day: string; block: number; waiting: number };

class Steps {
  readonly #deps: ReratingWorkerDeps;
  readonly #members = new SystemMembers();
  readonly #rollupDays = new RollupDays();
  #session: Session | undefined;
  #progress: Progress | undefined;

  constructor(deps: ReratingWorkerDeps) {
    this.#deps = deps;
  }

  /** Throws what the database throws: then nothing of the step has happened. */
  async step(): Promise<StepResult> {
    try {
      // A session costs a connection and its temporary tables: it is there while there is work.
      if (this.#session === undefined && !(await hasReratingWork(this.#deps.database.sql)))
        return "idle";
      const session = (this.#session ??= await this.#openSession());
      const result = await session.transaction((tx) => this.#work(tx));
      if (result === "worked") this.#deps.crash("rerate_after_commit");
      if (result === "idle") await this.close();
      return result;
    } catch (error) {
      this.#progress = undefined;
      await this.close();
      throw error;
    }
  }

  /** Gives the connection back. Not while a step runs. */
  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.[Symbol.asyncDispose]();
  }

  #openSession(): Promise<Session> {
    return this.#deps.database.openSession(async (session) => {
      for (const consumer of CONSUMER_NAMES)
        await session.transaction((tx) => prepareFoldSession(tx, consumer));
    });
  }

  async #work(tx: Tx): Promise<StepResult> {
    const order = await claimRerating(tx.sql);
    if (order === undefined) return "idle";
    const { id, state } = order;
    if (state === "ordered") {
      await insertReratingDays(tx.sql, order);
      const to = "previewing";
      await setReratingState(tx.sql, { id, from: ["ordered"], to, finishedAt: null });
      return "worked";
    }
    const day = await findReratingDay(tx.sql, order);
    if (day === undefined) {
      await this.#finish(tx.sql, order, state);
      return "worked";
    }
    await planToChoose(tx, state === "previewing" ? PREVIEW_MS_MAX : STEP_MS_MAX);
    if (!(await hasRawPartition(tx.sql, day))) return await this.#end(tx, order, day, state);
    await createRerateTables(tx);
    if (state !== "undoing") await insertStretches(tx.sql, await this.#listStretches(tx, order));
    return state === "previewing"
      ? await this.#preview(tx, order, day)
      : await this.#change(tx, { ...order, state }, day);
  }

  async #finish(sql: Sql, { id }: ReratingOrder, state: ReratingWork): Promise<void> {
    const finishedAt = new Date(this.#deps.clock.now());
    const to = DONE[state];
    await setReratingState(sql, { id, from: [state], to, finishedAt });
    this.#deps.logger.info({ rerating: id, state: to }, "A re-rating has come so far");
  }

  async #listStretches(tx: Tx, order: ReratingOrder): Promise<PairStretch[]> {
    const rater = await this.#raterOf(tx, order);
    const stretches: PairStretch[] = [];
    for (const { orgId, org, modelId, model } of await listRatedPairs(tx.sql, order)) {
      const list = rater.listStretches({ orgId: org, modelId: model });
      for (const [i, { fromUs, price }] of list.entries())
        stretches.push({
          orgId,
          modelId,
          fromUs: Number.isFinite(fromUs) ? fromUs : null,
          toUs: list[i + 1]?.fromUs ?? null,
          priceId: price?.priceId ?? null,
        });
    }
    return stretches;
  }

  #rater: PriceRater | undefined;
  async #raterOf(tx: Tx, { priceVersion }: ReratingOrder): Promise<PriceRater> {
    if (this.#rater?.version !== priceVersion)
      this.#rater = new PriceRater(await readPriceBookAt(tx, priceVersion));
    return this.#rater;
  }

  /** The whole day in one transaction: what it adds to the order's lines is there once or not at all. */
  async #preview(tx: Tx, order: ReratingOrder, day: string): Promise<StepResult> {
    const blocks = await countRawBlocks(tx.sql, day);
    for (let fromBlock = 0; fromBlock < blocks; fromBlock += BLOCKS_PER_STEP) {
      const part = { day, order, fromBlock, toBlock: fromBlock + BLOCKS_PER_STEP };
      if ((await chooseRowsToRate(tx, part)) === 0) continue;
      await this.#rate(tx);
      await addReratingLines(tx, { day, order, as: "previewing" });
    }
    return await this.#end(tx, order, day, "previewing");
  }

  /** What raw has is done: does the rest of the day, which only rollups have, and the day is. */
  async #end(tx: Tx, order: ReratingOrder, day: string, state: ReratingWork): Promise<StepResult> {
    const hasRaw = await hasRawPartition(tx.sql, day);
    if (!hasRaw || (await isRawPurged(tx.sql, day))) {
      await this.#rollupDays.work(tx, { order, day, hasRaw, as: state });
      if (state !== "previewing") this.#deps.crash("rerate_before_commit");
    }
    await finishReratingDay(tx.sql, { id: order.id, day, state, hasRaw });
    return "worked";
  }

  /** Some blocks of the day: rows are changed where they lie, and their new versions are right already when they are met. */
  async #change(
    tx: Tx,
    order: ReratingOrder & { state: "applying" | "undoing" },
    day: string,
  ): Promise<StepResult> {
    const { state } = order;
    const progress = this.#progressOf(order, day);
    const blocks = await countRawBlocks(tx.sql, day);
    if (progress.block >= blocks) {
      const isWaiting = progress.waiting > 0;
      this.#progress = undefined;
      return isWaiting ? "waiting" : await this.#end(tx, order, day, state);
    }
    const part: RawBlocks = {
      day,
      order,
      fromBlock: progress.block,
      toBlock: progress.block + BLOCKS_PER_STEP,
    };
    await interruptFolds(tx.sql);
    const chosen = await (state === "undoing" ? chooseRowsToUndo : chooseRowsToRate)(tx, part);
    const waiting = chosen === 0 ? 0 : await dropUnfoldedRows(tx);
    if (chosen > waiting) {
      await this.#rate(tx);
      await addReratingLines(tx, { day, order, as: state });
      await planToMove(tx);
      await markPoolHours(tx, day);
      await moveRows(tx, {
        read: (consumer) => readChosenRaw(tx, consumer, day),
        change: async () => {
          const written = await writeRatings(tx, { day, order, isUndo: state === "undoing" });
          if (written !== chosen - waiting) throw new Error("rows changed differ from rows chosen");
        },
        members: this.#members,
      });
      this.#deps.crash("rerate_before_commit");
    }
    this.#progress = { ...progress, block: part.toBlock, waiting: progress.waiting + waiting };
    return "worked";
  }

  #progressOf(order: ReratingOrder & { state: ReratingWork }, day: string): Progress {
    const known = this.#progress;
    if (known?.order === order.id && known.state === order.state && known.day === day) return known;
    return { order: order.id, state: order.state, day, block: 0, waiting: 0 };
  }

  /** Says of the chosen rows what the prices chosen with them make of them. */
  async #rate({ sql }: Tx): Promise<void> {
    const rows = await listChosenRows(sql);
    const prices = await this.#listPrices(sql, rows);
    const rated = { no: [], nano: [], currency: [] } as {
      no: number[];
      nano: (number | null)[];
      currency: (number | null)[];
    };
    for (const row of rows) {
      const price = row.priceId === null ? undefined : prices.get(row.priceId);
      const nano = price?.rate(row) ?? null;
      rated.no.push(row.no);
      rated.nano.push(nano);
      rated.currency.push(nano === null ? null : (price?.currency ?? null));
    }
    await rateChosenRows(sql, rated);
  }

  /** Entries never change: what was read of one is true for ever. */
  readonly #prices = new Map<number, RatingPrice>();
  async #listPrices(sql: Sql, rows: readonly RowToRate[]): Promise<Map<number, RatingPrice>> {
    const wanted = new Set(rows.flatMap(({ priceId }) => priceId ?? []));
    const missing = [...wanted].filter((id) => !this.#prices.has(id));
    if (missing.length > 0)
      for (const entry of await listPriceTerms(sql, missing))
        this.#prices.set(entry.id, createRatingPrice(entry));
    return this.#prices;
  }
}
