import type { IngestOutcome, ParsedItem } from "#contract";

/** What a transport says about the items it hands over. */
export type IngestContext = {
  /** Name in the source table: "http", "import/<digest>", "replay". */
  source: string;
  /** Accept events older than the raw retention (history loaded on purpose). */
  backfill: boolean;
  correlationId: string;
};

/** Takes items in, answers for each, in order. When a call resolves, everything it answers for is durable. */
export type Ingestor = AsyncDisposable & {
  /** Throws Failure overloaded, shutting_down, database_unavailable or timeout; then nothing is promised and a retry is safe. */
  ingest(items: readonly ParsedItem[], context: IngestContext): Promise<IngestOutcome[]>;
};
