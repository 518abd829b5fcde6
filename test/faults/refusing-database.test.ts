import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { findEmbeddedUrl } from "#platform";
import {
  anEvent,
  spawnService,
  temporaryFolder,
  testDatabase,
  waitFor,
  type ServiceFace,
} from "#harness";
import { faultTest, scaled } from "./fault-test.ts";
import { startLoad } from "./load.ts";
import { assertAllCounted, assertRawIs, openOracle, settle } from "./oracle.ts";
import { Traffic } from "./traffic.ts";

const QUICK = { FOLD_INTERVAL_MS: "100", PEOPLE_FOLD_INTERVAL_MS: "200" };

faultTest(
  "F25: a database that says its disk is full (53100) makes senders wait; with space again all is counted, no repair",
  async (seed) => {
    await using db = await testDatabase();
    await using service = await spawnService({ databaseUrl: db.url, env: QUICK });
    const traffic = new Traffic(seed, Date.now());
    await using load = startLoad(traffic, () => service);
    await waitFor(() => load.answeredEvents > 300);
    await db.database.transaction((tx) =>
      tx.exec(`
        create function fill_up() returns trigger language plpgsql as
          $$ begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
        create trigger fill_up before insert on ingestion_batches execute function fill_up()`),
    );
    const [{ stored } = { stored: 0 }] = await db.database.sql<{ stored: number }>`
      select count(*) as stored from usage_event`;
    await waitFor(() => load.refusals.length > 0, { msMax: 20_000 });
    for (const { status, code } of load.refusals)
      assert.deepEqual([status, code], [503, "database_unavailable"]);
    assert.match(await (await service.request("/ready")).text(), /the database's disk is full/);
    const [after] = await db.database.sql<{ stored: number; refused: number }>`
      select (select count(*) from usage_event) as stored,
             (select count(*) from quarantine where code = 'internal_error') as refused`;
    assert.deepEqual({ ...after }, { stored, refused: 0 });
    await db.database.transaction((tx) => tx.exec("drop trigger fill_up on ingestion_batches"));
    const before = load.answeredEvents;
    await waitFor(() => load.answeredEvents > before + 300, { msMax: 30_000 });
    await load.stop();
    await assertAllCounted(db.url, traffic, service);
  },
);

/** A disk of so many MiB mounted on the folder; false where this user may not. */
const mountDisk = (folder: string, mib: number): boolean =>
  process.getuid?.() === 0 &&
  spawnSync("mount", ["-t", "tmpfs", "-o", `size=${mib}m,mode=755`, "tmpfs", folder]).status === 0;

/** Takes all the space there is but `leaveBytes`. Returns the file to delete. */
async function fillDisk(folder: string, leaveBytes: number): Promise<string> {
  const path = join(folder, "filler");
  await using file = await open(path, "w");
  const block = Buffer.alloc(1024 * 1024);
  const { size } = await file.stat();
  let at = size;
  try {
    for (;;) at += (await file.write(block, 0, block.length, at)).bytesWritten;
  } catch (error) {
    assert.match(String(error), /ENOSPC/);
  }
  await file.truncate(Math.max(0, at - leaveBytes));
  return path;
}

/** Registered where a small disk can be mounted; elsewhere the test above stands for it. */
async function whenItsDiskIsFull(seed: number, folder: string): Promise<void> {
  const dataDir = join(folder, "data");
  await using service = await spawnService({ databaseUrl: "embedded", dataDir, env: QUICK });
  const url = await findEmbeddedUrl(dataDir);
  assert.ok(url);
  const traffic = new Traffic(seed, Date.now());
  await using load = startLoad(traffic, () => service, { patienceMs: 240_000 });
  await waitFor(() => load.answeredEvents > 1000);
  for (let i = 0; i < scaled({ short: 1, long: 5 }); i++) {
    const filler = await fillDisk(folder, 2 * 1024 * 1024);
    const unanswered = load.unanswered;
    await waitFor(() => load.unanswered > unanswered + 3, {
      msMax: 60_000,
      what: "the disk to be full",
    });
    assert.equal((await service.request("/health")).status, 200);
    await rm(filler);
    const answered = load.answeredEvents;
    await waitFor(() => load.answeredEvents > answered + 500, {
      msMax: 90_000,
      what: "events to be taken again",
    });
  }
  await load.stop();
  for (const { status } of load.refusals) assert.equal(status, 503);
  await assertAllCounted(url, traffic, service);
  service.kill("SIGTERM");
  const ended = await service.exited;
  assert.deepEqual(ended, { code: 0, signal: null }, service.stderr().slice(-4000));
}

await using probe = await temporaryFolder();
const mayMount = mountDisk(probe.path, 1) && spawnSync("umount", [probe.path]).status === 0;
if (mayMount) {
  faultTest(
    "F25: the embedded database on a disk that runs full comes back by itself when there is space again",
    async (seed) => {
      await using folder = await temporaryFolder();
      assert.ok(mountDisk(folder.path, 320));
      try {
        await whenItsDiskIsFull(seed, folder.path);
      } finally {
        await waitFor(() => spawnSync("umount", [folder.path]).status === 0);
      }
    },
  );
}

type Results = {
  results: { status: string; code?: string; detail?: string }[];
};
type Page = { items: { id: number; code: string; eventId: string; state: string }[] };

const replay = (service: ServiceFace, id: number) =>
  service.request(`/analytics/v1/orgs/acme/quarantine/${id}/replay`, { method: "POST" });

faultTest(
  "F36: one event in 10,000 that cannot be stored is quarantined alone, and counts once when replayed after the fix",
  async (seed) => {
    await using db = await testDatabase();
    await using service = await spawnService({ databaseUrl: db.url, env: QUICK });
    const occurred_at = new Date().toISOString();
    const events = Array.from({ length: 10_000 }, () => anEvent({ occurred_at }));
    const poison = events[seed % events.length];
    assert.ok(poison);
    await db.database.transaction((tx) =>
      tx.exec(`
        create function choke() returns trigger language plpgsql as
          $$ begin
               if new.event_key = '${poison.event_id}' then raise exception 'a bug' using errcode = '22000'; end if;
               return new;
             end $$;
        create trigger choke before insert on usage_event for each row execute function choke()`),
    );
    const answers = (await Promise.all(
      [0, 1, 2, 3].map((i) => service.send(events.slice(i * 2500, i * 2500 + 2500))),
    )) as Results[];
    const results = answers.flatMap((answer) => answer.results);
    const refused = results.filter(({ status }) => status !== "accepted");
    assert.equal(results.length, 10_000);
    assert.deepEqual(
      refused.map(({ status, code }) => [status, code]),
      [["rejected", "internal_error"]],
    );
    assert.match(refused[0]?.detail ?? "", /correlation id [\w-]+/);

    const list = () => service.get("/analytics/v1/orgs/acme/quarantine") as Promise<Page>;
    const [entry] = (await list()).items;
    assert.ok(entry);
    assert.deepEqual([entry.code, entry.eventId], ["internal_error", poison.event_id]);
    const early = (await (await replay(service, entry.id)).json()) as { status: string };
    assert.equal(early.status, "rejected", "the bug is still there");

    await db.database.transaction((tx) => tx.exec("drop trigger choke on usage_event"));
    const [latest] = (await list()).items;
    assert.ok(latest);
    const late = (await (await replay(service, latest.id)).json()) as { status: string };
    assert.equal(late.status, "accepted");
    assert.equal((await replay(service, latest.id)).status, 404);
    const [again] = (await service.send([poison])).results;
    assert.equal(again?.status, "duplicate");

    await using database = await openOracle(db.url);
    await settle(database);
    const { totals } = (await service.get("/analytics/v1/orgs/acme/usage")) as {
      totals: { requests: number };
    };
    assert.equal(totals.requests, 10_000);
    await assert.rejects(assertRawIs(database, new Map()), /10000 wrong or too many/);
  },
);
