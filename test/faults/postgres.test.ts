import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { faultProxy, spawnService, testDatabase, waitFor, type ServiceFace } from "#harness";
import { chancesOf, faultTest, scaled } from "./fault-test.ts";
import { startLoad, type Load } from "./load.ts";
import { assertAllCounted } from "./oracle.ts";
import { startPrivateServer, type PrivateServer } from "./private-server.ts";
import { Traffic } from "./traffic.ts";

const QUICK = { FOLD_INTERVAL_MS: "100", PEOPLE_FOLD_INTERVAL_MS: "200" };

/** More answers came in: the service takes events again. */
const waitForAnswers = async (load: Load, events = 300): Promise<void> => {
  const before = load.answeredEvents;
  await waitFor(() => load.answeredEvents > before + events, {
    msMax: 40_000,
    what: "events to be taken again",
  });
};

/** Whoever is refused is told when to come back, and never that it was a fault of the service. */
function assertPolite(load: Load): void {
  for (const { status, code, retryAfter } of load.refusals) {
    assert.equal(status, 503, code);
    assert.match(code, /^(database_unavailable|overloaded|timeout)$/);
    assert.ok(Number(retryAfter) >= 1);
  }
}

faultTest(
  "F18: an orderly restart of PostgreSQL under load is outlived by the same process, with nothing lost or doubled",
  async (seed) => {
    await using server = await startPrivateServer();
    await using service = await spawnService({ databaseUrl: server.url, env: QUICK });
    const random = chancesOf(seed);
    const traffic = new Traffic(seed, Date.now());
    await using load = startLoad(traffic, () => service, { pauseMs: 20 });
    for (let i = 0; i < scaled({ short: 2, long: 15 }); i++) {
      await waitForAnswers(load);
      await server.stop();
      await delay(random() * 1500);
      await server.start();
    }
    await waitForAnswers(load);
    await load.stop();
    assertPolite(load);
    await assertAllCounted(server.url, traffic, service);
  },
);

faultTest(
  "F19: PostgreSQL recovers from kill -9 of a backend and of the postmaster: nothing lost or doubled, no index damaged",
  async (seed) => {
    await using server = await startPrivateServer();
    await using service = await spawnService({ databaseUrl: server.url, env: QUICK });
    const random = chancesOf(seed);
    const traffic = new Traffic(seed, Date.now());
    await using load = startLoad(traffic, () => service, { pauseMs: 20 });
    for (let i = 0; i < scaled({ short: 1, long: 15 }); i++) {
      await waitForAnswers(load);
      await killBackend(server, random());
      await waitForAnswers(load);
      process.kill(await server.pid(), "SIGKILL");
      // Until its children are gone the data directory is still in use.
      await waitFor(() => server.start().then(() => true), { msMax: 30_000, what: "a restart" });
    }
    await waitForAnswers(load);
    await load.stop();
    assertPolite(load);
    await assertAllCounted(server.url, traffic, service);
  },
);

/** One of the connections that write, by a number from 0 to 1. */
async function killBackend(server: PrivateServer, chance: number): Promise<void> {
  const client = new pg.Client(server.url);
  client.on("error", () => undefined);
  await client.connect();
  const { rows } = await client.query<{ pid: number }>(
    "select pid from pg_stat_activity where application_name = 'tallystick' order by query_start desc nulls last limit 6",
  );
  const victim = rows[Math.floor(chance * rows.length)];
  assert.ok(victim);
  process.kill(victim.pid, "SIGKILL");
  // The server takes every connection down with it, this one too.
  await client.end().catch(() => undefined);
}

faultTest(
  "F20: when the answer to COMMIT is lost, the batch and the fold count once",
  async (seed, context) => {
    await using db = await testDatabase();
    await using proxy = await faultProxy({ upstreamPort: Number(new URL(db.url).port) });
    await using service = await spawnService({ databaseUrl: proxy.through(db.url), env: QUICK });
    const random = chancesOf(seed);
    const traffic = new Traffic(seed, Date.now());
    await using load = startLoad(traffic, () => service, { pauseMs: 20 });
    const cuts = scaled({ short: 25, long: 400 });
    while (proxy.commitsCut < cuts) {
      const before = proxy.commitsCut;
      proxy.cutAfterCommit(1 + Math.floor(random() * 4));
      await waitFor(() => proxy.commitsCut > before);
      await delay(random() * 100);
    }
    proxy.heal();
    await waitForAnswers(load);
    await load.stop();
    assertPolite(load);
    context.diagnostic(`${proxy.commitsCut} answers to COMMIT lost`);
    await assertAllCounted(db.url, traffic, service);
  },
);

const metric = async (service: ServiceFace, name: string): Promise<number> => {
  const text = await (await service.request("/metrics")).text();
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
};

faultTest(
  "F22: while every batch takes seconds, what waits is bounded, senders are told to come back, and all is counted after",
  async (seed, context) => {
    await using db = await testDatabase();
    const pendingMax = 2000;
    const env = { ...QUICK, INGEST_PENDING_EVENTS_MAX: String(pendingMax) };
    await using service = await spawnService({ databaseUrl: db.url, env });
    const traffic = new Traffic(seed, Date.now());
    await using load = startLoad(traffic, () => service, { senders: 40, eventsPerRequestMax: 300 });
    await waitForAnswers(load);
    await db.database.transaction((tx) =>
      tx.exec(`
        create function dawdle() returns trigger language plpgsql as
          $$ begin perform pg_sleep(${scaled({ short: 1.5, long: 5 })}); return null; end $$;
        create trigger dawdle before insert on ingestion_batches execute function dawdle()`),
    );
    const seen = { pending: 0, memoryMb: [0, 0], healthMs: 0 };
    const looks = scaled({ short: 12, long: 200 });
    for (let i = 0; i < looks; i++) {
      const pending = await metric(service, "tallystick_ingest_pending_events");
      seen.pending = Math.max(seen.pending, pending);
      const memoryMb = (await metric(service, "process_resident_memory_bytes")) / 1024 ** 2;
      const half = i < looks / 2 ? 0 : 1;
      seen.memoryMb[half] = Math.max(seen.memoryMb[half] ?? 0, Math.round(memoryMb));
      const askedMs = performance.now();
      assert.equal((await service.request("/health")).status, 200);
      seen.healthMs = Math.max(seen.healthMs, Math.round(performance.now() - askedMs));
      await delay(250);
    }
    await db.database.transaction((tx) => tx.exec("drop trigger dawdle on ingestion_batches"));
    await waitForAnswers(load);
    await load.stop();
    context.diagnostic(`${JSON.stringify(seen)}, ${load.refusals.length} refused`);
    assert.ok(
      seen.pending > pendingMax / 2 && seen.pending <= pendingMax,
      `${seen.pending} events waited`,
    );
    assert.ok(load.refusals.some(({ code }) => code === "overloaded"));
    const [early = 0, late = 0] = seen.memoryMb;
    assert.ok(late < 512, `${late} MB in use`);
    assert.ok(late - early < 100, `memory grew from ${early} to ${late} MB while nothing moved`);
    assertPolite(load);
    await assertAllCounted(db.url, traffic, service);
  },
);
