import type { IngestOutcome } from "#contract";
import type { Clock, Crash, Logger } from "#kernel";
import type { PriceRaters } from "#pricing";
import {
  classifyError,
  type Database,
  findLane,
  insertLane,
  isBatchCommitted,
  isConnectionLost,
  isUniqueViolation,
  type Lane,
  limitIdleTransactions,
  releaseLane,
  type Session,
  takeFreeLane,
} from "#store";
import { commitBatch, type CommitRequest, LaneLost } from "./commit-batch.ts";
import type { KeyLedger } from "./key-ledger.ts";

export type LaneWorkerDeps = {
  database: Database;
  keyLedger: KeyLedger;
  prices: PriceRaters;
  clock: Clock;
  logger: Logger;
  crash: Crash;
  /** A number in [0, 1). */
  random: () => number;
  /** Name of this process, for people who read the lane table. */
  owner: string;
  leaseSeconds: number;
  /** The one lane to commit under, claimed already. Left out: any free lane of those without positions. */
  lane?: Lane;
  onRetry: (error: unknown) => void;
};

const TRANSPORT = "http";
const BACKOFF_MS_MIN = 20;
const BACKOFF_MS_MAX = 2000;

/** One connection and the lane it commits under. Commits one batch at a time, over and over until it is in. */
export class LaneWorker implements AsyncDisposable {
  readonly #deps: LaneWorkerDeps;
  #session: Session | undefined;
  #lane: Lane | undefined;

  constructor(deps: LaneWorkerDeps) {
    this.#deps = deps;
    this.#lane = deps.lane;
  }

  /** The lane as last committed; undefined while none is held. */
  get lane(): Lane | undefined {
    return this.#lane;
  }

  /**
   * Resolves with the outcomes once the batch is committed. Retries outages and conflicts for as long as `isWanted`;
   * then throws the last error. Errors that trying again cannot cure are thrown at once; so is LaneLost, when the lane is
   * a claimed one: somebody else reads on from its position.
   */
  async commit(request: CommitRequest, isWanted: () => boolean): Promise<IngestOutcome[]> {
    let attempted: { lane: Lane; outcomes: IngestOutcome[] } | undefined;
    for (let failures = 0; ; failures++) {
      try {
        const session = (this.#session ??= await this.#openSession());
        if (attempted && (await isBatchCommitted(session.sql, next(attempted.lane)))) {
          await this.#relocate(session, attempted.lane);
          return attempted.outcomes;
        }
        // Lost, and not by a COMMIT of our own that was still under way when it was looked for.
        if (!this.#lane) attempted = undefined;
        const lane = (this.#lane ??= await this.#acquireLane(session));
        let outcomes: IngestOutcome[] = [];
        await commitBatch(session, lane, request, this.#deps, (judged) => {
          outcomes = judged;
          attempted = { lane, outcomes: judged };
        });
        this.#lane = { ...lane, batchNo: lane.batchNo + 1, position: request.positionTo };
        return outcomes;
      } catch (error) {
        if (error instanceof LaneLost && this.#deps.lane && !attempted) throw error;
        await this.#recover(error, failures, isWanted);
      }
    }
  }

  /** Puts the worker in a state to try again, and waits; rethrows when there is no point. */
  async #recover(error: unknown, failures: number, isWanted: () => boolean): Promise<void> {
    if (error instanceof LaneLost) this.#lane = undefined;
    else if (isUniqueViolation(error)) this.#deps.keyLedger.distrust();
    else if (classifyError(error) !== "retry" || !isWanted()) throw error;
    this.#deps.onRetry(error);
    if (isConnectionLost(error)) await this.#closeSession();
    if (failures === 0 && !isUniqueViolation(error))
      this.#deps.logger.warn({ err: error }, "batch is tried again");
    if (!isWanted()) throw error;
    const ceiling = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** failures);
    await new Promise((resolve) => setTimeout(resolve, ceiling * (0.5 + this.#deps.random() / 2)));
  }

  /** After a COMMIT whose answer was lost: the lane stands one batch further, if it is still ours. */
  async #relocate(session: Session, lane: Lane): Promise<void> {
    const found = await findLane(session.sql, lane.laneId);
    this.#lane = found?.epoch === lane.epoch ? found : undefined;
  }

  async #acquireLane(session: Session): Promise<Lane> {
    if (this.#deps.lane) throw new LaneLost("lane lost");
    const request = {
      transport: TRANSPORT,
      owner: this.#deps.owner,
      leaseSeconds: this.#deps.leaseSeconds,
    };
    for (;;) {
      const lane =
        (await takeFreeLane(session.sql, request)) ?? (await insertLane(session.sql, request));
      if (lane) return lane;
    }
  }

  /** A process that stops in mid-batch holds the lane's row: the server ends its transaction when the lease would end. */
  #openSession(): Promise<Session> {
    const { database, leaseSeconds } = this.#deps;
    return database.openSession(({ sql }) => limitIdleTransactions(sql, leaseSeconds));
  }

  async #closeSession(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const lane = this.#lane;
    if (lane) await releaseLane(this.#deps.database.sql, lane).catch(() => undefined);
    await this.#closeSession();
  }
}

const next = (lane: Lane): Lane => ({ ...lane, batchNo: lane.batchNo + 1 });
