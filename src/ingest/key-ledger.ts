import { BloomFilter, type Clock, type Logger } from "#kernel";
import {
  countKeysAtMost,
  type Database,
  dropExpiredKeyPartitions,
  encodeUuidArray,
  type FoundKey,
  getDedupFloorMs,
  type KeyPartition,
  type LaneAdvance,
  listKeyPartitions,
  listKeysInRaw,
  listKnownKeys,
  openFirstKeyPartition,
  readKeys,
  rotateKeyPartition,
  type Tx,
} from "#store";

export type KeyLedgerSettings = {
  /** Keys a partition may hold before the next is opened. */
  partitionKeysMax: number;
  /** How long keys are kept after their partition closed, hours. A partition closes after a day at the latest. */
  windowHours: number;
  /** Events this much in the future are accepted, ms: an event was ingested no earlier than its time less this. */
  futureToleranceMs: number;
};

type Key = readonly [number, number, number, number];
type Closed = { partition: KeyPartition; filter: BloomFilter | undefined };

/** What is asked of the ledger for one event. */
export type KeyQuestion = { key: Key; occurredAtUs: number };

const DAY_MS = 86_400_000;
const QUARTER_US = 900_000_000;
/** COPY's binary rows of one uuid column: field count, length, 16 bytes. */
const KEY_ROW_BYTES = 22;
const COPY_HEADER_BYTES = 19;

/**
 * Which keys were seen before. The open partition is asked by SQL; closed ones through a Bloom filter each, built in
 * the background (until then by SQL); raw itself only for events older than what the ledger still covers.
 */
export class KeyLedger implements AsyncDisposable {
  readonly #database: Database;
  readonly #settings: KeyLedgerSettings;
  readonly #deps: { clock: Clock; logger: Logger };
  #closed: Closed[] = [];
  #openNo = 0;
  #oldestNo = 0;
  #openedAtMs = 0;
  #dedupFloorMs = Number.NEGATIVE_INFINITY;
  #building: Promise<void> = Promise.resolve();
  #maintaining: Promise<void> = Promise.resolve();
  #isDisposed = false;

  private constructor(database: Database, settings: KeyLedgerSettings, deps: { clock: Clock; logger: Logger }) {
    this.#database = database;
    this.#settings = settings;
    this.#deps = deps;
  }

  static async open(
    database: Database,
    settings: KeyLedgerSettings,
    deps: { clock: Clock; logger: Logger },
  ): Promise<KeyLedger> {
    await openFirstKeyPartition(database);
    const ledger = new KeyLedger(database, settings, deps);
    await ledger.#refresh();
    return ledger;
  }

  /** Resolves when every closed partition has its filter. */
  get filtersBuilt(): Promise<void> {
    return this.#building;
  }

  /** Whether keys of events of this age may have been dropped, so that raw must be asked. */
  #isBelowFloor(occurredAtUs: number): boolean {
    return occurredAtUs / 1000 - this.#settings.futureToleranceMs < this.#dedupFloorMs;
  }

  /**
   * The ones among these keys (sorted) that are known, with the hash of what was counted. Runs in the batch's
   * transaction, which holds the rotation lock and has read which partitions there are.
   */
  async listKnown(tx: Tx, lane: LaneAdvance, questions: readonly KeyQuestion[]): Promise<FoundKey[]> {
    if (questions.length === 0) return [];
    if (lane.openKeyPartition !== this.#openNo || lane.oldestKeyPartition !== this.#oldestNo) await this.#refresh();
    const found = await listKnownKeys(tx.sql, lane.openKeyPartition, encodeUuidArray(questions.map(({ key }) => key)));
    for (const { partition, filter } of this.#closed) {
      const maybe = filter ? questions.filter(({ key }) => filter.has(...key)) : questions;
      if (maybe.length === 0) continue;
      found.push(...(await listKnownKeys(tx.sql, partition.no, encodeUuidArray(maybe.map(({ key }) => key)))));
    }
    const old = questions.filter(({ occurredAtUs }) => this.#isBelowFloor(occurredAtUs));
    if (old.length > 0) {
      found.push(...(await listKeysInRaw(tx.sql, spansOf(old), encodeUuidArray(old.map(({ key }) => key)))));
    }
    return found;
  }

  /** Rotates when the open partition is full or a day old, and drops what left the window. Called every few seconds. */
  async maintain(): Promise<void> {
    this.#maintaining = this.#maintaining.then(async () => {
      const keys = await countKeysAtMost(this.#database.sql, this.#openNo);
      const isOld = keys > 0 && this.#deps.clock.now() - this.#openedAtMs > DAY_MS;
      if (keys >= this.#settings.partitionKeysMax || isOld) {
        const isOurs = await rotateKeyPartition(this.#database, this.#openNo);
        if (isOurs) this.#deps.logger.info({ partition: this.#openNo, keys }, "key partition closed");
      }
      const dropped = await dropExpiredKeyPartitions(this.#database, this.#settings.windowHours);
      if (dropped.length > 0) this.#deps.logger.info({ partitions: dropped }, "key partitions dropped");
      await this.#refresh();
    });
    const done = this.#maintaining;
    this.#maintaining = done.catch(() => undefined);
    await done;
  }

  async #refresh(): Promise<void> {
    const partitions = await listKeyPartitions(this.#database.sql);
    this.#dedupFloorMs = await getDedupFloorMs(this.#database.sql);
    const open = partitions.find(({ closedAtMs }) => closedAtMs === null);
    if (!open) throw new Error("no key partition is open");
    const filters = new Map(this.#closed.map(({ partition, filter }) => [partition.no, filter]));
    this.#closed = partitions
      .filter(({ closedAtMs }) => closedAtMs !== null)
      .map((partition) => ({ partition, filter: filters.get(partition.no) }));
    this.#openNo = open.no;
    this.#oldestNo = Math.min(...partitions.map(({ no }) => no));
    this.#openedAtMs = open.openedAtMs;
    this.#building = this.#building.then(() => this.#buildFilters());
  }

  async #buildFilters(): Promise<void> {
    for (const closed of this.#closed) {
      if (closed.filter || this.#isDisposed) continue;
      try {
        closed.filter = await this.#database.transaction((tx) =>
          buildFilter(readKeys(tx, closed.partition.no), closed.partition.keys ?? 0),
        );
      } catch (error) {
        // Without its filter a partition is asked by SQL: slower, as exact. The next refresh tries again.
        this.#deps.logger.warn({ err: error, partition: closed.partition.no }, "key filter not built");
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    await Promise.allSettled([this.#building, this.#maintaining]);
  }
}

/** Adds every key of a binary COPY stream to a new filter. */
async function buildFilter(chunks: AsyncIterable<Buffer>, keys: number): Promise<BloomFilter> {
  const filter = new BloomFilter(keys);
  let rest: Buffer = Buffer.alloc(0);
  let toSkip = COPY_HEADER_BYTES;
  for await (const chunk of chunks) {
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    let at = Math.min(toSkip, bytes.length);
    toSkip -= at;
    for (; at + KEY_ROW_BYTES <= bytes.length; at += KEY_ROW_BYTES) {
      filter.add(
        bytes.readUInt32BE(at + 6),
        bytes.readUInt32BE(at + 10),
        bytes.readUInt32BE(at + 14),
        bytes.readUInt32BE(at + 18),
      );
    }
    rest = bytes.subarray(at);
  }
  return filter;
}

/** The quarter hours these events fall into, each narrowed to the times that occur. */
function spansOf(events: readonly KeyQuestion[]): { lowUs: number[]; highUs: number[] } {
  const spans = new Map<number, [number, number]>();
  for (const { occurredAtUs } of events) {
    const quarter = Math.floor(occurredAtUs / QUARTER_US);
    const span = spans.get(quarter);
    if (!span) spans.set(quarter, [occurredAtUs, occurredAtUs]);
    else if (occurredAtUs < span[0]) span[0] = occurredAtUs;
    else if (occurredAtUs > span[1]) span[1] = occurredAtUs;
  }
  const sorted = [...spans.values()];
  return { lowUs: sorted.map(([low]) => low), highUs: sorted.map(([, high]) => high) };
}
