import type { Clock, Logger } from "#kernel";
import { type Database, findApiKey, type StoredApiKey, touchApiKeys } from "#store";
import { type ApiKey, hashSecret, isSameHash } from "./api-key.ts";
import { unauthenticated } from "./authenticator.ts";
import { createLookup, isOutage } from "./lookup.ts";
import type { Principal } from "./principal.ts";
import { isRole, scopesOf } from "./scopes.ts";

export type KeyStoreOptions = {
  database: Pick<Database, "sql">;
  clock: Clock;
  logger: Logger;
  /** Keys that name another environment are refused. */
  environment: string;
};

/** Tells whose an API key is. */
export type KeyStore = AsyncDisposable & {
  /**
   * The key's principal: at once when the key is known here, else as a promise. What changes about a key or its org
   * shows within 30 s, after `forget` at once. Throws (or rejects with) Failure `unauthenticated`: unknown, another
   * secret, revoked, expired, its org deleted, all in the same words.
   */
  authenticate(key: ApiKey): Principal | Promise<Principal>;
  /** A key has changed. */
  forget(keyId: string): void;
  /** An org has changed, by its external id. */
  forgetOrg(orgId: string): void;
  /** Resolves when all uses so far are noted, or could not be. */
  flush(): Promise<void>;
};

const KNOWN_MS = 30_000;
const KEYS_MAX = 10_000;
/** Of a key's uses one in so long is noted. */
const NOTED_EVERY_MS = 60_000;
/**
 * A database that is away tells of no revocation. For so long, keys that can only write events and were good may go on,
 * for a broker takes events meanwhile; all others wait.
 */
const OUTAGE_MS_MAX = 10 * 60_000;
const OUTAGE_SCOPES: ReadonlySet<string> = new Set(["events:write", "self:read"]);

type KnownKey = {
  stored: StoredApiKey;
  principal: Principal;
  /** When its last noted use was. */
  notedAtMs: number;
};

/** Compared with when there is no such key, so that this takes as long as when there is. */
const NOBODYS_HASH = Buffer.alloc(32);

/** Remembers up to 10,000 keys, and as many ids that are none, for 30 s. Disposing notes the last uses. */
export function createKeyStore(options: KeyStoreOptions): KeyStore {
  const { database, clock } = options;
  const uses = createUseLog(options);
  const keys = createLookup<KnownKey>({
    clock,
    entriesMax: KEYS_MAX,
    ageMsMax: KNOWN_MS,
    load: async (id) => {
      const stored = await findApiKey(database.sql, id);
      if (stored === undefined) return undefined;
      const notedAtMs = stored.lastUsedAt?.getTime() ?? -Infinity;
      return { stored, principal: principalOf(stored), notedAtMs };
    },
  });
  const judge = (known: KnownKey | undefined, key: ApiKey): Principal => {
    const isSame = isSameHash(hashSecret(key.secret), known?.stored.secretHash ?? NOBODYS_HASH);
    const nowMs = clock.now();
    if (known === undefined || !isSame || !isGood(known.stored, key, nowMs))
      throw unauthenticated();
    if (nowMs - known.notedAtMs >= NOTED_EVERY_MS) {
      known.notedAtMs = nowMs;
      uses.note(key.id, nowMs);
    }
    return known.principal;
  };
  const judgeInOutage = (key: ApiKey, error: unknown): Principal => {
    const known = keys.peek(key.id, OUTAGE_MS_MAX);
    if (known === undefined || !isOutage(error)) throw error;
    const principal = judge(known, key);
    if (principal.scopes.some((scope) => !OUTAGE_SCOPES.has(scope))) throw error;
    return principal;
  };
  return {
    authenticate: (key) => {
      if (key.environment !== options.environment) throw unauthenticated();
      const known = keys.get(key.id);
      if (!(known instanceof Promise)) return judge(known, key);
      return known.then(
        (loaded) => judge(loaded, key),
        (error: unknown) => judgeInOutage(key, error),
      );
    },
    forget: keys.forget,
    forgetOrg: (orgId) => keys.forgetWhere(({ stored }) => stored.orgExternalId === orgId),
    flush: uses.flush,
    [Symbol.asyncDispose]: uses.flush,
  };
}

function isGood(stored: StoredApiKey, key: ApiKey, nowMs: number): boolean {
  return (
    stored.environment === key.environment &&
    stored.revokedAt === null &&
    (stored.expiresAt === null || nowMs < stored.expiresAt.getTime()) &&
    stored.orgStatus !== "deleted"
  );
}

function principalOf(stored: StoredApiKey): Principal {
  const orgId = stored.orgId === 0 ? null : stored.orgExternalId;
  const roles = stored.roles.filter(isRole);
  const isSuspended = stored.orgStatus === "suspended";
  const scopes = scopesOf(
    roles,
    orgId === null ? "system" : "org",
    isSuspended ? [] : stored.scopes,
  );
  return {
    kind: "key",
    id: stored.id,
    name: stored.name,
    roles,
    scopes,
    orgId,
    writesFor: scopes.includes("events:write") ? writesForOf(stored, orgId) : [],
    expiresAt: stored.expiresAt,
    session: null,
    isSuspended,
  };
}

function writesForOf({ writesFor }: StoredApiKey, orgId: string | null): readonly string[] | "any" {
  if (writesFor !== null) return writesFor.includes("*") ? "any" : writesFor;
  return orgId === null ? [] : [orgId];
}

type UseLog = { note(keyId: string, atMs: number): void; flush(): Promise<void> };

/** Writes uses down beside the requests, several in one statement. One that cannot be written is lost: it is a hint. */
function createUseLog({ database, logger }: KeyStoreOptions): UseLog {
  let waiting = new Map<string, number>();
  let writing: Promise<void> | undefined;
  const write = async (): Promise<void> => {
    while (waiting.size > 0) {
      const uses = [...waiting].map(([id, atMs]) => ({ id, at: new Date(atMs) }));
      waiting = new Map();
      try {
        await touchApiKeys(database.sql, uses);
      } catch (error) {
        logger.warn({ err: error, keys: uses.length }, "key_uses_not_noted");
      }
    }
  };
  const start = (): Promise<void> => {
    writing ??= write().finally(() => (writing = undefined));
    return writing;
  };
  return {
    note: (keyId, atMs) => {
      waiting.set(keyId, atMs);
      start().catch(() => undefined);
    },
    flush: async () => {
      while (writing !== undefined || waiting.size > 0) await start();
    },
  };
}
