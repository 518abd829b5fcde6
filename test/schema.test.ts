import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { hasDebianPostgres } from "#harness";
import { dumpSchema, SCHEMA_FILE } from "./harness/schema-dump.ts";

test("schema.sql is what the migrations make", async (t) => {
  if (!hasDebianPostgres()) return t.diagnostic("needs Debian's pg_dump 15; CI has it");
  const file = await readFile(SCHEMA_FILE, "utf8").catch(() => "");
  assert.ok(file === (await dumpSchema()), "stale: run `node bin/tallystick.mjs dev schema`");
});
