import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getUsage } from "#query";
import { openBenchApp } from "./bench-app.ts";
import type { Bench } from "./bench.ts";
import { DENSE_ORG, fillStore } from "./filled-store.ts";
import { quantile, timeSeconds } from "./measure.ts";
import { atMost } from "./report.ts";

const NAME = "access";
const COST_MS_MAX = 2;
const DAY_MS = 86_400_000;
const ROUNDS_PER_REPEAT = 10;

/**
 * What knowing who asks costs: a week of an org by the hour over HTTP, from the whole API with the org's key, from the
 * same with an operator's (whose reads of an org are written to the audit log), and from a bare HTTP server that puts the
 * same question to the same code and knows nobody. In turns, over kept-alive connections, warm.
 */
export async function measureAccess({ server, size, clock, report, say }: Bench): Promise<void> {
  await using db = await server.createDatabase();
  await fillStore(db.database, 0);
  await using app = await openBenchApp(db.url);
  const endMs = Math.floor(clock.now() / DAY_MS) * DAY_MS;
  const question = {
    orgId: DENSE_ORG,
    start: new Date(endMs - 7 * DAY_MS).toISOString(),
    end: new Date(endMs).toISOString(),
    granularity: "hour",
  } as const;
  await using bare = await serveBare(async () => await getUsage(db.database, clock, question));
  const { orgId, ...window } = question;
  const orgUrl = `${app.url}/analytics/v1/orgs/${orgId}`;
  const url = `${orgUrl}/usage?${new URLSearchParams(window)}`;
  const staff = app.adminKey.key;
  const own = await makeKey(`${orgUrl}/keys`, staff);
  const ways = [
    { what: "bare", ask: () => fetchAll(bare.url, undefined), ms: [] as number[] },
    { what: "with the org's key", ask: () => fetchAll(url, own), ms: [] as number[] },
    {
      what: "with an operator's key, audited",
      ask: () => fetchAll(url, staff),
      ms: [] as number[],
    },
  ];
  const rounds = size.queryRepeats * ROUNDS_PER_REPEAT;
  for (let round = -ROUNDS_PER_REPEAT; round < rounds; round++) {
    for (const { ask, ms } of ways) {
      const seconds = await timeSeconds(ask);
      if (round >= 0) ms.push(seconds * 1000);
    }
  }
  const medians = ways.map(({ ms }) => quantile(ms, 0.5));
  for (const [i, { what, ms }] of ways.entries()) {
    const p50 = medians[i] ?? 0;
    const more = p50 - (medians[0] ?? 0);
    report.add({
      bench: NAME,
      what: `7 days by hour over HTTP, ${what}, p50`,
      value: p50,
      unit: "ms",
      also: { p95: quantile(ms, 0.95), ...(i > 0 && { "more than bare": more }) },
      ...(i === 1 && { budget: atMost(more, COST_MS_MAX, "ms") }),
    });
    say(`${NAME}: ${what}: p50 ${p50.toFixed(2)} ms`);
  }
}

/** Answers every request with what `answer` gives, as JSON. */
async function serveBare(
  answer: () => Promise<unknown>,
): Promise<{ url: string } & AsyncDisposable> {
  const server: Server = createServer((_request, response) => {
    answer().then(
      (body) => response.setHeader("content-type", "application/json").end(JSON.stringify(body)),
      () => response.writeHead(500).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function makeKey(url: string, adminKey: string): Promise<string> {
  const answer = await fetch(url, {
    method: "POST",
    headers: { authorization: `Bearer ${adminKey}`, "content-type": "application/json" },
    body: JSON.stringify({ name: "bench", roles: ["org_admin"] }),
  });
  if (!answer.ok) throw new Error(`no key was made: ${answer.status} ${await answer.text()}`);
  const { key } = (await answer.json()) as { key: string };
  return key;
}

async function fetchAll(url: string, key: string | undefined): Promise<void> {
  const headers: Record<string, string> =
    key === undefined ? {} : { authorization: `Bearer ${key}` };
  const answer = await fetch(url, { headers });
  const body = await answer.text();
  if (!answer.ok) throw new Error(`${answer.status}: ${body}`);
}
