export { openIngestor } from "./ingestor.ts";
export type {
  IngestContext,
  IngestDeps,
  Ingestor,
  IngestSettings,
  PositionedLane,
} from "./ingestor.ts";
export * from "./adapters/event-text.ts";
export * from "./adapters/csv.ts";
export * from "./adapters/azure-llm-trace.ts";
export * from "./adapters/ndjson.ts";
export { staysWithin, type WritableOrgs } from "./judge-org.ts";
export * from "./quarantine.ts";
export * from "./transports/queue-transport.ts";
export * from "./transports/stream-transport.ts";
export {
  type ReplayProgress,
  type ReplayReport,
  type ReplayRequest,
  replayStreams,
  type StreamReplay,
} from "./transports/replay-streams.ts";
export type { StreamStart } from "./transports/stream-subscription.ts";
export {
  ALL_HOURS,
  type StreamCheck,
  type StreamDifference,
  type StreamVerification,
  verifyStreams,
} from "./transports/verify-streams.ts";
