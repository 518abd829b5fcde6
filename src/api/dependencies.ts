import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import type { Authenticator, CodeFlow, Identity, Sessions, SignInLinks } from "#auth";
import type { Ingestor } from "#ingest";
import type { Clock, Logger } from "#kernel";
import type { Database } from "#query";
import type { FreshnessMemory } from "./freshness-memory.ts";
import type { Gate } from "./gates.ts";
import type { RateLimits, RatesPerMinute } from "./rate-limits.ts";

/** The server that routes are added to. */
export type Server = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>;

/** Whether something the service needs is in order, in words for an operator (no addresses, no secrets). */
export type ProbeResult = { ok: boolean; detail: string };
/** Asked at every readiness request; may throw, and may take its time: an answer is given without it then. */
export type ReadinessProbe = () => Promise<ProbeResult>;

/** What goes with a body of events that is published. */
export type PublishedBody = {
  contentType: string;
  /** How the body is compressed; undefined: not at all. */
  contentEncoding: string | undefined;
  correlationId: string;
  /** Text headers of the message. */
  headers: Readonly<Record<string, string>>;
};

/** `detail` is a sentence for the caller: no addresses, no secrets. The broker may have the body all the same. */
export type PublishOutcome = { isPublished: true } | { isPublished: false; detail: string };

/** Hands bodies of events to a message broker, from which they are consumed and counted. */
export type EventPublisher = {
  /** What becomes of a body that the broker does not confirm: it is refused, or committed here. */
  readonly fallback: "refuse" | "direct";
  /** Bodies larger than this once decompressed are committed here: consumers would not read them. */
  readonly bodyBytesMax: number;
  /** Says within seconds whether the broker keeps the body, as it came, durably. */
  publish(body: Buffer, about: PublishedBody): Promise<PublishOutcome>;
};

/** Limits of the HTTP side. Bytes, milliseconds, and requests per minute. */
export type ApiLimits = {
  /** One request body, as sent and decompressed. */
  bodyBytesMax: number;
  /** Events of one body. */
  eventsMax: number;
  /** Bodies held at once, all requests together. */
  pendingBodyBytesMax: number;
  /** Reads being answered at once. */
  readsMax: number;
  /** One read, from its headers to its answer. */
  readMsMax: number;
  /** How long disposing waits for answers under way. */
  drainMsMax: number;
  rates: RatesPerMinute;
};

/** What the API rests on. */
export type ApiDependencies = {
  database: Database;
  ingestor: Ingestor;
  /** Where events go instead of being committed before the answer; undefined: they are. */
  publisher: EventPublisher | undefined;
  /** What this process does over HTTP; health, readiness and metrics are always there. */
  serves: { events: boolean; answers: boolean };
  authenticator: Authenticator;
  /** The administration of who may come in. Every change is audited. */
  identity: Pick<Identity, "keys" | "orgs" | "models" | "revocations">;
  sessions: Sessions;
  signInLinks: SignInLinks;
  /** Signing in at the identity provider; undefined: none is set up for it. */
  codeFlow: CodeFlow | undefined;
  /** The origin that browsers use, without a slash at the end; undefined: the address listened on. */
  publicUrl: string | undefined;
  /** Metrics served at /metrics; the API adds its own. */
  registry: Registry;
  logger: Logger;
  clock: Clock;
  /** Makes request ids. */
  createId: () => string;
  /** By name, as /ready shows them: database, migrations, ingest, rollup. */
  probes: Readonly<Record<string, ReadinessProbe>>;
  limits: ApiLimits;
  /** The program's version, for the API description. */
  version: string;
};

/** What routes share beside the dependencies. The database they ask for with their request: `databaseOf`. */
export type RouteContext = Omit<ApiDependencies, "database"> & {
  freshness: FreshnessMemory;
  reads: Gate;
  rateLimits: RateLimits;
  /** False from the moment the service is to be taken out of rotation. */
  isReady(): boolean;
};
