/** A stream or queue may be for some orgs only: nothing that comes by it touches another. */
import assert from "node:assert/strict";
import { anEvent } from "#harness";
import { runCli } from "../e2e/run-cli.ts";
import { openTestPublisher } from "./publisher.ts";
import {
  assertReceived,
  assertSound,
  conformanceTest,
  listQuarantine,
  openService,
  settingsFor,
} from "./suite.ts";

conformanceTest(
  { ids: "S2" },
  "events of orgs that are not on the transport's list count nowhere and lie in no org's quarantine",
  async (ground) => {
    const env = { [`${ground.transport.toUpperCase()}_ORGS`]: "acme, initech" };
    await using service = await openService(ground, { env });
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    const { database } = service.db;
    const claimed = anEvent({ org_id: "globex" });
    await service.send([anEvent({ org_id: "globex" })]);
    await publisher.publish([
      anEvent(),
      claimed,
      anEvent({ org_id: "globex", input_tokens: -1 }),
      anEvent({ org_id: "newcomer" }),
    ]);
    await publisher.publish(anEvent({ org_id: "initech" }));

    await assertReceived(database, ground.source, { received: 5, rejected: 3 });
    const kept = await listQuarantine(database);
    assert.deepEqual(
      kept.map(({ code, pointer, org }) => [code, pointer, org]),
      Array.from({ length: 3 }, () => ["org_forbidden", "/org_id", null]),
    );
    assert.deepEqual(JSON.parse(String(kept[0]?.bytes)), claimed);
    const orgs = await database.sql<{ name: string }>`
      select external_id as name from org where id > 0 order by 1`;
    assert.deepEqual(
      orgs.map(({ name }) => name),
      ["acme", "globex", "initech"],
    );
    // The event's id is free: its org counts it when it comes by a way that is open to it.
    const { counts } = await service.send([claimed]);
    assert.equal(counts.accepted, 1);
    await assertSound(database, service, 4);
  },
);

conformanceTest(
  { ids: "S2", on: ["stream"] },
  "a stream read again is held to the same list, and what was refused is no difference between it and the books",
  async (ground) => {
    const env = { STREAM_ORGS: "acme" };
    await using service = await openService(ground, { env });
    await using publisher = await openTestPublisher(ground.vhost.url, ground.name);
    await publisher.publishAll([anEvent(), anEvent({ org_id: "globex" }), anEvent()]);
    const { database } = service.db;
    await assertReceived(database, ground.source, { received: 3, rejected: 1 });

    const own = { ...settingsFor(ground, env), DATABASE_URL: service.db.url };
    const again = await runCli(
      [
        "replay",
        "--source",
        ground.source,
        "--from",
        "first",
        "--json",
        "--data-dir",
        service.dataDir,
      ],
      { env: own },
    );
    const { duplicate, rejected } = JSON.parse(again.stdout);
    assert.deepEqual({ duplicate, rejected }, { duplicate: 2, rejected: 1 }, again.stderr);

    // Also with another list than the one they were taken in by.
    for (const orgs of ["acme", "*", "globex"]) {
      const verified = await runCli(["verify", "--json", "--data-dir", service.dataDir], {
        env: { ...own, STREAM_ORGS: orgs },
      });
      assert.equal(verified.code, 0, verified.stdout + verified.stderr);
      assert.match(verified.stdout, /"compared":true/);
    }
    await assertSound(database, service, 2);
  },
);
