import assert from "node:assert/strict";
import test from "node:test";
import { parse } from "yaml";
import { Failure } from "#contract";
import { testDatabase, type TestDatabase } from "#harness";
import type { Database, PriceLayer } from "#store";
import { findPrice } from "./price-book.ts";
import { type PriceList, priceList } from "./price-order.ts";
import { applyPrices, getOrgPrices, listBookPage, previewPrices, readPriceBook } from "./prices.ts";

const DID = {
  actor: "key-1",
  actorName: "Grace",
  requestId: "request-1",
  at: new Date("2026-11-20T10:00:00Z"),
};
const NOON_MS = Date.parse("2026-11-20T12:00:00Z");

const listOf = (text: string): PriceList => priceList.parse(parse(text, { schema: "failsafe" }));

const order = (text: string, layer: PriceLayer = "own") => ({ layer, list: listOf(text) });
const apply = (database: Database, text: string, layer?: PriceLayer) =>
  applyPrices(database, order(text, layer), DID);

/** A database with the orgs acme and globex. */
async function twoOrgs(): Promise<TestDatabase> {
  const db = await testDatabase();
  await db.database.sql`insert into org (external_id) values ('acme'), ('globex')`;
  return db;
}

const FIRST = `
prices:
  - { model: m, perMillion: { input: 1 } }
  - { model: n*, perMillion: { input: 2, output: 8 } }
  - { model: m, orgId: acme, perMillion: { input: 0.5 } }
pools:
  - { pool: gpu, perHour: 98.32, models: [house-*] }
`;

test("an apply makes the book what the list says under a new version; repeating it changes nothing and leaves no trace", async () => {
  await using db = await twoOrgs();
  const { database } = db;
  const first = await apply(database, FIRST);
  assert.deepEqual(
    [first.version, first.changes.map(({ what }) => what)],
    [1, ["added", "added", "added", "added"]],
  );
  const again = await apply(database, FIRST.replaceAll("1 }", '"1.00" }'));
  assert.deepEqual(again, { version: 1, changes: [] });

  const second = await apply(
    database,
    FIRST.replace("input: 2", "input: 3").replace(/.*acme.*\n/, ""),
  );
  assert.deepEqual(
    [
      second.version,
      second.changes.map(({ what, before, after }) => [
        what,
        before?.subject,
        before?.version,
        after?.subject,
      ]),
    ],
    [
      2,
      [
        ["removed", "m", 1, undefined],
        ["changed", "n*", 1, "n*"],
      ],
    ],
  );
  const { entries } = await listBookPage(
    database,
    { layer: null, orgId: null, model: null },
    { after: 0, limit: 10 },
  );
  assert.deepEqual(
    entries.map(({ subject, version }) => [subject, version]),
    [
      ["gpu", 1],
      ["m", 1],
      ["n*", 2],
    ],
    "what stayed keeps the version it came in with",
  );
  const history = await database.sql<{ subject: string; version: number; retired: number | null }>`
    select subject, version, retired_version as retired from price order by id`;
  assert.equal(history.length, 5, "what was is kept, to explain amounts");
  const audit = await database.sql<{ action: string; details: object }>`
    select action, (entry::jsonb) -> 'details' as details from audit_log where org_id = 0 order by seq`;
  assert.deepEqual(audit, [
    { action: "prices.apply", details: { version: 1, added: 4, retired: 0 } },
    { action: "prices.apply", details: { version: 2, added: 1, retired: 2 } },
  ]);
});

test("a price that ends sooner or later than it did is another entry, with the version of that change", async () => {
  await using db = await twoOrgs();
  const { database } = db;
  const text = "prices: [{ model: m, to: 2026-12-01, perMillion: { input: 1 } }]";
  await apply(database, text);
  for (const end of ["2027-01-01", "2026-11-01"]) {
    const { changes } = await apply(database, text.replace("2026-12-01", end));
    assert.deepEqual(
      changes.map(({ what, after }) => [what, after?.to?.toISOString().slice(0, 10)]),
      [["changed", end]],
    );
  }
  const { changes } = await apply(database, "prices: [{ model: m, perMillion: { input: 1 } }]");
  assert.deepEqual(
    changes.map(({ what, after }) => [what, after?.to]),
    [["changed", null]],
  );
});

test("a preview tells what an apply would do, and changes nothing", async () => {
  await using db = await twoOrgs();
  const { database } = db;
  await apply(database, FIRST);
  const wanted = order(FIRST.replace("input: 2", "input: 3"));
  const foreseen = await previewPrices(database, wanted);
  assert.equal((await readPriceBook({ sql: database.sql })).version, 1);
  assert.deepEqual(await applyPrices(database, wanted, DID), foreseen);
});

test("the layers do not touch each other, and an own price comes before the catalogue's", async () => {
  await using db = await twoOrgs();
  const { database } = db;
  await apply(
    database,
    "prices: [{ model: m, perMillion: { input: 7 } }, { model: z, perMillion: { input: 8 } }]",
    "catalogue",
  );
  await apply(database, FIRST);
  const book = await readPriceBook({ sql: database.sql });
  const input = (modelId: string, orgId: string) =>
    findPrice(book, { modelId, orgId, atUs: NOON_MS * 1000 })?.terms.perMillion.input;
  assert.deepEqual(
    [input("m", "globex"), input("m", "acme"), input("z", "acme"), input("nn", "acme")],
    ["1", "0.5", "8", "2"],
  );
  await apply(database, "prices: []");
  const left = await readPriceBook({ sql: database.sql });
  assert.deepEqual(
    [
      left.version,
      findPrice(left, { modelId: "m", orgId: "acme", atUs: 0 })?.terms.perMillion.input,
    ],
    [3, "7"],
  );
  await assert.rejects(
    apply(database, "prices: [{ model: m, orgId: acme, perMillion: { input: 7 } }]", "catalogue"),
    /cannot be together/,
  );
});

test("a list with one mistake changes nothing, and the mistake is named", async () => {
  await using db = await twoOrgs();
  const { database } = db;
  await apply(database, FIRST);
  const wrong = `${FIRST.replace("pools:", "  - { model: x, orgId: nobody, perMillion: { input: 1 } }\npools:")}`;
  await assert.rejects(apply(database, wrong), (error) => {
    assert.ok(error instanceof Failure);
    assert.equal(error.code, "invalid_request");
    assert.deepEqual(error.details, [
      {
        pointer: "/body/prices/3/orgId",
        code: "unknown_org",
        message: "There is no org nobody (api).",
      },
    ]);
    return true;
  });
  await database.sql`update org set status = 'deleted' where external_id = 'acme'`;
  await assert.rejects(apply(database, FIRST), /orgs that are not there/);
  assert.equal((await readPriceBook({ sql: database.sql })).version, 1);
});

test("the database itself lets no two prices of a model and org hold at the same time", async () => {
  await using db = await twoOrgs();
  const { sql } = db.database;
  const put = (org: number, from: string | null, to: string | null) => sql`
    insert into price (org_id, subject, valid_from, valid_to, terms, source, version)
    values (${org}, 'm', ${from}, ${to}, '{}', '', 0)`;
  await put(0, null, "2026-11-20T12:00:00Z");
  await put(0, "2026-11-20T12:00:00Z", "2026-11-21T00:00:00Z");
  await put(1, null, null);
  for (const [from, to] of [
    [null, null],
    ["2026-11-20T11:59:59Z", "2026-11-20T12:00:00Z"],
    ["2026-11-20T23:59:59Z", null],
  ] as const)
    await assert.rejects(put(0, from, to), { code: "23P01" });
  await assert.rejects(put(2, "2026-11-21T00:00:00Z", "2026-11-21T00:00:00Z"), { code: "23514" });
  await sql`insert into price_version values (1, 'own', now(), '', 0, 1)`;
  await sql`update price set retired_version = 1 where org_id = 1`;
  await put(1, null, null);
});

test("of many who apply at once each is heeded in turn, and no version is lost or given twice", async () => {
  await using db = await twoOrgs();
  const { database } = db;
  const lists = ["1", "2", "3", "4"].map(
    (input) => `prices: [{ model: m, perMillion: { input: ${input} } }]`,
  );
  const done = await Promise.all(lists.map((text) => apply(database, text)));
  assert.deepEqual(done.map(({ version }) => version).toSorted(), [1, 2, 3, 4]);
  const [inForce] = await database.sql<{ version: number; count: number }>`
    select max(version) as version, count(*) as count from price where retired_version is null`;
  assert.deepEqual(inForce, { version: 4, count: 1 });
});

test("an org sees what holds for it: its own prices and those of all, no other org's, and no shared pool", async () => {
  await using db = await twoOrgs();
  const { database } = db;
  await apply(
    database,
    `${FIRST}  - { pool: acme-gpu, orgId: acme, perHour: 5, models: [a] }\n`.replace(
      "pools:",
      "  - { model: secret, orgId: globex, perMillion: { input: 9 } }\n  - { model: later, from: 2026-11-21, perMillion: { input: 9 } }\npools:",
    ),
  );
  const acme = await getOrgPrices(database, { orgId: "acme", atMs: NOON_MS });
  assert.deepEqual(
    acme.prices.map(({ subject, orgId, terms }) => [subject, orgId, terms.perMillion.input]),
    [
      ["m", "acme", "0.5"],
      ["n*", null, "2"],
    ],
  );
  assert.deepEqual(
    acme.pools.map(({ subject }) => subject),
    ["acme-gpu"],
  );
  const named = await getOrgPrices(database, { orgId: "acme", model: "nnn", atMs: NOON_MS });
  assert.deepEqual(
    named.prices.map(({ subject }) => subject),
    ["n*"],
  );
  const ofNobody = getOrgPrices(database, { orgId: "nobody", atMs: NOON_MS });
  await assert.rejects(ofNobody, { code: "not_found" });

  const [org] = await database.sql<{ id: number }>`select id from org where external_id = 'acme'`;
  const seen = await database.withOrg(
    org?.id ?? 0,
    async (tx) => (await tx.exec("select distinct org_id from price order by 1")).rows,
  );
  assert.deepEqual(seen, [{ org_id: 0 }, { org_id: org?.id }], "with the filter left out, too");
  await database.sql`update org set status = 'deleted' where external_id = 'acme'`;
  const ofDeleted = getOrgPrices(database, { orgId: "acme", atMs: NOON_MS });
  await assert.rejects(ofDeleted, { code: "not_found" });
});

test("pages of the book hold every entry once, and a filter leaves those that could price the model", async () => {
  await using db = await twoOrgs();
  const { database } = db;
  await apply(database, FIRST);
  const none = { layer: null, orgId: null, model: null };
  const subjects: string[] = [];
  let after = 0;
  for (let page = 0; page < 4; page++) {
    const { entries } = await listBookPage(database, none, { after, limit: 1 });
    subjects.push(...entries.map(({ subject, orgId }) => `${subject} ${orgId ?? ""}`.trim()));
    after = entries[0]?.id ?? 0;
  }
  assert.deepEqual((await listBookPage(database, none, { after, limit: 1 })).entries, []);
  assert.deepEqual(subjects, ["gpu", "m", "m acme", "n*"]);
  const page = { after: 0, limit: 10 };
  const count = async (filter: Parameters<typeof listBookPage>[1]) =>
    (await listBookPage(database, filter, page)).entries.length;
  assert.equal(await count({ ...none, model: "m" }), 2);
  assert.equal(await count({ ...none, model: "nn" }), 1);
  assert.equal(await count({ ...none, model: "gpu" }), 0);
  assert.equal(await count({ ...none, orgId: "acme" }), 1);
  assert.equal(await count({ ...none, layer: "catalogue" }), 0);
});
