import { BloomFilter, type Clock, type Logger } from "#kernel";
import {
  countKeys,
  countKeysAtMost,
  type Database,
  dropExpiredKeyPartitions,
  encodeUuidArray,
  type FoundKey,
  getDedupFloorMs,
  type KeyPartition,
  type KeyPartitions,
  listKeyPartitions,
  listKeysInRaw,
  listKnownKeys,
  lockKeysAlone,
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
type Closed = {
  partition: KeyPartition;
  filter: BloomFilter | undefined;
  /** What this process gathered while the partition was open: its filter, if nobody else added keys. */
  gathered: Gathering | undefined;
};

/** The filter of the open partition, as this process fills it. */
type Gathering = {
  no: number;
  filter: BloomFilter;
  /** Keys that were there when the count began; undefined until they are in the filter. */
  found: number | undefined;
  /** Keys that this process committed since. With `found`, no key is counted twice. */
  claimed: number;
  /** Raised when the count begins: what was remembered before is among those found. */
  era: number;
};

/** What is asked of the ledger for one event. */
export type KeyQuestion = { key: Key; occurredAtUs: number };

/** Batches for which the open partition is asked about every key after another process was seen to write. */
const DISTRUST_BATCHES = 200;
const DAY_MS = 86_400_000;
const QUARTER_US = 900_000_000;
/** COPY's binary rows of one uuid column: field count, length, 16 bytes. */
const KEY_ROW_BYTES = 22;
const COPY_HEADER_BYTES = 19;

/**
 * Which keys were seen before. Each partition has a Bloom filter, built in the background (until then it is asked by
 * SQL): only keys that may be there are looked up. The open partition's filter knows this process's keys and those it
 * found at the start; a key that another process claimed since is caught by the unique index, and for a while after
 * that the open partition is asked about every key. When it is closed, its filter stays if it has as many keys as the
 * partition. Raw itself is asked only about events older than the ledger covers.
 */
export class KeyLedger implements AsyncDisposable {
  readonly #database: Database;
  readonly #settings: KeyLedgerSettings;
  readonly #deps: { clock: Clock; logger: Logger };
  #closed: Closed[] = [];
  /** Of the open partition; asked once what it found is in it. */
  #gathering: Gathering | undefined;
  /** Batches left that ask the open partition about every key. */
  #distrustBatches = 0;
  #openNo = 0;
  #oldestNo = 0;
  #openedAtMs = 0;
  #dedupFloorMs = Number.NEGATIVE_INFINITY;
  #building: Promise<void> = Promise.resolve();
  #maintaining: Promise<void> = Promise.resolve();
  #isDisposed = false;

  private constructor(
    database: Database,
    settings: KeyLedgerSettings,
    deps: { clock: Clock; logger: Logger },
  ) {
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

  /** Resolves when every partition has its filter. */
  get filtersBuilt(): Promise<void> {
    return this.#building;
  }

  /** Partitions that are asked about every key, because their filter is not built yet. */
  get unfiltered(): number {
    return (this.#openFilter ? 0 : 1) + this.#closed.filter(({ filter }) => !filter).length;
  }

  get #openFilter(): BloomFilter | undefined {
    return this.#gathering?.found === undefined ? undefined : this.#gathering.filter;
  }

  /** Whether keys of events of this age may have been dropped, so that raw must be asked. */
  #isBelowFloor(occurredAtUs: number): boolean {
    return occurredAtUs / 1000 - this.#settings.futureToleranceMs < this.#dedupFloorMs;
  }

  /**
   * The ones among these keys (sorted) that are known, with the hash of what was counted. Runs in the batch's
   * transaction, which holds the rotation lock and has read which partitions there are.
   */
  async listKnown(
    tx: Tx,
    lane: KeyPartitions,
    questions: readonly KeyQuestion[],
  ): Promise<FoundKey[]> {
    if (questions.length === 0) return [];
    if (lane.openKeyPartition !== this.#openNo || lane.oldestKeyPartition !== this.#oldestNo)
      await this.#refresh();
    const found: FoundKey[] = [];
    const ask = async (no: number, filter: BloomFilter | undefined): Promise<void> => {
      const maybe = filter
        ? questions.filter(({ key: [a, b, c, d] }) => filter.has(a, b, c, d))
        : questions;
      if (maybe.length === 0) return;
      found.push(
        ...(await listKnownKeys(tx.sql, no, encodeUuidArray(maybe.map(({ key }) => key)))),
      );
    };
    const isTrusted = this.#distrustBatches === 0;
    if (!isTrusted) this.#distrustBatches--;
    await ask(lane.openKeyPartition, isTrusted ? this.#openFilter : undefined);
    for (const { partition, filter } of this.#closed) await ask(partition.no, filter);
    const old = questions.filter(({ occurredAtUs }) => this.#isBelowFloor(occurredAtUs));
    if (old.length > 0) {
      found.push(
        ...(await listKeysInRaw(tx.sql, spansOf(old), encodeUuidArray(old.map(({ key }) => key)))),
      );
    }
    return found;
  }

  /** Adds keys that this process is about to claim in the open partition. Call what it returns once they are committed. */
  remember(lane: KeyPartitions, keys: readonly Key[]): () => void {
    const gathering = this.#gathering;
    if (!gathering || gathering.no !== lane.openKeyPartition) return () => undefined;
    for (const [a, b, c, d] of keys) gathering.filter.add(a, b, c, d);
    const { era } = gathering;
    return () => {
      if (gathering.era === era) gathering.claimed += keys.length;
    };
  }

  /** Another process claims keys too: ask the open partition about every key for a while. */
  distrust(): void {
    this.#distrustBatches = DISTRUST_BATCHES;
  }

  /** Rotates when the open partition is full or a day old, and drops what left the window. Called every few seconds. */
  async maintain(): Promise<void> {
    this.#maintaining = this.#maintaining.then(async () => {
      const keys = await countKeysAtMost(this.#database.sql, this.#openNo);
      const isOld = keys > 0 && this.#deps.clock.now() - this.#openedAtMs > DAY_MS;
      if (keys >= this.#settings.partitionKeysMax || isOld) {
        const isOurs = await rotateKeyPartition(this.#database, this.#openNo);
        if (isOurs)
          this.#deps.logger.info({ partition: this.#openNo, keys }, "key partition closed");
      }
      const dropped = await dropExpiredKeyPartitions(this.#database, this.#settings.windowHours);
      if (dropped.length > 0)
        this.#deps.logger.info({ partitions: dropped }, "key partitions dropped");
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
    // The same objects as before: a filter under construction has to end up where it is asked.
    const known = new Map(this.#closed.map((closed) => [closed.partition.no, closed]));
    this.#closed = partitions
      .filter(({ closedAtMs }) => closedAtMs !== null)
      .map((partition) => known.get(partition.no) ?? this.#close(partition));
    if (open.no !== this.#openNo) {
      const filter = new BloomFilter(this.#settings.partitionKeysMax * 1.25);
      this.#gathering = { no: open.no, filter, found: undefined, claimed: 0, era: 0 };
    }
    this.#openNo = open.no;
    this.#oldestNo = Math.min(...partitions.map(({ no }) => no));
    this.#openedAtMs = open.openedAtMs;
    this.#building = this.#building.then(() => this.#buildFilters());
  }

  #close(partition: KeyPartition): Closed {
    const gathering = this.#gathering?.no === partition.no ? this.#gathering : undefined;
    return { partition, filter: undefined, gathered: gathering };
  }

  async #buildFilters(): Promise<void> {
    await this.#buildOpenFilter();
    for (const closed of this.#closed)
      if (closed.gathered) await this.#keep(closed, closed.gathered);
    for (const closed of this.#closed) {
      if (closed.filter || this.#isDisposed) continue;
      const { no, keys } = closed.partition;
      const filter = new BloomFilter(keys ?? 0);
      const found = await this.#try(no, () =>
        this.#database.transaction((tx) => addKeys(filter, readKeys(tx, no))),
      );
      if (found !== undefined) closed.filter = filter;
    }
  }

  /**
   * Keeps the filter that was gathered for a partition while it was open, if it holds every key: building it anew takes
   * seconds during which each batch asks the partition about all its keys. Other processes' keys are missing from it.
   */
  async #keep(closed: Closed, { no, filter, found, claimed }: Gathering): Promise<void> {
    closed.gathered = undefined;
    if (found === undefined) return;
    const keys = await this.#try(no, () => countKeys(this.#database.sql, no));
    if (keys !== found + claimed) return;
    closed.filter = filter;
    this.#deps.logger.info({ partition: no, keys }, "key filter kept");
  }

  /**
   * The open partition's filter takes this process's keys from now on, and then those that were there before: asked
   * only when both are in. Keys that come by other processes meanwhile are the unique index's business.
   */
  async #buildOpenFilter(): Promise<void> {
    const gathering = this.#gathering;
    if (!gathering || gathering.found !== undefined) return;
    const found = await this.#try(gathering.no, () => this.#gather(gathering));
    if (this.#gathering === gathering) gathering.found = found;
  }

  /** Adds the keys that are there at a moment when no batch is under way, and counts this process's own from then on. */
  async #gather(gathering: Gathering): Promise<number> {
    return await this.#database.transaction(async (reading) => {
      await reading.exec("set transaction isolation level repeatable read");
      await this.#database.transaction(async (gate) => {
        await lockKeysAlone(gate);
        // What is read below is what is there now.
        await reading.exec("select 1");
        gathering.era++;
        gathering.claimed = 0;
      });
      return await addKeys(gathering.filter, readKeys(reading, gathering.no));
    });
  }

  /** Without its filter a partition is asked by SQL: slower, as exact. The next refresh tries again. */
  async #try(no: number, work: () => Promise<number>): Promise<number | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#deps.logger.warn({ err: error, partition: no }, "key filter not built");
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    await Promise.allSettled([this.#building, this.#maintaining]);
  }
}

/** Adds every key of a binary COPY stream to a filter, and says how many there were. */
async function addKeys(filter: BloomFilter, chunks: AsyncIterable<Buffer>): Promise<number> {
  let keys = 0;
  let rest: Buffer = Buffer.alloc(0);
  let toSkip = COPY_HEADER_BYTES;
  for await (const chunk of chunks) {
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    let at = Math.min(toSkip, bytes.length);
    toSkip -= at;
    for (; at + KEY_ROW_BYTES <= bytes.length; at += KEY_ROW_BYTES, keys++) {
      filter.add(
        bytes.readUInt32BE(at + 6),
        bytes.readUInt32BE(at + 10),
        bytes.readUInt32BE(at + 14),
        bytes.readUInt32BE(at + 18),
      );
    }
    rest = bytes.subarray(at);
  }
  return keys;
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
