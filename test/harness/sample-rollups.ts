import {
  ALL_ORGS,
  DIMENSIONS,
  type Dimension,
  ERROR_GRAINS,
  errorTable,
  GRAIN_SECONDS,
  type Grain,
  GRAINS,
  LatencySketch,
  MEMBER_KIND,
  packCurrency,
  rollupTable,
} from "#contract";
import { type Database, table, upsertMembers, upsertOrgs } from "#store";

/** One call of the sample; `model`, `client` and `actor` are words, "" means none named. */
export type SampleEvent = {
  org: string;
  model: string;
  client: string;
  actor: string;
  at: Date;
  outcome: number;
  currency: string;
  requests: number;
  tokens: readonly [number, number, number, number, number, number];
  costNano: number | null;
  /** What the price book says; left out or null: nothing. */
  rated?: { nano: number; currency: string } | null;
  latencyMs: number | null;
  errorCode: string;
  /** Words of the org's declared keys, one a key; left out: none. */
  tags?: readonly string[];
};

export type SamplePlan = { seed: number; events: number; from: Date; to: Date };

/** A number stream that a seed decides: 0 up to, not including, 1. */
export function seededNumbers(seed: number): () => number {
  let x = seed | 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 4_294_967_296;
  };
}

const SAMPLE_TEAMS = ["team=search", "team=ads", "team=(app)", "team=", "team(other)"];

/** Calls of two orgs ("acme" with most of them, "globex") at random instants. */
export function createSample({ seed, events, from, to }: SamplePlan): SampleEvent[] {
  const next = seededNumbers(seed);
  const below = (n: number) => Math.floor(next() * n);
  // A stream of its own, so that the rest of a seed's sample stays as it is.
  const nextRated = seededNumbers(seed + 1_000_000);
  const belowRated = (n: number) => Math.floor(nextRated() * n);
  const nextTag = seededNumbers(seed + 2_000_000);
  return Array.from({ length: events }, () => ({
    org: below(4) === 0 ? "globex" : "acme",
    model: `model-${below(5)}`,
    client: ["", "web", "batch", "(app)"][below(4)] ?? "",
    actor: below(5) === 0 ? "" : `actor-${below(7)}`,
    at: new Date(from.getTime() + below(to.getTime() - from.getTime())),
    outcome: below(3) === 0 ? below(7) : 0,
    currency: below(9) === 0 ? "EUR" : "USD",
    requests: below(20) === 0 ? 7 : 1,
    tokens: [below(5000), below(900), below(90), below(9), below(800), below(300)],
    costNano: below(6) === 0 ? null : below(2_000_000_000) - 1000,
    rated:
      belowRated(3) === 0
        ? null
        : { nano: belowRated(3_000_000_000), currency: belowRated(8) === 0 ? "EUR" : "USD" },
    latencyMs: below(8) === 0 ? null : Math.floor(Math.exp(next() * 11)),
    errorCode: below(3) === 0 ? "" : `code-${below(4)}`,
    tags: [
      ...(nextTag() < 0.3 ? [] : [SAMPLE_TEAMS[Math.floor(nextTag() * 5)] ?? ""]),
      ...(nextTag() < 0.6 ? [] : ["region=eu"]),
    ],
  }));
}

/** What a rollup row is keyed by, and its measures; names as the columns are. */
type Row = Record<string, string | number> & { latency_sketch: string };

/**
 * Writes the sample as the fold would: every rollup, the error codes, and (for plain SQL to be compared with) a table
 * `sample_event`, and `sample_shown` with the cost that each basis shows of them. The consumers claim to be complete through `completeThrough`.
 */
export async function writeSample(
  database: Database,
  sample: readonly SampleEvent[],
  completeThrough: Date,
): Promise<void> {
  const ids = await writeWords(database, sample);
  for (const dimension of DIMENSIONS) {
    for (const grain of GRAINS) {
      const rows = JSON.stringify(rollUp(sample, { dimension, grain, idOf: ids }));
      const name = table(rollupTable(dimension, grain));
      await database.sql`insert into ${name} select * from json_populate_recordset(null::${name}, ${rows})`;
    }
  }
  await database.sql`
    create table sample_event (
      org text, model text, client text, actor text, at timestamptz, outcome int, currency text, requests int,
      tokens int8[], "costNano" int8, "ratedNano" int8, "ratedCurrency" text, "latencyMs" int, "errorCode" text, team text, "orgId" int, "modelId" int, "codeId" int)`;
  const events = sample.map((event) => ({
    ...event,
    ratedNano: event.rated?.nano ?? null,
    ratedCurrency: event.rated?.currency ?? null,
    orgId: ids("org", event.org, event.org),
    modelId: ids("model", event.org, event.model),
    codeId: ids("errorCode", event.org, event.errorCode),
    team: teamOf(event),
  }));
  await database.sql`
    insert into sample_event select * from json_populate_recordset(null::sample_event, ${JSON.stringify(events)})`;
  await database.sql`
    create view sample_shown as
    select e.*, 'event' as basis, "costNano" as nano, currency as "shownCurrency" from sample_event e
     union all
    select e.*, 'computed', "ratedNano", "ratedCurrency" from sample_event e
     union all
    select e.*, 'event_or_computed', coalesce("costNano", "ratedNano"),
           case when "costNano" is null then "ratedCurrency" else currency end
      from sample_event e`;
  for (const grain of ERROR_GRAINS) {
    await database.sql`
      insert into ${table(errorTable(grain))}
      select "orgId", "modelId", date_bin(make_interval(secs => ${GRAIN_SECONDS[grain]}), at, 'epoch'), outcome, "codeId",
             sum(requests)
        from sample_event where outcome >= 2 group by 1, 2, 3, 4, 5`;
  }
  await database.sql`update org set tag_keys = '{team,region}' where id > 0`;
  await database.sql`update fold_state set complete_through = ${completeThrough}`;
}

/** The value of the key "team", in the words of filters. */
function teamOf({ tags = [] }: SampleEvent): string {
  const word = tags.find((one) => one.startsWith("team"));
  if (word === undefined) return "(none)";
  return word === "team(other)" ? "(other)" : word.slice("team=".length);
}

type IdOf = (kind: "org" | keyof typeof MEMBER_KIND, org: string, word: string) => number;

async function writeWords(database: Database, sample: readonly SampleEvent[]): Promise<IdOf> {
  const orgs = await upsertOrgs(database.sql, [...new Set(sample.map((event) => event.org))]);
  const orgIds = new Map([
    ...orgs.map((org) => [org.externalId, org.id] as const),
    ["*", ALL_ORGS] as const,
  ]);
  const words = new Map<string, { orgId: number; kind: number; value: string }>();
  for (const event of sample) {
    for (const kind of ["model", "client", "actor", "errorCode"] as const) {
      for (const org of [event.org, "*"]) {
        const word = { orgId: orgIds.get(org) ?? 0, kind: MEMBER_KIND[kind], value: event[kind] };
        if (word.value !== "") words.set(JSON.stringify(word), word);
      }
    }
    for (const value of event.tags ?? []) {
      const word = { orgId: orgIds.get(event.org) ?? 0, kind: MEMBER_KIND.tag, value };
      words.set(JSON.stringify(word), word);
    }
  }
  const members = await upsertMembers(database.sql, [...words.values()]);
  const ids = new Map(
    members.map(({ id, orgId, kind, value }) => [JSON.stringify({ orgId, kind, value }), id]),
  );
  return (kind, org, word) => {
    const orgId = orgIds.get(org) ?? 0;
    if (kind === "org") return orgId;
    return word === ""
      ? 0
      : (ids.get(JSON.stringify({ orgId, kind: MEMBER_KIND[kind], value: word })) ?? 0);
  };
}

function rollUp(
  sample: readonly SampleEvent[],
  to: { dimension: Dimension; grain: Grain; idOf: IdOf },
): Row[] {
  const rows = new Map<string, { row: Record<string, string | number>; sketch: LatencySketch }>();
  const { dimension } = to;
  const rowsOf = (event: SampleEvent): (readonly [org: string, member: number])[] => {
    if (dimension === "tag")
      return (event.tags ?? []).map((word) => [event.org, to.idOf("tag", event.org, word)]);
    const orgs = dimension === "org" || dimension === "model" ? [event.org, "*"] : [event.org];
    return orgs.map((org) => [
      org,
      dimension === "org" ? 0 : to.idOf(dimension, org, event[dimension]),
    ]);
  };
  for (const event of sample) {
    for (const [org, member] of rowsOf(event)) {
      const stepMs = GRAIN_SECONDS[to.grain] * 1000;
      const keys = {
        org_id: to.idOf("org", org, org),
        member_id: member,
        bucket: new Date(Math.floor(event.at.getTime() / stepMs) * stepMs).toISOString(),
        outcome: event.outcome,
        currency: packCurrency(event.currency),
        rating: ratingOf(event),
      };
      const text = JSON.stringify(keys);
      let entry = rows.get(text);
      if (entry === undefined)
        rows.set(text, (entry = { row: { ...keys }, sketch: new LatencySketch() }));
      for (const [name, value] of Object.entries(measuresOf(event)))
        entry.row[name] = Number(entry.row[name] ?? 0) + value;
      if (event.latencyMs !== null) entry.sketch.add(event.latencyMs);
    }
  }
  return [...rows.values()].map(({ row, sketch }) => ({
    ...row,
    latency_sketch: `\\x${sketch.encode().toString("hex")}`,
  }));
}

/** The currency of what the price book says, negative beside a cost of the event's own; 0: it says nothing. */
function ratingOf({ rated, costNano }: SampleEvent): number {
  if (rated === undefined || rated === null) return 0;
  return (costNano === null ? 1 : -1) * packCurrency(rated.currency);
}

function measuresOf(event: SampleEvent): Record<string, number> {
  const [input, cacheRead, cacheWrite5m, cacheWrite1h, output, reasoning] = event.tokens;
  const isPriced = event.costNano !== null;
  return {
    requests: event.requests,
    priced_requests: isPriced ? event.requests : 0,
    input_tokens: input,
    cache_read_tokens: cacheRead,
    cache_write_5m_tokens: cacheWrite5m,
    cache_write_1h_tokens: cacheWrite1h,
    output_tokens: output,
    reasoning_tokens: reasoning,
    priced_tokens: isPriced ? event.tokens.reduce((sum, count) => sum + count, 0) : 0,
    cost_nano: event.costNano ?? 0,
    rated_nano: event.rated?.nano ?? 0,
    latency_count: event.latencyMs === null ? 0 : 1,
    latency_sum_ms: event.latencyMs ?? 0,
  };
}
