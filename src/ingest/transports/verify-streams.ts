import { type BrokerConnection, type BrokerState, readStreamEnds } from "#broker";
import { decodeBatchLedger, type ParsedItem } from "#contract";
import type { Clock } from "#kernel";
import {
  type ComparableBatches,
  type Database,
  findComparableBatches,
  listOrgNames,
  listReplayed,
  listStreamLanes,
  readLaneBatchLedgers,
  readMoment,
  type StreamLane,
  type Tx,
} from "#store";
import {
  compareTotals,
  PublishedTotals,
  ReceivedTotals,
  type TotalsDifference,
} from "./published-totals.ts";
import type { StreamBatch } from "./stream-batch.ts";
import { digestOf, formatPosition, parsePosition, type StreamPosition } from "./stream-position.ts";
import { type RangeDeps, readStreamRange } from "./stream-range.ts";
import { offsetOf } from "./stream-subscription.ts";

/** A figure of a stream that the batches read from it do not bear out: `expected` was published, `found` was counted. */
export type StreamDifference = {
  check: "stream";
  /** External id of the org; "*" for all orgs together. */
  org: string;
  /** Start of the hour, RFC 3339 in UTC; null for all hours together. */
  hour: string | null;
  source: string;
  figure: string;
  expected: string;
  found: string;
};

/** How far one stream could be compared. Offsets are of messages, both included. */
export type StreamCheck = { source: string; stream: string } & (
  | { compared: true; fromOffset: number; toOffset: number; events: number }
  /** `reason` is a sentence. */
  | { compared: false; reason: string }
);

export type StreamVerification = {
  streams: StreamCheck[];
  /** The first ones of each stream. */
  differences: StreamDifference[];
  /** All of them, listed or not. */
  differenceCount: number;
};

export type StreamVerifierDeps = {
  /** Why there is no broker to ask, as a sentence, where there is none. */
  connection: BrokerConnection | { reason: string };
  database: Database;
  clock: Clock;
  settings: RangeDeps["settings"];
  /** Offsets of a stream that were read, and how many are to be. */
  onProgress: (progress: { stream: string; offsetsDone: number; offsets: number }) => void;
};

/** Hours to compare: [from, to) in seconds since the Unix epoch. All of them also compares what has no hour. */
export type HourRange = { fromSeconds: number; toSeconds: number };
export const ALL_HOURS: HourRange = {
  fromSeconds: Number.NEGATIVE_INFINITY,
  toSeconds: Number.POSITIVE_INFINITY,
};

const LISTED_PER_STREAM = 50;
const ATTEMPTS_MAX = 3;

/** Retention took messages away that were to be compared. */
class Overtaken extends Error {}

/** Why a stream is not compared. */
class NotComparable extends Error {}

/**
 * Reads every stream that was ever consumed once more, as far as it still holds what was committed and up to where it
 * was read, and compares per org and hour how many events were published, and the digest of their ids, with what the
 * batches say they received. Counts nothing and moves nothing. Throws only what the database or `signal` throws.
 */
export async function verifyStreams(
  deps: StreamVerifierDeps,
  hours: HourRange,
  signal: AbortSignal,
): Promise<StreamVerification> {
  const result: StreamVerification = { streams: [], differences: [], differenceCount: 0 };
  for (const lane of await listStreamLanes(deps.database.sql)) {
    const { source, stream } = lane;
    try {
      const { connection } = deps;
      if ("reason" in connection) throw new NotComparable(connection.reason);
      const found = await whileConnected(connection, signal, (connected) =>
        verifyStream({ ...deps, connection }, lane, connected),
      );
      const differences = found.differences.filter(({ hourSeconds: hour }) =>
        hour === null ? hours === ALL_HOURS : hour >= hours.fromSeconds && hour < hours.toSeconds,
      );
      result.streams.push({ source, stream, compared: true, ...found.range });
      result.differenceCount += differences.length;
      for (const difference of differences.slice(0, LISTED_PER_STREAM))
        result.differences.push(inWords(lane, difference));
    } catch (error) {
      if (!(error instanceof NotComparable)) throw error;
      result.streams.push({ source, stream, compared: false, reason: error.message });
    }
  }
  return result;
}

function inWords(
  { source, stream }: StreamLane,
  { hourSeconds, figure, ...difference }: TotalsDifference,
): StreamDifference {
  const iso = hourSeconds === null ? null : new Date(hourSeconds * 1000).toISOString();
  return {
    check: "stream",
    ...difference,
    hour: iso === null ? null : iso.replace(".000Z", "Z"),
    source,
    figure: source === `stream/${stream}` ? figure : `${figure} (${stream})`,
  };
}

/** Runs `work` until the broker cannot be reached any more: then its signal says why. */
async function whileConnected<T>(
  connection: BrokerConnection,
  signal: AbortSignal,
  work: (connected: AbortSignal) => Promise<T>,
): Promise<T> {
  const lost = new AbortController();
  const note = (state: BrokerState): void => {
    if (state.state === "unreachable") lost.abort(new NotComparable(state.reason));
  };
  const stopListening = connection.onStateChange(note);
  note(connection.state);
  try {
    return await work(AbortSignal.any([signal, lost.signal]));
  } finally {
    stopListening();
  }
}

/** What the broker says against it is the reason why a stream is not compared. */
async function comparable<T>(reading: Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Overtaken || error instanceof NotComparable) throw error;
    throw new NotComparable(error instanceof Error ? error.message : String(error), {
      cause: error,
    });
  }
}

type BrokerDeps = StreamVerifierDeps & { connection: BrokerConnection };

async function verifyStream(deps: BrokerDeps, lane: StreamLane, signal: AbortSignal) {
  for (let attempt = 1; ; attempt++) {
    // Before the batches are looked at: what is gone by then is not compared; what goes later shows while reading.
    const ends = await comparable(readStreamEnds(deps.connection, lane.stream, signal), signal);
    if (ends === null) throw new NotComparable("The stream is empty.");
    const told = await readTold(deps.database, { laneId: lane.laneId, firstOffset: ends.first });
    if (told === undefined)
      throw new NotComparable(
        "Nothing was committed yet of which the stream still holds every message.",
      );
    try {
      const published = await comparable(readPublished(deps, { lane, ...told }, signal), signal);
      const range = {
        fromOffset: firstOffsetAfter(told.start),
        toOffset: told.end.offset,
        events: published.items,
      };
      return { range, differences: await compare(deps.database, lane, { ...told, published }) };
    } catch (error) {
      if (!(error instanceof Overtaken)) throw error;
      if (attempt === ATTEMPTS_MAX)
        throw new NotComparable("Its retention deletes messages faster than they can be read.");
    }
  }
}

/** What was missing and was replayed since is no difference any more. */
async function compare(
  { sql }: Database,
  { source }: StreamLane,
  { published, received, partition, names }: Told & { published: PublishedTotals },
): Promise<TotalsDifference[]> {
  const nameOf = (orgId: number): string => names.get(orgId) ?? `unknown org ${orgId}`;
  const differences = compareTotals(published, received, nameOf);
  const hours = differences.flatMap(({ hourSeconds }) => hourSeconds ?? []);
  if (hours.length === 0) return differences;
  const fromSeconds = hours.reduce((a, b) => Math.min(a, b));
  const toSeconds = hours.reduce((a, b) => Math.max(a, b));
  for (const row of await listReplayed(sql, { source, partition, fromSeconds, toSeconds })) {
    received.addReplayed(published, { ...row, digest: BigInt(row.acceptedDigest) });
    names.set(row.orgId, row.org);
  }
  return compareTotals(published, received, nameOf);
}

type Told = {
  /** The last message that is left out, or of which some items are; undefined: from the first message on. */
  start: StreamPosition | undefined;
  end: StreamPosition;
  received: ReceivedTotals;
  /** The stream's number among its source's partitions. */
  partition: number;
  /** External ids of the orgs. */
  names: Map<number, string>;
};

/** What the batches that can be compared say they received. */
const readTold = (
  database: Database,
  ask: { laneId: number; firstOffset: number },
): Promise<Told | undefined> =>
  readMoment(database, async (tx) => {
    const batches = await findComparableBatches(tx, ask);
    if (batches === undefined) return undefined;
    const received = new ReceivedTotals();
    let partition = 0;
    const wanted = { laneId: ask.laneId, fromBatchNo: batches.fromBatchNo };
    for await (const page of readLaneBatchLedgers(tx, wanted)) {
      for (const entry of page.flatMap(({ ledger }) => decodeBatchLedger(ledger))) {
        received.add(entry);
        partition = entry.partition;
      }
    }
    const { positionFrom } = batches;
    return {
      start: positionFrom === null ? undefined : parsePosition(positionFrom),
      end: endOf(batches),
      received,
      partition,
      names: await readOrgNames(tx, received),
    };
  });

/** Up to where the stream counts as read: its position; where the last batch ended if that was set back since. */
function endOf({ position, positionTo }: ComparableBatches): StreamPosition {
  const last = parsePosition(positionTo);
  if (position === null) return last;
  const set = parsePosition(position);
  return set.offset < last.offset ? last : set;
}

async function readOrgNames(tx: Tx, received: ReceivedTotals) {
  const ids = new Set([...received.cells()].map(({ orgId }) => orgId));
  return new Map((await listOrgNames(tx.sql, [...ids])).map(({ id, name }) => [id, name]));
}

const firstOffsetAfter = (start: StreamPosition | undefined): number =>
  start === undefined ? 0 : start.itemsDone === null ? start.offset + 1 : start.offset;

/** Adds up the items between two positions of a stream. */
async function readPublished(
  { connection, clock, settings, onProgress }: BrokerDeps,
  { lane: { source, stream }, start, end }: { lane: StreamLane } & Pick<Told, "start" | "end">,
  signal: AbortSignal,
): Promise<PublishedTotals> {
  const published = new PublishedTotals();
  const from = firstOffsetAfter(start);
  if (from > end.offset) return published;
  const overtaken = new AbortController();
  const deps = {
    connection,
    clock,
    settings,
    onGap: () => overtaken.abort(new Overtaken()),
    onTrouble: () => undefined,
  };
  const range = {
    source,
    stream,
    partition: 0,
    // Not "first": a message that is gone by now would not be missed.
    start: from,
    skipItems: start?.itemsDone ?? 0,
    toOffset: end.offset,
  };
  const endFinder = new EndFinder(start, end);
  const until = AbortSignal.any([signal, overtaken.signal]);
  for await (const batch of readStreamRange(deps, range, until)) {
    for (const item of endFinder.take(batch)) published.add(item);
    const offsetsDone = offsetOf(batch.completed ?? batch.first) - from + 1;
    onProgress({ stream, offsetsDone, offsets: end.offset - from + 1 });
    until.throwIfAborted();
    if (endFinder.isPast) break;
  }
  until.throwIfAborted();
  if (endFinder.isFound) return published;
  throw new NotComparable(
    `The message at offset ${end.offset}, up to which the stream was read, is another one now: the stream was deleted and made anew.`,
  );
}

/** Finds the position up to which a stream was read among its messages. */
class EndFinder {
  readonly #end: StreamPosition;
  readonly #place: string;
  /** Items of the last message seen so far. */
  #itemsSeen: number;
  isPast = false;
  /** Whether the message there is the one that was read. */
  isFound = false;

  constructor(start: StreamPosition | undefined, end: StreamPosition) {
    this.#end = end;
    this.#place = String(end.offset);
    this.#itemsSeen = start?.offset === end.offset ? (start.itemsDone ?? 0) : 0;
  }

  /** The items of a batch that lie before the end. */
  *take({ items, completed }: StreamBatch): Generator<ParsedItem, void, undefined> {
    const { offset, itemsDone, digest } = this.#end;
    for (const { item, place, positionAfter } of items) {
      yield item;
      if (place !== this.#place || ++this.#itemsSeen !== itemsDone) continue;
      this.isPast = true;
      this.isFound = positionAfter?.() === formatPosition(this.#end);
      return;
    }
    if (completed === undefined || offsetOf(completed) < offset) return;
    this.isPast = true;
    this.isFound =
      itemsDone === null &&
      offsetOf(completed) === offset &&
      digestOf(completed.content) === digest;
  }
}
