import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test from "node:test";
import { fixedClock, testDatabase } from "#harness";
import { silentLogger } from "#kernel";
import { insertSignInAttempt, upsertTokenRevocation } from "#store";
import { ADMIN } from "./authenticator.ts";
import { createSessions } from "./sessions.ts";
import { createSignInLink } from "./sign-in-links.ts";
import { startSignInRetention } from "./sign-in-retention.ts";

const HOUR = 3_600_000;

test("what has expired is deleted; what somebody may still use stays", async () => {
  await using db = await testDatabase();
  const { database } = db;
  const clock = fixedClock("2026-11-20T12:00:00Z");
  const settings = { sessionHours: 12, sessionIdleMinutes: 60 };
  const sessions = createSessions({ database, clock, createId: randomUUID, settings });
  const fill = async (name: string) => {
    const caller = { principal: ADMIN, requestId: "r" };
    await sessions.open(caller, { by: "key", replaces: undefined });
    await createSignInLink({ database, clock }, caller);
    const createdAt = new Date(clock.now());
    const until = new Date(clock.now() + HOUR);
    await insertSignInAttempt(database.sql, {
      stateHash: Buffer.alloc(32, name),
      nonce: name,
      verifier: name,
      returnPath: "",
      createdAt,
      expiresAt: until,
    });
    await upsertTokenRevocation(database.sql, {
      kind: "jti",
      issuer: "https://issuer.example",
      value: name,
      until,
      createdAt,
      createdBy: "test",
    });
  };
  await using retention = startSignInRetention({
    database,
    clock,
    logger: silentLogger,
    intervalMs: HOUR,
  });
  await fill("old");
  clock.advance(12 * HOUR + 1);
  await fill("new");

  assert.equal(await retention.run(), 3);
  assert.equal(await retention.run(), 0);
  const left = await database.sql<{ count: number }>`
    select (select count(*) from browser_session) + (select count(*) from sign_in_link)
         + (select count(*) from sign_in_attempt) + (select count(*) from token_revocation) as count`;
  assert.equal(left[0]?.count, 5);
  // The longest session that could have begun with the revoked token is over.
  clock.advance(31 * 24 * HOUR - 11 * HOUR);
  assert.equal(await retention.run(), 3 + 1);
});
