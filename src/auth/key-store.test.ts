import assert from "node:assert/strict";
import test from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Failure } from "#contract";
import { faultProxy, fixedClock, testDatabase, waitFor } from "#harness";
import { silentLogger } from "#kernel";
import { type Database, findApiKey, openDatabase } from "#store";
import { createApiKey, formatApiKey, hashSecret } from "./api-key.ts";
import { ADMIN } from "./authenticator.ts";
import { type Identity, openIdentity } from "./identity.ts";
import type { NewKey } from "./keys.ts";

const NOW = "2026-11-20T12:00:00Z";
const caller = { principal: ADMIN, requestId: "request-1" };
const ENGINEER: NewKey = { name: "grafana", roles: ["engineer"] };
const PRODUCER: NewKey = { name: "gateway", roles: ["producer"] };

/** Two processes over one database, as they tell keys apart; and how often each asked. */
async function openProcesses() {
  await using stack = new AsyncDisposableStack();
  const { database, url } = stack.use(await testDatabase());
  const clock = fixedClock(NOW);
  const open = (reached: Database) => {
    let questions = 0;
    const counted: Database = {
      ...reached,
      sql: (strings, ...values) => {
        questions++;
        return reached.sql(strings, ...values);
      },
    };
    const identity = openIdentity({
      database: counted,
      clock,
      logger: silentLogger,
      adminKey: "admin-key",
      keyEnvironment: "live",
      issuer: undefined,
    });
    return {
      identity,
      ask: async (key: string) => identity.authenticator.authenticate(`Bearer ${key}`),
      questions: () => questions,
    };
  };
  const here = open(database);
  const elsewhere = open(database);
  for (const { identity } of [here, elsewhere]) stack.use(identity);
  await here.identity.orgs.create(caller, { orgId: "acme" });
  const owned = stack.move();
  return {
    database,
    url,
    clock,
    open,
    here,
    elsewhere,
    identity: here.identity,
    own: <T extends AsyncDisposable>(resource: T): T => owned.use(resource),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const answerOf = async (asked: Promise<unknown>): Promise<string> => {
  try {
    await asked;
    return "let in";
  } catch (error) {
    if (error instanceof Failure) return `${error.code}: ${error.message}`;
    throw error;
  }
};
const REFUSED = /^unauthenticated: /;

const makeKey = async (identity: Identity, key: NewKey = ENGINEER, orgId: string | null = "acme") =>
  await identity.keys.create(caller, orgId, key);

test("a key lets its org's program in with its role's scopes, cut down by its own", async () => {
  await using t = await openProcesses();
  const { key, record } = await makeKey(t.identity, {
    ...ENGINEER,
    scopes: ["usage:read"],
    expiresAt: new Date("2026-12-01T00:00:00Z"),
  });
  assert.deepEqual(await t.here.ask(key), {
    kind: "key",
    id: record.id,
    name: "grafana",
    roles: ["engineer"],
    scopes: ["usage:read", "self:read"],
    orgId: "acme",
    writesFor: [],
    expiresAt: new Date("2026-12-01T00:00:00Z"),
    session: null,
    isSuspended: false,
  });
  const producer = await makeKey(t.identity, PRODUCER);
  assert.deepEqual((await t.here.ask(producer.key)).writesFor, ["acme"]);
  const several = await makeKey(t.identity, { ...PRODUCER, writesFor: ["acme", "globex"] }, null);
  assert.deepEqual((await t.here.ask(several.key)).writesFor, ["acme", "globex"]);
  assert.deepEqual((await t.here.ask(several.key)).scopes, ["events:write", "self:read"]);
});

test("of a key only the hash of its secret is stored", async () => {
  await using t = await openProcesses();
  const { key, record } = await makeKey(t.identity);
  const stored = await findApiKey(t.database.sql, record.id);
  const secret = key.split("_")[3] ?? "";
  assert.deepEqual(stored?.secretHash, hashSecret(secret));
  assert.equal(JSON.stringify(stored).includes(secret), false);
});

test("a key that is known is told without a question; one with a wrong checksum or environment, too", async () => {
  await using t = await openProcesses();
  const { key } = await makeKey(t.identity);
  await t.here.ask(key);
  // Notes the first use, so that it is not counted below.
  await t.identity[Symbol.asyncDispose]();
  const before = t.here.questions();
  const principal = t.identity.authenticator.authenticate(`Bearer ${key}`);
  assert.equal(principal instanceof Promise, false);
  const [, , id = "", secret = ""] = key.split("_");
  const strangers = [
    `${key.slice(0, -1)}${key.endsWith("0") ? "1" : "0"}`,
    key.replace("tally_live", "tally_test"),
    formatApiKey({ environment: "test", id, secret }),
    formatApiKey(createApiKey("test")),
    "tally_live_what",
  ];
  for (const stranger of strangers) {
    assert.match(await answerOf(t.here.ask(stranger)), REFUSED, stranger);
  }
  assert.equal(t.here.questions(), before);
});

test("a key that is not there and a wrong secret are refused alike, and remembered alike", async () => {
  await using t = await openProcesses();
  const { record } = await makeKey(t.identity);
  const unknown = createApiKey("live");
  const wrong = { ...createApiKey("live"), id: record.id };
  const answers = new Set<string>();
  for (const key of [unknown, wrong]) {
    const before = t.here.questions();
    for (let i = 0; i < 5; i++) answers.add(await answerOf(t.here.ask(formatApiKey(key))));
    assert.equal(t.here.questions() - before, 1);
  }
  assert.equal(answers.size, 1);
  assert.match([...answers][0] ?? "", REFUSED);
});

test("many who come with one key at once ask once", async () => {
  await using t = await openProcesses();
  const { key } = await makeKey(t.identity);
  const before = t.here.questions();
  await Promise.all(Array.from({ length: 100 }, () => t.here.ask(key)));
  await t.identity[Symbol.asyncDispose]();
  // The key, and the note of its use.
  assert.equal(t.here.questions() - before, 2);
});

test("a revoked key is refused here at once and elsewhere within a minute, in use all the while", async () => {
  await using t = await openProcesses();
  const { key, record } = await makeKey(t.identity);
  for (const process of [t.here, t.elsewhere])
    assert.equal(await answerOf(process.ask(key)), "let in");
  await t.identity.keys.revoke(caller, "acme", record.id);
  assert.match(await answerOf(t.here.ask(key)), REFUSED);
  let seconds = 0;
  await waitFor(
    async () => {
      if ((await answerOf(t.elsewhere.ask(key))) !== "let in") return true;
      t.clock.advance(1000);
      seconds++;
      return false;
    },
    { what: "the key to be refused" },
  );
  assert.ok(seconds <= 31, `${seconds} s`);
});

test("a key that expires is refused from that instant on, wherever it is remembered", async () => {
  await using t = await openProcesses();
  const expiresAt = new Date(t.clock.now() + 10_000);
  const { key } = await makeKey(t.identity, { ...ENGINEER, expiresAt });
  assert.equal(await answerOf(t.here.ask(key)), "let in");
  t.clock.advance(9_999);
  assert.equal(await answerOf(t.here.ask(key)), "let in");
  t.clock.advance(1);
  assert.match(await answerOf(t.here.ask(key)), REFUSED);
});

test("while a key is renewed under load nobody is turned away, and the old one ends with the overlap", async () => {
  await using t = await openProcesses();
  const old = await makeKey(t.identity, PRODUCER);
  let inUse = old.key;
  let isOver = false;
  const answers: string[] = [];
  const load = Array.from({ length: 8 }, async (_, i) => {
    while (!isOver) {
      answers.push(await answerOf((i % 2 === 0 ? t.here : t.elsewhere).ask(inUse)));
      await nextTurn();
    }
  });
  await waitFor(() => answers.length > 200);
  const next = await t.identity.keys.rotate(caller, "acme", old.record.id, { overlapHours: 24 });
  await waitFor(() => answers.length > 1000);
  inUse = next.key;
  const before = answers.length;
  await waitFor(() => answers.length > before + 1000);
  isOver = true;
  await Promise.all(load);
  assert.deepEqual(new Set(answers), new Set(["let in"]));

  assert.equal(next.record.replaces, old.record.id);
  assert.deepEqual(next.record.roles, old.record.roles);
  t.clock.advance(24 * 3_600_000 - 1);
  assert.equal(await answerOf(t.here.ask(old.key)), "let in");
  t.clock.advance(1);
  assert.match(await answerOf(t.here.ask(old.key)), REFUSED);
  assert.match(await answerOf(t.elsewhere.ask(old.key)), REFUSED);
  assert.equal(await answerOf(t.elsewhere.ask(next.key)), "let in");
});

test("without an overlap the old key ends with the new one's making", async () => {
  await using t = await openProcesses();
  const old = await makeKey(t.identity);
  await t.here.ask(old.key);
  const next = await t.identity.keys.rotate(caller, "acme", old.record.id, { overlapHours: 0 });
  assert.match(await answerOf(t.here.ask(old.key)), REFUSED);
  assert.equal(await answerOf(t.here.ask(next.key)), "let in");
});

test("an org's keys know themselves alone while it is suspended, and nothing once it is deleted", async () => {
  await using t = await openProcesses();
  const { key } = await makeKey(t.identity, { ...PRODUCER, roles: ["producer", "engineer"] });
  for (const process of [t.here, t.elsewhere]) await process.ask(key);
  await t.identity.orgs.setStatus(caller, "acme", "suspended");
  const suspended = await t.here.ask(key);
  assert.deepEqual(suspended.scopes, ["self:read"]);
  assert.deepEqual(suspended.writesFor, []);
  assert.equal(suspended.isSuspended, true);
  t.clock.advance(31_000);
  assert.equal((await t.elsewhere.ask(key)).isSuspended, true);

  await t.identity.orgs.setStatus(caller, "acme", "active");
  assert.equal((await t.here.ask(key)).isSuspended, false);
  await t.identity.orgs.setStatus(caller, "acme", "deleted");
  assert.match(await answerOf(t.here.ask(key)), REFUSED);
  t.clock.advance(31_000);
  assert.match(await answerOf(t.elsewhere.ask(key)), REFUSED);
});

test("a key that came to be while its org was being deleted is refused", async () => {
  await using t = await openProcesses();
  const { key } = await makeKey(t.identity);
  await t.identity.orgs.setStatus(caller, "acme", "deleted");
  await t.database.sql`update api_key set revoked_at = null`;
  assert.match(await answerOf(t.here.ask(key)), REFUSED);
});

test("a key's last use is noted once a minute, beside the requests", async () => {
  await using t = await openProcesses();
  const { key, record } = await makeKey(t.identity);
  const lastUse = async () => {
    const [listed] = await t.identity.keys.list(caller, "acme", { limit: 1 });
    return listed?.lastUsedAt?.toISOString();
  };
  assert.equal(record.lastUsedAt, null);
  await t.here.ask(key);
  await waitFor(async () => (await lastUse()) === "2026-11-20T12:00:00.000Z");
  for (let i = 0; i < 59; i++) {
    t.clock.advance(1000);
    await t.here.ask(key);
  }
  assert.equal(await lastUse(), "2026-11-20T12:00:00.000Z");
  t.clock.advance(1000);
  await t.here.ask(key);
  await t.identity[Symbol.asyncDispose]();
  assert.equal(await lastUse(), "2026-11-20T12:01:00.000Z");
});

test("without the database a key that only writes goes on for ten minutes, and no other key is let in unasked", async () => {
  await using t = await openProcesses();
  const proxy = t.own(await faultProxy({ upstreamPort: Number(new URL(t.url).port) }));
  const reached = t.own(
    await openDatabase({
      url: proxy.through(t.url),
      ownerConnectionsMax: 2,
      apiConnectionsMax: 2,
      ownerStatementMsMax: 5000,
      apiStatementMsMax: 900,
      connectMsMax: 5000,
      onIdleError: () => undefined,
    }),
  );
  const away = t.open(reached);
  t.own(away.identity);
  const writer = await makeKey(t.identity, PRODUCER);
  const reader = await makeKey(t.identity);
  const unseen = await makeKey(t.identity, PRODUCER);
  for (const { key } of [writer, reader]) assert.equal(await answerOf(away.ask(key)), "let in");

  const isUnavailable = async (key: string) => {
    await assert.rejects(away.ask(key), (error: unknown) => {
      return !(error instanceof Failure) || error.code === "database_unavailable";
    });
  };
  proxy.refuse();
  await isUnavailable(unseen.key);
  t.clock.advance(31_000);
  assert.equal(await answerOf(away.ask(writer.key)), "let in");
  await isUnavailable(reader.key);
  const [, , id = ""] = writer.key.split("_");
  const guess = formatApiKey({ ...createApiKey("live"), id });
  assert.match(await answerOf(away.ask(guess)), REFUSED);

  proxy.heal();
  proxy.blackhole();
  t.clock.advance(60_000);
  const startMs = performance.now();
  assert.equal(await answerOf(away.ask(writer.key)), "let in");
  assert.ok(performance.now() - startMs < 3000);
  t.clock.advance(9 * 60_000);
  await isUnavailable(writer.key);
  proxy.heal();
  proxy.cut();
  t.clock.advance(2000);
  assert.equal(await answerOf(away.ask(reader.key)), "let in");
});
