import assert from "node:assert/strict";
import { test } from "node:test";
import { testDatabase } from "#harness";
import { type Database, formatError } from "#store";

/** What the server says to a statement, as it is told to people. */
async function told(database: Database, statement: string): Promise<string> {
  try {
    await database.transaction((tx) => tx.exec(statement));
  } catch (error) {
    return formatError(error);
  }
  return "no error";
}

test("an error is told by its code and message, on one line, and never with data", async () => {
  await using db = await testDatabase();
  const { database } = db;
  await database.sql`create table thing (word text check (word <> 'secret-7'), primary key (word))`;
  await database.sql`insert into thing values ('secret-8')`;
  assert.equal(
    await told(database, "set local statement_timeout = 1; select pg_sleep(9)"),
    "57014: canceling statement due to statement timeout",
  );
  assert.equal(
    await told(database, "insert into thing values ('secret-7')"),
    '23514: new row for relation "thing" violates check constraint "thing_word_check"',
  );
  assert.equal(
    await told(database, "insert into thing values ('secret-8')"),
    '23505: duplicate key value violates unique constraint "thing_pkey"',
  );
  for (const [statement, code] of [
    ["select 'secret-9'::int4", "22P02"],
    ["select 'secret-9'::timestamptz", "22007"],
    ["do $$ begin raise exception 'secret-9'; end $$", "P0001"],
  ] as const)
    assert.equal(await told(database, statement), `${code}: the log has the rest`);
  const refused = Object.assign(new Error("connect ECONNREFUSED 10.1.2.3:5432"), {
    code: "ECONNREFUSED",
  });
  assert.equal(formatError(refused), "ECONNREFUSED: the database cannot be reached");
  assert.equal(
    formatError(new SyntaxError("Cannot convert secret-9 to a BigInt")),
    "the log has the rest",
  );
  assert.equal(formatError(new Error("rows\n\u001b[2Jdiffer")), "rows [2Jdiffer");
  assert.equal(formatError(new Error("x".repeat(9999))).length, 300);
});
