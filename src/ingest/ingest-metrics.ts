import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** What ingestion counts and times. */
export type IngestMetrics = ReturnType<typeof createIngestMetrics>;

/** Registers ingestion's metrics; `now` is asked whenever they are read. */
export function createIngestMetrics(
  registry: Registry,
  now: { pending: () => number; unfiltered: () => number },
) {
  const registers = [registry];
  new Gauge({
    name: "tallystick_ingest_pending_events",
    help: "Events received and not answered yet",
    registers,
    collect() {
      this.set(now.pending());
    },
  });
  new Gauge({
    name: "tallystick_key_partitions_unfiltered",
    help: "Key partitions that are asked about every event, because their filter is not built yet",
    registers,
    collect() {
      this.set(now.unfiltered());
    },
  });
  return {
    events: new Counter({
      name: "tallystick_ingest_events_total",
      help: "Events answered, by status",
      labelNames: ["status"],
      registers,
    }),
    retries: new Counter({
      name: "tallystick_ingest_retries_total",
      help: "Batches tried again",
      registers,
    }),
    duration: new Histogram({
      name: "tallystick_ingest_batch_seconds",
      help: "From taking a batch to its commit",
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    }),
    batchEvents: new Histogram({
      name: "tallystick_ingest_batch_events",
      help: "Events of a committed batch",
      buckets: [1, 10, 100, 500, 1000, 2500, 5000, 10_000],
      registers,
    }),
  };
}
