import { Failure } from "#contract";
import { isByOutcome } from "./questions.ts";
import type { Reading } from "./reading.ts";

/** Refuses (Failure `range_too_large`) an answer whose groups have a series each of more points together than `pointsMax`. */
export function refuseTooManyPoints({ window, plan }: Reading, pointsMax: number): void {
  if (plan.grouping === null || isByOutcome(plan.grouping)) return;
  if (window.buckets.length * (plan.limit + 1) <= pointsMax) return;
  const message =
    `an answer holds at most ${pointsMax} points; ask for fewer groups (limit), a shorter window, ` +
    `or a coarser granularity`;
  throw new Failure("range_too_large", message, {
    details: [{ pointer: "/query/limit", code: "range_too_large", message }],
  });
}
