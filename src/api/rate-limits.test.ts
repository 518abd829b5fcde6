import assert from "node:assert/strict";
import test from "node:test";
import { ADMIN, type Principal } from "#auth";
import { Failure } from "#contract";
import { fixedClock } from "#harness";
import type { Problem } from "./problem.ts";
import { createRateLimits, formatRateLimits, type RatesPerMinute } from "./rate-limits.ts";
import { LIMITS, NOW, testApi } from "./test-api.ts";

const NONE: RatesPerMinute = { address: 0, failedLogin: 0, key: 0, org: 0, events: 0 };
const limitsOf = (rates: Partial<RatesPerMinute>) =>
  createRateLimits({ ...NONE, ...rates }, fixedClock(NOW));
const ofOrg = (orgId: string, id: string): Principal => ({ ...ADMIN, orgId, id });
const READING = { isIngestion: false };
const wrong = (): never => {
  throw new Failure("unauthenticated", "no");
};

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "in",
    (error: unknown) => (error instanceof Failure ? error.code : String(error)),
  );

test("the request after the last one allowed is refused, and told when to come back", async () => {
  const limits = limitsOf({ address: 2 });
  await limits.countAddress("192.0.2.1");
  await limits.countAddress("::ffff:192.0.2.1");
  await assert.rejects(limits.countAddress("192.0.2.1"), (error: unknown) => {
    assert.ok(error instanceof Failure);
    assert.equal(error.code, "rate_limited");
    const { retryAfterSeconds = 0 } = error;
    return retryAfterSeconds >= 1 && retryAfterSeconds <= 60;
  });
  await limits.countAddress("192.0.2.2");
});

test("addresses of one IPv6 site are one address; their spelling makes no difference", async () => {
  const limits = limitsOf({ address: 2 });
  await limits.countAddress("2001:db8:1:2::1");
  await limits.countAddress("2001:db8:1:2:ffff:ffff:ffff:ffff");
  assert.equal(await codeOf(limits.countAddress("2001:db8:1:2:0:0:0:9%eth0")), "rate_limited");
  assert.equal(await codeOf(limits.countAddress("2001:db8:1:3::1")), "in");
  assert.equal(await codeOf(limits.countAddress("::1")), "in");
});

test("a principal has its own limit and shares its org's; ingestion is counted apart", async () => {
  const limits = limitsOf({ key: 3, org: 4, events: 1 });
  const one = ofOrg("acme", "one");
  const two = ofOrg("acme", "two");
  const isExceeded = async (principal: Principal, isIngestion = false) =>
    (await limits.countPrincipal(principal, { isIngestion })).some((quota) => quota.isExceeded);
  for (let i = 0; i < 3; i++) assert.equal(await isExceeded(one), false);
  assert.equal(await isExceeded(two), false);
  assert.equal(await isExceeded(two), true, "the org's fifth");
  assert.equal(await isExceeded(ofOrg("globex", "three")), false, "another org's first");
  assert.equal(await isExceeded(one, true), false);
  assert.equal(await isExceeded(one, true), true);
});

test("what is left is told as structured fields", async () => {
  const limits = limitsOf({ key: 5, org: 10 });
  const quotas = await limits.countPrincipal(ofOrg("acme", "one"), READING);
  assert.deepEqual(formatRateLimits(quotas), {
    "ratelimit-policy": '"key";q=5;w=60, "org";q=10;w=60',
    ratelimit: '"key";r=4;t=60, "org";r=9;t=60',
  });
  const staff = await limits.countPrincipal({ ...ADMIN, id: "staff" }, READING);
  assert.deepEqual(
    staff.map(({ policy }) => policy),
    ["key"],
  );
  assert.deepEqual(formatRateLimits([]), {});
});

test("guessing stops unread after so many wrong credentials, for those that were never right", async () => {
  const limits = limitsOf({ failedLogin: 2 });
  const from = "192.0.2.1";
  assert.equal(await codeOf(limits.tryCredential(from, "good", () => "me")), "in");
  assert.equal(await codeOf(limits.tryCredential(from, "bad 1", wrong)), "unauthenticated");
  assert.equal(await codeOf(limits.tryCredential(from, "bad 2", wrong)), "unauthenticated");
  let asked = 0;
  const count = () => ++asked;
  assert.equal(await codeOf(limits.tryCredential(from, "bad 3", count)), "rate_limited");
  assert.equal(asked, 0);
  assert.equal(await codeOf(limits.tryCredential(from, "good", count)), "in");
  assert.equal(await codeOf(limits.tryCredential("192.0.2.2", "other", count)), "in");
  assert.equal(await codeOf(limits.tryCredential(from, "good", wrong)), "unauthenticated");
  assert.equal(await codeOf(limits.tryCredential(from, "good", count)), "rate_limited");
});

test("an outage of whoever knows credentials is no wrong credential", async () => {
  const limits = limitsOf({ failedLogin: 1 });
  const away = (): never => {
    throw new Failure("identity_unavailable", "away");
  };
  for (let i = 0; i < 5; i++)
    assert.equal(await codeOf(limits.tryCredential("::1", `t${i}`, away)), "identity_unavailable");
});

test("S10: over HTTP the limit holds, its headers say so, and no header makes a caller another one", async () => {
  await using api = await testApi({ limits: { rates: { ...NONE, address: 4, key: 3 } } });
  const ask = (i: number) =>
    api.ask<Problem>("/analytics/v1/me", { headers: { "x-forwarded-for": `192.0.2.${i}` } });
  for (let i = 0; i < 3; i++) {
    const { status, headers } = await ask(i);
    assert.equal(status, 200);
    assert.match(headers.get("ratelimit") ?? "", new RegExp(`^"key";r=${2 - i};t=\\d+$`));
    assert.equal(headers.get("ratelimit-policy"), '"key";q=3;w=60');
  }
  const refused = await ask(4);
  assert.deepEqual([refused.status, refused.body.code], [429, "rate_limited"]);
  assert.match(refused.body.detail, /credential/);
  assert.match(refused.headers.get("ratelimit") ?? "", /^"key";r=0;/);
  assert.ok(Number(refused.headers.get("retry-after")) >= 1);
  const byAddress = await ask(5);
  assert.equal(byAddress.status, 429);
  assert.match(byAddress.body.detail, /address/);
  assert.equal((await api.ask("/health", { key: null })).status, 200, "probes are not counted");
});

test("S10: wrong keys are refused unread after so many, and shut nobody else out", async () => {
  await using api = await testApi({ limits: { rates: { ...NONE, failedLogin: 3 } } });
  const me = (key: string | null) => api.ask("/analytics/v1/me", { key });
  assert.equal((await me("test-admin-key")).status, 200);
  const statuses: number[] = [];
  for (let i = 0; i < 5; i++) statuses.push((await me(`guess-${i}`)).status);
  assert.deepEqual(statuses, [401, 401, 401, 429, 429]);
  assert.equal((await me(null)).status, 401);
  assert.equal((await me("test-admin-key")).status, 200);
});

test("what is left is part of who am I, and nobody is limited unless it is set", async () => {
  await using limited = await testApi({ limits: { rates: { ...NONE, key: 9 } } });
  const { body } = await limited.ask("/analytics/v1/me");
  assert.deepEqual(body["rateLimits"], [
    { policy: "key", quota: 9, remaining: 8, resetSeconds: 60 },
  ]);
  assert.deepEqual(LIMITS.rates, NONE);
});
