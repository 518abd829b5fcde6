import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { anEvent, temporaryFolder, testDatabase, testService, waitFor } from "#harness";
import {
  createTraffic,
  type Expected,
  type ExpectedCell,
  nothingExpected,
} from "../../src/cli/demo/traffic.ts";
import { runCli, startCli, type RunningCli } from "./run-cli.ts";

const DAY_MS = 86_400_000;

type Started = { url: string; adminKeyFile: string };
type Loaded = {
  fromMs: number;
  untilMs: number;
  expected: Omit<Expected, "cells">;
  counted: Record<string, number>;
};
type Measures = {
  modelId: string;
  requests: number;
  errors: number;
  inputTokens: number;
  cacheReadTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  cost: { amount: string };
};
type Usage = { totals: Measures; groups: Measures[] };

const lineOf = async <T>(cli: RunningCli, key: string): Promise<T> =>
  await waitFor(
    async () => {
      const ended = await Promise.race([cli.ended, Promise.resolve(null)]);
      if (ended !== null) assert.fail(`the demo ended: ${ended.stderr}`);
      const line = cli.lines.find((text) => text.startsWith(`{"${key}":`));
      return line !== undefined && (JSON.parse(line) as T);
    },
    { msMax: 60_000, what: key },
  );

async function get<T>(started: Started, path: string): Promise<T> {
  const key = (await readFile(started.adminKeyFile, "utf8")).trim();
  const answer = await fetch(`${started.url}/analytics/v1/${path}`, {
    headers: { authorization: `Bearer ${key}` },
  });
  assert.equal(answer.status, 200, await answer.clone().text());
  return (await answer.json()) as T;
}

const nano = (decimal: string): number => {
  const [units = "0", rest = ""] = decimal.split(".");
  return Number(BigInt(units) * 1_000_000_000n + BigInt(rest.padEnd(9, "0")));
};

test("the demo's answers are exactly those of the history it made; a second start loads nothing and keeps them", async () => {
  await using folder = await temporaryFolder();
  await using db = await testDatabase();
  const args = [
    "demo",
    "--json",
    "--port=0",
    "--days=3",
    "--rate=20",
    "--data-dir",
    join(folder.path, "data"),
  ];
  const env = { DATABASE_URL: db.url };

  const firstDay = await (async () => {
    await using cli = startCli(args, { env });
    const started = await lineOf<Started>(cli, "url");
    const { loaded } = await lineOf<{ loaded: Loaded }>(cli, "loaded");
    const { fromMs, untilMs } = loaded;
    const { accepted, duplicate, conflict, rejected } = loaded.expected;
    assert.deepEqual(loaded.counted, { accepted, duplicate, conflict, rejected });

    const expected = nothingExpected();
    const traffic = createTraffic({ seed: 1, startMs: fromMs, days: 3, callsPerSecond: 20 });
    // Live traffic may still reach yesterday around midnight, never the day before.
    const day = new Date(fromMs).toISOString().slice(0, 10);
    const teams = createTeamCount(day);
    for (const { text } of traffic.history({ fromMs, untilMs }, expected)) teams.add(text);
    assert.equal(expected.accepted, accepted);
    const cells = [...expected.cells.values()].filter((cell) => cell.day === day);
    assert.equal(new Set(cells.map((cell) => cell.orgId)).size, 8);
    for (const orgId of new Set(cells.map((cell) => cell.orgId))) {
      await compareOrg(
        started,
        cells.filter((cell) => cell.orgId === orgId),
        fromMs,
      );
      const path = `orgs/${orgId}/tags?tagKey=team&${dayQuery(fromMs)}`;
      const { groups } = await get<{ groups: { tag: string | null; requests: number }[] }>(
        started,
        path,
      );
      assert.deepEqual(
        Object.fromEntries(groups.map(({ tag, requests }) => [String(tag), requests])),
        Object.fromEntries(teams.byOrg.get(orgId) ?? []),
      );
    }

    await lineOf(cli, "live");
    await waitFor(async () =>
      (await get<{ sources: { source: string }[] }>(started, "system/freshness")).sources.some(
        ({ source }) => source === "demo/live",
      ),
    );
    cli.kill("SIGTERM");
    assert.equal((await cli.ended).code, 0);
    return { cells, fromMs, untilMs };
  })();

  await using cli = startCli(args, { env });
  const started = await lineOf<Started>(cli, "url");
  await lineOf(cli, "live");
  // Only when a quarter of an hour began between the two, there is something to add: what happened in it.
  for (const line of cli.lines.filter((text) => text.startsWith('{"loaded"'))) {
    const { loaded }: { loaded: Loaded } = JSON.parse(line);
    assert.ok(loaded.fromMs > firstDay.untilMs);
  }
  await compareOrg(
    started,
    firstDay.cells.filter(({ orgId }) => orgId === "acme"),
    firstDay.fromMs,
  );
});

const dayQuery = (dayMs: number): string =>
  `start=${new Date(dayMs).toISOString()}&end=${new Date(dayMs + DAY_MS).toISOString()}`;

/** Calls of a day by org and team, "null" for those of none, as the first event of each id says. */
function createTeamCount(day: string) {
  const seen = new Set<string>();
  const byOrg = new Map<string, Map<string, number>>();
  const add = (text: string): void => {
    for (const line of text.trimEnd().split("\n")) {
      if (!line.includes(`"occurred_at":"${day}`) || line.includes('"latency_ms":-')) continue;
      const event: {
        event_id: string;
        org_id: string;
        requests?: number;
        metadata?: { team: string };
      } = JSON.parse(line);
      const id = `${event.org_id}/${event.event_id}`;
      if (seen.has(id)) continue;
      seen.add(id);
      const teams = byOrg.get(event.org_id) ?? new Map<string, number>();
      const team = String(event.metadata?.team ?? null);
      byOrg.set(event.org_id, teams.set(team, (teams.get(team) ?? 0) + (event.requests ?? 1)));
    }
  };
  return { byOrg, add };
}

async function compareOrg(
  started: Started,
  cells: readonly ExpectedCell[],
  dayMs: number,
): Promise<void> {
  const { groups } = await get<Usage>(
    started,
    `orgs/${cells[0]?.orgId}/usage?${dayQuery(dayMs)}&granularity=day&groupBy=model`,
  );
  const pick = (one: Omit<Measures, "cost" | "modelId">, modelId: string, costNano: number) => ({
    modelId,
    requests: one.requests,
    errors: one.errors,
    inputTokens: one.inputTokens,
    cacheReadTokens: one.cacheReadTokens,
    outputTokens: one.outputTokens,
    reasoningTokens: one.reasoningTokens,
    costNano,
  });
  const byModel = (a: { modelId: string }, b: { modelId: string }): number =>
    a.modelId < b.modelId ? -1 : 1;
  assert.deepEqual(
    groups.map((group) => pick(group, group.modelId, nano(group.cost.amount))).toSorted(byModel),
    cells.map((cell) => pick(cell, cell.modelId, cell.costNano)).toSorted(byModel),
  );
}

test("the demo does not mix its sample into other data", async () => {
  await using folder = await temporaryFolder();
  await using service = await testService();
  await service.send([anEvent({ occurred_at: new Date().toISOString() })]);
  await waitFor(
    async () =>
      ((await service.get("/analytics/v1/system/freshness")) as { orgs: unknown[] }).orgs.length >
      0,
  );
  const refused = await runCli(["demo", "--port=0", "--data-dir", folder.path], {
    env: { DATABASE_URL: service.db.url },
  });
  assert.equal(refused.code, 3, refused.stderr);
  assert.match(refused.stderr, /holds other data already \(org acme/);
});

test("numbers that make no sense are refused", async () => {
  for (const option of ["--days=31", "--days=0", "--seed=x", "--rate=-1"]) {
    const ended = await runCli(["demo", option]);
    assert.equal(ended.code, 2);
    assert.match(ended.stderr, /must be a whole number from 1 to/);
  }
});
