import assert from "node:assert/strict";
import { createHmac, createPublicKey, type JsonWebKey } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import test from "node:test";
import { importJWK, SignJWT } from "jose";
import { Failure } from "#contract";
import {
  fixedClock,
  startTestIssuer,
  testDatabase,
  type TestClaims,
  type TestIssuer,
} from "#harness";
import { createLogger } from "#kernel";
import { createAuthenticator } from "./authenticator.ts";
import { createIssuerKeySet } from "./jwks.ts";
import { createOrgs } from "./orgs.ts";
import { ADMIN } from "./authenticator.ts";
import { createRevocations } from "./revocations.ts";
import { createTokenVerifier, type TokenSettings } from "./token.ts";

const NOW = "2026-11-20T12:00:00Z";
const NOW_SECONDS = Date.parse(NOW) / 1000;
const GOOD: TestClaims = { sub: "ann", org: "acme", roles: ["engineer"] };

/** A verifier of a real issuer's tokens over a real database, and what tokens are made with. */
async function openVerifier(settings: Partial<TokenSettings> = {}) {
  await using stack = new AsyncDisposableStack();
  const issuer = stack.use(await startTestIssuer());
  const { database } = stack.use(await testDatabase());
  const clock = fixedClock(NOW);
  const log: string[] = [];
  const logger = createLogger("debug", { write: (line) => void log.push(line) });
  const open = () => {
    const keySet = createIssuerKeySet({ issuer: issuer.url, staleMsMax: 3_600_000, clock, logger });
    return createTokenVerifier({
      settings: {
        issuer: issuer.url,
        audience: issuer.audience,
        orgClaim: "org",
        rolesClaim: "roles",
        roleMap: new Map(),
        tokenAgeSecondsMax: 3600,
        ...settings,
      },
      keySet,
      database,
      clock,
      logger,
    });
  };
  const tokens = open();
  const { authenticate } = createAuthenticator({ adminKey: "", tokens });
  const owned = stack.move();
  return {
    issuer,
    database,
    clock,
    log,
    open,
    tokens,
    /** As the API asks: with the header. */
    ask: async (token: string) => authenticate(`Bearer ${token}`),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const codeOf = async (answer: Promise<unknown>): Promise<string> => {
  try {
    await answer;
    return "let in";
  } catch (error) {
    if (error instanceof Failure) return error.code;
    throw error;
  }
};

type Forgery = {
  header?: Record<string, unknown>;
  claims?: Record<string, unknown>;
  /** Claims to leave out. */
  without?: string[];
};

const part = (value: unknown): string =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

const claimsOf = (issuer: TestIssuer, { claims = {}, without = [] }: Forgery) => {
  const all = {
    iss: issuer.url,
    aud: issuer.audience,
    iat: NOW_SECONDS - 10,
    exp: NOW_SECONDS + 600,
    ...GOOD,
    ...claims,
  };
  return Object.fromEntries(Object.entries(all).filter(([name]) => !without.includes(name)));
};

/** A token with the issuer's own signature and whatever header and claims. */
async function sign(issuer: TestIssuer, forgery: Forgery = {}): Promise<string> {
  const key = issuer.signingKey;
  const header = { alg: key.alg, kid: key.kid, typ: "at+jwt", ...forgery.header };
  const kept = Object.entries(header).filter(([, value]) => value !== undefined);
  return await new SignJWT(claimsOf(issuer, forgery))
    .setProtectedHeader({ ...Object.fromEntries(kept), alg: key.alg })
    .sign(await importJWK(key, key.alg));
}

/** A signature over any bytes at all, as RS256 with the issuer's key. */
async function signRaw(issuer: TestIssuer, header: unknown, claims: string): Promise<string> {
  const input = `${part(header)}.${part(claims)}`;
  const key = await importJWK({ ...issuer.signingKey }, "RS256");
  if (key instanceof Uint8Array) throw new Error("not a private key");
  const made = await crypto.subtle.sign("RSASSA-PKCS1-v1_5", key, Buffer.from(input));
  return `${input}.${Buffer.from(made).toString("base64url")}`;
}

test("a token of the issuer lets its subject in, for as long as it says", async () => {
  await using t = await openVerifier();
  const token = await t.issuer.accessToken({ ...GOOD, iat: NOW_SECONDS, exp: NOW_SECONDS + 60 });
  assert.deepEqual(await t.ask(token), {
    kind: "token",
    id: `${t.issuer.url}#ann`,
    name: "tallystick",
    roles: ["engineer"],
    scopes: [
      "usage:read",
      "reliability:read",
      "quarantine:read",
      "org:read",
      "docs:read",
      "self:read",
    ],
    orgId: "acme",
    writesFor: [],
    expiresAt: new Date((NOW_SECONDS + 60) * 1000),
    session: null,
    isSuspended: false,
  });
  t.clock.advance(89_000);
  assert.equal(await codeOf(t.ask(token)), "let in");
  t.clock.advance(1000);
  assert.equal(await codeOf(t.ask(token)), "unauthenticated");
});

test("what is forged with the issuer's own signature is let in when it is made as it should be", async () => {
  await using t = await openVerifier();
  const good: Record<string, Forgery> = {
    "as it should be": {},
    "several audiences, ours among them": { claims: { aud: ["other", t.issuer.audience] } },
    "the media type in full": { header: { typ: "application/at+jwt" } },
    "no kid": { header: { kid: undefined } },
    "issued 29 s from now": { claims: { iat: NOW_SECONDS + 29, nbf: NOW_SECONDS + 29 } },
  };
  for (const [name, forgery] of Object.entries(good)) {
    assert.equal(await codeOf(t.ask(await sign(t.issuer, forgery))), "let in", name);
  }
});

test("a token with anything wrong in header or claims is refused, in the same words", async () => {
  await using t = await openVerifier();
  const at = (seconds: number) => NOW_SECONDS + seconds;
  const bad: Record<string, Forgery> = {
    "an ID token": { header: { typ: "JWT" } },
    "no type": { header: { typ: undefined } },
    "a type that is no text": { header: { typ: ["at+jwt"] } },
    "no exp": { without: ["exp"] },
    "exp past": { claims: { exp: at(-31) } },
    "exp as text": { claims: { exp: String(at(600)) } },
    "exp far beyond all dates": { claims: { exp: 1e20 } },
    "exp null": { claims: { exp: null } },
    "exp a list": { claims: { exp: [at(600)] } },
    "no iat": { without: ["iat"] },
    "iat in the future": { claims: { iat: at(60) } },
    "iat too long ago": { claims: { iat: at(-3631) } },
    "iat as text": { claims: { iat: String(at(-10)) } },
    "nbf in the future": { claims: { nbf: at(60) } },
    "nbf as text": { claims: { nbf: "soon" } },
    "no aud": { without: ["aud"] },
    "another aud": { claims: { aud: "urn:other" } },
    "other auds": { claims: { aud: ["urn:other", "urn:third"] } },
    "aud that begins like ours": { claims: { aud: `${t.issuer.audience}:more` } },
    "aud in capitals": { claims: { aud: t.issuer.audience.toUpperCase() } },
    "aud an object": { claims: { aud: { [t.issuer.audience]: true } } },
    "no iss": { without: ["iss"] },
    "iss with a slash more": { claims: { iss: `${t.issuer.url}/` } },
    "iss of somebody else": { claims: { iss: "https://login.example" } },
    "iss a list": { claims: { iss: [t.issuer.url] } },
    "no sub": { without: ["sub"] },
    "sub empty": { claims: { sub: "" } },
    "sub a number": { claims: { sub: 1 } },
    "sub of two lines": { claims: { sub: "ann\nbob" } },
    "sub too long": { claims: { sub: "a".repeat(256) } },
    "jti a list": { claims: { jti: ["a"] } },
    "kid of another key": { header: { kid: "key-2" } },
    "kid a path": { header: { kid: "../../../../etc/passwd" } },
    "kid SQL": { header: { kid: "' or 1=1; drop table org --" } },
    "kid too long": { header: { kid: "k".repeat(3000) } },
    "kid a list": { header: { kid: ["key-1"] } },
    "kid a number": { header: { kid: 1 } },
    "kid of what every object has": { header: { kid: "__proto__" } },
    "a claim too large": { claims: { note: "x".repeat(8000) } },
  };
  const messages = new Set<string>();
  for (const [name, forgery] of Object.entries(bad)) {
    await assert.rejects(
      sign(t.issuer, forgery).then(t.ask),
      (error: unknown) => {
        assert.ok(error instanceof Failure, name);
        assert.equal(error.code, "unauthenticated", name);
        messages.add(error.message);
        return true;
      },
      name,
    );
  }
  assert.equal(messages.size, 1);
  assert.equal(t.issuer.keyFetches, 1);
});

test("no signature but the issuer's is taken: none, a symmetric one with its public key, another's", async () => {
  await using t = await openVerifier();
  const { issuer } = t;
  const { kid } = issuer.signingKey;
  const claims = JSON.stringify(claimsOf(issuer, {}));
  const pem = createPublicKey({
    key: issuer.publicKeys()[0] as JsonWebKey,
    format: "jwk",
  }).export({ type: "spki", format: "pem" });
  const unsigned = (alg: string) => `${part({ alg, kid, typ: "at+jwt" })}.${part(claims)}`;
  const symmetric = (alg: string, secret: string | Buffer) => {
    const input = unsigned(alg);
    return `${input}.${createHmac(`sha${alg.slice(2)}`, secret)
      .update(input)
      .digest("base64url")}`;
  };
  const whole = await sign(issuer);
  const [head = "", body = "", signature = ""] = whole.split(".");
  const other = await sign(issuer, { claims: { sub: "bob", roles: ["system_admin"] } });
  const tokens: Record<string, string> = {
    none: `${unsigned("none")}.`,
    None: `${unsigned("None")}.`,
    nOnE: `${unsigned("nOnE")}.`,
    "none with a signature": `${unsigned("none")}.${signature}`,
    "RS256 without a signature": `${unsigned("RS256")}.`,
    "HS256 with the public key's PEM": symmetric("HS256", pem),
    "HS512 with the public key's PEM": symmetric("HS512", pem),
    "HS256 with an empty secret": symmetric("HS256", ""),
    "HS256 with the modulus": symmetric("HS256", issuer.publicKeys()[0]?.n ?? ""),
    "another algorithm in the header": `${unsigned("PS256")}.${signature}`,
    "an elliptic algorithm": `${unsigned("ES256")}.${signature}`,
    "an algorithm that is none": `${unsigned("RS1")}.${signature}`,
    "an all-zero signature": `${head}.${body}.${part("\0".repeat(256))}`,
    "the signature of other claims": `${head}.${body}.${other.split(".")[2]}`,
    "claims of another token": `${head}.${other.split(".")[1]}.${signature}`,
    "a part more": `${whole}.${signature}`,
    "five parts": `${head}.${body}.${signature}.${body}.${signature}`,
    "a part less": `${head}.${body}`,
    "padded base64": `${head}=.${body}.${signature}`,
    "a header that is no JSON": `${part("{")}.${body}.${signature}`,
    "a header that is a list": `${part([])}.${body}.${signature}`,
    "a megabyte": `${head}.${part("x".repeat(1_000_000))}.${signature}`,
  };
  for (const [name, token] of Object.entries(tokens)) {
    assert.equal(await codeOf(t.ask(token)), "unauthenticated", name);
  }
  assert.equal(await codeOf(t.ask(whole)), "let in");
});

test("claims that are not what a token holds are refused though the issuer signed them", async () => {
  await using t = await openVerifier();
  const header = { alg: "RS256", kid: t.issuer.signingKey.kid, typ: "at+jwt" };
  const claims = JSON.stringify(claimsOf(t.issuer, {}));
  assert.equal(await codeOf(t.ask(await signRaw(t.issuer, header, claims))), "let in");
  const endless = claims.replace(/"exp":\d+/, '"exp":1e999');
  for (const odd of ["", "null", "[]", '"text"', "{", `[${claims}]`, endless]) {
    assert.equal(await codeOf(t.ask(await signRaw(t.issuer, header, odd))), "unauthenticated", odd);
  }
  const critical = { ...header, crit: ["exp"], exp: NOW_SECONDS + 600 };
  assert.equal(await codeOf(t.ask(await signRaw(t.issuer, critical, claims))), "unauthenticated");
  // Unencoded payloads are for other things than tokens.
  const unencoded = { ...header, b64: false, crit: ["b64"] };
  assert.equal(await codeOf(t.ask(await signRaw(t.issuer, unencoded, claims))), "unauthenticated");
});

test("of a claim that stands twice one reading holds, for the signature and for us", async () => {
  await using t = await openVerifier();
  const header = { alg: "RS256", kid: t.issuer.signingKey.kid, typ: "at+jwt" };
  const twice = JSON.stringify(claimsOf(t.issuer, {})).replace(
    '"org":"acme"',
    '"org":"globex","org":"acme"',
  );
  assert.equal((await t.ask(await signRaw(t.issuer, header, twice))).orgId, "acme");
});

test("keys that a token brings along or points to are neither used nor fetched", async () => {
  await using t = await openVerifier();
  await using stranger = await startTestIssuer();
  let asked = 0;
  const server = createServer((_, response) => {
    asked++;
    response.end(JSON.stringify({ keys: stranger.publicKeys() }));
  });
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
  const theirs = { iss: t.issuer.url, aud: t.issuer.audience };
  const [jwk] = stranger.publicKeys();
  const offers = [{ jwk }, { jku: url }, { x5u: url }, { x5c: [jwk?.n ?? ""] }];
  for (const offer of offers) {
    for (const kid of [undefined, stranger.signingKey.kid, "their-key", url]) {
      const token = await sign(stranger, { header: { ...offer, kid }, claims: theirs });
      assert.equal(await codeOf(t.ask(token)), "unauthenticated", JSON.stringify({ offer, kid }));
    }
  }
  server.close();
  assert.equal(asked, 0);
  assert.equal(stranger.keyFetches, 0);
});

test("another issuer's key is not taken for this one's because it bears the same name", async () => {
  await using t = await openVerifier();
  await using stranger = await startTestIssuer();
  assert.equal(stranger.signingKey.kid, t.issuer.signingKey.kid);
  const own = await sign(stranger);
  const posing = await sign(stranger, { claims: { iss: t.issuer.url } });
  for (const token of [own, posing]) assert.equal(await codeOf(t.ask(token)), "unauthenticated");
});

test("of two keys of one name either may have signed", async () => {
  await using t = await openVerifier();
  const old = await sign(t.issuer, { header: { kid: "same" } });
  await t.issuer.rotate();
  const young = await sign(t.issuer, { header: { kid: "same" } });
  const keys = t.issuer.publicKeys().map((key) => ({ ...key, kid: "same" }));
  t.issuer.answerKeysWith({ body: JSON.stringify({ keys }) });
  for (const token of [old, young]) assert.equal(await codeOf(t.ask(token)), "let in");
});

test("while keys change under load nobody is turned away", async () => {
  await using t = await openVerifier();
  const old = await sign(t.issuer);
  assert.equal(await codeOf(t.ask(old)), "let in");
  t.clock.advance(60_000);
  await t.issuer.rotate();
  const young = await sign(t.issuer);
  const tokens = Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? old : young));
  const answers = await Promise.all(tokens.map((token) => codeOf(t.ask(token))));
  assert.deepEqual(new Set(answers), new Set(["let in"]));
  assert.equal(t.issuer.keyFetches, 2);
});

test("while the issuer's keys are not known, tokens are not refused but put off", async () => {
  await using t = await openVerifier();
  await t.issuer.stop();
  assert.equal(await codeOf(t.ask(await sign(t.issuer))), "identity_unavailable");
  assert.equal(
    await codeOf(t.ask(await sign(t.issuer, { header: { kid: ["a"] } }))),
    "unauthenticated",
  );
});

test("a token that grants nothing here is forbidden, and told which claim to look at", async () => {
  await using t = await openVerifier();
  for (const claims of [
    { roles: [] },
    { roles: ["owner"] },
    { roles: { engineer: true } },
    { roles: ["system:org_admin"] },
    { org: "" },
    { org: "*" },
    { org: ["acme"] },
    { org: "a\0b" },
    { org: "a".repeat(513) },
  ]) {
    const token = await sign(t.issuer, { claims });
    assert.equal(await codeOf(t.ask(token)), "forbidden", JSON.stringify(claims));
  }
  await assert.rejects(sign(t.issuer, { claims: { roles: [] } }).then(t.ask), /claim roles/);
  await assert.rejects(sign(t.issuer, { without: ["org"] }).then(t.ask), /claim org/);
});

test("the log says why a token was refused, and holds no token", async () => {
  await using t = await openVerifier();
  const token = await sign(t.issuer, { claims: { aud: "urn:other" } });
  await codeOf(t.ask(token));
  const log = t.log.join("");
  assert.match(log, /token_refused/);
  assert.match(log, /aud/);
  for (const secret of token.split(".")) assert.equal(log.includes(secret), false);
});

test("a revoked token is refused, here at once and within a minute everywhere; others of its subject are not", async () => {
  await using t = await openVerifier();
  const elsewhere = t.open();
  const revocations = createRevocations({ ...t, issuer: t.issuer.url, onChange: t.tokens.forget });
  const caller = { principal: ADMIN, requestId: "r" };
  const until = new Date(t.clock.now() + 3_600_000);
  const one = await sign(t.issuer, { claims: { jti: "one" } });
  const two = await sign(t.issuer, { claims: { jti: "two" } });
  for (const token of [one, two]) {
    assert.equal(await codeOf(t.ask(token)), "let in");
    await elsewhere.authenticate(token);
  }
  await revocations.create(caller, { kind: "jti", value: "one", until });
  assert.equal(await codeOf(t.ask(one)), "unauthenticated");
  assert.equal(await codeOf(t.ask(two)), "let in");
  t.clock.advance(59_000);
  assert.equal(await codeOf(elsewhere.authenticate(one)), "unauthenticated");
  assert.equal(await codeOf(elsewhere.authenticate(two)), "let in");
});

test("a revoked subject is refused with all it was given until then, and let in with what it is given after", async () => {
  await using t = await openVerifier();
  const revocations = createRevocations({ ...t, issuer: t.issuer.url, onChange: t.tokens.forget });
  const caller = { principal: ADMIN, requestId: "r" };
  const until = new Date(t.clock.now() + 3_600_000);
  const before = await sign(t.issuer);
  const other = await sign(t.issuer, { claims: { sub: "bob" } });
  // By a clock of the issuer's that is as far ahead as is tolerated.
  const ahead = await sign(t.issuer, { claims: { iat: NOW_SECONDS + 30 } });
  assert.equal(await codeOf(t.ask(before)), "let in");
  await revocations.create(caller, { kind: "sub", value: "ann", until });
  assert.equal(await codeOf(t.ask(before)), "unauthenticated");
  assert.equal(await codeOf(t.ask(ahead)), "unauthenticated");
  assert.equal(await codeOf(t.ask(other)), "let in");
  t.clock.advance(60_000);
  const after = await sign(t.issuer, { claims: { iat: NOW_SECONDS + 60 } });
  assert.equal(await codeOf(t.ask(after)), "let in");
  assert.equal(await codeOf(t.ask(before)), "unauthenticated");
});

test("a suspended org's tokens may know themselves and nothing else; a deleted one's are refused; within a minute", async () => {
  await using t = await openVerifier();
  const elsewhere = t.open();
  const caller = { principal: ADMIN, requestId: "r" };
  const orgs = createOrgs({ ...t, onChange: t.tokens.forgetOrg });
  await orgs.create(caller, { orgId: "acme" });
  const token = await sign(t.issuer, {
    claims: { roles: ["engineer", "producer"], exp: NOW_SECONDS + 3600 },
  });
  assert.deepEqual((await t.ask(token)).writesFor, ["acme"]);
  await elsewhere.authenticate(token);

  await orgs.setStatus(caller, "acme", "suspended");
  const suspended = await t.ask(token);
  assert.deepEqual(suspended.scopes, ["self:read"]);
  assert.deepEqual(suspended.writesFor, []);
  assert.equal(suspended.isSuspended, true);
  t.clock.advance(31_000);
  assert.equal((await elsewhere.authenticate(token)).isSuspended, true);

  await orgs.setStatus(caller, "acme", "active");
  assert.equal((await t.ask(token)).isSuspended, false);

  await orgs.setStatus(caller, "acme", "deleted");
  assert.equal(await codeOf(t.ask(token)), "unauthenticated");
  t.clock.advance(31_000);
  assert.equal(await codeOf(elsewhere.authenticate(token)), "unauthenticated");
});
