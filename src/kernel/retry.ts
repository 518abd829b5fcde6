import { setTimeout as delay } from "node:timers/promises";

/** How long to go on, and how long to wait between attempts. Times in milliseconds. */
export type RetryOptions = {
  attemptsMax: number;
  /** Ceiling of the first wait; each later one doubles it. */
  waitMs: number;
  waitMsMax: number;
  /** Whether trying again can help; what it refuses is thrown at once. */
  isRetryable: (error: unknown) => boolean;
  /** 0 ≤ random() < 1. Passed in, so that a test can choose. */
  random: () => number;
  signal?: AbortSignal | undefined;
  /** Waits; rejects when the signal is aborted. The machine's timer unless a test says otherwise. */
  sleep?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
  /** Told before each wait. `attempt` counts from 1. */
  onRetry?: (error: unknown, attempt: number, waitMs: number) => void;
};

/**
 * Runs `work` until it succeeds, with jittered exponential back-off ("full jitter": a wait between nothing and the
 * ceiling, so that many clients that failed together do not come back together). Throws the last error when attempts
 * run out or it is not retryable, and the signal's reason when that is aborted.
 */
export async function retry<T>(
  work: (attempt: number) => Promise<T>,
  options: RetryOptions,
): Promise<T> {
  const sleep = options.sleep ?? sleepMs;
  for (let attempt = 1; ; attempt++) {
    options.signal?.throwIfAborted();
    try {
      return await work(attempt);
    } catch (error) {
      if (attempt >= options.attemptsMax || !options.isRetryable(error)) throw error;
      const ceiling = Math.min(options.waitMsMax, options.waitMs * 2 ** (attempt - 1));
      const waitMs = Math.ceil(options.random() * ceiling);
      options.onRetry?.(error, attempt, waitMs);
      await sleep(waitMs, options.signal);
    }
  }
}

/** Waits `ms`; throws the signal's reason as soon as that is aborted. */
export async function sleepMs(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, signal ? { signal } : {});
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
