import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { testDatabase } from "./test-database.ts";

const PG_DUMP = "/usr/lib/postgresql/15/bin/pg_dump";
export const SCHEMA_FILE = new URL("../../schema.sql", import.meta.url);

/** What `pg_dump` 15 says of a freshly migrated database, without what changes from run to run. */
export async function dumpSchema(): Promise<string> {
  await using db = await testDatabase({ server: "debian15" });
  const { stdout } = await promisify(execFile)(
    PG_DUMP,
    ["--schema-only", "--no-owner", `--dbname=${db.url}`],
    {
      maxBuffer: 64 * 1024 * 1024,
    },
  );
  const dump = stdout
    .split("\n")
    .filter((line) => !/^\\(un)?restrict |^-- Dumped (from|by) /.test(line))
    .join("\n")
    .replace(/\n{3,}/g, "\n\n")
    .trim();
  return `-- Dump of a migrated database, to read and to compare. Changed by migrations only; written by "node bin/tallystick.mjs dev schema".\n\n${dump}\n`;
}
