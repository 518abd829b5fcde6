import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import {
  anEvent,
  spawnService,
  temporaryFolder,
  testDatabase,
  waitFor,
  type SpawnedService,
  type TestDatabase,
} from "#harness";
import { existsSync } from "node:fs";
import { readlink } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";

/** Sends batches as fast as they are answered until told to stop; remembers every id whose answer came. */
function underLoad(service: SpawnedService, senders: number) {
  const answered: string[] = [];
  const statuses: number[] = [];
  let isOn = true;
  const send = async () => {
    while (isOn) {
      const events = Array.from({ length: 50 }, () => anEvent());
      const answer = await service
        .request("/analytics/v1/events", {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(events),
        })
        .catch(() => undefined); // the service is gone: nothing was promised
      if (answer === undefined) return;
      statuses.push(answer.status);
      const body = await answer.text().catch(() => undefined);
      if (answer.status < 300 && body !== undefined)
        answered.push(...events.map((event) => event.event_id));
      if (answer.status >= 500) await turn();
    }
  };
  const done = Promise.all(Array.from({ length: senders }, send));
  return { answered, statuses, stop: () => ((isOn = false), done), done };
}

async function countRaw(
  db: TestDatabase,
  ids: readonly string[],
): Promise<{ stored: number; missing: number }> {
  const [row] = await db.database.sql<{ stored: number; missing: number }>`
    select (select count(*) from usage_event) as stored,
           (select count(*) from unnest(${ids}::uuid[]) as sent(id)
             where not exists (select from usage_event where event_key = sent.id)) as missing`;
  assert.ok(row);
  return row;
}

test("F3: SIGTERM under load: readiness fails first, every accepted request is answered, every answer is durable, exit 0 in time", async () => {
  await using db = await testDatabase();
  await using service = await spawnService({ databaseUrl: db.url });
  const load = underLoad(service, 6);
  await waitFor(() => load.answered.length > 1000);

  const from = performance.now();
  service.kill("SIGTERM");
  const readiness = await waitFor(async () => {
    const answer = await service.request("/ready");
    return answer.status === 503 && ((await answer.json()) as { status: string });
  });
  assert.equal(readiness.status, "shutting_down");
  assert.equal((await service.request("/health")).status, 200);

  assert.deepEqual(await service.exited, { code: 0, signal: null });
  assert.ok(performance.now() - from < 25_000);
  await load.done;
  assert.deepEqual(
    load.statuses.filter((status) => status >= 500),
    [],
  );
  assert.equal((await countRaw(db, load.answered)).missing, 0);
});

test("F3: kill -9 in mid drain loses nothing that was answered", async () => {
  await using db = await testDatabase();
  await using folder = await temporaryFolder();
  const options = { databaseUrl: db.url, dataDir: join(folder.path, "data") };
  await using service = await spawnService({
    ...options,
    env: { TALLYSTICK_CRASHPOINT: "shutdown_mid_drain:1" },
  });
  const load = underLoad(service, 4);
  await waitFor(() => load.answered.length > 500);
  service.kill("SIGTERM");
  assert.deepEqual(await service.exited, { code: null, signal: "SIGKILL" });
  await load.done;
  assert.equal((await countRaw(db, load.answered)).missing, 0);

  await using next = await spawnService(options);
  const again = await next.send(load.answered.slice(0, 100).map((id) => anEvent({ event_id: id })));
  assert.equal(again.counts.duplicate, 100);
});

/** The postmaster's pid file, wherever this user's cluster lives. */
async function pidFile(dataDir: string): Promise<string> {
  const home = await readlink(join(dataDir, "postgres-home")).catch(() => dataDir);
  return join(home, "postgres", "postmaster.pid");
}

test("F4: Ctrl-C at the terminal, twice, leaves no database server behind and no damage in it", async () => {
  await using folder = await temporaryFolder();
  const dataDir = join(folder.path, "data");
  const options = { databaseUrl: "embedded", dataDir, detached: true };
  await using service = await spawnService(options);
  const events = Array.from({ length: 200 }, () => anEvent());
  assert.equal((await service.send(events)).counts.accepted, 200);
  assert.ok(existsSync(await pidFile(dataDir)));

  // The terminal sends it to the whole process group; the second one is impatience.
  process.kill(-service.pid, "SIGINT");
  await waitFor(() => service.stderr().includes("Stopping"));
  process.kill(-service.pid, "SIGINT");
  assert.deepEqual(await service.exited, { code: 130, signal: null });
  const file = await pidFile(dataDir);
  await waitFor(() => !existsSync(file), { what: "PostgreSQL to stop by itself" });

  await using next = await spawnService(options);
  assert.equal((await next.send(events)).counts.duplicate, 200);
  process.kill(-next.pid, "SIGINT");
  assert.deepEqual(await next.exited, { code: 0, signal: null });
  // PostgreSQL is no member of the group: it was there until the service had drained.
  assert.doesNotMatch(next.stderr(), /ended unexpectedly|"level":"error"/);
  assert.equal(existsSync(file), false);
});

test("F1: after kill -9 the next start adopts the orphaned database server and serves what was answered", async () => {
  await using folder = await temporaryFolder();
  const dataDir = join(folder.path, "data");
  const options = { databaseUrl: "embedded", dataDir };
  await using service = await spawnService(options);
  const events = Array.from({ length: 200 }, () => anEvent());
  await service.send(events);
  service.kill("SIGKILL");
  await service.exited;

  await using next = await spawnService(options);
  await waitFor(() => /Adopting the PostgreSQL/.test(next.stderr()));
  assert.equal((await next.send(events)).counts.duplicate, 200);
  next.kill("SIGTERM");
  assert.deepEqual(await next.exited, { code: 0, signal: null });
  assert.equal(existsSync(await pidFile(dataDir)), false);
});

test("F37: instances that start at once on an empty database all come up, and each event is counted once", async () => {
  await using db = await testDatabase({ migrated: false });
  await using scope = new AsyncDisposableStack();
  const services = await Promise.all(
    [1, 2, 3].map(async () => scope.use(await spawnService({ databaseUrl: db.url }))),
  );
  const events = Array.from({ length: 100 }, () => anEvent());
  const answers = await Promise.all(services.map((service) => service.send(events)));
  assert.equal(
    answers.reduce((sum, { counts }) => sum + counts.accepted, 0),
    100,
  );
  assert.equal(
    answers.reduce((sum, { counts }) => sum + counts.duplicate, 0),
    200,
  );
  assert.equal((await countRaw(db, [])).stored, 100);
});

test("F37: a start killed while it migrates is simply started again", async () => {
  await using db = await testDatabase({ migrated: false });
  await assert.rejects(
    spawnService({ databaseUrl: db.url, env: { TALLYSTICK_CRASHPOINT: "migrate_after_step:1" } }),
    /ended with SIGKILL/,
  );
  await using service = await spawnService({ databaseUrl: db.url });
  assert.equal((await service.send([anEvent()])).counts.accepted, 1);
});

test("F37: a program older than the schema by more than one version refuses to start and says what to do", async () => {
  await using db = await testDatabase();
  const client = new pg.Client(db.url);
  await client.connect();
  await client.query("insert into schema_migration (name, run_on) values ('9001_x', now())");
  {
    await using service = await spawnService({ databaseUrl: db.url });
    await waitFor(() => /Schema is newer than this program/.test(service.stderr()));
    assert.equal((await service.send([anEvent()])).counts.accepted, 1);
  }
  await client.query("insert into schema_migration (name, run_on) values ('9002_y', now())");
  await client.end();
  await assert.rejects(
    spawnService({ databaseUrl: db.url }),
    /ended with 3:\n.*start the newer program/s,
  );
});
