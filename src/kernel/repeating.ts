import { sleepMs } from "./retry.ts";

/** Work that is done again and again until disposed, which lets the turn that has begun finish and begins no other. */
export type Repeating<Result, Ask = never> = AsyncDisposable & {
  /** One turn as soon as those before it have ended. Throws what the work throws. */
  run(ask?: Ask): Promise<Result>;
};

/** What is repeated, and how often. Times in milliseconds. */
export type RepeatingOrder<Result, Ask = never> = {
  /** One turn. The signal is aborted on disposal: long work ends where it can. `ask` is what `run` was given. */
  work: (signal: AbortSignal, ask?: Ask) => Promise<Result>;
  /** From the end of a turn to the next. */
  intervalMs: number;
  /** Until the first; none by itself. */
  firstAfterMs?: number;
  /** Told of each turn that failed, but those of `run`; the next one comes all the same. */
  onError: (error: unknown) => void;
};

/** Starts repeating work, one turn after another, whoever asked for it. */
export function startRepeating<Result, Ask = never>({
  work,
  intervalMs,
  firstAfterMs = 0,
  onError,
}: RepeatingOrder<Result, Ask>): Repeating<Result, Ask> {
  const stop = new AbortController();
  const wait = (ms: number): Promise<void> => sleepMs(ms, stop.signal).catch(() => undefined);
  let turn: Promise<unknown> = Promise.resolve();
  const run = (ask?: Ask): Promise<Result> => {
    const result = turn.then(() => work(stop.signal, ask));
    turn = result.catch(() => undefined);
    return result;
  };
  const repeat = async (): Promise<void> => {
    if (firstAfterMs > 0) await wait(firstAfterMs);
    while (!stop.signal.aborted) {
      await run().catch(onError);
      await wait(intervalMs);
    }
  };
  const running = repeat();
  return {
    run,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await running;
      await turn;
    },
  };
}
