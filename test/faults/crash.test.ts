import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import {
  spawnService,
  temporaryFolder,
  testDatabase,
  waitFor,
  type SpawnedService,
} from "#harness";
import { CRASHPOINTS, type Crashpoint } from "#kernel";
import { findEmbeddedUrl } from "#platform";
import { chancesOf, faultTest, scaled } from "./fault-test.ts";
import { startLoad } from "./load.ts";
import { assertAllCounted, letLeasesEnd, openOracle } from "./oracle.ts";
import { Traffic } from "./traffic.ts";

const CLI = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));
/** Short waits, so that a scenario of many crashes is not made of waiting. */
const QUICK = { FOLD_INTERVAL_MS: "100", PEOPLE_FOLD_INTERVAL_MS: "200" };

/** Crash points that a running service passes; migrations and re-ratings have tests of their own. */
const RUNNING = CRASHPOINTS.filter((name) => !/^(migrate|rerate)_/.test(name));

faultTest(
  `F1: kill -9 at each crash point (${RUNNING.join(", ")}) loses nothing and counts nothing twice`,
  async (seed) => {
    await using db = await testDatabase();
    await using folder = await temporaryFolder();
    const options = { databaseUrl: db.url, dataDir: join(folder.path, "data") };
    const random = chancesOf(seed);
    const traffic = new Traffic(seed, Date.now());
    let service: SpawnedService | undefined;
    await using load = startLoad(traffic, () => service, { pauseMs: 20 });

    const crashAt = async (name: Crashpoint, pass: number) => {
      // The killed ones hold leases; their time runs out in a moment here.
      await letLeasesEnd(db.database);
      const env = { ...QUICK, TALLYSTICK_CRASHPOINT: `${name}:${pass}` };
      await using victim = await spawnService({ ...options, env }).catch(beforeItListened);
      if (victim === undefined) return;
      service = victim;
      const answered = load.answeredEvents;
      if (name === "shutdown_mid_drain") {
        await waitFor(() => load.answeredEvents > answered);
        victim.kill("SIGTERM");
      }
      assert.deepEqual(await victim.exited, { code: null, signal: "SIGKILL" }, `${name}:${pass}`);
      service = undefined;
    };
    for (const name of RUNNING) {
      const passMax = name === "shutdown_mid_drain" ? 2 : 12;
      for (let i = 0; i < scaled({ short: 1, long: 5 }); i++)
        await crashAt(name, 1 + Math.floor(random() * passMax));
    }
    await letLeasesEnd(db.database);
    await using last = await spawnService({ ...options, env: QUICK });
    service = last;
    const answered = load.answeredEvents;
    await waitFor(() => load.answeredEvents > answered + 500);
    await load.stop();
    assert.ok(load.unanswered >= RUNNING.length, `only ${load.unanswered} attempts were hit`);
    await assertAllCounted(db.url, traffic, last);
  },
);

/** Folding begins while the service starts, so its crash points may be passed before there is anything to send to. */
function beforeItListened(error: unknown): undefined {
  assert.match(String(error), /ended with SIGKILL/);
}

const KILLS = scaled({ short: 5, long: 50 });

faultTest(
  `F2: ${KILLS} kill -9 at random moments under load on the embedded database: raw equals the ids sent, verify exits 0`,
  async (seed, context) => {
    await using folder = await temporaryFolder();
    const dataDir = join(folder.path, "data");
    const options = { databaseUrl: "embedded", dataDir, env: QUICK };
    const random = chancesOf(seed);
    const traffic = new Traffic(seed, Date.now());
    let service: SpawnedService | undefined;
    await using load = startLoad(traffic, () => service, { pauseMs: 20 });

    // Disposing one ends the database server it left behind, so none is disposed before the end.
    await using victims = new AsyncDisposableStack();
    for (let kill = 0; kill < KILLS; kill++) {
      const victim = victims.use(await spawnService(options));
      if (kill > 0) await waitFor(() => /Adopting the PostgreSQL/.test(victim.stderr()));
      service = victim;
      // The moment is the fault.
      await delay(random() * 1500);
      victim.kill("SIGKILL");
      await victim.exited;
      service = undefined;
    }
    await using last = await spawnService(options);
    service = last;
    const backAtMs = performance.now();
    const answered = load.answeredEvents;
    await waitFor(() => load.answeredEvents > answered + 500, { msMax: 30_000 });
    await load.stop();
    const url = await findEmbeddedUrl(dataDir);
    assert.ok(url);
    await assertAllCounted(url, traffic, last);
    context.diagnostic(
      `${traffic.counted.size} events, ${load.unanswered} attempts without an answer, all counted ${Math.round(performance.now() - backAtMs)} ms after the last start`,
    );

    const verified = await runCli(["verify", "--json", "--data-dir", dataDir]);
    assert.equal(verified.code, 0, verified.output);
    await using database = await openOracle(url);
    await database.sql`
      delete from usage_event
       where event_key = (select min(event_key::text)::uuid from usage_event)`;
    assert.equal((await runCli(["verify", "--data-dir", dataDir])).code, 1);
    last.kill("SIGTERM");
    assert.deepEqual(await last.exited, { code: 0, signal: null });
  },
);

function runCli(args: readonly string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [CLI, ...args],
      { env: { PATH: process.env["PATH"] } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode, output: stdout + stderr }),
    );
  });
}
