import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import { type IngestOutcome, type ParsedItem, parseUsageEvents } from "#contract";
import { anEvent, fixedClock, testDatabase, toNdjson, waitFor, testIngestSettings } from "#harness";
import { neverCrash, silentLogger } from "#kernel";
import { type Database, findOrgRecord, insertOrg, type OrgStatus, setOrgStatus } from "#store";
import { type IngestContext, type Ingestor, openIngestor } from "./ingestor.ts";
import type { WritableOrgs } from "./judge-org.ts";
import { replayQuarantinePage } from "./quarantine.ts";

const NOW = "2026-11-20T12:00:00Z";
const AT = new Date(NOW);

const open = (database: Database, { registersOrgs = true } = {}): Promise<Ingestor> =>
  openIngestor({
    database,
    clock: fixedClock(NOW),
    logger: silentLogger,
    registry: new Registry(),
    crash: neverCrash,
    random: () => 0.5,
    settings: {
      ...testIngestSettings,
      members: { ...testIngestSettings.members, registersOrgs },
    },
  });

const contextOf = (writesFor: WritableOrgs): IngestContext => ({
  source: "http",
  backfill: false,
  correlationId: "test",
  writesFor,
});

const itemsOf = (events: readonly object[]): ParsedItem[] =>
  parseUsageEvents(Buffer.from(toNdjson(events)), "ndjson", { eventsMax: 1000 });

const send = async (
  ingestor: Ingestor,
  events: readonly object[],
  writesFor: WritableOrgs = "any",
): Promise<string[]> => wordsOf(await ingestor.ingest(itemsOf(events), contextOf(writesFor)));

/** The code of what was refused, the status of what was not. */
const wordsOf = (outcomes: readonly IngestOutcome[]): string[] =>
  outcomes.map((outcome) => ("code" in outcome ? outcome.code : outcome.status));

const listQuarantine = (database: Database) => database.sql<{ org: string | null; code: string }>`
  select case q.org_id when 0 then null else o.external_id end as org, q.code
    from quarantine q join org o on o.id = q.org_id
   order by q.id`;

const listOrgNames = async (database: Database): Promise<string[]> =>
  (
    await database.sql<{ name: string }>`
      select external_id as name from org where id > 0 order by 1`
  ).map(({ name }) => name);

async function setStatus(database: Database, orgId: string, status: OrgStatus): Promise<void> {
  const org = await findOrgRecord(database.sql, orgId);
  assert.ok(org);
  await setOrgStatus(database.sql, org.id, { status, at: AT });
}

test("an event for an org its sender may not write for is refused before it touches anything of that org", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  await send(ingestor, [anEvent({ org_id: "globex" })]);
  const stolen = anEvent({ org_id: "globex" });
  const own = anEvent();
  const events = [
    own,
    stolen,
    anEvent({ org_id: "globex", input_tokens: -1 }),
    anEvent({ org_id: "newcomer" }),
    anEvent({ org_id: "acme", input_tokens: -1 }),
  ];

  const outcomes = await send(ingestor, events, new Set(["acme", "initech"]));

  const refused = ["org_forbidden", "org_forbidden", "org_forbidden"];
  assert.deepEqual(outcomes, ["accepted", ...refused, "invalid_number"]);
  // None of it fills the quarantine of the org it names, which that org reads and has to clear.
  assert.deepEqual(await listQuarantine(db.database), [
    { org: null, code: "org_forbidden" },
    { org: null, code: "org_forbidden" },
    { org: null, code: "org_forbidden" },
    { org: "acme", code: "invalid_number" },
  ]);
  assert.deepEqual(await listOrgNames(db.database), ["acme", "globex"]);
  // Its id was not taken: the org's own event of that id counts.
  assert.deepEqual(await send(ingestor, [stolen], new Set(["globex"])), ["accepted"]);
});

test("whoever may not write for an org does not learn which of its events are known", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  const known = anEvent({ org_id: "globex" });
  await send(ingestor, [known]);
  const guesses = [known, { ...known, output_tokens: 7 }, anEvent({ org_id: "globex" })];
  const outcomes = await ingestor.ingest(itemsOf(guesses), contextOf(new Set(["acme"])));
  assert.equal(new Set(outcomes.map((outcome) => JSON.stringify(outcome))).size, 1);
});

test("a dry run says of every org what taking the events in says", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database, { registersOrgs: false });
  for (const externalId of ["acme", "sleepy", "gone"]) await makeOrg(db.database, externalId);
  await setStatus(db.database, "sleepy", "suspended");
  await setStatus(db.database, "gone", "deleted");
  await ingestor.refreshOrgs();
  const orgs = ["acme", "globex", "sleepy", "gone", "nobody"];
  const items = itemsOf([
    ...orgs.map((org_id) => anEvent({ org_id })),
    anEvent({ occurred_at: "2027-01-01T00:00:00Z" }),
    anEvent({ input_tokens: -1 }),
  ]);
  const context = contextOf(new Set(orgs.filter((org) => org !== "globex")));

  const judged = await ingestor.judge(items, context);

  assert.deepEqual(wordsOf(judged), [
    "accepted",
    "org_forbidden",
    "org_suspended",
    "unknown_org",
    "unknown_org",
    "future_timestamp",
    "invalid_number",
  ]);
  assert.deepEqual(await listQuarantine(db.database), []);
  assert.deepEqual(await ingestor.ingest(items, context), judged);
});

test("events of a suspended org wait in its own quarantine and count once it is active; a deleted org's do not", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  await send(ingestor, [anEvent({ org_id: "sleepy" }), anEvent({ org_id: "gone" })]);
  await setStatus(db.database, "sleepy", "suspended");
  await setStatus(db.database, "gone", "deleted");
  await ingestor.refreshOrgs();
  const events = ["sleepy", "gone", "acme"].map((org_id) => anEvent({ org_id }));
  assert.deepEqual(await send(ingestor, events), ["org_suspended", "unknown_org", "accepted"]);
  assert.deepEqual(await listQuarantine(db.database), [
    { org: "sleepy", code: "org_suspended" },
    { org: null, code: "unknown_org" },
  ]);

  await setStatus(db.database, "sleepy", "active");
  await ingestor.refreshOrgs();
  const org = await findOrgRecord(db.database.sql, "sleepy");
  assert.ok(org);
  const deps = { database: db.database, ingestor };
  const page = { backfill: false, correlationId: "replay", beforeId: 2 ** 40, limit: 10 };
  const own = await replayQuarantinePage(deps, { orgId: org.id, externalId: "sleepy" }, page);
  assert.deepEqual(wordsOf(own), ["accepted"]);
  const others = await replayQuarantinePage(deps, { orgId: 0, externalId: null }, page);
  assert.deepEqual(wordsOf(others), ["unknown_org"]);
});

test("a process that nobody tells heeds a suspension with its next upkeep, of seconds", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  await using db = await testDatabase();
  await using ingestor = await open(db.database);
  assert.deepEqual(await send(ingestor, [anEvent()]), ["accepted"]);
  await setStatus(db.database, "acme", "suspended");
  t.mock.timers.tick(5000);
  await waitFor(async () => (await send(ingestor, [anEvent()])).includes("org_suspended"));
});

test("where orgs are made by hand, events of an unknown one wait and are counted when it was made", async () => {
  await using db = await testDatabase();
  await using ingestor = await open(db.database, { registersOrgs: false });
  const events = Array.from({ length: 3 }, () => anEvent({ org_id: "newcomer" }));
  const wanted = ["unknown_org", "unknown_org", "unknown_org"];
  assert.deepEqual(await send(ingestor, events), wanted);
  assert.deepEqual(await listOrgNames(db.database), []);

  await makeOrg(db.database, "newcomer");
  const deps = { database: db.database, ingestor };
  const page = { backfill: false, correlationId: "replay", beforeId: 2 ** 40, limit: 10 };
  const counted = await replayQuarantinePage(
    deps,
    { orgId: 0, externalId: null },
    { ...page, code: "unknown_org" },
  );

  assert.deepEqual(wordsOf(counted), ["accepted", "accepted", "accepted"]);
  const rows = await db.database.sql<{ org: string; events: number }>`
    select o.external_id as org, count(*)::int4 as events
      from usage_event e join org o on o.id = e.org_id
     group by 1`;
  assert.deepEqual(rows, [{ org: "newcomer", events: 3 }]);
  assert.deepEqual(await send(ingestor, [anEvent({ org_id: "newcomer" })]), ["accepted"]);
});

const makeOrg = (database: Database, externalId: string): Promise<number | undefined> =>
  insertOrg(database.sql, {
    externalId,
    name: null,
    billingContact: null,
    timeZone: "UTC",
    currency: "USD",
    entitlements: {},
    at: AT,
  });
