import assert from "node:assert/strict";
import test from "node:test";
import { Failure } from "#contract";
import { fixedClock, startTestIssuer, waitFor, type TestIssuer } from "#harness";
import { createLogger, type Logger } from "#kernel";
import { fetchIssuerKeys } from "./issuer-keys.ts";
import { createIssuerKeySet, type IssuerKeySet } from "./jwks.ts";

const NOW = "2026-11-20T12:00:00Z";
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

async function openKeySet(staleMsMax = 24 * HOUR_MS) {
  const issuer = await startTestIssuer();
  const clock = fixedClock(NOW);
  const log: string[] = [];
  const logger: Logger = createLogger("debug", { write: (line) => void log.push(line) });
  const keySet = createIssuerKeySet({ issuer: issuer.url, staleMsMax, clock, logger });
  return { issuer, clock, log, keySet, [Symbol.asyncDispose]: issuer[Symbol.asyncDispose] };
}

/** How many keys are found for the issuer's newest, or the code of the failure. */
async function found(keySet: IssuerKeySet, kid: string | undefined): Promise<number | string> {
  try {
    return (await keySet.find("RS256", kid)).length;
  } catch (error) {
    if (error instanceof Failure) return error.code;
    throw error;
  }
}

const refetched = (issuer: TestIssuer, fetches: number) =>
  waitFor(() => issuer.keyFetches === fetches, { what: `${fetches} fetches` });

test("keys are fetched with the first question, shared by all who ask at once, and renewed beside them", async () => {
  await using t = await openKeySet();
  const asked = await Promise.all(Array.from({ length: 50 }, () => found(t.keySet, "key-1")));
  assert.deepEqual(new Set(asked), new Set([1]));
  assert.equal(t.issuer.keyFetches, 1);

  t.clock.advance(9 * MINUTE_MS);
  assert.equal(await found(t.keySet, "key-1"), 1);
  assert.equal(t.issuer.keyFetches, 1);

  t.clock.advance(2 * MINUTE_MS);
  assert.equal(await found(t.keySet, "key-1"), 1);
  await refetched(t.issuer, 2);
});

test("a new key is taken at once under load, and the old one as long as the issuer lists it", async () => {
  await using t = await openKeySet();
  assert.equal(await found(t.keySet, "key-1"), 1);
  t.clock.advance(MINUTE_MS);
  await t.issuer.rotate();
  const kids = Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? "key-1" : "key-2"));
  const answers = await Promise.all(kids.map((kid) => found(t.keySet, kid)));
  assert.deepEqual(new Set(answers), new Set([1]));
  assert.equal(t.issuer.keyFetches, 2);

  await t.issuer.rotate({ keepOld: false });
  t.clock.advance(11 * MINUTE_MS);
  await t.keySet.refresh();
  assert.equal(await found(t.keySet, "key-3"), 1);
  assert.equal(await found(t.keySet, "key-1"), 0);
});

test("while the issuer is away for an hour, its keys go on being used, and unknown ones are not taken for wrong", async () => {
  await using t = await openKeySet();
  assert.equal(await found(t.keySet, "key-1"), 1);
  await t.issuer.stop();
  for (let minutes = 0; minutes < 60; minutes++) {
    t.clock.advance(MINUTE_MS);
    assert.equal(await found(t.keySet, "key-1"), 1);
  }
  assert.equal(await found(t.keySet, "key-2"), "identity_unavailable");
  await t.issuer.rotate();
  await t.issuer.start();
  t.clock.advance(MINUTE_MS);
  assert.equal(await found(t.keySet, "key-2"), 1);
});

test("keys older than their longest use are not used any more", async () => {
  await using t = await openKeySet(24 * HOUR_MS);
  assert.equal(await found(t.keySet, "key-1"), 1);
  await t.issuer.stop();
  t.clock.advance(24 * HOUR_MS);
  assert.equal(await found(t.keySet, "key-1"), 1);
  t.clock.advance(MINUTE_MS);
  assert.equal(await found(t.keySet, "key-1"), "identity_unavailable");
});

test("an issuer that was never reached makes nobody unknown: it cannot be told", async () => {
  await using t = await openKeySet();
  await t.issuer.stop();
  assert.equal(await found(t.keySet, "key-1"), "identity_unavailable");
  assert.equal(await found(t.keySet, "key-1"), "identity_unavailable");
  assert.equal(t.log.filter((line) => line.includes("identity_keys_not_fetched")).length, 1);
  await t.issuer.start();
  t.clock.advance(31_000);
  assert.equal(await found(t.keySet, "key-1"), 1);
});

test("what is no key set replaces nothing", async () => {
  await using t = await openKeySet();
  assert.equal(await found(t.keySet, "key-1"), 1);
  // Of another name: whichever answer is taken, the old key is gone.
  const key = { ...t.issuer.publicKeys()[0], kid: "key-9" };
  const garbage = [
    { body: "<html>maintenance</html>" },
    { body: "" },
    { body: "null" },
    { body: "[]" },
    { body: '{"keys":{}}' },
    { body: '{"keys":[]}' },
    { body: '{"keys":[null,1,"a",{}]}' },
    { body: JSON.stringify({ keys: [{ ...key, use: "enc" }] }) },
    { body: JSON.stringify({ keys: [{ ...key, key_ops: ["sign"] }] }) },
    { body: JSON.stringify({ keys: [{ ...key, n: key.n?.slice(0, 170) }] }) },
    { body: JSON.stringify({ keys: [{ kty: "oct", kid: "key-1", k: "c2VjcmV0" }] }) },
    { body: JSON.stringify({ keys: [key], pad: "x".repeat(70_000) }) },
    { status: 500, body: JSON.stringify({ keys: [key] }) },
    { status: 302, headers: { location: "http://127.0.0.1:1/" }, body: "" },
  ];
  for (const answer of garbage) {
    t.issuer.answerKeysWith(answer);
    t.clock.advance(11 * MINUTE_MS);
    const before = t.issuer.keyFetches;
    await t.keySet.refresh();
    assert.equal(t.issuer.keyFetches, before + 1);
    assert.equal(await found(t.keySet, "key-1"), 1, answer.body.slice(0, 60));
  }
});

test("a redirect is not followed", async () => {
  await using t = await openKeySet();
  await using other = await startTestIssuer();
  t.issuer.answerKeysWith({ status: 302, headers: { location: `${other.url}/jwks` }, body: "" });
  assert.equal(await found(t.keySet, "key-1"), "identity_unavailable");
  assert.equal(other.keyFetches, 0);
});

test("two keys of one name are both tried, and a usable one is found among others", async () => {
  await using t = await openKeySet();
  await t.issuer.rotate();
  const [first, second] = t.issuer.publicKeys();
  const keys = [{ ...first, kid: "same" }, { ...second, kid: "same" }, { kty: "what" }, null];
  t.issuer.answerKeysWith({ body: JSON.stringify({ keys }) });
  assert.equal(await found(t.keySet, "same"), 2);
});

test("keys of another kind than the algorithm's are not tried", async () => {
  await using t = await openKeySet();
  assert.equal((await t.keySet.find("RS256", "key-1")).length, 1);
  for (const alg of ["PS256", "ES256", "EdDSA", "HS256", "none", "__proto__"]) {
    assert.deepEqual(await t.keySet.find(alg, "key-1"), [], alg);
  }
});

test("a flood of unknown keys makes one fetch in 30 seconds", async () => {
  await using t = await openKeySet();
  assert.equal(await found(t.keySet, "key-1"), 1);
  for (let second = 0; second < 90; second++) {
    t.clock.advance(1000);
    const kids = Array.from({ length: 20 }, (_, i) => `unknown-${second}-${i}`);
    const answers = await Promise.all(kids.map((kid) => found(t.keySet, kid)));
    assert.deepEqual(new Set(answers), new Set([0]));
  }
  assert.equal(t.issuer.keyFetches, 4);
});

test("an issuer's addresses are https, but for loopback, and hold no password", async () => {
  const addresses = [
    "http://login.example",
    "ftp://127.0.0.1",
    "file:///etc/passwd",
    "http://127.0.0.1.example",
    "http://localhost.example",
    "http://10.0.0.1",
    "http://169.254.169.254/latest/meta-data",
    "https://user:password@login.example",
    "not a URL",
  ];
  for (const issuer of addresses) {
    await assert.rejects(fetchIssuerKeys({ issuer }), /https|URL|password/, issuer);
    await assert.rejects(
      fetchIssuerKeys({ issuer: "https://login.example", jwksUrl: issuer }),
      issuer,
    );
  }
});

test("a discovery document of another issuer is refused", async () => {
  await using t = await openKeySet();
  const other = t.issuer.url.replace("127.0.0.1", "localhost");
  await assert.rejects(fetchIssuerKeys({ issuer: other }), /another issuer/);
  const { keys, answeredAt } = await fetchIssuerKeys({ issuer: t.issuer.url });
  assert.deepEqual(
    keys.map(({ kid }) => kid),
    ["key-1"],
  );
  assert.ok(answeredAt instanceof Date);
});
