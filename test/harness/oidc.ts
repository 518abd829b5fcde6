/** A real issuer of tokens on loopback: discovery, keys that rotate, client credentials, and the code flow with PKCE. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import { Provider, type Adapter, type AdapterPayload, type Configuration } from "oidc-provider";

/** What a token says beyond what the issuer says itself; `iat` and `exp` replace the issuer's own. */
export type TestClaims = {
  sub?: string;
  org?: string;
  roles?: readonly string[];
  iat?: number;
  exp?: number;
  [name: string]: unknown;
};

/** What GET /jwks says instead of the issuer's keys. */
export type KeyAnswer = { status?: number; headers?: Record<string, string>; body: string };

export type TestIssuer = AsyncDisposable & {
  /** `iss` of its tokens, and where its discovery document is found. */
  readonly url: string;
  /** `aud` of its access tokens. */
  readonly audience: string;
  /** The client of the code flow and of client credentials. */
  readonly client: { readonly id: string; readonly secret: string };
  /** Times GET /jwks was asked, since the start. */
  readonly keyFetches: number;
  /** The newest signing key, private parts included: for tokens the issuer would never write. */
  readonly signingKey: JWK & { kid: string; alg: string };
  /** Public parts of every key it publishes. */
  publicKeys(): JWK[];
  /** An access token (at+jwt) from the token endpoint. */
  accessToken(claims?: TestClaims): Promise<string>;
  /** Whoever comes to the authorization endpoint from now on is this person, without being asked. */
  signInAs(person: TestClaims & { sub: string }): void;
  /** Lets the code flow return to this address. */
  allowRedirectTo(url: string): void;
  /** Signs with a new key from now on. The ones before stay published unless `keepOld` is false. */
  rotate(options?: { keepOld?: boolean }): Promise<void>;
  /** Answers GET /jwks otherwise; undefined: with its keys again. */
  answerKeysWith(answer: KeyAnswer | undefined): void;
  /** Goes an authorization address as a browser would, until it leaves the issuer: the address it is then sent to. */
  goThrough(authorizationUrl: string): Promise<string>;
  /** No longer listens; asked again after `start`, on the same port. */
  stop(): Promise<void>;
  start(): Promise<void>;
};

const AUDIENCE = "urn:tallystick:test";
const CLIENT = { id: "tallystick", secret: "a-secret-of-the-test-client-with-32-characters" };
/** Header that tells the token endpoint what to write into a token. */
const CLAIMS_HEADER = "x-test-claims";
const TOKEN_SECONDS = 600;
const RSA_BITS = 2048;

type SigningKey = JWK & { kid: string; alg: string };

/** `await using issuer = await startTestIssuer()`. */
export async function startTestIssuer(): Promise<TestIssuer> {
  const people = new Map<string, TestClaims>();
  const stored = new Map<string, AdapterPayload>();
  const redirects = new Set(["http://127.0.0.1/callback"]);
  let keys = [await createSigningKey(1)];
  let made = 1;
  let person = "";
  let keyFetches = 0;
  let keyAnswer: KeyAnswer | undefined;
  let answer: (request: IncomingMessage, response: ServerResponse) => unknown;

  let server = await listen(0, (...exchange) => serve(...exchange));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const rebuild = () => {
    const provider = new Provider(url, {
      ...configurationOf(keys, [...redirects], people),
      adapter: (kind) => createMemory(kind, stored),
    });
    const rest = provider.callback();
    answer = async (request, response) => {
      if (request.url?.startsWith("/interaction/") !== true) return await rest(request, response);
      const login = { accountId: person };
      return await provider.interactionFinished(request, response, { login });
    };
  };
  const serve = (request: IncomingMessage, response: ServerResponse) => {
    if (request.url !== "/jwks") return answer(request, response);
    keyFetches++;
    if (keyAnswer === undefined) return answer(request, response);
    const { status = 200, headers = { "content-type": "application/json" }, body } = keyAnswer;
    return response.writeHead(status, headers).end(body);
  };
  const stop = async () => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  };
  rebuild();

  return {
    url,
    audience: AUDIENCE,
    client: CLIENT,
    get keyFetches() {
      return keyFetches;
    },
    get signingKey() {
      return keys[0]!;
    },
    publicKeys: () => keys.map(publicPartOf),
    accessToken: (claims = {}) => requestToken(url, claims),
    signInAs: (claims) => {
      people.set(claims.sub, claims);
      person = claims.sub;
    },
    allowRedirectTo: (address) => {
      redirects.add(address);
      rebuild();
    },
    rotate: async ({ keepOld = true } = {}) => {
      const next = await createSigningKey(++made);
      keys = keepOld ? [next, ...keys] : [next];
      rebuild();
    },
    answerKeysWith: (next) => (keyAnswer = next),
    goThrough: (authorizationUrl) => goThrough(authorizationUrl, url),
    stop,
    start: async () => {
      server = await listen(port, (...exchange) => serve(...exchange));
    },
    [Symbol.asyncDispose]: stop,
  };
}

async function listen(
  port: number,
  serve: (request: IncomingMessage, response: ServerResponse) => unknown,
): Promise<Server> {
  const server = createServer((request, response) => {
    // A connection that is kept would break under a client when the issuer stops.
    response.setHeader("connection", "close");
    void serve(request, response);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function createSigningKey(number: number): Promise<SigningKey> {
  const { privateKey } = await generateKeyPair("RS256", {
    extractable: true,
    modulusLength: RSA_BITS,
  });
  return { ...(await exportJWK(privateKey)), kid: `key-${number}`, alg: "RS256", use: "sig" };
}

const publicPartOf = ({ kty, kid, alg, use, n, e }: JWK): JWK =>
  Object.fromEntries(Object.entries({ kty, kid, alg, use, n, e }).filter(([, value]) => value));

function configurationOf(
  keys: readonly SigningKey[],
  redirectUris: string[],
  people: ReadonlyMap<string, TestClaims>,
): Configuration {
  return {
    jwks: { keys: keys.map((key) => ({ ...key })) },
    clients: [
      {
        client_id: CLIENT.id,
        client_secret: CLIENT.secret,
        grant_types: ["authorization_code", "client_credentials"],
        redirect_uris: redirectUris,
        response_types: ["code"],
      },
    ],
    cookies: { keys: ["cookies-of-the-test-issuer"] },
    claims: { openid: ["sub", "org", "roles", "name"] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    ttl: {
      AccessToken: TOKEN_SECONDS,
      ClientCredentials: TOKEN_SECONDS,
      Grant: TOKEN_SECONDS,
      IdToken: TOKEN_SECONDS,
      Interaction: TOKEN_SECONDS,
      Session: TOKEN_SECONDS,
    },
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: "api",
          audience: AUDIENCE,
          accessTokenFormat: "jwt",
          accessTokenTTL: TOKEN_SECONDS,
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
    findAccount: (_, sub) => {
      const claims = people.get(sub);
      return claims && { accountId: sub, claims: () => ({ ...claims, sub }) };
    },
    // Everybody has agreed to everything, so that no page asks.
    loadExistingGrant: async ({ oidc }) => {
      const accountId = oidc.session?.accountId;
      const clientId = oidc.client?.clientId;
      if (accountId === undefined || clientId === undefined) return undefined;
      const grant = new oidc.provider.Grant({ accountId, clientId });
      grant.addOIDCScope("openid profile");
      grant.addResourceScope(AUDIENCE, "api");
      await grant.save();
      return grant;
    },
    formats: {
      customizers: {
        jwt: (ctx, token, { payload }) => {
          const wanted = ctx.get(CLAIMS_HEADER);
          if (wanted !== "") Object.assign(payload, JSON.parse(wanted));
          if (token.kind === "AccessToken") Object.assign(payload, people.get(token.accountId));
        },
      },
    },
  };
}

/** What the provider remembers, for as long as the issuer runs: sign-ins under way survive a change of keys. */
function createMemory(kind: string, stored: Map<string, AdapterPayload>): Adapter {
  const keyOf = (id: string) => `${kind} ${id}`;
  const findBy = (isMeant: (payload: AdapterPayload) => boolean) =>
    [...stored].find(([key, payload]) => key.startsWith(`${kind} `) && isMeant(payload))?.[1];
  return {
    upsert: async (id, payload) => void stored.set(keyOf(id), payload),
    find: async (id) => stored.get(keyOf(id)),
    findByUid: async (uid) => findBy((payload) => payload.uid === uid),
    findByUserCode: async (code) => findBy((payload) => payload.userCode === code),
    consume: async (id) => {
      const payload = stored.get(keyOf(id));
      if (payload !== undefined) payload.consumed = true;
    },
    destroy: async (id) => void stored.delete(keyOf(id)),
    revokeByGrantId: async (grantId) => {
      for (const [key, payload] of stored) if (payload.grantId === grantId) stored.delete(key);
    },
  };
}

async function requestToken(issuer: string, claims: TestClaims): Promise<string> {
  const pair = Buffer.from(`${CLIENT.id}:${CLIENT.secret}`).toString("base64");
  const response = await fetch(`${issuer}/token`, {
    method: "POST",
    headers: { authorization: `Basic ${pair}`, [CLAIMS_HEADER]: JSON.stringify(claims) },
    body: new URLSearchParams({ grant_type: "client_credentials" }),
  });
  const text = await response.text();
  const body: { access_token?: string } = JSON.parse(text);
  if (body.access_token === undefined) throw new Error(`no token: ${text}`);
  return body.access_token;
}

const REDIRECTS_MAX = 10;

async function goThrough(authorizationUrl: string, issuer: string): Promise<string> {
  const cookies = new Map<string, string>();
  let address = authorizationUrl;
  for (let i = 0; i < REDIRECTS_MAX; i++) {
    const response = await fetch(address, {
      redirect: "manual",
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
    });
    for (const line of response.headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      cookies.set(name, value);
    }
    const location = response.headers.get("location");
    if (location === null) {
      throw new Error(`the issuer stopped with ${response.status}: ${await response.text()}`);
    }
    address = new URL(location, address).href;
    if (!address.startsWith(`${issuer}/`)) return address;
  }
  throw new Error("the issuer redirects without end");
}
