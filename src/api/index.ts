export { openApi, type Api, type ApiOptions } from "./api.ts";
export type {
  ApiDependencies,
  ApiLimits,
  EventPublisher,
  ProbeResult,
  PublishedBody,
  PublishOutcome,
  ReadinessProbe,
} from "./dependencies.ts";
export { createOpenApiDocument } from "./document.ts";
