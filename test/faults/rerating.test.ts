import assert from "node:assert/strict";
import { join } from "node:path";
import {
  anEvent,
  spawnService,
  temporaryFolder,
  testDatabase,
  waitFor,
  type SpawnedService,
} from "#harness";
import { CRASHPOINTS } from "#kernel";
import type { Database } from "#store";
import { chancesOf, faultTest, scaled } from "./fault-test.ts";
import { assertVerified, letLeasesEnd, settle } from "./oracle.ts";

const QUICK = { FOLD_INTERVAL_MS: "100", PEOPLE_FOLD_INTERVAL_MS: "200" };
const POINTS = CRASHPOINTS.filter((name) => name.startsWith("rerate_"));
const DAYS = 6;
const DAY_MS = 86_400_000;
const PATH = "/analytics/v1/admin/reratings";

type Order = {
  reratingId: number;
  state: string;
  totals: { previewed: object; applied: object }[];
};

/** Events of some days, each of several stretches of raw, so that an apply takes many steps. */
async function sendDays(service: SpawnedService, random: () => number): Promise<void> {
  const nowMs = Date.now();
  for (let day = 0; day < DAYS; day++) {
    const events = Array.from({ length: scaled({ short: 500, long: 5000 }) }, () =>
      anEvent({
        occurred_at: new Date(nowMs - day * DAY_MS - random() * 3_600_000).toISOString(),
        org_id: random() < 0.5 ? "acme" : "globex",
        model_id: `model-${Math.floor(random() * 3)}`,
        client_id: `client-${Math.floor(random() * 4)}`,
        input_tokens: Math.floor(random() * 10_000),
        ...(random() < 0.3 ? { cost_estimate: "0.05" } : {}),
      }),
    );
    const { counts } = await service.send(events);
    assert.equal(counts.accepted, events.length);
  }
}

async function call<Body>(service: SpawnedService, method: string, path: string, body?: object) {
  const answer = await service.request(path, {
    method,
    ...(body && {
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    }),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return JSON.parse(text) as Body;
}

const price = (service: SpawnedService, input: string) =>
  call(service, "PUT", "/analytics/v1/admin/prices", {
    prices: [{ model: "model-*", perMillion: { input, output: "1" } }],
  });

/** What every event costs by the price book, and what rollups say of it in all. */
async function ratingsOf(database: Database): Promise<string[]> {
  const rows = await database.sql<{ text: string }>`
    select event_key || ' ' || coalesce(rated_nano::text, '-') || ' ' || coalesce(price_id::text, '-') as text
      from usage_event
     union all
    select 'rollup ' || rating || ' ' || sum(rated_nano) from rollup_client_hour group by rating
     order by 1`;
  return rows.map(({ text }) => text);
}

/** Orders are worked off while the service starts, so a crash point may be passed before anybody can ask it anything. */
function beforeItListened(error: unknown): undefined {
  assert.match(String(error), /ended with SIGKILL/);
}

faultTest(
  `F1: kill -9 at each crash point of a re-rating (${POINTS.join(", ")}), in the apply and in the undo: the next start goes on, what was previewed is applied, the undo brings back every former cost, verify finds nothing`,
  async (seed) => {
    await using db = await testDatabase();
    await using folder = await temporaryFolder();
    const options = { databaseUrl: db.url, dataDir: join(folder.path, "data") };
    const random = chancesOf(seed);
    const { database } = db;

    /** Runs services, each killed at a crash point, until one brings the order into the state. */
    const dieUntil = async (id: number, state: string): Promise<Order> => {
      for (const point of POINTS) {
        await letLeasesEnd(database);
        const pass = 1 + Math.floor(random() * 2);
        const env = { ...QUICK, TALLYSTICK_CRASHPOINT: `${point}:${pass}` };
        await using victim = await spawnService({ ...options, env }).catch(beforeItListened);
        if (victim)
          assert.deepEqual(
            await victim.exited,
            { code: null, signal: "SIGKILL" },
            `${point}:${pass}`,
          );
      }
      await letLeasesEnd(database);
      await using last = await spawnService({ ...options, env: QUICK });
      return await until(last, id, state);
    };
    const until = async (service: SpawnedService, id: number, state: string): Promise<Order> => {
      let order: Order | undefined;
      await waitFor(
        async () => {
          order = await call<Order>(service, "GET", `${PATH}/${id}`);
          return order.state === state;
        },
        { msMax: 60_000, what: `the re-rating to be ${state}` },
      );
      assert.ok(order);
      return order;
    };

    let id = 0;
    let former: string[] = [];
    {
      await using service = await spawnService({ ...options, env: QUICK });
      await price(service, "2");
      await sendDays(service, random);
      await settle(database);
      former = await ratingsOf(database);
      await price(service, "2.75");
      const window = { start: "2020-01-01T00:00:00Z", end: "2100-01-01T00:00:00Z" };
      const order = await call<Order>(service, "POST", PATH, { ...window, reason: "a test" });
      id = order.reratingId;
      await until(service, id, "previewed");
      await call(service, "POST", `${PATH}/${id}/apply`);
      service.kill("SIGKILL");
      await service.exited;
    }
    const applied = await dieUntil(id, "applied");
    assert.ok(applied.totals.length > 0);
    for (const { previewed, applied: done } of applied.totals) assert.deepEqual(done, previewed);
    assert.notDeepEqual(await ratingsOf(database), former);
    await assertVerified(database);
    {
      await letLeasesEnd(database);
      await using service = await spawnService({ ...options, env: QUICK });
      await call(service, "POST", `${PATH}/${id}/undo`);
      service.kill("SIGKILL");
      await service.exited;
    }
    await dieUntil(id, "undone");
    assert.deepEqual(await ratingsOf(database), former);
    await assertVerified(database);
  },
);
