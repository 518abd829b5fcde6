import type { CostBasis } from "#contract";
import type { ErrorClass, Status } from "./questions.ts";

/** An exact decimal and its ISO 4217 currency. */
export type Amount = { amount: string; currency: string };

/** What is counted. Counts are exact; token classes are disjoint and add up to `totalTokens`. */
export type Measures = {
  requests: number;
  errors: number;
  inputTokens: number;
  cacheReadTokens: number;
  cacheWrite5mTokens: number;
  cacheWrite1hTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  totalTokens: number;
  /** Of the calls that have the cost that is shown (Pricing), in the org's currency; others are in `otherCosts`. */
  cost: Amount;
  otherCosts: Amount[];
  /** Shares (0 to 1, six digits) of requests and of tokens that have a cost; null when there are none at all. */
  pricedShare: { requests: number | null; tokens: number | null };
};

/** A bucket: half-open, RFC 3339 in the window's zone. `complete`: nothing that came before the answer is missing. */
export type Bucket = { start: string; end: string; complete: boolean };

export type WindowAnswer = { start: string; end: string; timeZone: string; granularity: string };
export type SpanAnswer = { start: string; end: string };

/**
 * How current an answer is. Every event answered for before `completeThrough` is in it (null: nothing was counted
 * yet). `last…` are the org's newest; instants in UTC.
 */
export type Freshness = {
  completeThrough: string | null;
  lagSeconds: number | null;
  lastOccurredAt: string | null;
  lastIngestedAt: string | null;
  lastAggregatedAt: string | null;
};

/**
 * What the last check of every closed hour of the window found: `match` when all were checked since they last
 * changed, `differs` when any does, else `unchecked`. `checkedAt` is the oldest of these checks. Over all orgs, hours
 * are counted (one per org) for the window's last two days only; those that differ are found in the whole window.
 */
export type Reconciliation = {
  state: "match" | "differs" | "unchecked";
  checkedAt: string | null;
  checkedHours: number;
  closedHours: number;
  /** Starts of the hours that differ, UTC, the first hundred. */
  differingHours: string[];
};

/**
 * Who a group is; only the key that was grouped by is there (by status: the error class too). Null: none was named, or
 * the call did not fail. `isOther`: all further ones.
 */
export type GroupKey = {
  modelId?: string | null;
  clientId?: string | null;
  actorId?: string | null;
  tag?: string | null;
  status?: Status | null;
  errorClass?: ErrorClass | null;
  isOther: boolean;
};

/** Change against the period before, as a share of it (0.25: a quarter more); null where that was zero. */
export type Change = {
  requests: number | null;
  errors: number | null;
  totalTokens: number | null;
  cost: number | null;
};

export type Comparison = {
  /** The part of the window that has elapsed, and what it holds. */
  current: SpanAnswer & { totals: Measures };
  /** The same part of the period before. */
  previous: SpanAnswer & { totals: Measures };
  change: Change;
};

/** Which cost an answer shows, and the newest version of the price book at its moment. */
export type Pricing = { costBasis: CostBasis; bookVersion: number };

type Answer = { window: WindowAnswer; freshness: Freshness; reconciliation: Reconciliation };
type MoneyAnswer = Answer & { pricing: Pricing };

export type UsageGroup = GroupKey & Measures & { series: (Bucket & Measures)[] };
export type UsageAnswer = MoneyAnswer & {
  orgId: string;
  totals: Measures;
  series: (Bucket & Measures)[];
  groups?: UsageGroup[];
  /** With `compare=previous`; null when nothing of the window has elapsed. */
  comparison?: Comparison | null;
};

export type SystemUsageAnswer = Omit<UsageAnswer, "orgId"> & { orgId: null };

/** Latencies of the calls that reported one. */
export type Latency = {
  count: number;
  meanMs: number | null;
  /** By name ("p50", "p99.9"), in ms, within 1 % of the nearest rank; null when there is no latency. */
  percentilesMs: Record<string, number | null>;
};

export type ErrorsByClass = Record<ErrorClass, number>;

export type ReliabilityMeasures = {
  requests: number;
  errors: number;
  cancelled: number;
  /** Errors per request, 0 to 1, six digits; null when there are no requests. */
  errorRate: number | null;
  errorsByClass: ErrorsByClass;
  latency: Latency;
};

/** Failed requests of one code; `code` null: none was given. */
export type ErrorCodeCount = {
  errorClass: ErrorClass;
  code: string | null;
  requests: number;
  isOther: boolean;
};

/** `latency` is null where sketches were not read: the rest of the clients or actors. */
export type ReliabilityGroup = GroupKey &
  Omit<ReliabilityMeasures, "latency"> & { latency: Latency | null };

export type ReliabilityAnswer = Answer & {
  orgId: string;
  totals: ReliabilityMeasures;
  series: (Bucket & ReliabilityMeasures)[];
  groups?: ReliabilityGroup[];
  /** The most frequent first, then the rest in one row; null where codes are not kept (filters by client, actor or tag). */
  errorsByCode: ErrorCodeCount[] | null;
};

/** Parts of the totals, 0 to 1, six digits; null where the total is zero. */
export type Share = { requests: number | null; totalTokens: number | null; cost: number | null };

export type BreakdownRow = GroupKey & Measures & { share: Share; change: Change | null };
export type BreakdownAnswer = MoneyAnswer & {
  orgId: string;
  totals: Measures;
  groups: BreakdownRow[];
  /** What `change` is measured against; null when nothing of the window has elapsed. */
  comparedWith: { current: SpanAnswer; previous: SpanAnswer } | null;
  /** For the groups that come after these; null: none do. */
  nextCursor: string | null;
};

export type OrgRow = Measures & {
  orgId: string | null;
  name: string | null;
  isOther: boolean;
  share: Share;
};
export type TopOrgsAnswer = MoneyAnswer & {
  totals: Measures;
  orgs: OrgRow[];
  nextCursor: string | null;
};

export type ModelFreshness = {
  modelId: string | null;
  lastOccurredAt: string;
  lastIngestedAt: string;
  lastAggregatedAt: string;
};
export type SourceFreshness = {
  source: string;
  /** Messages that a stream holds and that are not counted yet; null: not known, or no stream. */
  lagMessages: number | null;
  lastOccurredAt: string;
  lastIngestedAt: string;
  lastAggregatedAt: string;
};

/** `usage` is behind every answer but those by client, actor or tag, which rest on `people`. */
export type ConsumerFreshness = { completeThrough: string | null; lagSeconds: number | null };
export type FreshnessAnswer = {
  orgId: string;
  freshness: Freshness;
  consumers: { usage: ConsumerFreshness; people: ConsumerFreshness };
  models: ModelFreshness[];
  sources: SourceFreshness[];
};
/** How far one stream is read. Offsets of messages; null: none yet, or not known. */
export type StreamFreshness = {
  source: string;
  stream: string;
  lastOffset: number | null;
  headOffset: number | null;
  headSeenAt: string | null;
  lagMessages: number | null;
  isRead: boolean;
  lastCommittedAt: string | null;
};

/** Offsets `fromOffset` to `toOffset` were gone before they were read, or could not be read; or the stream was made anew. */
export type StreamIncidentAnswer = {
  source: string;
  stream: string;
  kind: "gap" | "recreated" | "unreadable";
  fromOffset: number;
  toOffset: number | null;
  foundAt: string;
  detail: string;
};

export type SystemFreshnessAnswer = {
  streams: StreamFreshness[];
  /** The newest first. */
  streamIncidents: StreamIncidentAnswer[];
  freshness: Freshness;
  consumers: { usage: ConsumerFreshness; people: ConsumerFreshness };
  sources: SourceFreshness[];
  orgs: {
    orgId: string;
    lastOccurredAt: string;
    lastIngestedAt: string;
    lastAggregatedAt: string;
  }[];
};
