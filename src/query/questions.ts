import type { Granularity } from "#contract";

/** Words for what became of calls: `error` stands for every error class. */
export const STATUSES = ["success", "cancelled", "error"] as const;
export type Status = (typeof STATUSES)[number];

export const ERROR_CLASSES = ["client", "capacity", "upstream", "policy", "internal"] as const;
export type ErrorClass = (typeof ERROR_CLASSES)[number];

/** What an answer can be split by. */
export const GROUPINGS = ["model", "client", "actor", "status", "errorClass"] as const;
/** By the values of a key of metadata that the org has declared. */
export type TagGrouping = `tag:${string}`;
export type Grouping = (typeof GROUPINGS)[number] | TagGrouping;

export const isByTag = (grouping: Grouping): grouping is TagGrouping => grouping.startsWith("tag:");
export const tagKeyOf = (grouping: TagGrouping): string => grouping.slice("tag:".length);

/** Whether a grouping is by what became of calls; all others are by a member. */
export const isByOutcome = (grouping: Grouping): grouping is "status" | "errorClass" =>
  grouping === "status" || grouping === "errorClass";

/** What decides which groups come first; equal ones in a fixed order. */
export const ORDERS = ["requests", "errors", "totalTokens", "cost"] as const;
export type Order = (typeof ORDERS)[number];

export const GROUPS_DEFAULT = 20;
export const GROUPS_MAX = 1_000;
/** Buckets times groups of one answer. */
export const SERIES_POINTS_MAX = 25_000;

/** When: see contract's `parseWindow`. The zone is the org's own when none is asked for. */
export type WindowQuestion = {
  start?: string | undefined;
  end?: string | undefined;
  timeZone?: string | undefined;
  granularity?: Granularity | undefined;
};

/**
 * Which calls: those that match every list given, a list by any of its values. `(none)` stands for calls that name
 * no client or actor, `(other)` for those beyond the cap of names. A name never seen matches nothing.
 */
export type Filters = {
  modelIds?: readonly string[] | undefined;
  clientIds?: readonly string[] | undefined;
  actorIds?: readonly string[] | undefined;
  /** KEY=VALUE of one declared key; the value too may be `(none)` or `(other)`. */
  tags?: readonly string[] | undefined;
  statuses?: readonly Status[] | undefined;
  errorClasses?: readonly ErrorClass[] | undefined;
};

/** How groups are shown: the first `limit` (1 to GROUPS_MAX) by `orderBy`, all others added up in one more row. */
export type Groups = {
  groupBy?: Grouping | undefined;
  limit?: number | undefined;
  orderBy?: Order | undefined;
};

export type UsageQuestion = WindowQuestion &
  Filters &
  Groups & {
    compare?: "previous" | undefined;
    /** Refuse (Failure `not_complete`) rather than answer about time that may still change. */
    requireComplete?: boolean | undefined;
  };

export type ReliabilityQuestion = WindowQuestion &
  Filters &
  Groups & {
    /** Per cent, above 0 and at most 100, at most ten of them; 50, 90, 95 and 99 when left out. */
    percentiles?: readonly number[] | undefined;
    requireComplete?: boolean | undefined;
  };

export type BreakdownQuestion = Omit<UsageQuestion, "groupBy" | "granularity" | "compare"> & {
  /** `nextCursor` of the page before, which had the same order. */
  cursor?: string | undefined;
};

/** Across orgs; clients, actors and tags are an org's own and cannot be asked for. */
export type SystemUsageQuestion = Omit<
  UsageQuestion,
  "clientIds" | "actorIds" | "tags" | "groupBy"
> & {
  groupBy?: "model" | "status" | "errorClass" | undefined;
};

export type TopOrgsQuestion = Pick<
  BreakdownQuestion,
  | "start"
  | "end"
  | "timeZone"
  | "statuses"
  | "errorClasses"
  | "limit"
  | "orderBy"
  | "requireComplete"
  | "cursor"
>;
