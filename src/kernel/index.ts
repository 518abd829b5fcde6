export * from "./clock.ts";
export * from "./logger.ts";
export * from "./crashpoint.ts";
export * from "./bloom-filter.ts";
export * from "./operator-error.ts";
export * from "./retry.ts";
export * from "./csv-reader.ts";
export * from "./line-reader.ts";
