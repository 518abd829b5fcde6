import { Failure } from "#contract";

/** Bounds how much may be under way at once; what does not fit is refused at once instead of waiting in memory. */
export type Gate = {
  /** Takes `amount`; call the returned function once when it is over (more calls do nothing). Throws Failure `overloaded`. */
  enter(amount: number): () => void;
  /** What is taken at the moment. */
  taken(): number;
};

/** A gate through which at most `max` may be taken at a time. `what` completes "Too many … at once". */
export function createGate(max: number, what: string): Gate {
  let taken = 0;
  return {
    enter: (amount) => {
      if (taken + amount > max) {
        throw new Failure("overloaded", `Too many ${what} at once; try again in a moment.`, {
          retryAfterSeconds: 1,
        });
      }
      taken += amount;
      let isIn = true;
      return () => {
        if (isIn) taken -= amount;
        isIn = false;
      };
    },
    taken: () => taken,
  };
}
