import type { Clock } from "#kernel";

/** A clock that stands still until told otherwise. */
export type FixedClock = Clock & {
  set(iso: string): void;
  /** Moves it on by so many milliseconds (back when negative). */
  advance(ms: number): void;
};

export function fixedClock(iso: string): FixedClock {
  let now = parse(iso);
  return {
    now: () => now,
    set: (next) => (now = parse(next)),
    advance: (ms) => (now += ms),
  };
}

function parse(iso: string): number {
  const ms = Date.parse(iso);
  if (Number.isNaN(ms)) throw new RangeError(`not an instant: ${iso}`);
  return ms;
}
