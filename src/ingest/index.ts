export { openIngestor } from "./ingestor.ts";
export type { IngestContext, IngestDeps, Ingestor, IngestSettings } from "./ingestor.ts";
export * from "./adapters/event-text.ts";
export * from "./adapters/csv.ts";
export * from "./adapters/azure-llm-trace.ts";
export * from "./adapters/ndjson.ts";
export * from "./quarantine.ts";
