import type { JWK } from "jose";

/** Where an issuer's keys are. */
export type IssuerAddress = {
  /** `iss` of its tokens, exactly. Its discovery document lies under it. */
  issuer: string;
  /** Left out: found by the discovery document. */
  jwksUrl?: string | undefined;
};

/** What an issuer answered. */
export type IssuerKeys = {
  /** Public signing keys of the kinds taken here, without any private part. */
  keys: JWK[];
  /** Its `Date` header, for a look at its clock; null: it sent none. */
  answeredAt: Date | null;
};

const FETCH_MS_MAX = 5000;
const BYTES_MAX = 64 * 1024;
const KEYS_MAX = 100;
/** 2048 bits in base64url. */
const RSA_LETTERS_MIN = 341;
/** How many letters of a kid are looked at: longer ones are nobody's. */
const KID_LETTERS_MAX = 500;

/**
 * Asks an issuer for its keys: https only, but for loopback; within 5 s and 64 kB; no redirect is followed. Throws an
 * Error that says what was wrong, without quoting the answer.
 */
export async function fetchIssuerKeys(address: IssuerAddress): Promise<IssuerKeys> {
  const issuer = checkAddress(address.issuer, "the issuer's address");
  const jwksUrl =
    address.jwksUrl === undefined
      ? await discoverKeysAddress(issuer, address.issuer)
      : checkAddress(address.jwksUrl, "the address of the issuer's keys");
  const { body, answeredAt } = await fetchJson(jwksUrl);
  const listed = isObject(body) ? body["keys"] : undefined;
  if (!Array.isArray(listed)) throw new Error("the issuer's keys are not a JSON Web Key Set");
  const keys = listed.slice(0, KEYS_MAX).flatMap(signingKeyOf);
  if (keys.length === 0) throw new Error("the issuer lists no signing key of a kind taken here");
  return { keys, answeredAt };
}

async function discoverKeysAddress(issuer: URL, name: string): Promise<URL> {
  const path = `${issuer.pathname.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const { body } = await fetchJson(new URL(path, issuer));
  if (!isObject(body) || body["issuer"] !== name) {
    throw new Error(
      "the discovery document is another issuer's: compare OIDC_ISSUER with its `issuer`",
    );
  }
  const found = body["jwks_uri"];
  if (typeof found !== "string") throw new Error("the discovery document names no jwks_uri");
  const url = checkAddress(found, "jwks_uri of the discovery document");
  // Else a document from afar could have this machine ask its own services.
  if (isLoopback(url) && !isLoopback(issuer)) {
    throw new Error("jwks_uri of the discovery document points to this machine");
  }
  return url;
}

async function fetchJson(url: URL): Promise<{ body: unknown; answeredAt: Date | null }> {
  const response = await fetch(url, {
    redirect: "manual",
    headers: { accept: "application/json" },
    signal: AbortSignal.timeout(FETCH_MS_MAX),
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`the issuer answered ${response.status} where 200 was expected`);
  }
  const parts: Uint8Array[] = [];
  let bytes = 0;
  const stream: AsyncIterable<Uint8Array> | null = response.body;
  for await (const part of stream ?? []) {
    bytes += part.byteLength;
    // Leaving the loop cancels the rest.
    if (bytes > BYTES_MAX) throw new Error(`the issuer's answer is longer than ${BYTES_MAX} bytes`);
    parts.push(part);
  }
  const date = new Date(response.headers.get("date") ?? "");
  return {
    body: parseJson(Buffer.concat(parts).toString("utf8")),
    answeredAt: Number.isNaN(date.getTime()) ? null : date,
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the answer.
    throw new Error("the issuer's answer is not JSON");
  }
}

function checkAddress(text: string, what: string): URL {
  const url = URL.parse(text);
  if (url === null) throw new Error(`${what} is not a URL`);
  const isSafe = url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url));
  if (!isSafe) throw new Error(`${what} must begin with https://`);
  if (url.username !== "" || url.password !== "") throw new Error(`${what} holds a password`);
  return url;
}

const isLoopback = ({ hostname }: URL): boolean =>
  hostname === "localhost" || hostname === "[::1]" || /^127(?:\.\d{1,3}){3}$/.test(hostname);

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The public part of a signing key, or none: another use, another kind, too weak. */
function signingKeyOf(listed: unknown): JWK[] {
  if (!isObject(listed)) return [];
  const text = (name: string): string | undefined => {
    const value = listed[name];
    return typeof value === "string" ? value : undefined;
  };
  const operations = listed["key_ops"];
  if (listed["use"] !== undefined && listed["use"] !== "sig") return [];
  if (Array.isArray(operations) && !operations.includes("verify")) return [];
  const [kty, kid, alg, crv] = [text("kty"), text("kid"), text("alg"), text("crv")];
  const [n, e, x, y] = [text("n"), text("e"), text("x"), text("y")];
  if (kid !== undefined && kid.length > KID_LETTERS_MAX) return [];
  const about: JWK = { ...(kid !== undefined && { kid }), ...(alg !== undefined && { alg }) };
  if (kty === "RSA" && n !== undefined && e !== undefined && n.length >= RSA_LETTERS_MIN) {
    return [{ ...about, kty, n, e }];
  }
  if (kty === "EC" && crv !== undefined && x !== undefined && y !== undefined) {
    return [{ ...about, kty, crv, x, y }];
  }
  return kty === "OKP" && crv === "Ed25519" && x !== undefined ? [{ ...about, kty, crv, x }] : [];
}
