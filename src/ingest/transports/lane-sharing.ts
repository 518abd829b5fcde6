import {
  claimLane,
  type Database,
  ensureLanes,
  type Lane,
  listSharedLanes,
  removeMember,
  renewLanes,
  renewMember,
  releaseLane,
  type SharedLane,
} from "#store";

/** A lane that this process holds, and the work done under it. */
export type HeldLane = {
  readonly lane: Lane;
  /** Last offset the stream held when looked at; null: not known. */
  readonly headOffset: number | null;
  /** Whether it is to be given away as soon as its work allows. */
  readonly isLeaving: boolean;
  /** Ends the work and gives the lane away. Does not wait. */
  leave(): void;
  /** The lane is another's already. Does not wait. */
  lose(): void;
};

export type LaneSharingOptions = {
  database: Database;
  /** Whose lanes: a stream's source name. */
  transport: string;
  /** One lane each. */
  partitions: readonly string[];
  /** Name of this process, unlike any other's. */
  member: string;
  leaseSeconds: number;
  lanesMax: number;
  /** Begins the work under a lane that was claimed. */
  onClaimed: (lane: Lane, partition: string) => HeldLane;
};

/**
 * Shares a transport's lanes among all processes that consume it: each renews its leases, gives away what is above its
 * share and claims what is below. Everything is decided by the database's clock and rows, on any broker. A process that
 * dies is noticed when its leases run out; two never commit under one lane, for each claim begins a new epoch.
 */
export class LaneSharing {
  readonly #options: LaneSharingOptions;
  readonly #held = new Map<number, HeldLane>();
  #isPrepared = false;

  constructor(options: LaneSharingOptions) {
    this.#options = options;
  }

  get held(): Iterable<HeldLane> {
    return this.#held.values();
  }

  /** The work under a lane is over: it is not held any more. */
  forget(lane: Lane): void {
    if (this.#held.get(lane.laneId)?.lane.epoch === lane.epoch) this.#held.delete(lane.laneId);
  }

  /** One round. Throws what the database throws; then leases are as they were, and another round does the rest. */
  async share(): Promise<void> {
    const { database, transport, partitions, member, leaseSeconds } = this.#options;
    if (!this.#isPrepared) await ensureLanes(database.sql, transport, partitions);
    this.#isPrepared = true;
    const members = await renewMember(database.sql, { transport, member, leaseSeconds });
    const renewals = [...this.#held.values()].map(({ lane, headOffset }) => ({
      laneId: lane.laneId,
      epoch: lane.epoch,
      headOffset,
    }));
    if (renewals.length > 0) await renewLanes(database.sql, renewals, leaseSeconds);
    const lanes = await listSharedLanes(database.sql, transport, partitions);
    this.#dropLost(lanes);
    const share = Math.min(
      this.#options.lanesMax,
      shareOf(lanes.length, members.indexOf(member), members.length),
    );
    const staying = [...this.#held.values()].filter((held) => !held.isLeaving);
    for (const surplus of staying.slice(share)) surplus.leave();
    await this.#claim(lanes, share - this.#held.size);
  }

  #dropLost(lanes: readonly SharedLane[]): void {
    const epochs = new Map(lanes.map(({ laneId, epoch }) => [laneId, epoch]));
    for (const [laneId, held] of this.#held) {
      if (epochs.get(laneId) === held.lane.epoch) continue;
      this.#held.delete(laneId);
      held.lose();
    }
  }

  async #claim(lanes: readonly SharedLane[], count: number): Promise<void> {
    const { database, member: owner, leaseSeconds, onClaimed } = this.#options;
    let left = count;
    for (const { laneId, partition, isFree } of lanes) {
      if (left <= 0) return;
      if (!isFree || this.#held.has(laneId)) continue;
      const lane = await claimLane(database.sql, { laneId, owner, leaseSeconds });
      if (!lane) continue;
      this.#held.set(laneId, onClaimed(lane, partition));
      left--;
    }
  }

  /** Leaves the others at once, so that they need not wait for the leases. The lanes' own work has ended by then. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { database, transport, member } = this.#options;
    for (const { lane } of this.#held.values()) await releaseLane(database.sql, lane);
    await removeMember(database.sql, { transport, member });
  }
}

/** How many of `lanes` the member of this rank has, so that all have them and no two numbers differ by more than one. */
export function shareOf(lanes: number, rank: number, members: number): number {
  if (rank < 0 || members === 0) return 0;
  return Math.floor(lanes / members) + (rank < lanes % members ? 1 : 0);
}
