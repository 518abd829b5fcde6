import { type CryptoKey, decodeProtectedHeader, errors, jwtVerify } from "jose";
import type { Failure } from "#contract";
import type { Clock, Logger } from "#kernel";
import {
  type Database,
  findOrgRecord,
  findTokenRevocations,
  type OrgStatus,
  type TokenRevocation,
} from "#store";
import { unauthenticated } from "./authenticator.ts";
import {
  type Claims,
  type ClaimSettings,
  findSubject,
  isPlainText,
  principalOfClaims,
} from "./claims.ts";
import { ALGORITHMS, type IssuerKeySet } from "./jwks.ts";
import { createLookup } from "./lookup.ts";
import type { Principal } from "./principal.ts";
import { scopesOf } from "./scopes.ts";

export type TokenSettings = ClaimSettings & {
  /** `aud` has to be this or to name it. */
  audience: string;
  /** Tokens issued longer ago are refused, whatever their `exp` says. */
  tokenAgeSecondsMax: number;
};

export type TokenVerifierOptions = {
  settings: TokenSettings;
  keySet: Pick<IssuerKeySet, "find">;
  database: Pick<Database, "sql">;
  clock: Clock;
  logger: Logger;
};

/** Tells whose an access token is. */
export type TokenVerifier = {
  /**
   * The token's principal. Revocations and changes of its org show within 30 s, after `forget` at once. Rejects with
   * Failure `unauthenticated` (in the same words whatever is wrong with it), `forbidden` when it grants nothing here,
   * `identity_unavailable` while the issuer's keys are not known.
   */
  authenticate(token: string): Promise<Principal>;
  /**
   * The principal of claims that were checked otherwise: an ID token of the code flow. Rejects as `authenticate` does.
   * `expiresAt` is the principal's.
   */
  principalOf(claims: Claims, expiresAt: Date): Promise<Principal>;
  /** A revocation was entered. */
  forget(): void;
  /** An org has changed, by its external id. */
  forgetOrg(orgId: string): void;
};

const CLOCK_TOLERANCE_SECONDS = 30;
const TOKEN_CHARACTERS_MAX = 8192;
const ID_CHARACTERS_MAX = 255;
const KNOWN_MS = 30_000;
const ENTRIES_MAX = 10_000;
/** The last second that a Date can hold. */
const LAST_SECOND = 8.64e12;

/** What revocations go by. */
type TokenName = { subject: string; jti: string | null };
type Revoked = {
  isToken: boolean;
  /** Tokens of the subject issued up to then are refused; -Infinity: none are. */
  subjectThroughMs: number;
};

export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const { settings, database, clock, logger } = options;
  const { issuer } = settings;
  const memory = { clock, entriesMax: ENTRIES_MAX, ageMsMax: KNOWN_MS };
  const revocations = createLookup<Revoked>({
    ...memory,
    load: async (key) => {
      const name = parseTokenName(key);
      return revokedBy(await findTokenRevocations(database.sql, { issuer, ...name }));
    },
  });
  const orgs = createLookup<{ status: OrgStatus }>({
    ...memory,
    load: (orgId) => findOrgRecord(database.sql, orgId),
  });

  const refused = (reason: string): Failure => {
    logger.debug({ issuer, reason }, "token_refused");
    return unauthenticated();
  };
  const requireNotRevoked = async (name: TokenName, issuedAtMs: number): Promise<void> => {
    const revoked = await revocations.get(formatTokenName(name));
    // The issuer's clock may be ahead of this one by the tolerance.
    const throughMs = (revoked?.subjectThroughMs ?? 0) + CLOCK_TOLERANCE_SECONDS * 1000;
    const isGood = revoked?.isToken === false && issuedAtMs > throughMs;
    if (!isGood) throw refused("revoked");
  };
  const withOrgStatus = async (principal: Principal): Promise<Principal> => {
    if (principal.orgId === null) return principal;
    const org = await orgs.get(principal.orgId);
    if (org?.status === "deleted") throw refused("its org is deleted");
    if (org?.status !== "suspended") return principal;
    const scopes = scopesOf(principal.roles, "org", []);
    return { ...principal, scopes, writesFor: [], isSuspended: true };
  };
  return {
    authenticate: async (token) => {
      const { claims, ...about } = await verify(token, { ...options, refused });
      await requireNotRevoked(about, about.issuedAtMs);
      return await withOrgStatus(principalOfClaims(claims, settings, about));
    },
    principalOf: async (claims, expiresAt) => {
      const subject = findSubject(claims);
      if (subject === undefined) throw refused("sub");
      const issuedAtMs = typeof claims["iat"] === "number" ? claims["iat"] * 1000 : -Infinity;
      await requireNotRevoked({ subject, jti: null }, issuedAtMs);
      return await withOrgStatus(principalOfClaims(claims, settings, { subject, expiresAt }));
    },
    forget: () => revocations.forgetWhere(() => true),
    forgetOrg: (orgId) => orgs.forget(orgId),
  };
}

/** Neither part holds a line break. */
const formatTokenName = ({ subject, jti }: TokenName): string => `${subject}\n${jti ?? ""}`;

function parseTokenName(key: string): TokenName {
  const [subject = "", jti = ""] = key.split("\n");
  return { subject, jti: jti === "" ? null : jti };
}

function revokedBy(revocations: readonly TokenRevocation[]): Revoked {
  const ofSubject = revocations.filter(({ kind }) => kind === "sub");
  return {
    isToken: revocations.some(({ kind }) => kind === "jti"),
    subjectThroughMs: Math.max(...ofSubject.map(({ createdAt }) => createdAt.getTime())),
  };
}

type VerifiedToken = TokenName & { claims: Claims; issuedAtMs: number; expiresAt: Date };

type VerifyOptions = TokenVerifierOptions & { refused: (reason: string) => Failure };

/** Signature, issuer, audience, type and times; then the claims that everything else goes by. */
async function verify(
  token: string,
  { settings, keySet, clock, refused }: VerifyOptions,
): Promise<VerifiedToken> {
  if (token.length > TOKEN_CHARACTERS_MAX) throw refused("too long");
  const header = findHeader(token);
  if (header === undefined) throw refused("header");
  let claims: Claims | undefined;
  for (const key of await keySet.find(header.alg, header.kid)) {
    claims = await verifyWith(key, token, { settings, clock, refused });
    if (claims !== undefined) break;
  }
  if (claims === undefined) throw refused("signature");
  const subject = findSubject(claims);
  const jti = claims["jti"] ?? null;
  const [issuedAt, expiresAt] = [claims["iat"], claims["exp"]];
  if (subject === undefined) throw refused("sub");
  if (jti !== null && !isId(jti)) throw refused("jti");
  if (typeof issuedAt !== "number" || typeof expiresAt !== "number") throw refused("iat or exp");
  if (!(expiresAt <= LAST_SECOND)) throw refused("exp");
  const endsAt = Math.min(expiresAt, issuedAt + settings.tokenAgeSecondsMax);
  return {
    claims,
    subject,
    jti,
    issuedAtMs: issuedAt * 1000,
    expiresAt: new Date(endsAt * 1000),
  };
}

/** The algorithm and the key's id: all that a header is asked. What else it offers (jwk, jku, x5u, x5c) is not looked at. */
function findHeader(token: string): { alg: string; kid: string | undefined } | undefined {
  try {
    const { alg, kid }: { alg?: unknown; kid?: unknown } = decodeProtectedHeader(token);
    if (typeof alg !== "string" || !ALGORITHMS.has(alg)) return undefined;
    if (kid === undefined) return { alg, kid };
    return isId(kid) ? { alg, kid } : undefined;
  } catch {
    return undefined;
  }
}

/** The claims of a token that this key signed and that is good now; undefined: another key may have signed it. */
async function verifyWith(
  key: CryptoKey,
  token: string,
  { settings, clock, refused }: Pick<VerifyOptions, "settings" | "clock" | "refused">,
): Promise<Claims | undefined> {
  try {
    const { payload } = await jwtVerify(token, key, {
      algorithms: [...ALGORITHMS.keys()],
      issuer: settings.issuer,
      audience: settings.audience,
      typ: "at+jwt",
      requiredClaims: ["exp", "iat", "sub"],
      maxTokenAge: settings.tokenAgeSecondsMax,
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      currentDate: new Date(clock.now()),
    });
    return payload;
  } catch (error) {
    if (error instanceof errors.JWSSignatureVerificationFailed) return undefined;
    // A TypeError says that the key and the algorithm do not go together.
    if (error instanceof errors.JOSEError || error instanceof TypeError)
      throw refused(error.message);
    throw error;
  }
}

const isId = (value: unknown): value is string =>
  typeof value === "string" &&
  value !== "" &&
  value.length <= ID_CHARACTERS_MAX &&
  isPlainText(value);
