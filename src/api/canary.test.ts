import assert from "node:assert/strict";
import test from "node:test";
import { table } from "#store";
import { testApi, type TestApi } from "./test-api.ts";

/** Every row of every table of the database, as text. */
async function dumpOf({ database }: TestApi): Promise<string> {
  const tables = await database.sql<{ name: string }>`
    select c.relname as name
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'public'
       and c.relkind in ('r', 'p')`;
  assert.ok(tables.length > 20);
  const rows: string[] = [];
  for (const { name } of tables) {
    const found = await database.sql<{ row: string }>`select t::text as row from ${table(name)} t`;
    rows.push(...found.map(({ row }) => `${name}: ${row}`));
  }
  return rows.join("\n");
}

const hexOf = (text: string): string => Buffer.from(text, "utf8").toString("hex");

test("S17: a secret that comes in anywhere is found nowhere: not in the log, the metrics or the database", async () => {
  await using api = await testApi();
  const canary = "canary7f3kQzX9";
  const forgedKey = `tally_live_${"0".repeat(12)}_${canary.padEnd(43, "s")}_000000`;
  const token = `eyJhbGciOiJub25lIn0.${Buffer.from(`{"sub":"${canary}"}`).toString("base64url")}.${canary}`;
  const basic = `Basic ${Buffer.from(`me:${canary}`).toString("base64")}`;
  const headersTried: Record<string, string>[] = [
    { authorization: `Bearer ${canary}` },
    { authorization: `Bearer ${forgedKey}` },
    { authorization: `Bearer ${token}` },
    { authorization: `Digest ${canary}` },
    { authorization: basic },
    { cookie: `__Host-tallystick=${canary}` },
    { cookie: `__Host-tallystick=${canary.padEnd(43, "c")}` },
    { cookie: `session=${canary}; __Host-tallystick=${canary}` },
  ];
  const paths = [
    "/analytics/v1/me",
    "/docs",
    "/analytics/v1/orgs/acme/usage",
    `/analytics/v1/me?api_key=${canary}`,
    `/nowhere?token=${canary}`,
  ];
  for (const path of paths) {
    for (const headers of headersTried) {
      for (const method of ["GET", "POST"]) {
        const { text } = await api.ask(path, { method, key: null, headers });
        assert.ok(!text.includes(canary), `${method} ${path} answers with it: ${text}`);
      }
    }
    await api.ask(path, { headers: { cookie: `x=${canary}` } });
  }
  const secret = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  const made = await api.ask<{ key: string }>("/analytics/v1/orgs/acme/keys", {
    method: "POST",
    key: secret,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: "another", roles: ["engineer"] }),
  });
  assert.equal(made.status, 201);
  assert.equal(made.headers.get("cache-control"), "no-store");
  const secrets = [canary, secret, made.body.key].flatMap((each) => {
    const part = each.split("_")[3] ?? each;
    return [each, part, hexOf(part), Buffer.from(part).toString("base64url")];
  });
  const metrics = await api.ask("/metrics");
  const listed = await api.ask("/analytics/v1/orgs/acme/keys", { key: secret });
  const places = {
    log: api.log.join(""),
    metrics: metrics.text,
    database: await dumpOf(api),
    "list of keys": listed.text,
  };
  assert.ok(places.database.includes("another"));
  for (const [place, text] of Object.entries(places))
    for (const each of secrets) assert.ok(!text.includes(each), `${place} holds ${each}`);
});

test("S16: broken requests of every kind are answered without what is inside", async () => {
  await using api = await testApi();
  const org = "/analytics/v1/orgs/acme";
  await api.createOrg("acme");
  const json = { "content-type": "application/json" };
  const asked = [
    api.ask("/analytics/v1/orgs/%00/usage"),
    api.ask("/analytics/v1/orgs/%ff/usage"),
    api.ask("/analytics/v1/orgs/'%20or%201=1--/usage"),
    api.ask(`${org}/usage?start=yesterday`),
    api.ask(`${org}/usage?groupBy=pg_catalog`),
    api.ask(`${org}/usage?limit=1&limit=2`),
    api.ask(`${org}/quarantine/99999999999999999999`),
    api.ask(`${org}/quarantine?cursor=%27`),
    api.ask(`${org}/audit?cursor=bm90IG9uZQ`),
    api.ask(`${org}/keys?cursor=nothing`),
    api.ask("/analytics/v1/admin/models/a%00b"),
    api.ask("/analytics/v1/admin/orgs?cursor=%00"),
    ...[
      "{",
      "[]",
      "null",
      '"x"',
      '{"__proto__":{}}',
      '{"a":{"constructor":{"prototype":{}}}}',
      "",
    ].flatMap((body) => [
      api.ask("/analytics/v1/admin/orgs", { method: "POST", headers: json, body }),
      api.ask(`${org}/keys`, { method: "POST", headers: json, body }),
    ]),
    api.ask(`${org}/keys`, {
      method: "POST",
      headers: { "content-type": "text/plain" },
      body: "x",
    }),
    api.ask(`${org}/keys`, {
      method: "POST",
      headers: json,
      body: `{"name":"${"x".repeat(70_000)}"}`,
    }),
    api.ask("/analytics/v1/admin/orgs", {
      method: "POST",
      headers: json,
      body: '{"orgId":"x","entitlements":{"__proto__":1}}',
    }),
  ];
  for (const { status, text } of await Promise.all(asked)) {
    assert.ok(status >= 400 && status < 500, `${status} ${text}`);
    assert.doesNotMatch(
      text,
      /\bselect\b|\binsert\b|\s+at .*:\d+|node_modules|\.ts\b|\.js\b|\/src\/|postgres|ECONN|relation |row-level/i,
    );
  }
  assert.ok(!api.log.some((line) => line.includes('"level":"error"')));
});
