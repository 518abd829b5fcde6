import type { IngestSettings } from "#ingest";

/** Limits of an ingestor that tests do not run into. */
export const testIngestSettings: IngestSettings = {
  lanes: 2,
  batchEventsMax: 10_000,
  pendingEventsMax: 50_000,
  pendingBytesMax: 64 * 2 ** 20,
  waitMsMax: 10_000,
  rawRetentionDays: 30,
  futureToleranceSeconds: 300,
  leaseSeconds: 10,
  members: {
    orgsMax: 100,
    registersOrgs: true,
    modelsMax: 20,
    clientsMax: 20,
    actorsMax: 20,
    errorCodesMax: 20,
    tagValuesMax: 3,
  },
  keys: { partitionKeysMax: 12_000_000, windowHours: 48 },
};
