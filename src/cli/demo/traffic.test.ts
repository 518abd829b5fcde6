import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { formatNano } from "./event-writer.ts";
import { createRandom, uuid7 } from "./random.ts";
import { createTraffic, type Expected, nothingExpected, type Traffic } from "./traffic.ts";
import { DEMO_ORGS, DEMO_TEAMS } from "./world.ts";

const DAY_MS = 86_400_000;
const START = Date.parse("2026-11-09T00:00:00Z");
const OPTIONS = { seed: 7, startMs: START, days: 8, callsPerSecond: 50 };

type Sent = {
  event_id: string;
  occurred_at: string;
  org_id: string;
  model_id: string;
  client_id: string;
  actor_id?: string;
  metadata?: { team: string };
  requests?: number;
  input_tokens?: number;
  cache_read_tokens?: number;
  output_tokens?: number;
  reasoning_tokens?: number;
  latency_ms: number;
  status: string;
  error_class?: string;
  cost_estimate?: string;
};

function textOf(traffic: Traffic, untilMs: number, expected: Expected): string {
  let text = "";
  let events = 0;
  for (const chunk of traffic.history({ fromMs: START, untilMs }, expected)) {
    text += chunk.text;
    events += chunk.events;
  }
  assert.equal(events, expected.sent);
  return text;
}

const isBroken = (line: string): boolean => line.includes('"latency_ms":-');
const eventsIn = (text: string): Sent[] =>
  text
    .trimEnd()
    .split("\n")
    .filter((line) => !isBroken(line))
    .map((line): Sent => JSON.parse(line));

const UNTIL = START + 8 * DAY_MS - 1;
const EXPECTED = nothingExpected();
const TRAFFIC = createTraffic(OPTIONS);
const HISTORY = textOf(TRAFFIC, UNTIL, EXPECTED);
const EVENTS = eventsIn(HISTORY);

const digest = (text: string): string => createHash("sha256").update(text).digest("hex");

test("the same seed and start day make the same history, byte for byte; another seed another one", () => {
  const again = textOf(createTraffic(OPTIONS), UNTIL, nothingExpected());
  assert.equal(digest(again), digest(HISTORY));
  const other = textOf(createTraffic({ ...OPTIONS, seed: 8 }), START + DAY_MS, nothingExpected());
  assert.notEqual(other.slice(0, 1000), HISTORY.slice(0, 1000));
});

test("what is loaded later begins with what was loaded earlier, whole quarters alike", () => {
  const shorter = textOf(createTraffic(OPTIONS), START + 2 * DAY_MS - 1, nothingExpected());
  assert.ok(HISTORY.startsWith(shorter));
});

test("the expected totals are those of a plain reading of the text: first one counts, copies do not", () => {
  const first = new Map<string, string>();
  const seen = { sent: 0, accepted: 0, duplicate: 0, conflict: 0, rejected: 0 };
  const cells = new Map<string, bigint[]>();
  for (const line of HISTORY.trimEnd().split("\n")) {
    seen.sent++;
    if (isBroken(line)) {
      seen.rejected++;
      continue;
    }
    const event: Sent = JSON.parse(line);
    const id = `${event.org_id}/${event.event_id}`;
    const known = first.get(id);
    if (known !== undefined) {
      seen[known === line ? "duplicate" : "conflict"]++;
      continue;
    }
    seen.accepted++;
    first.set(id, line);
    const key = `${event.org_id}/${event.model_id}/${event.occurred_at.slice(0, 10)}`;
    const cell = cells.get(key) ?? [0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n];
    const calls = event.requests ?? 1;
    const values = [
      1,
      calls,
      event.status === "error" ? calls : 0,
      event.input_tokens,
      event.cache_read_tokens,
    ];
    for (const [i, n] of [...values, event.output_tokens, event.reasoning_tokens].entries())
      cell[i]! += BigInt(n ?? 0);
    cell[7]! += nanoOf(event.cost_estimate ?? "0");
    cells.set(key, cell);
  }
  const { cells: expectedCells, ...counts } = EXPECTED;
  assert.deepEqual(seen, counts);
  assert.ok(counts.duplicate > 100 && counts.conflict > 0 && counts.rejected > 0);
  const listed = [...expectedCells].map(([key, c]) => [
    key,
    [
      c.events,
      c.requests,
      c.errors,
      c.inputTokens,
      c.cacheReadTokens,
      c.outputTokens,
      c.reasoningTokens,
      c.costNano,
    ],
  ]);
  const read = [...cells].map(([key, values]) => [key, values.map(Number)]);
  assert.deepEqual(Object.fromEntries(listed), Object.fromEntries(read));
});

function nanoOf(decimal: string): bigint {
  const [units = "0", rest = ""] = decimal.split(".");
  return BigInt(units) * 1_000_000_000n + BigInt(rest.padEnd(9, "0"));
}

test("there are 8 orgs in three zones and 12 models, and no event lies outside the history", () => {
  assert.equal(new Set(EVENTS.map((e) => e.org_id)).size, 8);
  assert.equal(new Set(EVENTS.map((e) => e.model_id)).size, 12);
  for (const { occurred_at } of EVENTS) {
    const at = Date.parse(occurred_at);
    assert.ok(at >= START && at <= UNTIL, occurred_at);
  }
});

test("people are of one team each, some of none; every org has all teams, and jobs have none", () => {
  const teams = new Map<string, string | undefined>();
  for (const { org_id, actor_id, metadata } of EVENTS) {
    if (actor_id === undefined) assert.equal(metadata, undefined);
    else {
      const who = `${org_id}/${actor_id}`;
      if (teams.has(who)) assert.equal(metadata?.team, teams.get(who), who);
      teams.set(who, metadata?.team);
    }
  }
  for (const { id } of DEMO_ORGS) {
    const own = [...teams].filter(([who]) => who.startsWith(`${id}/`)).map(([, team]) => team);
    assert.deepEqual(new Set(own), new Set([...DEMO_TEAMS, undefined]), id);
  }
});

test("each zone's working day and the weekend show", () => {
  const calls = (orgId: string, prefix: string): number =>
    EVENTS.filter((e) => e.org_id === orgId && e.occurred_at.startsWith(prefix)).reduce(
      (n, e) => n + (e.requests ?? 1),
      0,
    );
  // Wednesday 11th: 04:30Z is 10:00 in Kolkata and midnight in New York; 15:00Z is the reverse, nearly.
  assert.ok(calls("initech", "2026-11-11T05") > 1.3 * calls("initech", "2026-11-11T20"));
  assert.ok(calls("acme", "2026-11-11T15") > 1.3 * calls("acme", "2026-11-11T06"));
  assert.ok(calls("globex", "2026-11-11T09") > 1.3 * calls("globex", "2026-11-11T02"));
  assert.ok(calls("globex", "2026-11-14") < 0.8 * calls("globex", "2026-11-11"));
});

test("some events come late, up to a day", () => {
  let newest = 0;
  const lags = EVENTS.map((e) => {
    const at = Date.parse(e.occurred_at);
    newest = Math.max(newest, at);
    return newest - at;
  });
  const late = lags.filter((lag) => lag > 900_000).length / lags.length;
  assert.ok(late > 0.008 && late < 0.02, `${late}`);
  assert.ok(lags.some((lag) => lag > 20 * 3_600_000));
});

test("the error incident is capacity on one model, most at one client, and nowhere else", () => {
  const [errors] = TRAFFIC.incidents;
  assert.ok(errors?.kind === "errors" && errors.clientId !== null);
  const inWindow = (e: Sent): boolean => {
    const at = Date.parse(e.occurred_at);
    return e.org_id === errors.orgId && at >= errors.start && at < errors.end;
  };
  const share = (events: Sent[]): number => {
    const sum = (of: Sent[]): number => of.reduce((n, e) => n + (e.requests ?? 1), 0);
    return sum(events.filter((e) => e.status === "error")) / sum(events);
  };
  const hit = EVENTS.filter((e) => inWindow(e) && e.model_id === errors.modelId);
  assert.ok(share(hit.filter((e) => e.client_id === errors.clientId)) > 0.35);
  assert.ok(share(hit.filter((e) => e.client_id !== errors.clientId)) < 0.1);
  const failed = hit.filter((e) => e.status === "error");
  assert.ok(failed.filter((e) => e.error_class === "capacity").length > 0.85 * failed.length);
  assert.ok(share(EVENTS.filter((e) => !inWindow(e))) < 0.012);
});

test("in the latency incident calls of one model take several times as long", () => {
  const latency = TRAFFIC.incidents.find((incident) => incident.kind === "latency");
  assert.ok(latency !== undefined);
  const median = (isIn: boolean): number => {
    const sorted = EVENTS.filter((e) => {
      const at = Date.parse(e.occurred_at);
      const inside = at >= latency.start && at < latency.end;
      return (
        e.org_id === latency.orgId &&
        e.model_id === latency.modelId &&
        e.status === "success" &&
        inside === isIn
      );
    })
      .map((e) => e.latency_ms)
      .sort((a, b) => a - b);
    return sorted[sorted.length >> 1] ?? 0;
  };
  assert.ok(median(true) > 3 * median(false), `${median(true)} against ${median(false)}`);
});

test("live traffic is single calls of the tick, about as many as asked for over a week, the same for the same seed", () => {
  const live = (seed: number): string =>
    createTraffic({ ...OPTIONS, seed }).live(UNTIL, UNTIL + 2000).text;
  assert.equal(live(7), live(7));
  let calls = 0;
  for (let hour = 0; hour < 168; hour++) {
    const from = UNTIL + hour * 3_600_000;
    const chunk = TRAFFIC.live(from, from + 1000);
    assert.equal(chunk.text.split("\n").length - 1, chunk.events);
    calls += chunk.events;
    for (const event of eventsIn(chunk.text))
      assert.ok(Date.parse(event.occurred_at) <= from + 1000);
  }
  assert.ok(calls / 168 > 46 && calls / 168 < 54, `${calls / 168}`);
});

test("costs are written as exact decimals, ids as canonical UUIDs", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), (nano) => {
      assert.equal(nanoOf(formatNano(nano)), BigInt(nano));
    }),
  );
  const id = uuid7(Date.parse("2026-11-20T10:00:00Z"), createRandom(1, 2));
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(
    Number.parseInt(id.slice(0, 13).replace("-", ""), 16),
    Date.parse("2026-11-20T10:00:00Z"),
  );
});
