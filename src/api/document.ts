import { Registry } from "prom-client";
import { createAuthenticator } from "#auth";
import { silentLogger } from "#kernel";
import type { ApiDependencies } from "./dependencies.ts";
import { createServer } from "./server.ts";

const MIB = 1024 * 1024;

const refuse = (): never => {
  throw new Error("a server made for its description answers nothing");
};

/** Dependencies of a server that is made to be described. */
export const describedDependencies = (version: string): ApiDependencies => ({
  database: {
    sql: refuse,
    transaction: refuse,
    withOrg: refuse,
    withSystem: refuse,
    withDirectory: refuse,
    change: refuse,
    openSession: refuse,
    [Symbol.asyncDispose]: refuse,
  },
  ingestor: {
    ingest: refuse,
    judge: refuse,
    refreshOrgs: refuse,
    pendingEvents: 0,
    trouble: undefined,
    openLane: refuse,
    filtersBuilt: Promise.resolve(),
    [Symbol.asyncDispose]: refuse,
  },
  publisher: undefined,
  serves: { events: true, answers: true },
  authenticator: createAuthenticator({ adminKey: "" }),
  identity: {
    keys: { create: refuse, list: refuse, rotate: refuse, revoke: refuse },
    orgs: { create: refuse, list: refuse, get: refuse, update: refuse, setStatus: refuse },
    models: { list: refuse, get: refuse, put: refuse },
    revocations: { create: refuse, list: refuse },
  },
  sessions: { authenticate: refuse, open: refuse, close: refuse, forget: refuse },
  signInLinks: { create: refuse, take: refuse },
  codeFlow: undefined,
  publicUrl: undefined,
  registry: new Registry(),
  logger: silentLogger,
  clock: { now: refuse },
  createId: refuse,
  probes: {},
  limits: {
    bodyBytesMax: 5 * MIB,
    eventsMax: 5000,
    pendingBodyBytesMax: 0,
    readsMax: 0,
    readMsMax: 1,
    drainMsMax: 1,
    rates: { address: 0, failedLogin: 0, key: 0, org: 0, events: 0 },
  },
  version,
});

/**
 * The API's description (OpenAPI 3.1) as the text of contracts/openapi.json, from the routes and the limits' defaults.
 * Needs no database: the server it is read from never answers.
 */
export async function createOpenApiDocument(version: string): Promise<string> {
  const server = await createServer(describedDependencies(version), () => false);
  try {
    return `${JSON.stringify(server.swagger(), null, 2)}\n`;
  } finally {
    await server.close();
  }
}
