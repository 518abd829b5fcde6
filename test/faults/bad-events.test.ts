import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { anEvent, spawnService, testDatabase, type SpawnedService } from "#harness";
import type { Database } from "#store";
import { scaled } from "./fault-test.ts";
import { settle } from "./oracle.ts";

const scope = new AsyncDisposableStack();
let service: SpawnedService;
let database: Database;

before(async () => {
  const db = scope.use(await testDatabase());
  database = db.database;
  const env = {
    FOLD_INTERVAL_MS: "50",
    PEOPLE_FOLD_INTERVAL_MS: "50",
    MODELS_PER_ORG_MAX: "40",
    ACTORS_PER_ORG_MAX: "40",
  };
  service = scope.use(await spawnService({ databaseUrl: db.url, env }));
  await service.send([event()]);
});
after(() => scope.disposeAsync());

const ago = (seconds: number): string => new Date(Date.now() - seconds * 1000).toISOString();
const event = (overrides: Record<string, unknown> = {}) =>
  anEvent({ occurred_at: ago(60), ...overrides });

/** An event as text, a field of it replaced by the JSON text given. */
const withField = (field: string, json: string): string =>
  JSON.stringify(event({ [field]: "@@" })).replace('"@@"', json);

/** An event's text without a field. */
const without = (field: string): string => JSON.stringify(event({ [field]: undefined }));

type Result = { status: string; code?: string; pointer?: string; eventId: string | null };
type Entry = { id: number; code: string; pointer: string; eventId: string | null; bytes: string };

async function post(
  body: string | Buffer,
  contentType = "application/json",
): Promise<{ status: number; results: Result[] }> {
  const answer = await service.request("/analytics/v1/events", {
    method: "POST",
    headers: { "content-type": contentType },
    body: typeof body === "string" ? body : new Uint8Array(body),
  });
  const { results = [] } = (await answer.json()) as { results?: Result[] };
  return { status: answer.status, results };
}

/** The newest item in an org's quarantine, or in that of no org, with its bytes. */
async function newest(place: string): Promise<Entry> {
  const { items } = (await service.get(`${place}?limit=1`)) as { items: Entry[] };
  assert.ok(items[0], `nothing in ${place}`);
  return (await service.get(`${place}/${items[0].id}`)) as Entry;
}

const OF_ORG = "/analytics/v1/orgs/acme/quarantine";
const OF_NONE = "/analytics/v1/system/quarantine";

type Case = { of: string; bad: string | Buffer; code: string; pointer?: string; place?: string };
const n = (field: string, json: string, code: string): Case => ({
  of: "",
  bad: withField(field, json),
  code,
  pointer: `/${field}`,
});
const many = (of: string, cases: Case[]): Case[] => cases.map((one) => ({ ...one, of }));
const lone = Buffer.concat([
  Buffer.from('{"event_id":"x","occurred_at":"2026-11-20T10:00:00Z","org_id":"acme","model_id":"'),
  Buffer.from([0xc3, 0x28]),
  Buffer.from('","status":"success"}'),
]);

/** What may be wrong with one event: its neighbours are counted, its bytes are kept where the org can see them. */
const CASES: Case[] = [
  ...many("B2", [
    { ...n("", "", "invalid_encoding"), bad: lone, pointer: "/model_id" },
    n("actor_id", '"\\ud800"', "invalid_encoding"),
  ]),
  ...many("B3", [
    n("model_id", '"a\\u0000b"', "invalid_character"),
    n("metadata", '{"a":"\\u0000"}', "invalid_character"),
  ]).map((one) => ({ ...one, pointer: one.pointer === "/metadata" ? "/metadata/a" : "/model_id" })),
  ...many("B4", [
    {
      ...n("", "", "duplicate_key"),
      bad: withField("input_tokens", '1,"input_tokens":2'),
      pointer: "/input_tokens",
    },
    { ...n("metadata", '{"a":1,"a":2}', "duplicate_key"), pointer: "/metadata/a" },
  ]),
  ...many("B5", [
    { ...n("metadata", '{"__proto__":{"x":1}}', "forbidden_key"), pointer: "/metadata/__proto__" },
    {
      ...n("", "", "forbidden_key"),
      bad: withField("status", '"success","__proto__":{"isAdmin":true}'),
      pointer: "/__proto__",
    },
  ]),
  ...many("B6", [
    {
      of: "",
      bad: withField("metadata", `{"a":${"[".repeat(10_000)}${"]".repeat(10_000)}}`),
      code: "too_deep",
    },
  ]),
  ...many("B11", [
    { of: "", bad: without("event_id"), code: "missing_field", pointer: "/event_id" },
    n("event_id", '""', "invalid_value"),
    n("event_id", JSON.stringify("x".repeat(10_000)), "too_long"),
    n("event_id", "7", "invalid_type"),
  ]),
  ...many("B15", [
    {
      of: "",
      bad: without("org_id"),
      code: "missing_field",
      pointer: "/org_id",
      place: OF_NONE,
    },
  ]),
  ...many("B17", [
    n("input_tokens", "-1", "invalid_number"),
    n("input_tokens", "-0", "invalid_number"),
    n("input_tokens", "1.5", "invalid_number"),
    n("input_tokens", '"12"', "invalid_number"),
    n("input_tokens", "1e3", "invalid_number"),
    n("input_tokens", "NaN", "invalid_number"),
    n("input_tokens", "Infinity", "invalid_number"),
    n("input_tokens", "null", "invalid_number"),
    n("output_tokens", "true", "invalid_number"),
  ]),
  ...many(
    "B18",
    ["2147483648", "9007199254740992", "9223372036854775808", `1${"0".repeat(308)}`].map((value) =>
      n("output_tokens", value, "out_of_range"),
    ),
  ),
  ...many("B19", [
    n("cost_estimate", '"1,5"', "invalid_number"),
    n("cost_estimate", '"9007200"', "out_of_range"),
  ]),
  ...many("B20", [
    n("currency", '"usd"', "invalid_currency"),
    n("currency", '"XXQ"', "invalid_currency"),
  ]),
  ...many("B22", [
    { of: "", bad: without("occurred_at"), code: "missing_field", pointer: "/occurred_at" },
    n("occurred_at", '"2026-11-20T10:00:00"', "invalid_timestamp"),
    n("occurred_at", '"2026-02-30T00:00:00Z"', "invalid_timestamp"),
    n("occurred_at", '"2026-11-20T25:00:00Z"', "invalid_timestamp"),
    n("occurred_at", '"0000-01-01T00:00:00Z"', "invalid_timestamp"),
    n("occurred_at", '"10000-01-01T00:00:00Z"', "invalid_timestamp"),
    n("occurred_at", "1763632800", "invalid_type"),
    n("occurred_at", "1763632800000", "invalid_type"),
  ]),
  ...many("B23", [
    n("occurred_at", JSON.stringify(ago(-86_400)), "future_timestamp"),
    n("occurred_at", JSON.stringify(ago(-10 * 365 * 86_400)), "future_timestamp"),
  ]),
  ...many("B24", [n("occurred_at", JSON.stringify(ago(40 * 86_400)), "too_old")]),
  ...many("B26", [
    n("latency_ms", "-1", "invalid_range"),
    n("latency_ms", "1000000000000", "invalid_range"),
    n("ttft_ms", "-5", "invalid_range"),
  ]),
  ...many("B27", [
    n("model_id", '""', "invalid_value"),
    n("actor_id", JSON.stringify("é".repeat(257)), "too_long"),
  ]),
  ...many("B29", [
    n("metadata", JSON.stringify({ a: "x".repeat(1_000_000) }), "too_large"),
    {
      of: "",
      bad: withField("status", `"success","unheard_of":"${"y".repeat(9000)}"`),
      code: "too_large",
    },
  ]),
  ...many("B30", [
    n("schema_version", '"2"', "unknown_schema"),
    n("schema_version", '"one"', "unknown_schema"),
  ]),
  ...many("B31", [
    n("model_id", "42", "invalid_type"),
    n("status", '"ok"', "invalid_value"),
    n("metadata", '"text"', "invalid_type"),
  ]),
];

for (const of of new Set(CASES.map((one) => one.of))) {
  test(`${of}: the event gets its code and pointer, its neighbours are counted, its bytes are kept for the org to see`, async () => {
    for (const { bad, code, pointer, place = OF_ORG } of CASES.filter((one) => one.of === of)) {
      const shown = bad.toString().slice(0, 200);
      for (const type of ["application/json", "application/x-ndjson"]) {
        const [open, between, close] = type === "application/json" ? "[,]" : ["", "\n", "\n"];
        const good = [event(), event()].map((one) => Buffer.from(JSON.stringify(one)));
        const body = Buffer.concat(
          [open, good[0], between, bad, between, good[1], close].map((part) =>
            Buffer.from(part ?? ""),
          ),
        );
        const { status, results } = await post(body, type);
        assert.equal(status, 207, shown);
        const [first, refused, last] = results;
        assert.deepEqual([first?.status, last?.status], ["accepted", "accepted"], shown);
        assert.deepEqual([refused?.status, refused?.code], ["rejected", code], shown);
        if (pointer !== undefined) assert.equal(refused?.pointer, pointer, shown);
        const kept = await newest(place);
        assert.deepEqual([kept.code, kept.pointer], [code, refused?.pointer], shown);
        const bytes = Buffer.from(kept.bytes, "base64");
        assert.ok(Buffer.from(bad).subarray(0, bytes.length).equals(bytes), shown);
        const size = Buffer.byteLength(bad);
        assert.ok(bytes.length === size || bytes.length >= 4096, `only ${bytes.length} kept`);
      }
    }
    assert.equal(Reflect.get({}, "isAdmin"), undefined);
    assert.equal((await service.request("/health")).status, 200);
  });
}

const totalsOf = async (org: string, query = "") => {
  await settle(database);
  return (await service.get(`/analytics/v1/orgs/${encodeURIComponent(org)}/usage?${query}`)) as {
    totals: Record<string, unknown> & { requests: number; cost: unknown; otherCosts: unknown };
    groups: { key: string; totals: { requests: number } }[];
  };
};

const statuses = async (...events: object[]): Promise<(string | undefined)[]> =>
  (await service.send(events)).results.map(({ status, code }) => code ?? status);

test("B11: ids are their exact bytes: case, spaces and look-alikes make other events", async () => {
  const ids = ["id-a", "ID-A", " id-a", "id-\u0430", "id-\u00e1", "id-a\u0301"];
  const events = ids.map((event_id) => event({ event_id, org_id: "ids" }));
  assert.deepEqual(new Set(await statuses(...events)), new Set(["accepted"]));
  assert.deepEqual(new Set(await statuses(...events)), new Set(["duplicate"]));
  assert.equal((await totalsOf("ids")).totals.requests, ids.length);
});

test("B12: the same id in two orgs is two events", async () => {
  const [a, b] = [event({ org_id: "left" }), event({ org_id: "right" })];
  assert.deepEqual(await statuses(a, { ...b, event_id: a.event_id }), ["accepted", "accepted"]);
  assert.equal((await totalsOf("left")).totals.requests, 1);
  assert.equal((await totalsOf("right")).totals.requests, 1);
});

test("B13, B14: the same content again is a duplicate, also with another time; other content is a conflict, the first stays", async () => {
  const first = event({ org_id: "twice", cost_estimate: "0.5", input_tokens: 10 });
  assert.deepEqual(await statuses(first), ["accepted"]);
  assert.deepEqual(await statuses(first, { ...first, occurred_at: ago(5) }), [
    "duplicate",
    "duplicate",
  ]);
  const others = [
    { input_tokens: 11 },
    { cost_estimate: "0.50000001" },
    { actor_id: "somebody-else" },
    { model_id: "other" },
    { status: "error" },
  ].map((change) => ({ ...first, ...change }));
  assert.deepEqual(
    await statuses(...others),
    others.map(() => "conflict"),
  );
  const { items } = (await service.get("/analytics/v1/orgs/twice/quarantine?code=conflict")) as {
    items: Entry[];
  };
  assert.deepEqual(
    items.map(({ eventId }) => eventId),
    others.map(() => first.event_id),
  );
  const { totals } = await totalsOf("twice");
  assert.deepEqual(
    [totals.requests, totals["inputTokens"], totals.cost],
    [1, 10, { amount: "0.50", currency: "USD" }],
  );
});

test("B15: what one org left in quarantine is not another's to see or to replay", async () => {
  await service.send([event({ org_id: "mine" }), event({ org_id: "yours" })]);
  await service.send([event({ org_id: "mine", input_tokens: -1 })]);
  const { id } = await newest("/analytics/v1/orgs/mine/quarantine");
  for (const place of ["/analytics/v1/orgs/yours/quarantine", OF_NONE]) {
    assert.equal((await service.request(`${place}/${id}`)).status, 404, place);
    const replay = await service.request(`${place}/${id}/replay`, { method: "POST" });
    assert.equal(replay.status, 404, place);
  }
});

test("B18, B19, B20: the largest counts, eighteen decimals, credits and two currencies add up exactly and apart", async () => {
  const org_id = "exact";
  const most = { input_tokens: 2 ** 31 - 1, output_tokens: 2 ** 31 - 1 };
  const costs = ["0.1", "0.2", "0.000000001", "1.5e-7", "-0.05", "0.000000000499999999"];
  await service.send([
    ...costs.map((cost_estimate) => event({ org_id, ...most, cost_estimate })),
    event({ org_id, cost_estimate: "7.25", currency: "EUR", input_tokens: 0, output_tokens: 0 }),
  ]);
  const { totals } = await totalsOf(org_id);
  assert.equal(totals["totalTokens"], costs.length * 2 * (2 ** 31 - 1));
  assert.deepEqual(totals.cost, { amount: "0.250000151", currency: "USD" });
  assert.deepEqual(totals.otherCosts, [{ amount: "7.25", currency: "EUR" }]);
});

test("B21: a total on the wire that disagrees is flagged, and the classes are what counts", async () => {
  const wrong = event({ org_id: "sums", input_tokens: 10, output_tokens: 5, total_tokens: 99 });
  assert.deepEqual(await statuses(wrong), ["accepted"]);
  const [row] = await database.sql<{ isFlagged: boolean }>`
    select (flags & 1) = 1 as "isFlagged" from usage_event where event_key = ${wrong.event_id}`;
  assert.equal(row?.isFlagged, true);
  assert.equal((await totalsOf("sums")).totals["totalTokens"], 15);
});

test("B23, B24: clocks may be five minutes ahead; late events land in their own hour; the too old can be replayed as backfill", async () => {
  const org_id = "late";
  const old = event({ org_id, occurred_at: ago(40 * 86_400) });
  assert.deepEqual(
    await statuses(
      event({ org_id, occurred_at: ago(-60) }),
      event({ org_id, occurred_at: ago(3600) }),
      event({ org_id, occurred_at: ago(29 * 86_400) }),
      old,
    ),
    ["accepted", "accepted", "accepted", "too_old"],
  );
  const place = "/analytics/v1/orgs/late/quarantine";
  const { id } = await newest(place);
  const replayed = await service.request(`${place}/${id}/replay?backfill=true`, { method: "POST" });
  assert.equal(((await replayed.json()) as Result).status, "accepted");
  await settle(database);
  const rows = await database.sql<{ bucket: Date }>`
    select distinct r.bucket
      from rollup_org_hour r
      join org o on o.id = r.org_id
     where o.external_id = ${org_id}
     order by r.bucket desc`;
  const hours = [-60, 3600, 29 * 86_400, 40 * 86_400].map((seconds) =>
    Math.floor((Date.now() / 1000 - seconds) / 3600),
  );
  for (const [i, { bucket }] of rows.entries())
    assert.ok(Math.abs(bucket.getTime() / 3_600_000 - (hours[i] ?? 0)) <= 1, bucket.toISOString());
  assert.equal(rows.length, 4);
});

test("B25: events out of order and of interleaved days give the same totals as in order", async () => {
  const days = Array.from({ length: 200 }, (_, i) => ({
    occurred_at: ago(((i * 7919) % 200) * 10_000 + 60),
    input_tokens: i,
    latency_ms: i * 13,
    cost_estimate: `0.${String(i).padStart(9, "0")}`,
  }));
  const sorted = days.toSorted((a, b) => (a.occurred_at < b.occurred_at ? -1 : 1));
  for (let at = 0; at < days.length; at += 50) {
    await service.send(days.slice(at, at + 50).map((day) => event({ org_id: "mixed", ...day })));
    await service.send(sorted.slice(at, at + 50).map((day) => event({ org_id: "tidy", ...day })));
  }
  const query = new URLSearchParams({
    start: ago(25 * 86_400).replace(/T.*/, "T00:00:00Z"),
    end: ago(-86_400).replace(/T.*/, "T00:00:00Z"),
    granularity: "hour",
  }).toString();
  const [mixed, tidy] = [await totalsOf("mixed", query), await totalsOf("tidy", query)];
  assert.equal(mixed.totals.requests, 200);
  const { groups: _a, ...rest } = mixed;
  assert.deepEqual(mixed.totals, tidy.totals);
  assert.deepEqual(Reflect.get(rest, "series"), Reflect.get(tidy, "series"));
});

test("B27: texts are stored as they are, and no table cell becomes a formula", async () => {
  const org_id = "شركة 🏢";
  const models = [
    "<script>alert(1)</script>",
    "=cmd|'/c calc'!A0",
    "'; drop table org; --",
    "line\nbreak",
    "\u202ertl",
    "😀".repeat(200),
  ];
  await service.send(models.map((model_id) => event({ org_id, model_id })));
  await settle(database);
  const path = `/analytics/v1/orgs/${encodeURIComponent(org_id)}/models`;
  const { groups } = (await service.get(path)) as { groups: { modelId?: string; key?: string }[] };
  const named = new Set(groups.flatMap((group) => Object.values(group)));
  for (const model of models) assert.ok(named.has(model), model);
  const csv = await service.request(path, { headers: { accept: "text/csv" } });
  assert.doesNotMatch(await csv.text(), /(^|,)"?[=+@]/m);
  assert.ok(!service.stderr().includes("<script>"));
});

const DISTINCT = scaled({ short: 2000, long: 100_000 });

test(`B28: ${DISTINCT} distinct models and users in an hour are all counted, those beyond the cap as other, none as a metric`, async () => {
  const org_id = "crowd";
  for (let at = 0; at < DISTINCT; at += 1000) {
    const events = Array.from({ length: 1000 }, (_, i) =>
      event({ org_id, model_id: `model-${at + i}`, actor_id: `user-${at + i}` }),
    );
    assert.equal((await service.send(events)).counts.accepted, 1000);
  }
  assert.equal((await totalsOf(org_id)).totals.requests, DISTINCT);
  const [row] = await database.sql<{ models: number; users: number; other: number }>`
    select count(*) filter (where d.kind = 1) as models,
           count(*) filter (where d.kind = 3) as users,
           (select sum(r.requests)::int8 from rollup_model_day r where r.org_id = o.id and r.member_id = -1) as other
      from dictionary d
      join org o on o.id = d.org_id
     where o.external_id = ${org_id}
     group by o.id`;
  assert.deepEqual({ ...row }, { models: 40, users: 40, other: DISTINCT - 40 });
  const metrics = await (await service.request("/metrics")).text();
  assert.doesNotMatch(metrics, /user-1|model-1|crowd/);
});

test("B29, B30: unknown fields are kept as sent, and a newer minor version is read", async () => {
  const sent = event({
    org_id: "new",
    schema_version: "1.7",
    region: "eu-1",
    deep: { a: [1, 2.5] },
  });
  assert.deepEqual(await statuses(sent), ["accepted"]);
  const [row] = await database.sql<{ extra: unknown }>`
    select extra from usage_event where event_key = ${sent.event_id}`;
  assert.deepEqual(row?.extra, { region: "eu-1", deep: { a: [1, 2.5] } });
});

test("B36: one bad event among 1000, at each position, and 999 are stored", async () => {
  const all = Array.from({ length: 1000 }, (_, i) => i);
  const positions = scaled({ short: [0, 1, 511, 998, 999], long: all.filter((i) => i % 10 === 0) });
  for (const position of positions) {
    const events = all.map((i) =>
      event({ org_id: "nearly", ...(i === position && { latency_ms: -1 }) }),
    );
    const { counts, results } = await service.send(events);
    assert.deepEqual([counts.accepted, counts.rejected], [999, 1]);
    assert.equal(
      results.findIndex(({ status }) => status === "rejected"),
      position,
    );
  }
  assert.equal((await totalsOf("nearly")).totals.requests, positions.length * 999);
});

test("B37: a batch of nothing but bad events is answered one by one, kept, and replayable as far as it can be", async () => {
  const { counts } = await service.send(Array.from({ length: 50 }, () => event({ status: "huh" })));
  assert.deepEqual([counts.received, counts.rejected], [50, 50]);
  const [row] = await database.sql<{ kept: number }>`
    select count(*) as kept from quarantine where code = 'invalid_value' and pointer = '/status' and bytes::text like '%' || encode('"huh"', 'hex') || '%'`;
  assert.equal(row?.kept, 50);
});
