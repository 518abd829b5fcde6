/**
 * Which cost an org's reports show: the event's own where it has one and else the price book's, the event's own alone,
 * or the price book's alone. What has no such cost is unpriced.
 */
export const COST_BASES = ["event_or_computed", "event", "computed"] as const;
export type CostBasis = (typeof COST_BASES)[number];
