export type { Config } from "./settings.ts";
export * from "./config.ts";
export { formatConfigurationDocs } from "./docs.ts";
