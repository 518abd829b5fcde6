import { setTimeout as delay } from "node:timers/promises";
import { Failure } from "#contract";
import type { Clock } from "#kernel";
import { findOutage } from "#store";

export type LookupOptions<V> = {
  load: (key: string) => Promise<V | undefined>;
  /** Entries kept of what was found, and as many of what was not. The oldest go first. */
  entriesMax: number;
  /** How old an answer may be. */
  ageMsMax: number;
  clock: Clock;
};

/** Answers of the database, remembered for a while. What is not there is remembered, too. */
export type Lookup<V> = {
  /** At once when it is remembered, else as a promise. Those that ask meanwhile share its answer. */
  get(key: string): V | undefined | Promise<V | undefined>;
  /** What was found last, when that is at most so long ago; for when the database does not answer. */
  peek(key: string, ageMsMax: number): V | undefined;
  /** From now on the database is asked again; an answer that is under way is not kept. */
  forget(key: string): void;
  /** The same for all that are meant. */
  forgetWhere(isMeant: (value: V) => boolean): void;
};

type Entry<V> = { value: V; askedAtMs: number };
type Question<V> = { answer: Promise<V | undefined> };

/** Who comes in waits no longer than that for the database: what is asked for after it has a time limit, too. */
const ANSWER_MS_MAX = 750;
/** For so long the database is left alone once it could not be reached: what asks meanwhile hears the same error. */
const OUTAGE_MS = 1000;

/** An answer older than half its time is renewed in the background, so that nobody waits for what is asked often. */
export function createLookup<V>(options: LookupOptions<V>): Lookup<V> {
  const { clock, ageMsMax, entriesMax } = options;
  const found = new Map<string, Entry<V>>();
  const missing = new Map<string, Entry<undefined>>();
  const underWay = new Map<string, Question<V>>();
  let outage: { error: unknown; atMs: number } | undefined;

  const drop = (key: string): void => {
    found.delete(key);
    missing.delete(key);
  };
  const ask = (key: string): Promise<V | undefined> => {
    const asked = underWay.get(key);
    if (asked !== undefined) return asked.answer;
    if (outage !== undefined && isWithin(clock.now() - outage.atMs, OUTAGE_MS)) {
      return Promise.reject(outage.error);
    }
    const question: Question<V> = { answer: load(key, () => underWay.get(key) === question) };
    underWay.set(key, question);
    return question.answer;
  };
  const load = async (key: string, isWanted: () => boolean): Promise<V | undefined> => {
    // The age counts from the question: the answer may not have what changed while it was under way.
    const askedAtMs = clock.now();
    try {
      const value = await inTime(options.load(key));
      outage = undefined;
      if (isWanted()) {
        drop(key);
        if (value === undefined) put(missing, key, { value, askedAtMs }, entriesMax);
        else put(found, key, { value, askedAtMs }, entriesMax);
      }
      return value;
    } catch (error) {
      if (isOutage(error)) outage = { error, atMs: clock.now() };
      throw error;
    } finally {
      if (isWanted()) underWay.delete(key);
    }
  };

  return {
    get: (key) => {
      const entry = found.get(key) ?? missing.get(key);
      if (entry === undefined) return ask(key);
      const ageMs = clock.now() - entry.askedAtMs;
      if (!isWithin(ageMs, ageMsMax)) return ask(key);
      // Who waits for nothing hears of no failure either: the answer that follows this one's end does.
      if (ageMs > ageMsMax / 2) ask(key).catch(() => undefined);
      return entry.value;
    },
    peek: (key, msMax) => {
      const entry = found.get(key);
      return entry !== undefined && isWithin(clock.now() - entry.askedAtMs, msMax)
        ? entry.value
        : undefined;
    },
    forget: (key) => {
      drop(key);
      underWay.delete(key);
    },
    forgetWhere: (isMeant) => {
      for (const [key, { value }] of found) if (isMeant(value)) found.delete(key);
      // What is being asked may be meant: nobody knows before it is answered.
      underWay.clear();
    },
  };
}

/** Whether an error says that the database is away, rather than that something is wrong with the question. */
export const isOutage = (error: unknown): boolean =>
  (error instanceof Failure && error.code === "database_unavailable") ||
  findOutage(error) !== undefined;

/** An answer of the database about who comes in. Rejects with Failure `database_unavailable` when it takes too long. */
export async function inTime<T>(answer: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = delay(ANSWER_MS_MAX, undefined, { signal: timer.signal }).then(
    () => {
      throw new Failure("database_unavailable", "The database did not answer in time.");
    },
    // Ended in time: the race is over.
    () => answer,
  );
  try {
    return await Promise.race([answer, late]);
  } finally {
    timer.abort();
  }
}

/** A clock that was set back must not make what is known last longer. */
const isWithin = (ageMs: number, msMax: number): boolean => ageMs >= 0 && ageMs <= msMax;

function put<E>(map: Map<string, E>, key: string, entry: E, entriesMax: number): void {
  map.set(key, entry);
  const oldest = map.keys().next();
  if (map.size > entriesMax && oldest.done !== true) map.delete(oldest.value);
}
