import { CONSUMER_NAMES } from "#contract";
import { type Clock, type Crash, type Logger, sleepMs } from "#kernel";
import { createRatingPrice, PriceRater, type RatingPrice, readPriceBookAt } from "#pricing";
import { moveRows, SystemMembers } from "#rollup";
import {
  addReratingLines,
  chooseRowsToRate,
  chooseRowsToUndo,
  countRawBlocks,
  createRerateTables,
  type Database,
  deleteReratingFailures,
  dropUnfoldedRows,
  findRerating,
  findReratingDay,
  finishReratingDay,
  formatError,
  hasRawPartition,
  insertReratingDays,
  insertStretches,
  interruptFolds,
  isRawPurged,
  isReratingIn,
  listChosenRows,
  listPriceTerms,
  listRatedPairs,
  markPoolHours,
  noteReratingFailure,
  type PairStretch,
  rateChosenRows,
  planToChoose,
  planToMove,
  prepareFoldSession,
  readChosenRaw,
  type RawBlocks,
  type ReratingOrder,
  type ReratingState,
  type ReratingWork,
  type RowToRate,
  type Session,
  setReratingState,
  type Sql,
  tryRatingWorkLock,
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
  /**
   * One step, now. "waiting": what is left of a day is not folded yet. "failed": nothing of the step has happened, and its
   * order tells why. Throws what the database throws when it cannot be noted either.
   */
  step(): Promise<StepResult>;
};
export type StepResult = "idle" | "worked" | "waiting" | "failed";

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
 * together, so a process may end anywhere. Any number of processes may run it; one at a time works. An order that fails
 * pauses, longer each time, and what need not wait for it goes on.
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
      const isNext = result === "worked" || result === "failed";
      const waitMs = isNext ? 0 : (deps.intervalMs ?? INTERVAL_MS);
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

/** An order that a step works on, and the day of it that is next: none before they are listed, and when all are done. */
type Target = { order: ReratingOrder; day: string | undefined };

/** The order is no longer in the state in which it was worked on: somebody has cancelled it, or said to undo it. */
class OrderMoved extends Error {}

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

  async step(): Promise<StepResult> {
    const { database, clock, crash } = this.#deps;
    const at = new Date(clock.now());
    const found: { target?: Target } = {};
    try {
      // A session costs a connection and its temporary tables: it is there while there is work.
      if (this.#session === undefined && (await findRerating(database.sql, at)) === undefined)
        return "idle";
      const session = (this.#session ??= await this.#openSession());
      const result = await session.transaction(async (tx) => {
        if (!(await tryRatingWorkLock(tx.sql))) return "idle";
        const order = await findRerating(tx.sql, at);
        if (order === undefined) return "idle";
        found.target = { order, day: undefined };
        found.target.day = await findReratingDay(tx.sql, order);
        return await this.#work(tx, found.target);
      });
      if (result === "worked") crash("rerate_after_commit");
      if (result === "idle") await this.close();
      return result;
    } catch (error) {
      if (error instanceof OrderMoved) return "worked";
      if (this.#progress?.order === found.target?.order.id) this.#progress = undefined;
      await this.close();
      if (found.target === undefined) throw error;
      return await this.#noteFailure(found.target, error);
    }
  }

  /** In a transaction of its own: that of the step is gone. */
  async #noteFailure({ order: { id, state }, day }: Target, error: unknown): Promise<"failed"> {
    const { database, clock, logger } = this.#deps;
    const failures = await noteReratingFailure(database.sql, {
      id,
      state,
      day: day ?? null,
      at: new Date(clock.now()),
      error: formatError(error),
    }).catch(() => {
      throw error;
    });
    if (failures === 1)
      logger.warn({ rerating: id, day, err: error }, "A re-rating fails and is tried again");
    return "failed";
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

  async #work(tx: Tx, { order, day }: Target): Promise<StepResult> {
    const { id, state } = order;
    if (state === "ordered") {
      await this.#move(tx.sql, order, "previewing");
      await insertReratingDays(tx.sql, order);
      return "worked";
    }
    if (day === undefined) {
      const to = DONE[state];
      await this.#move(tx.sql, order, to);
      this.#deps.logger.info({ rerating: id, state: to }, "A re-rating has come so far");
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

  async #move(sql: Sql, { id, state }: ReratingOrder, to: ReratingState): Promise<void> {
    const finishedAt = to === "previewing" ? null : new Date(this.#deps.clock.now());
    const [moved] = await setReratingState(sql, { id, from: [state], to, finishedAt });
    if (moved === undefined) throw new OrderMoved();
    await this.#endFailures(sql, id);
  }

  async #endFailures(sql: Sql, id: number): Promise<void> {
    const ended = await deleteReratingFailures(sql, id);
    if (ended.length > 0) this.#deps.logger.info({ rerating: id }, "A re-rating goes on again");
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
      if (!(await isReratingIn(tx.sql, order))) throw new OrderMoved();
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
    await this.#endFailures(tx.sql, order.id);
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
