import { randomUUID } from "node:crypto";
import { Registry } from "prom-client";
import {
  ADMIN,
  createSessions,
  createSignInLinks,
  type Identity,
  isRole,
  type NewKey,
  openIdentity,
  type OrgStatus,
} from "#auth";
import { fixedClock, testDatabase, type FixedClock, type TestDatabase } from "#harness";
import { Failure } from "#contract";
import { openIngestor } from "#ingest";
import { createLogger, neverCrash } from "#kernel";
import type { Database } from "#query";
import { startRollup } from "#rollup";
import { openApi } from "./api.ts";
import type { ApiDependencies, ApiLimits, EventPublisher, ReadinessProbe } from "./dependencies.ts";

const KEY = "test-admin-key";
export const NOW = "2026-11-20T12:00:00Z";
const MIB = 1024 * 1024;

export const LIMITS: ApiLimits = {
  bodyBytesMax: 5 * MIB,
  eventsMax: 5000,
  pendingBodyBytesMax: 64 * MIB,
  readsMax: 64,
  readMsMax: 950,
  drainMsMax: 5000,
  rates: { address: 0, failedLogin: 0, key: 0, org: 0, events: 0 },
};

export type Answer<Body> = { status: number; headers: Headers; body: Body; text: string };
type RequestOptions = {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array<ArrayBuffer>;
  key?: string | null;
};

/** The API in front of a real ingestor, rollup and database. */
export type TestApi = AsyncDisposable & {
  url: string;
  database: Database;
  clock: FixedClock;
  /** Every line logged, as JSON text. */
  log: string[];
  setReady(isReady: boolean): void;
  /** Asks, as the admin unless `key` says otherwise. `body` is parsed when it is JSON. */
  ask<Body = Record<string, unknown>>(
    path: string,
    options?: RequestOptions,
  ): Promise<Answer<Body>>;
  /** What keys, orgs and models are made with, as the API does. */
  identity: Identity;
  /** Makes an org, unless it is there. */
  createOrg(orgId: string): Promise<void>;
  setStatus(orgId: string, status: OrgStatus): Promise<void>;
  /** Declares the keys of metadata that an org's usage is broken down by. */
  declareTags(orgId: string, tagKeys: readonly string[]): Promise<void>;
  /** A key of an org, which is made with it, or (null) of no org. */
  keyFor(key: KeyOrder): Promise<string>;
  /** Posts events as a JSON array. */
  send<Body = IngestAnswer>(
    events: unknown,
    query?: string,
    headers?: Record<string, string>,
  ): Promise<Answer<Body>>;
  /** Brings answers up to date with what was sent. */
  fold(): Promise<void>;
};

/** Roles as text, so that tables of tests can name them. */
export type KeyOrder = Omit<NewKey, "name" | "roles"> & {
  orgId: string | null;
  roles: readonly string[];
};

export type IngestAnswer = {
  counts: Record<"received" | "accepted" | "duplicate" | "conflict" | "rejected", number>;
  dryRun: boolean;
  results: {
    index: number;
    eventId: string | null;
    status: string;
    code?: string;
    pointer?: string;
    detail?: string;
  }[];
};

export type TestApiOptions = {
  limits?: Partial<ApiLimits>;
  probes?: Record<string, ReadinessProbe>;
  publisher?: EventPublisher;
  apiStatementMsMax?: number;
  /** What is to be otherwise about the API. */
  extend?: (
    made: Pick<ApiDependencies, "database" | "clock" | "logger">,
  ) => Partial<ApiDependencies>;
  /** The database as the API reaches it; ingestor and rollup keep their own way. */
  reach?: (db: TestDatabase) => Promise<Database>;
};

export async function testApi(options: TestApiOptions = {}): Promise<TestApi> {
  await using stack = new AsyncDisposableStack();
  const { apiStatementMsMax = 900 } = options;
  const db = stack.use(await testDatabase({ apiStatementMsMax }));
  const { database } = db;
  const log: string[] = [];
  const clock = fixedClock(NOW);
  const shared = {
    database,
    clock,
    registry: new Registry(),
    logger: createLogger("debug", { write: (line) => void log.push(line) }),
  };
  const ingestor = stack.use(
    await openIngestor({
      ...shared,
      crash: neverCrash,
      random: () => 0.5,
      settings: {
        lanes: 1,
        batchEventsMax: 10_000,
        pendingEventsMax: 50_000,
        pendingBytesMax: 64 * MIB,
        waitMsMax: 5000,
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
      },
    }),
  );
  const rollup = stack.use(
    await startRollup({
      ...shared,
      crash: neverCrash,
      random: () => 0.5,
      settings: { foldIntervalMs: 60_000, peopleFoldIntervalMs: 60_000 },
    }),
  );
  const reached = options.reach === undefined ? database : stack.use(await options.reach(db));
  const access = { ...shared, database: reached };
  const sessions = createSessions({
    ...access,
    createId: randomUUID,
    settings: { sessionHours: 12, sessionIdleMinutes: 60 },
  });
  const identity = stack.use(
    openIdentity({
      ...access,
      adminKey: KEY,
      keyEnvironment: "live",
      issuer: undefined,
      onChange: () => sessions.forget(),
      onOrgChange: () => ingestor.refreshOrgs(),
    }),
  );
  const api = stack.use(
    await openApi({
      ...access,
      host: "127.0.0.1",
      port: 0,
      ingestor,
      publisher: options.publisher,
      serves: { events: true, answers: true },
      authenticator: identity.authenticator,
      identity,
      sessions,
      signInLinks: createSignInLinks(access),
      codeFlow: undefined,
      publicUrl: undefined,
      createId: randomUUID,
      probes: options.probes ?? {},
      limits: { ...LIMITS, ...options.limits },
      version: "0.0.0",
      ...options.extend?.(access),
    }),
  );
  const scope = stack.move();
  const ask: TestApi["ask"] = async (
    path,
    { method = "GET", headers = {}, body, key = KEY } = {},
  ) => {
    const authorization: Record<string, string> =
      key === null ? {} : { authorization: `Bearer ${key}` };
    const response = await fetch(`${api.url}${path}`, {
      method,
      headers: { ...authorization, ...headers },
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.includes("json") ?? false;
    return {
      status: response.status,
      headers: response.headers,
      body: isJson && text !== "" ? JSON.parse(text) : undefined,
      text,
    };
  };
  const caller = { principal: ADMIN, requestId: "test" };
  const createOrg = async (orgId: string): Promise<void> => {
    await identity.orgs.create(caller, { orgId }).catch((error: unknown) => {
      if (!(error instanceof Failure) || error.code !== "already_exists") throw error;
    });
  };
  return {
    identity,
    createOrg,
    setStatus: async (orgId, status) => {
      await identity.orgs.setStatus(caller, orgId, status);
      await ingestor.refreshOrgs();
    },
    declareTags: async (orgId, tagKeys) => {
      await identity.orgs.update(caller, orgId, { tagKeys });
    },
    keyFor: async ({ orgId, roles, ...key }) => {
      if (orgId !== null) await createOrg(orgId);
      const order = { ...key, name: `a ${roles.join(" and ")}`, roles: roles.filter(isRole) };
      return (await identity.keys.create(caller, orgId, order)).key;
    },
    url: api.url,
    database,
    clock,
    log,
    setReady: api.setReady,
    ask,
    send: (events, query = "", headers = {}) =>
      ask(`/analytics/v1/events${query}`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: typeof events === "string" ? events : JSON.stringify(events),
      }),
    fold: async () => {
      await rollup.foldOnce("usage");
      await rollup.foldOnce("people");
    },
    [Symbol.asyncDispose]: () => scope.disposeAsync(),
  };
}
