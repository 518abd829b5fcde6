import { type BatchLedgerEntry, type Consumer, decodeBatchLedger } from "#contract";
import { listBatchLedgers, readRawRows, type Session, type UnfoldedBatch } from "#store";
import { cutPlan, type FoldPlan } from "./fold-plan.ts";
import { FoldSums } from "./raw-reader.ts";

/** Events of one COPY: enough to make its cost small, few enough to look at the memory in between. */
const GROUP_EVENTS_MAX = 25_000;

/** Raw has not the rows that a batch says it wrote. Counting on would be wrong, so the fold stops here. */
export class RawRowsMissing extends Error {
  readonly laneId: number;
  readonly batchNo: number;
  readonly expected: number;
  readonly found: number;
  constructor(batch: UnfoldedBatch, found: number) {
    super(
      `batch ${batch.batchNo} of lane ${batch.laneId} accepted ${batch.accepted} events, raw has ${found}`,
    );
    this.name = "RawRowsMissing";
    this.laneId = batch.laneId;
    this.batchNo = batch.batchNo;
    this.expected = batch.accepted;
    this.found = found;
  }
}

/** What was read for a fold: the part of the plan that fits into memory, and its sums. */
export type FoldInput = { plan: FoldPlan; sums: FoldSums; ledger: BatchLedgerEntry[] };

/**
 * Reads the batches of a plan and adds them up, in groups; ends early, with a shorter plan, when more than `cellsMax`
 * rows would be touched. `onGroup` runs between groups. Throws RawRowsMissing when raw and a batch disagree.
 */
export async function readFold(
  from: { session: Session; consumer: Consumer; cellsMax: number; onGroup: () => Promise<void> },
  plan: FoldPlan,
): Promise<FoldInput> {
  const sums = new FoldSums(from.consumer);
  const ledger = new LedgerSums();
  let done = 0;
  while (done < plan.batches.length && sums.cells <= from.cellsMax) {
    if (done > 0) await from.onGroup();
    const group = nextGroup(plan.batches, done);
    await readGroup(from.session, { consumer: from.consumer, group }, sums);
    if (from.consumer === "usage") {
      const rows = await listBatchLedgers(
        from.session.sql,
        group.map(({ batchId }) => batchId),
      );
      for (const row of rows) ledger.add(decodeBatchLedger(row.ledger));
    }
    done += group.length;
  }
  return { plan: cutPlan(plan, done), sums, ledger: ledger.entries() };
}

function nextGroup(batches: readonly UnfoldedBatch[], from: number): UnfoldedBatch[] {
  const group: UnfoldedBatch[] = [];
  let events = 0;
  for (let i = from; i < batches.length; i++) {
    const batch = batches[i];
    if (!batch || (events > 0 && events + batch.received > GROUP_EVENTS_MAX)) break;
    group.push(batch);
    events += batch.received;
  }
  return group;
}

async function readGroup(
  session: Session,
  wanted: { consumer: Consumer; group: UnfoldedBatch[] },
  sums: FoldSums,
): Promise<void> {
  const batches = wanted.group.filter(({ accepted }) => accepted > 0);
  if (batches.length === 0) return;
  const range = {
    batchIds: batches.map(({ batchId }) => batchId),
    minUs: Math.min(...batches.map((batch) => batch.minOccurredAtUs ?? Infinity)),
    maxUs: Math.max(...batches.map((batch) => batch.maxOccurredAtUs ?? -Infinity)),
  };
  sums.begin(batches);
  await session.transaction(async (tx) => {
    let failure: unknown;
    for await (const piece of readRawRows(tx, wanted.consumer, range)) {
      // Read to the end whatever happens: a connection left in mid-COPY is of no more use.
      try {
        if (failure === undefined) sums.push(piece);
      } catch (error) {
        failure = error;
      }
    }
    if (failure !== undefined) throw failure;
  });
  const [missing] = sums.end();
  const batch = batches.find(({ batchId }) => batchId === missing?.batch.batchId);
  if (missing && batch) throw new RawRowsMissing(batch, missing.rows);
}

/** Adds up the control totals of batches per (org, source, partition, hour). */
class LedgerSums {
  readonly #entries = new Map<string, BatchLedgerEntry>();

  add(entries: readonly BatchLedgerEntry[]): void {
    for (const entry of entries) {
      const key = `${entry.orgId}/${entry.sourceId}/${entry.partition}/${entry.hourSeconds}`;
      const sum = this.#entries.get(key);
      if (sum) addEntry(sum, entry);
      else this.#entries.set(key, { ...entry });
    }
  }

  entries(): BatchLedgerEntry[] {
    return [...this.#entries.values()];
  }
}

function addEntry(sum: BatchLedgerEntry, entry: BatchLedgerEntry): void {
  sum.received += entry.received;
  sum.accepted += entry.accepted;
  sum.duplicate += entry.duplicate;
  sum.conflict += entry.conflict;
  sum.rejected += entry.rejected;
  sum.receivedDigest = BigInt.asUintN(64, sum.receivedDigest + entry.receivedDigest);
  sum.acceptedDigest = BigInt.asUintN(64, sum.acceptedDigest + entry.acceptedDigest);
}
