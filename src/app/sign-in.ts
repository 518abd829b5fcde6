import { randomUUID } from "node:crypto";
import type { ApiDependencies } from "#api";
import {
  createCodeFlow,
  createSessions,
  createSignInLinks,
  type Identity,
  type IssuerSettings,
  openIdentity,
} from "#auth";
import type { Config } from "#config";
import type { Ingestor } from "#ingest";
import type { Clock, Logger } from "#kernel";
import type { Database } from "#store";

/** Everything of the API that says who may come in, and how. */
export type SignIn = Pick<
  ApiDependencies,
  "authenticator" | "identity" | "sessions" | "signInLinks" | "codeFlow" | "publicUrl"
>;

export type SignInDeps = {
  database: Database;
  clock: Clock;
  logger: Logger;
  ingestor: Pick<Ingestor, "refreshOrgs">;
  adminKey: string;
};

/** Opened for as long as `scope` lasts. What is changed through it holds here at once; others find out within 30 s. */
export function openSignIn(config: Config, deps: SignInDeps, scope: AsyncDisposableStack): SignIn {
  const { database, clock, logger, ingestor, adminKey } = deps;
  const sessions = createSessions({ database, clock, createId: randomUUID, settings: config });
  const identity = scope.use(
    openIdentity({
      database,
      clock,
      logger,
      adminKey,
      keyEnvironment: config.keyEnvironment,
      issuer: issuerSettings(config),
      onChange: () => sessions.forget(),
      onOrgChange: () => tellIngestor(ingestor, logger),
    }),
  );
  return {
    authenticator: identity.authenticator,
    identity,
    sessions,
    signInLinks: createSignInLinks({ database, clock }),
    codeFlow: createProviderFlow(config, identity, { database, clock }),
    publicUrl: config.publicUrl,
  };
}

/** Should it fail, its own upkeep reads the statuses within seconds. */
const tellIngestor = (ingestor: SignInDeps["ingestor"], logger: Logger): Promise<void> =>
  ingestor.refreshOrgs().catch((error: unknown) => {
    logger.warn({ err: error }, "ingestion was not told of a change of an org");
  });

function issuerSettings(config: Config): IssuerSettings | undefined {
  const { oidcIssuer: issuer, oidcAudience: audience } = config;
  if (issuer === undefined || audience === undefined) return undefined;
  return {
    issuer,
    audience,
    jwksUrl: config.oidcJwksUrl,
    orgClaim: config.oidcOrgClaim,
    rolesClaim: config.oidcRolesClaim,
    roleMap: config.oidcRoleMap ?? new Map<string, string>(),
    tokenAgeSecondsMax: config.oidcTokenAgeMaxSeconds,
    staleHours: config.oidcStaleHours,
  };
}

/** Signing in at the provider; undefined where there is none, or no client for it. */
function createProviderFlow(
  { oidcIssuer: issuer, oidcClientId: clientId, oidcClientSecret: clientSecret }: Config,
  { tokens }: Identity,
  shared: { database: Database; clock: Clock },
): SignIn["codeFlow"] {
  if (issuer === undefined || clientId === undefined || tokens === undefined) return undefined;
  return createCodeFlow({ ...shared, issuer, clientId, clientSecret, tokens });
}
