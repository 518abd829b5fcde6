import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import {
  hasDebianPostgres,
  SERVER_KINDS,
  temporaryFolder,
  testDatabase,
  type TestDatabase,
} from "#harness";
import { createLogger, neverCrash, OperatorError, silentLogger } from "#kernel";
import { explainSchemaVersion, getSchemaVersion, migrate } from "#store";

const CRASHING = fileURLToPath(new URL("../../test/faults/migrate-and-crash.ts", import.meta.url));
const MIGRATIONS = new URL("./migrations/", import.meta.url);
const quiet = { logger: silentLogger, crash: neverCrash };

/** A folder of three migrations, each of which would fail or double if it ran twice. */
async function threeSteps() {
  const folder = await temporaryFolder();
  const write = (name: string, text: string) =>
    writeFile(join(folder.path, name), `-- Up Migration\n${text}`);
  await write(
    "0001_first.sql",
    "create table step (no int primary key); insert into step values (1);",
  );
  await write("0002_second.sql", "select pg_sleep(0.2); insert into step values (2);");
  await write("0003_third.sql", "insert into step values (3);");
  return { ...folder, write, url: pathToFileURL(`${folder.path}/`) };
}

const steps = async (db: TestDatabase): Promise<number[]> =>
  (await db.database.sql<{ no: number }>`select no from step order by no limit 10`).map(
    (row) => row.no,
  );

test("an empty database of every supported server is brought up to date, and a second run has nothing to do", async () => {
  for (const server of SERVER_KINDS.filter((kind) => kind !== "debian15" || hasDebianPostgres())) {
    await using db = await testDatabase({ server, migrated: false });
    const empty = await getSchemaVersion(db.url);
    assert.equal(empty.state, "behind");
    assert.match(explainSchemaVersion(empty), /database is empty/);

    assert.deepEqual(await migrate(db.url, quiet), empty.pending);
    assert.equal((await getSchemaVersion(db.url)).state, "current");
    assert.deepEqual(await migrate(db.url, quiet), []);
  }
});

test("of instances that migrate at once one does each step and the others wait for it", async () => {
  await using db = await testDatabase({ migrated: false });
  await using folder = await threeSteps();
  const applied = await Promise.all(
    [1, 2, 3].map(() => migrate(db.url, { ...quiet, folder: folder.url })),
  );
  assert.deepEqual(applied.flat().toSorted(), ["0001_first", "0002_second", "0003_third"]);
  assert.deepEqual(await steps(db), [1, 2, 3]);
});

test("a migration killed after any step goes on where it was", async () => {
  await using folder = await threeSteps();
  for (const step of [1, 2, 3]) {
    await using db = await testDatabase({ migrated: false });
    const child = spawnSync(process.execPath, [CRASHING, db.url, folder.path, String(step)]);
    assert.equal(child.signal, "SIGKILL", String(child.stderr));
    assert.equal((await getSchemaVersion(db.url, folder.url)).schemaVersion, step);
    await migrate(db.url, { ...quiet, folder: folder.url });
    assert.deepEqual(await steps(db), [1, 2, 3]);
  }
});

test("a migration that fails leaves nothing of itself and everything before it", async () => {
  await using db = await testDatabase({ migrated: false });
  await using folder = await threeSteps();
  await folder.write("0002_second.sql", "insert into step values (2); select 1 / 0;");
  await assert.rejects(migrate(db.url, { ...quiet, folder: folder.url }), /division by zero/);
  assert.deepEqual(await steps(db), [1]);
  await folder.write("0002_second.sql", "insert into step values (2);");
  await migrate(db.url, { ...quiet, folder: folder.url });
  assert.deepEqual(await steps(db), [1, 2, 3]);
});

test("a program one version behind the schema keeps working and says so; two behind refuses and says what to do", async () => {
  await using db = await testDatabase({ migrated: false });
  await using folder = await threeSteps();
  await migrate(db.url, { ...quiet, folder: folder.url });
  const lines: string[] = [];
  const logger = createLogger("info", { write: (line) => lines.push(line) });

  await rm(join(folder.path, "0003_third.sql"));
  assert.deepEqual(await migrate(db.url, { ...quiet, logger, folder: folder.url }), []);
  assert.match(lines.join(""), /Schema is newer than this program/);
  assert.match(
    explainSchemaVersion(await getSchemaVersion(db.url, folder.url)),
    /version 3, one ahead of this program \(2\)/,
  );

  await rm(join(folder.path, "0002_second.sql"));
  await assert.rejects(migrate(db.url, { ...quiet, folder: folder.url }), (error) => {
    assert.ok(error instanceof OperatorError);
    return /version 3 and this program only knows 1.*start the newer program/.test(error.message);
  });
});

test("error codes counted before there were days of them are added up by the UTC day", async () => {
  await using db = await testDatabase({ migrated: false });
  await using before = await temporaryFolder();
  for (const name of await readdir(MIGRATIONS))
    if (name < "0011") await copyFile(new URL(name, MIGRATIONS), join(before.path, name));
  await migrate(db.url, { ...quiet, folder: pathToFileURL(`${before.path}/`) });
  await db.database.sql`
    insert into rollup_error_15m (org_id, model_id, bucket, outcome, error_code_id, requests)
    values (1, 2, '2026-11-18T00:00:00Z', 3, 4, 1), (1, 2, '2026-11-18T23:45:00Z', 3, 4, 20),
           (1, 2, '2026-11-19T00:00:00Z', 3, 4, 300), (1, 2, '2026-11-18T10:00:00Z', 3, 5, 4000),
           (1, 2, '2026-11-18T10:00:00Z', 2, 4, 50000), (1, 6, '2026-11-18T10:00:00Z', 3, 4, 600000),
           (0, 2, '2026-11-18T10:00:00Z', 3, 4, 7000000)`;
  // Where days of the session's own zone would be others.
  await db.database.transaction((tx) =>
    tx.exec(
      "do $$ begin execute format('alter database %I set timezone = %L', current_database(), 'Asia/Kolkata'); end $$",
    ),
  );
  await migrate(db.url, quiet);
  const days = await db.database.sql<{ of: string; requests: number }>`
    select org_id || '/' || model_id || '/' || extract(epoch from bucket)::int8 / 86400 || '/' || outcome || '/' || error_code_id as of,
           requests
      from rollup_error_day
     order by requests`;
  assert.deepEqual(
    days.map((row) => [row.of, row.requests]),
    [
      ["1/2/20775/3/4", 21],
      ["1/2/20776/3/4", 300],
      ["1/2/20775/3/5", 4000],
      ["1/2/20775/2/4", 50_000],
      ["1/6/20775/3/4", 600_000],
      ["0/2/20775/3/4", 7_000_000],
    ],
  );
});
