import assert from "node:assert/strict";
import { test } from "node:test";
import { faultProxy, testDatabase, waitFor } from "#harness";
import pg from "pg";

test("a test database is migrated, of its own, and gone afterwards", async () => {
  await using other = await testDatabase();
  let name: string;
  {
    await using db = await testDatabase();
    name = db.name;
    await db.database.sql`insert into org (external_id) values ('acme')`;
    const orgs = await db.database.sql<{
      orgs: number;
    }>`select count(*) as orgs from org where id > 0`;
    assert.deepEqual(orgs, [{ orgs: 1 }]);
  }
  const seen = await other.database.sql<{ orgs: number; left: number }>`
    select (select count(*) from org where id > 0) as orgs,
           (select count(*) from pg_database where datname = ${name}) as left`;
  assert.deepEqual(seen, [{ orgs: 0, left: 0 }]);
});

test("the fault proxy lets a commit happen and loses its answer", async () => {
  await using db = await testDatabase();
  await using proxy = await faultProxy({ upstreamPort: Number(new URL(db.url).port) });
  const client = new pg.Client(proxy.through(db.url));
  client.on("error", () => undefined);
  await client.connect();
  await client.query("create table t (x int)");
  proxy.cutAfterCommit();
  await client.query("begin");
  await client.query("insert into t values (1)");
  await assert.rejects(client.query("commit"));
  assert.equal(proxy.commitsCut, 1);
  await waitFor(async () => {
    const rows = await db.database.sql<{ n: number }>`select count(*) as n from t`;
    return rows[0]?.n === 1;
  });
});

test("the fault proxy swallows, delays and heals", async () => {
  await using db = await testDatabase();
  await using proxy = await faultProxy({ upstreamPort: Number(new URL(db.url).port) });
  const connect = async () => {
    const client = new pg.Client({ connectionString: proxy.through(db.url), query_timeout: 300 });
    client.on("error", () => undefined);
    await client.connect();
    return client;
  };
  const first = await connect();
  proxy.blackhole();
  await assert.rejects(first.query("select 1"), /timeout/i);
  proxy.heal();
  const second = await connect();
  proxy.delay(50);
  const from = performance.now();
  await second.query("select 1");
  assert.ok(performance.now() - from >= 95);
  proxy.heal();
  proxy.cut();
  await assert.rejects(second.query("select 1"));
  await Promise.all([first.end().catch(() => undefined), second.end().catch(() => undefined)]);
});
