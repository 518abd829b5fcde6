import type { UnfoldedBatch, WatermarkMove } from "#store";

/** What one fold takes, and what it may claim when it is done. */
export type FoldPlan = {
  batches: UnfoldedBatch[];
  moves: WatermarkMove[];
  /** Every event answered before this instant (µs since the Unix epoch) is then counted. */
  completeThroughUs: number;
  hasMore: boolean;
};

/** Limits of one fold. */
export type FoldLimits = { eventsMax: number; batchesMax: number };

/** A lane's batches do not follow one another: one is missing, so nothing behind it may be counted. */
export class BatchMissing extends Error {
  readonly laneId: number;
  readonly batchNo: number;
  constructor(laneId: number, batchNo: number) {
    super(`lane ${laneId} has no batch ${batchNo}, but later ones`);
    this.name = "BatchMissing";
    this.laneId = laneId;
    this.batchNo = batchNo;
  }
}

/**
 * Chooses the oldest batches of all lanes, keeping each lane's order. `listed` is in lane order, at most
 * `limits.batchesMax` a lane; `nowUs` was read before it, so whatever was answered by then is in it or folded.
 */
export function planFold(
  listed: readonly UnfoldedBatch[],
  nowUs: number,
  limits: FoldLimits,
): FoldPlan {
  const lanes = [...Map.groupBy(listed, (batch) => batch.laneId).values()];
  lanes.forEach(assertContiguous);
  const taken = lanes.map(() => 0);
  const batches: UnfoldedBatch[] = [];
  let events = 0;
  while (batches.length < limits.batchesMax) {
    const next = oldestHead(lanes, taken);
    const batch = lanes[next]?.[taken[next] ?? 0];
    if (!batch || (events > 0 && events + batch.received > limits.eventsMax)) break;
    batches.push(batch);
    events += batch.received;
    taken[next] = (taken[next] ?? 0) + 1;
  }
  return claimFold(batches, { lanes, taken, nowUs, batchesMax: limits.batchesMax });
}

/** The same plan ended after its first `count` batches. */
export function cutPlan(plan: FoldPlan, count: number): FoldPlan {
  const left = plan.batches.slice(count);
  if (left.length === 0) return plan;
  const batches = plan.batches.slice(0, count);
  return {
    batches,
    moves: movesOf(batches),
    completeThroughUs: Math.min(
      plan.completeThroughUs,
      ...left.map((batch) => batch.committedAtUs),
    ),
    hasMore: true,
  };
}

function claimFold(
  batches: UnfoldedBatch[],
  rest: { lanes: UnfoldedBatch[][]; taken: number[]; nowUs: number; batchesMax: number },
): FoldPlan {
  let completeThroughUs = rest.nowUs;
  let hasMore = false;
  rest.lanes.forEach((lane, i) => {
    const left = lane.slice(rest.taken[i]);
    // A list cut at the limit may go on: then nothing later than its last batch is claimed.
    const bound = lane.length >= rest.batchesMax ? lane.slice(-1) : [];
    for (const batch of [...left, ...bound]) {
      completeThroughUs = Math.min(completeThroughUs, batch.committedAtUs);
      hasMore = true;
    }
  });
  return { batches, moves: movesOf(batches), completeThroughUs, hasMore };
}

function movesOf(batches: readonly UnfoldedBatch[]): WatermarkMove[] {
  const moves = new Map<number, WatermarkMove>();
  for (const { laneId, foldedThrough, batchNo } of batches)
    moves.set(laneId, { laneId, from: foldedThrough, to: batchNo });
  return [...moves.values()].toSorted((a, b) => a.laneId - b.laneId);
}

function assertContiguous(lane: readonly UnfoldedBatch[]): void {
  let expected = (lane[0]?.foldedThrough ?? 0) + 1;
  for (const batch of lane) {
    if (batch.batchNo !== expected) throw new BatchMissing(batch.laneId, expected);
    expected++;
  }
}

function oldestHead(lanes: readonly UnfoldedBatch[][], taken: readonly number[]): number {
  let oldest = -1;
  let oldestUs = Infinity;
  lanes.forEach((lane, i) => {
    const head = lane[taken[i] ?? 0];
    if (head && head.committedAtUs < oldestUs) {
      oldest = i;
      oldestUs = head.committedAtUs;
    }
  });
  return oldest;
}
