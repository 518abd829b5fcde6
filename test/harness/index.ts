export { testDatabase, type TestDatabase, type TestDatabaseOptions } from "./test-database.ts";
export {
  startTestServers,
  defaultServer,
  leaseServer,
  SERVER_KINDS,
  type ServerKind,
} from "./shared-server.ts";
export {
  hasDebianPostgres,
  startDebianPostgres,
  findFreePort,
  type TestServer,
} from "./debian-postgres.ts";
export { startRabbit, type TestBroker } from "./rabbitmq.ts";
export { brokersUnderTest, testBroker, type TestVhost } from "./shared-rabbit.ts";
export { openAmqpReader, type AmqpReader } from "./amqp-reader.ts";
export {
  dataRecord,
  openStreamPublisher,
  type StreamEntry,
  type StreamPublisher,
} from "./stream-publisher.ts";
export { faultProxy, type FaultProxy } from "./fault-proxy.ts";
export { fixedClock, type FixedClock } from "./clock.ts";
export { startTestIssuer, type KeyAnswer, type TestClaims, type TestIssuer } from "./oidc.ts";
export { openBrowser, type BrowserAnswer, type TestBrowser } from "./browser.ts";
export { waitFor } from "./wait-for.ts";
export { anEvent, toNdjson, type WireEvent } from "./events.ts";
export { testIngestSettings } from "./ingest-settings.ts";
export { applyTestPrices } from "./prices.ts";
export { temporaryFolder } from "./temporary-folder.ts";
export { createSample, seededNumbers, writeSample, type SampleEvent } from "./sample-rollups.ts";
export {
  spawnService,
  testService,
  type SendAnswer,
  type ServiceFace,
  type SpawnedService,
  type SpawnServiceOptions,
  type TestServiceOptions,
} from "./service.ts";
