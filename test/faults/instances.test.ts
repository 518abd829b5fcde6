import assert from "node:assert/strict";
import {
  anEvent,
  spawnService,
  testDatabase,
  waitFor,
  type SendAnswer,
  type SpawnedService,
} from "#harness";
import type { Database } from "#store";
import { chancesOf, faultTest, scaled } from "./fault-test.ts";
import { startLoad } from "./load.ts";
import { assertAllCounted } from "./oracle.ts";
import { Traffic } from "./traffic.ts";

const CONSUMERS = ["usage", "people"];
const QUICK = { FOLD_INTERVAL_MS: "100", PEOPLE_FOLD_INTERVAL_MS: "200" };

/** What a service says each consumer does, as "usage: leading". */
async function statesOf(service: SpawnedService): Promise<string[]> {
  const answer = await service.request("/ready");
  const { checks } = (await answer.json()) as { checks: { rollup: { detail: string } } };
  return checks.rollup.detail.split("; ").map((state) => state.replace(/,.*/, ""));
}

async function findLeaders(services: readonly SpawnedService[], consumer: string) {
  const states = await Promise.all(services.map(statesOf));
  return services.filter((_, i) => states[i]?.includes(`${consumer}: leading`));
}

const leasesOf = (database: Database) => database.sql<{
  consumer: string;
  epoch: number;
  leaseUntil: Date;
  now: Date;
}>`
  select consumer, epoch, lease_until as "leaseUntil", clock_timestamp() as now
    from fold_state`;

faultTest(
  "F6: of three processes on one database one folds per consumer; when it is killed another does within lease + 2 s",
  async (seed) => {
    await using db = await testDatabase();
    await using scope = new AsyncDisposableStack();
    let services = await Promise.all(
      [1, 2, 3].map(async () => scope.use(await spawnService({ databaseUrl: db.url, env: QUICK }))),
    );
    const random = chancesOf(seed);
    const traffic = new Traffic(seed, Date.now());
    await using load = startLoad(traffic, () => services[Math.floor(random() * services.length)], {
      pauseMs: 50,
    });
    await waitFor(async () => {
      const states = (await Promise.all(services.map(statesOf))).flat();
      return states.length === 6 && states.every((state) => /leading|standby/.test(state));
    });
    for (const consumer of CONSUMERS)
      assert.equal((await findLeaders(services, consumer)).length, 1, consumer);

    const [leader] = await findLeaders(services, "usage");
    assert.ok(leader);
    const before = new Map((await leasesOf(db.database)).map((lease) => [lease.consumer, lease]));
    const led = await Promise.all(
      CONSUMERS.map(async (name) => ((await findLeaders([leader], name)).length > 0 ? name : "")),
    );
    services = services.filter((service) => service !== leader);
    leader.kill("SIGKILL");
    await leader.exited;
    const ends = new Map((await leasesOf(db.database)).map((lease) => [lease.consumer, lease]));
    for (const consumer of led.filter((name) => name !== "")) {
      const end = ends.get(consumer);
      assert.ok(end && end.leaseUntil.getTime() - end.now.getTime() <= 10_000);
      const taken = await waitFor(
        async () =>
          (await leasesOf(db.database)).find(
            (lease) =>
              lease.consumer === consumer && lease.epoch > (before.get(consumer)?.epoch ?? 0),
          ),
        { msMax: 15_000, what: `another process to fold ${consumer}` },
      );
      const lateMs = taken.now.getTime() - end.leaseUntil.getTime();
      assert.ok(lateMs <= 2000, `${consumer} was taken over ${lateMs} ms after the lease`);
    }
    await waitFor(async () =>
      (await Promise.all(CONSUMERS.map((name) => findLeaders(services, name)))).every(
        (leaders) => leaders.length === 1,
      ),
    );
    await load.stop();
    const [survivor] = services;
    assert.ok(survivor);
    await assertAllCounted(db.url, traffic, survivor);
  },
);

const ROUNDS = scaled({ short: 8, long: 150 });

faultTest(
  "F28: two processes that take the same events in opposite orders at once fail no batch and count each event once",
  async (seed) => {
    await using db = await testDatabase();
    await using a = await spawnService({ databaseUrl: db.url });
    await using b = await spawnService({ databaseUrl: db.url });
    const random = chancesOf(seed);
    for (let round = 0; round < ROUNDS; round++) {
      const events = Array.from({ length: 800 }, () =>
        anEvent({ org_id: `org-${round}-${Math.floor(random() * 5)}`, model_id: `m-${round}` }),
      );
      const half = events.toSpliced(0, 400);
      const answers: SendAnswer[] = await Promise.all([
        a.send(events),
        b.send(events.toReversed()),
        a.send(half.toSorted(() => random() - 0.5)),
        b.send(half),
      ]);
      const sum = (status: "accepted" | "duplicate") =>
        answers.reduce((total, { counts }) => total + counts[status], 0);
      assert.deepEqual([sum("accepted"), sum("duplicate")], [800, 1600], `round ${round}`);
    }
    const [row] = await db.database.sql<{ stored: number; distinct: number }>`
      select count(*) as stored, count(distinct event_key) as distinct from usage_event`;
    assert.deepEqual({ ...row }, { stored: ROUNDS * 800, distinct: ROUNDS * 800 });
    for (const service of [a, b]) assert.doesNotMatch(service.stderr(), /batch given up/);
  },
);
