import type { Clock, Logger } from "#kernel";

/** What the app takes from outside. */
export type AppDeps = {
  logger: Logger;
  clock: Clock;
  /** 0 ≤ random() < 1: jitter and names, no secrets. */
  random: () => number;
  /** Told in a few words what takes time while starting. */
  onProgress: (step: string) => void;
  /** Aborted: starting ends at the next step. */
  signal: AbortSignal;
};
