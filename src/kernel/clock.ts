/** Where "now" comes from. Injected everywhere, so that a test can hold it still. */
export type Clock = {
  /** Milliseconds since the Unix epoch, UTC. */
  now(): number;
};

/** The machine's clock. */
export const systemClock: Clock = { now: () => Date.now() };
