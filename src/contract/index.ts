export * from "./usage-event.ts";
export * from "./outcomes.ts";
export * from "./failure.ts";
export * from "./rollup-grid.ts";
export * from "./batch-ledger.ts";
