import type { Clock, Logger } from "#kernel";
import type { Database } from "#store";
import { type Authenticator, createAuthenticator } from "./authenticator.ts";
import { createIssuerKeySet } from "./jwks.ts";
import { createKeyStore } from "./key-store.ts";
import { createKeys, type Keys } from "./keys.ts";
import { createModels, type Models } from "./models.ts";
import { createOrgs, type Orgs } from "./orgs.ts";
import { createRevocations, type Revocations } from "./revocations.ts";
import { createTokenVerifier, type TokenSettings, type TokenVerifier } from "./token.ts";

/** The issuer whose access tokens are taken. */
export type IssuerSettings = TokenSettings & {
  /** Left out: found by the issuer's discovery document. */
  jwksUrl?: string | undefined;
  /** How long its keys are used while it cannot be reached. */
  staleHours: number;
};

export type IdentityOptions = {
  database: Database;
  clock: Clock;
  logger: Logger;
  /** See `createAuthenticator`. */
  adminKey: string;
  /** Stands in API keys. */
  keyEnvironment: string;
  /** Undefined: API keys only. */
  issuer: IssuerSettings | undefined;
  /** Told when a key, a subject or an org was changed here: whoever remembers them must ask again. */
  onChange?: () => void;
  /** Told when an org was made or its status changed here; the change is answered when it has been heeded. */
  onOrgChange?: (orgId: string) => void | Promise<void>;
};

/** Who may come in: told from credentials, and administered. */
export type Identity = AsyncDisposable & {
  authenticator: Authenticator;
  keys: Keys;
  orgs: Orgs;
  models: Models;
  revocations: Revocations;
  /** Undefined: no issuer is configured. */
  tokens: TokenVerifier | undefined;
};

const HOUR_MS = 3_600_000;

/**
 * All of it over one database. What is changed through it holds in this process at once and in others within 30 s. Asks
 * the issuer for its keys in the background. Disposing notes the last uses of keys.
 */
export function openIdentity(options: IdentityOptions): Identity {
  const { database, clock, logger, issuer, onChange, onOrgChange } = options;
  const environment = options.keyEnvironment;
  const keyStore = createKeyStore({ database, clock, logger, environment });
  const tokens = issuer && openTokens(issuer, options);
  return {
    authenticator: createAuthenticator({
      adminKey: options.adminKey,
      keys: keyStore,
      ...(tokens && { tokens }),
    }),
    tokens,
    keys: createKeys({
      database,
      clock,
      environment,
      onChange: (keyId) => {
        keyStore.forget(keyId);
        onChange?.();
      },
    }),
    orgs: createOrgs({
      database,
      clock,
      onChange: async (orgId) => {
        keyStore.forgetOrg(orgId);
        tokens?.forgetOrg(orgId);
        onChange?.();
        await onOrgChange?.(orgId);
      },
    }),
    models: createModels({ database, clock }),
    revocations: createRevocations({
      database,
      clock,
      issuer: issuer?.issuer,
      onChange: () => {
        tokens?.forget();
        onChange?.();
      },
    }),
    [Symbol.asyncDispose]: () => keyStore[Symbol.asyncDispose](),
  };
}

function openTokens(
  settings: IssuerSettings,
  { database, clock, logger }: IdentityOptions,
): TokenVerifier {
  const { issuer, jwksUrl, staleHours } = settings;
  const staleMsMax = staleHours * HOUR_MS;
  const keySet = createIssuerKeySet({ issuer, jwksUrl, staleMsMax, clock, logger });
  // So that the first token does not wait for it; a failure is logged there.
  keySet.refresh().catch(() => undefined);
  return createTokenVerifier({ settings, keySet, database, clock, logger });
}
