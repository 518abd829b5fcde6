import { encodeBatchLedger, type IngestOutcome, type UsageEvent } from "#contract";
import type { Clock, Crash } from "#kernel";
import type { PriceRaters } from "#pricing";
import {
  advanceLane,
  batchIdOf,
  copyEvents,
  copyKeys,
  dayOfUs,
  EventRows,
  insertBatch,
  insertQuarantine,
  KeyRows,
  type Lane,
  type LaneAdvance,
  lockForBatch,
  type Session,
  type Tx,
} from "#store";
import type { KeyLedger } from "./key-ledger.ts";
import type { PreparedBatch } from "./prepared-batch.ts";

/** Another process took the lane over, or this batch is committed already. Nothing was written. */
export class LaneLost extends Error {}

export type CommitDeps = {
  keyLedger: KeyLedger;
  prices: PriceRaters;
  clock: Clock;
  crash: Crash;
  leaseSeconds: number;
};

export type CommitRequest = {
  batch: PreparedBatch;
  /** Org and source of an item, for the ledger and the quarantine. */
  place: (i: number) => { orgId: number; sourceId: number };
  correlationId: string;
  /** Where the lane's transport reads on once this is committed; null where it has no positions. */
  positionTo: string | null;
};

/** Bytes a raw row and a key row usually take in COPY's format. */
const EVENT_ROW_BYTES = 288;
const KEY_ROW_BYTES = 42;
/** Rows encoded before other work gets its turn; sockets starve otherwise. */
const ROWS_PER_TURN = 512;

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * The transaction that makes events count: fence, keys, raw rows with what the price book's newest version says they
 * cost, quarantine and control totals, all or nothing.
 * `onJudged` learns the outcomes before the COMMIT, for the case that its answer is lost. Safe to call again with the
 * same batch after any failure.
 */
export async function commitBatch(
  session: Session,
  lane: Lane,
  request: CommitRequest,
  deps: CommitDeps,
  onJudged: (outcomes: IngestOutcome[]) => void,
): Promise<void> {
  const startedAtMs = deps.clock.now();
  const { batch, place } = request;
  deps.crash("before_begin");
  const noteCommitted = await session.transaction(async (tx) => {
    await lockForBatch(tx);
    const advanced = await advanceLane(tx.sql, lane, {
      position: request.positionTo,
      leaseSeconds: deps.leaseSeconds,
    });
    if (!advanced) throw new LaneLost("lane lost");
    const known = await deps.keyLedger.listKnown(tx, advanced, questionsOf(batch));
    const outcomes = batch.judge(known);
    const batchId = batchIdOf(lane.laneId, lane.batchNo + 1);
    const work = { batch, outcomes, batchId, lane: advanced };
    const { noteKeys, ...times } = await writeAccepted(tx, work, deps);
    const quarantined = batch.quarantineRows(outcomes, place);
    if (quarantined.length > 0) await insertQuarantine(tx.sql, batchId, quarantined);
    await insertBatch(tx.sql, {
      laneId: lane.laneId,
      batchNo: lane.batchNo + 1,
      batchId,
      epoch: lane.epoch,
      receivedAtMs: batch.items[0]?.receivedAtMs ?? startedAtMs,
      received: outcomes.length,
      ...countByStatus(outcomes),
      ...times,
      positionFrom: lane.position,
      positionTo: request.positionTo,
      durationMs: Math.max(0, Math.round(deps.clock.now() - startedAtMs)),
      correlationId: request.correlationId,
      ledger: encodeBatchLedger(batch.ledgerEntries(outcomes, place)),
    });
    onJudged(outcomes);
    deps.crash("before_commit");
    return noteKeys;
  });
  noteCommitted();
  deps.crash("after_commit_before_ack");
}

const questionsOf = (batch: PreparedBatch) =>
  batch.firsts.map((i) => {
    const event = batch.eventAt(i);
    if (!event) throw new Error("a first item is always an event");
    return event;
  });

/** Keys and raw rows of the accepted events; returns the span of their times, and what to call once they are committed. */
async function writeAccepted(
  tx: Tx,
  work: {
    batch: PreparedBatch;
    outcomes: readonly IngestOutcome[];
    batchId: number;
    lane: LaneAdvance;
  },
  deps: CommitDeps,
): Promise<{
  minOccurredAtUs: number | null;
  maxOccurredAtUs: number | null;
  noteKeys: () => void;
}> {
  const { batch, outcomes, batchId, lane } = work;
  const accepted = batch.firsts.filter((i) => outcomes[i]?.status === "accepted");
  if (accepted.length === 0)
    return { minOccurredAtUs: null, maxOccurredAtUs: null, noteKeys: () => undefined };
  const keyRows = new KeyRows(accepted.length * KEY_ROW_BYTES);
  const eventRows = new EventRows(accepted.length * EVENT_ROW_BYTES);
  const prices = await deps.prices.at(tx, lane.priceVersion);
  const claimed: UsageEvent["key"][] = [];
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (const [n, i] of accepted.entries()) {
    const event = batch.eventAt(i);
    const ids = batch.ids[i];
    if (!event || !ids) throw new Error("an accepted item has an event and its ids");
    claimed.push(event.key);
    keyRows.add(event.key, event.contentHash, ids.orgId);
    eventRows.add(event, ids, batchId, prices.find(event));
    if (event.occurredAtUs < min) min = event.occurredAtUs;
    if (event.occurredAtUs > max) max = event.occurredAtUs;
    if (n % ROWS_PER_TURN === ROWS_PER_TURN - 1) await nextTurn();
  }
  const noteKeys = deps.keyLedger.remember(lane, claimed);
  const keys = await copyKeys(tx, lane.openKeyPartition, keyRows);
  deps.crash("after_keys");
  const events = await copyEvents(tx, eventRows);
  if (keys !== accepted.length || events !== accepted.length)
    throw new Error("rows stored differ from rows accepted");
  deps.crash("after_raw");
  return { minOccurredAtUs: min, maxOccurredAtUs: max, noteKeys };
}

function countByStatus(
  outcomes: readonly IngestOutcome[],
): Record<IngestOutcome["status"], number> {
  const counts = { accepted: 0, duplicate: 0, conflict: 0, rejected: 0 };
  for (const { status } of outcomes) counts[status]++;
  return counts;
}

/** UTC day numbers of the events still to be counted. */
export function daysOf(batch: PreparedBatch): Set<number> {
  const days = new Set<number>();
  for (const i of batch.firsts) {
    const event = batch.eventAt(i);
    if (event) days.add(dayOfUs(event.occurredAtUs));
  }
  return days;
}
