/**
 * What usage is broken down by. One rollup table per dimension and grain; member 0 of "org" is the org itself. An event
 * has one member of each but "tag": there it has one for each declared key that its metadata has (contract/tags.ts), often none.
 */
export const DIMENSIONS = ["org", "model", "client", "actor", "tag"] as const;
export type Dimension = (typeof DIMENSIONS)[number];

/** Bucket widths kept, finest first. Buckets are UTC-aligned and half-open. */
export const GRAINS = ["15m", "hour", "day"] as const;
export type Grain = (typeof GRAINS)[number];
export const GRAIN_SECONDS = { "15m": 900, hour: 3600, day: 86_400 } as const satisfies Record<
  Grain,
  number
>;

export const rollupTable = (dimension: Dimension, grain: Grain): string =>
  `rollup_${dimension}_${grain}`;

/** Failed requests by error code: kept per model, at the grains that long windows and their edges are read from. */
export const ERROR_GRAINS = ["15m", "day"] as const satisfies readonly Grain[];
export type ErrorGrain = (typeof ERROR_GRAINS)[number];
export const errorTable = (grain: ErrorGrain): string => `rollup_error_${grain}`;

/** Each consumer folds its own dimensions under its own watermark: people are many and change most rows, so they go slower. */
export const CONSUMERS = {
  usage: ["org", "model"],
  people: ["client", "actor", "tag"],
} as const satisfies Record<string, readonly Dimension[]>;
export type Consumer = keyof typeof CONSUMERS;
export const CONSUMER_NAMES: readonly Consumer[] = ["usage", "people"];

/** Dictionary kinds (dictionary.kind). */
export const MEMBER_KIND = { model: 1, client: 2, actor: 3, errorCode: 4, tag: 5 } as const;
/** Member ids that are no dictionary rows. */
export const MEMBER_NONE = 0;
export const MEMBER_OTHER = -1;
/** The org id under which system totals are kept: every event is folded under its own org and under this one. */
export const ALL_ORGS = 0;
