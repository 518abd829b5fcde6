export { type ConsumerState, type ConsumerStats, type Rollup, type RollupDeps, startRollup } from "./rollup.ts";
export { type FoldResult, ROLLUP_DEFAULTS, type RollupSettings } from "./fold-worker.ts";
