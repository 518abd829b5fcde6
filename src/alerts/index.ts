export * from "./budget-order.ts";
export * from "./budgets.ts";
export * from "./budget-recorder.ts";
