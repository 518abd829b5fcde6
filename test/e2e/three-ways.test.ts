import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { connect } from "amqplib";
import { seededNumbers, testBroker, testService, waitFor, type ServiceFace } from "#harness";
import { systemClock } from "#kernel";
import { verify } from "#rollup";

const TRACE = "../shared/data/AzureLLMInferenceTrace_conv.csv";
const file = fileURLToPath(new URL(`../../${TRACE}`, import.meta.url));
const CALLS = 19_366;
const TOKENS = { inputTokens: 22_361_870, outputTokens: 4_088_665 };

/** The trace's calls as events, moved by whole days so that the last day of it is yesterday: raw keeps a month. */
function readTrace(): string[] {
  const rows = readFileSync(file, "utf8").trim().split(/\r?\n/).slice(1);
  const nowMs = Date.now();
  const first = Date.parse(`${rows[0]?.slice(0, 10)}T00:00:00Z`);
  const days = Math.floor((nowMs - first) / 86_400_000) - 1;
  return rows.map((row, i) => {
    const [time = "", input, output] = row.split(",");
    const at = Date.parse(`${time.slice(0, 23).replace(" ", "T")}Z`) + days * 86_400_000;
    return JSON.stringify({
      event_id: `trace-${i}`,
      occurred_at: new Date(at).toISOString(),
      org_id: "acme",
      model_id: "chat-large",
      status: "success",
      input_tokens: Number(input),
      output_tokens: Number(output),
    });
  });
}

function shuffle<T>(items: readonly T[], next: () => number): T[] {
  const shuffled = [...items];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j] as T, shuffled[i] as T];
  }
  return shuffled;
}

async function publishTo(url: string, name: string, events: readonly string[]): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createConfirmChannel();
  for (const [i, event] of events.entries()) {
    channel.sendToQueue(name, Buffer.from(event), { persistent: true });
    if (i % 1000 === 999) await channel.waitForConfirms();
  }
  await channel.waitForConfirms();
  await connection.close();
}

async function sendByHttp(service: ServiceFace, events: readonly string[]): Promise<void> {
  for (let at = 0; at < events.length; at += 1000) {
    const answer = await service.request("/analytics/v1/events", {
      method: "POST",
      headers: { "content-type": "application/x-ndjson" },
      body: events.slice(at, at + 1000).join("\n"),
    });
    assert.equal(answer.status, 200, await answer.text());
  }
}

test(
  "the real trace published to the stream and, in another order with a tenth of it twice, to the queue, and sent over HTTP: each call counts once",
  { skip: existsSync(file) ? false : `${TRACE} is not there (Azure LLM inference trace 2023)` },
  async () => {
    await using broker = await testBroker();
    const env = {
      RABBITMQ_URL: broker.url,
      FOLD_INTERVAL_MS: "100",
      PEOPLE_FOLD_INTERVAL_MS: "200",
    };
    await using service = await testService({ env });
    await waitFor(async () => /consumers/.test(await (await service.request("/ready")).text()));
    const trace = readTrace();
    assert.equal(trace.length, CALLS);
    const next = seededNumbers(11);
    const again = trace.filter(() => next() < 0.1);
    const queued = shuffle([...trace, ...again], next);
    await Promise.all([
      publishTo(broker.url, "analytics.usage.v1", trace),
      publishTo(broker.url, "usage-events", queued),
      sendByHttp(service, trace.toReversed()),
    ]);
    const { sql } = service.db.database;
    const received = trace.length * 3 + again.length;
    const sumsOf = async () => {
      const rows = await sql<Record<"received" | "accepted" | "duplicate" | "other", number>>`
        select sum(received)::int8 as received, sum(accepted)::int8 as accepted,
               sum(duplicate)::int8 as duplicate, sum(conflict + rejected)::int8 as other
          from ledger`;
      return rows[0];
    };
    await waitFor(async () => (await sumsOf())?.received === received, {
      msMax: 60_000,
      what: "all three ways to be read to their ends",
    });
    assert.deepEqual(
      { ...(await sumsOf()) },
      {
        received,
        accepted: CALLS,
        duplicate: received - CALLS,
        other: 0,
      },
    );
    const window = `start=${new Date(Date.now() - 3 * 86_400_000).toISOString().slice(0, 10)}T00:00:00Z&end=${new Date(Date.now() + 86_400_000).toISOString().slice(0, 10)}T00:00:00Z`;
    const { totals } = (await service.get(
      `/analytics/v1/orgs/acme/usage?${window}&granularity=hour`,
    )) as { totals: { requests: number; inputTokens: number; outputTokens: number } };
    const { requests, inputTokens, outputTokens } = totals;
    assert.deepEqual({ requests, inputTokens, outputTokens }, { requests: CALLS, ...TOKENS });
    const report = await verify({ database: service.db.database, clock: systemClock });
    assert.deepEqual(report.differences, []);
  },
);
