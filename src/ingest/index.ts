export type { Ingestor, IngestContext } from "./ingestor.ts";
