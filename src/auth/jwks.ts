import { importJWK, type CryptoKey, type JWK } from "jose";
import { Failure } from "#contract";
import type { Clock, Logger } from "#kernel";
import { fetchIssuerKeys, type IssuerAddress } from "./issuer-keys.ts";

type KeyKind = { kty: string; crv?: string };

/**
 * The signing algorithms taken, and the keys they go with. All asymmetric: with a symmetric one, who can check a token
 * could write it.
 */
export const ALGORITHMS: ReadonlyMap<string, KeyKind> = new Map<string, KeyKind>([
  ["RS256", { kty: "RSA" }],
  ["RS384", { kty: "RSA" }],
  ["RS512", { kty: "RSA" }],
  ["PS256", { kty: "RSA" }],
  ["PS384", { kty: "RSA" }],
  ["PS512", { kty: "RSA" }],
  ["ES256", { kty: "EC", crv: "P-256" }],
  ["ES384", { kty: "EC", crv: "P-384" }],
  ["ES512", { kty: "EC", crv: "P-521" }],
  ["EdDSA", { kty: "OKP", crv: "Ed25519" }],
  ["Ed25519", { kty: "OKP", crv: "Ed25519" }],
]);

export type IssuerKeySetOptions = IssuerAddress & {
  /** How long the keys fetched last are used while the issuer cannot be reached. */
  staleMsMax: number;
  clock: Clock;
  logger: Logger;
};

/** The signing keys of one issuer, kept fresh. */
export type IssuerKeySet = {
  /**
   * The keys that may have signed a token with this header, likeliest first; none: the issuer has no such key. Asks the
   * issuer when the keys are old or the key is unknown, but no more than once in 30 s. Throws Failure
   * `identity_unavailable` while that cannot be told.
   */
  find(alg: string, kid: string | undefined): Promise<CryptoKey[]>;
  /** Asks the issuer now, unless it was asked within 30 s. Resolves when it answered or failed; never throws. */
  refresh(): Promise<void>;
};

const FRESH_MS = 10 * 60_000;
const COOLDOWN_MS = 30_000;
/** Keys tried for one token: without this, a key set of many equal kids makes each token dear. */
const CANDIDATES_MAX = 4;

type KeptKey = { jwk: JWK; imported: Map<string, Promise<CryptoKey | undefined>> };

/**
 * Keys are fetched with the first token and again in the background after 10 minutes. What the issuer cannot or will
 * not say (an outage, garbage, an empty list) replaces nothing.
 */
export function createIssuerKeySet(options: IssuerKeySetOptions): IssuerKeySet {
  const { clock, logger } = options;
  let kept: { keys: KeptKey[]; fetchedAtMs: number } | undefined;
  let askedAtMs = -Infinity;
  let hasFailed = false;
  let underWay: Promise<void> | undefined;

  const fetchKeys = async (): Promise<void> => {
    try {
      const { keys } = await fetchIssuerKeys(options);
      kept = { keys: keepKnown(keys, kept?.keys ?? []), fetchedAtMs: clock.now() };
      hasFailed = false;
    } catch (error) {
      hasFailed = true;
      logger.warn({ issuer: options.issuer, err: error }, "identity_keys_not_fetched");
    }
  };
  const refresh = (): Promise<void> => {
    if (underWay !== undefined) return underWay;
    if (clock.now() - askedAtMs < COOLDOWN_MS) return Promise.resolve();
    askedAtMs = clock.now();
    underWay = fetchKeys().finally(() => (underWay = undefined));
    return underWay;
  };
  const usable = (): KeptKey[] | undefined =>
    kept !== undefined && clock.now() - kept.fetchedAtMs <= Math.max(FRESH_MS, options.staleMsMax)
      ? kept.keys
      : undefined;

  return {
    refresh,
    find: async (alg, kid) => {
      if (usable() === undefined) await refresh();
      else if (clock.now() - (kept?.fetchedAtMs ?? 0) > FRESH_MS) refresh().catch(() => undefined);
      let found = matching(usable() ?? [], alg, kid);
      if (found.length === 0 && usable() !== undefined) {
        await refresh();
        found = matching(usable() ?? [], alg, kid);
      }
      // A key that is not known may be a new one: whether it is, only the issuer could say.
      if (usable() === undefined || (found.length === 0 && hasFailed)) throw unavailable();
      const imported = await Promise.all(found.map((key) => importFor(key, alg)));
      return imported.filter((key) => key !== undefined);
    },
  };
}

const unavailable = (): Failure =>
  new Failure(
    "identity_unavailable",
    "The issuer of access tokens cannot be reached, so this one cannot be checked. Try again, or use an API key.",
  );

/** Imported keys are kept as long as the issuer lists them. */
function keepKnown(listed: readonly JWK[], before: readonly KeptKey[]): KeptKey[] {
  const known = new Map(before.map((key) => [JSON.stringify(key.jwk), key]));
  return listed.map((jwk) => known.get(JSON.stringify(jwk)) ?? { jwk, imported: new Map() });
}

function matching(keys: readonly KeptKey[], alg: string, kid: string | undefined): KeptKey[] {
  const wanted = ALGORITHMS.get(alg);
  if (wanted === undefined) return [];
  return keys
    .filter(
      ({ jwk }) =>
        jwk.kty === wanted.kty &&
        (wanted.crv === undefined || jwk.crv === wanted.crv) &&
        (jwk.alg === undefined || isAlgorithmOf(jwk.alg, alg)) &&
        (kid === undefined || jwk.kid === kid),
    )
    .slice(0, CANDIDATES_MAX);
}

/** EdDSA and Ed25519 are two names of one thing here. */
const isAlgorithmOf = (listed: string, alg: string): boolean =>
  listed === alg || (ALGORITHMS.get(listed)?.kty === "OKP" && ALGORITHMS.get(alg)?.kty === "OKP");

function importFor(key: KeptKey, alg: string): Promise<CryptoKey | undefined> {
  let imported = key.imported.get(alg);
  if (imported === undefined) {
    // The issuer's own `alg` is left out: it was compared already, and would forbid the other name of EdDSA.
    const { alg: _, ...jwk } = key.jwk;
    imported = importJWK(jwk, alg).then(
      (made) => (made instanceof Uint8Array ? undefined : made),
      () => undefined,
    );
    key.imported.set(alg, imported);
  }
  return imported;
}
