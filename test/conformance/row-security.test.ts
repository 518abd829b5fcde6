import assert from "node:assert/strict";
import { test } from "node:test";
import pg from "pg";
import { anEvent, testService, waitFor } from "#harness";
import { listTablesWithoutRowSecurity, upsertOrgs } from "#store";

const FORBIDDEN = "42501";

/** Rows that a statement sees, or "forbidden" where its role may not read the table at all. */
async function countRows(client: pg.Client, text: string): Promise<number | "forbidden"> {
  try {
    const { rows } = await client.query<{ n: string }>(text);
    return Number(rows[0]?.n);
  } catch (error) {
    await client.query("rollback; begin");
    if (error instanceof pg.DatabaseError && error.code === FORBIDDEN) return "forbidden";
    throw error;
  }
}

test("with the application's filter removed no table shows a foreign row, and with no org chosen none shows any", async () => {
  await using service = await testService({ env: { PEOPLE_FOLD_INTERVAL_MS: "500" } });
  const { database, url } = service.db;
  const events = ["acme", "globex"].flatMap((org_id) =>
    Array.from({ length: 20 }, (_, i) =>
      anEvent({
        org_id,
        occurred_at: new Date().toISOString(),
        ...(i === 0 ? { status: "error", error_code: "429" } : {}),
        ...(i === 1 ? { input_tokens: -1 } : {}),
      }),
    ),
  );
  await service.send(events);
  await waitFor(async () => {
    const [row] = await database.sql<{ orgs: number }>`
      select count(*)::int4 as orgs
        from (select org_id from rollup_actor_day intersect select org_id from freshness) as counted`;
    return row?.orgs === 2;
  });
  const [acme] = await upsertOrgs(database.sql, ["acme"]);
  assert.ok(acme);

  const tables = await database.sql<{ name: string; org: string }>`
    select c.relname as name, a.attname as org
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
     where c.relnamespace = 'public'::regnamespace
       and c.relkind in ('r', 'p')
       and (a.attname = 'org_id' or (c.relname = 'org' and a.attname = 'id'))
     order by c.relname`;
  assert.ok(tables.length > 25, `${tables.length} tables say whose their rows are`);
  assert.deepEqual(await listTablesWithoutRowSecurity(database.sql), []);

  const api = new pg.Client({ connectionString: url, options: "-c role=tallystick_api" });
  await api.connect();
  try {
    for (const { name, org } of tables) {
      await api.query("begin");
      const unset = await countRows(api, `select count(*) as n from ${name}`);
      assert.ok(
        unset === 0 || unset === "forbidden",
        `${name} shows ${unset} rows with no org chosen`,
      );
      await api.query(`rollback; begin; set local app.org_id = '${acme.id}'`);
      const foreign = await countRows(
        api,
        `select count(*) as n from ${name} where ${org} <> ${acme.id}`,
      );
      assert.ok(foreign === 0 || foreign === "forbidden", `${name} shows ${foreign} foreign rows`);
      await api.query(`rollback; begin; set local app.org_id = '${acme.id}'`);
      const own = await countRows(api, `select count(*) as n from ${name}`);
      if (
        /^(rollup_(org|model|client|actor)_|usage_event$|ledger$|quarantine$|org$|freshness$)/.test(
          name,
        )
      ) {
        assert.ok(own !== "forbidden" && own > 0, `${name} shows its own org's rows`);
      }
      await api.query("rollback");
    }
    await assert.rejects(api.query("update rollup_org_day set requests = 0"), { code: FORBIDDEN });
    await assert.rejects(api.query("select 1 from event_key_1"), { code: FORBIDDEN });
  } finally {
    await api.end();
  }
});
