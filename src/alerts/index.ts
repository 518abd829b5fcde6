export * from "./budgets.ts";
export * from "./budget-recorder.ts";
