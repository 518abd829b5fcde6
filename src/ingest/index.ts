export { openIngestor } from "./ingestor.ts";
export type { IngestContext, IngestDeps, Ingestor, IngestSettings } from "./ingestor.ts";
