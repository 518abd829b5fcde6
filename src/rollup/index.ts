export {
  type ConsumerState,
  type ConsumerStats,
  type Rollup,
  type RollupDeps,
  startRollup,
} from "./rollup.ts";
export { type FoldResult, ROLLUP_DEFAULTS, type RollupSettings } from "./fold-worker.ts";
export {
  type CheckResult,
  type Difference,
  verify,
  type VerifyDeps,
  type VerifyProgress,
  type VerifyRange,
  type VerifyReport,
} from "./verify.ts";
export {
  type Reconciler,
  RECONCILER_DEFAULTS,
  type ReconcilerDeps,
  type ReconcilerSettings,
  startReconciler,
} from "./reconciler.ts";
export {
  type Retention,
  type RetentionDeps,
  type RetentionReport,
  type RetentionSettings,
  startRetention,
} from "./retention.ts";
export { moveRows, type RowMove } from "./move-rows.ts";
export { SystemMembers } from "./system-members.ts";
