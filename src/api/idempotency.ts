import { createHash } from "node:crypto";
import { Failure } from "#contract";
import type { Clock } from "#kernel";

/** An answer that may be given again. */
export type StoredAnswer = { status: number; body: string };

export type IdempotencyOptions = {
  clock: Clock;
  /** How long an answer is remembered, ms. */
  rememberMsMax: number;
  keysMax: number;
  /** Bytes of all remembered answers together. */
  bytesMax: number;
};

/**
 * Remembers answers by `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07), in this process and within
 * bounds: the oldest are forgotten first, and all of them at a restart. Event ids are what makes a repeated event
 * count once; this saves a client that repeats a whole request the second piece of work.
 */
export type IdempotencyMemory = {
  /**
   * Does `work` unless the key's answer is known. Failures are not remembered: the same key may try again.
   * Throws Failure `idempotency_mismatch` (the key came with another request) or `idempotency_in_progress`.
   */
  answerOnce(
    key: string,
    request: readonly (string | Buffer)[],
    work: () => Promise<StoredAnswer>,
  ): Promise<StoredAnswer>;
};

type Entry = { digest: string; startedAtMs: number; answer: StoredAnswer | null };

/** What an entry costs beside its body: key, digest, object. */
const ENTRY_BYTES = 400;

export function createIdempotencyMemory(options: IdempotencyOptions): IdempotencyMemory {
  // Insertion order is age.
  const entries = new Map<string, Entry>();
  let bytes = 0;
  const costOf = (entry: Entry): number => ENTRY_BYTES + (entry.answer?.body.length ?? 0) * 2;

  const forget = (key: string): void => {
    const entry = entries.get(key);
    if (entry === undefined) return;
    entries.delete(key);
    if (entry.answer !== null) bytes -= costOf(entry);
  };

  const makeRoom = (): void => {
    const oldestMs = options.clock.now() - options.rememberMsMax;
    for (const [key, entry] of entries) {
      const isFull = entries.size > options.keysMax || bytes > options.bytesMax;
      if (!isFull && entry.startedAtMs > oldestMs) return;
      // One in progress must stay: forgetting it would let its twin run beside it.
      if (entry.answer !== null) forget(key);
    }
  };

  return {
    answerOnce: async (key, request, work) => {
      makeRoom();
      const digest = digestOf(request);
      const known = entries.get(key);
      if (known !== undefined) return answerKnown(known, digest);
      const entry: Entry = { digest, startedAtMs: options.clock.now(), answer: null };
      entries.set(key, entry);
      try {
        entry.answer = await work();
      } catch (error) {
        entries.delete(key);
        throw error;
      }
      bytes += costOf(entry);
      const { answer } = entry;
      makeRoom();
      return answer;
    },
  };
}

function answerKnown(known: Entry, digest: string): StoredAnswer {
  if (known.digest !== digest) {
    throw new Failure(
      "idempotency_mismatch",
      "This Idempotency-Key came with another request before; use a new one.",
    );
  }
  if (known.answer === null) {
    throw new Failure(
      "idempotency_in_progress",
      "The first request with this Idempotency-Key is still being answered.",
    );
  }
  return known.answer;
}

function digestOf(parts: readonly (string | Buffer)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest("base64");
}
