import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import { createLogger, neverCrash } from "#kernel";
import { type ReratingWorker, startReratingWorker } from "#rerating";
import type { Problem } from "../problem.ts";
import { type Answer, testApi, type TestApi } from "../test-api.ts";

type Sums = {
  requestsBefore: number;
  requestsAfter: number;
  costBefore: string;
  costAfter: string;
  difference: string;
};
type Order = {
  reratingId: number;
  state: string;
  bookVersion: number;
  orgId: string | null;
  modelId: string | null;
  days: { total: number; done: number; withoutRaw: number };
  finishedAt: string | null;
  waitsFor: number | null;
  failure: object | null;
  totals: { currency: string; previewed: Sums; applied: Sums }[];
};
type Line = Order["totals"][number] & { day: string; orgId: string; modelId: string };
type Page<Item> = { items: Item[]; nextCursor: string | null };

const PATH = "/analytics/v1/admin/reratings";
const WINDOW = { start: "2026-11-01T00:00:00Z", end: "2026-12-01T00:00:00Z" };
const NOTHING: Sums = {
  requestsBefore: 0,
  requestsAfter: 0,
  costBefore: "0.00",
  costAfter: "0.00",
  difference: "0.00",
};

const send = <Body>(api: TestApi, path: string, body: object, method = "POST") =>
  api.ask<Body>(path, {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
const setPrices = async (api: TestApi, prices: object[]): Promise<void> => {
  const { status, text } = await send(api, "/analytics/v1/admin/prices", { prices }, "PUT");
  assert.equal(status, 200, text);
};
const order = async (api: TestApi, more: object = {}): Promise<Order> => {
  const wish = { ...WINDOW, reason: "a test", ...more };
  const { status, body, text } = await send<Order>(api, PATH, wish);
  assert.equal(status, 201, text);
  return body;
};
const find = async (api: TestApi, id: number): Promise<Order> => {
  const { status, body, text } = await api.ask<Order>(`${PATH}/${id}`);
  assert.equal(status, 200, text);
  return body;
};
const take = <Body = Order>(api: TestApi, id: number, step: "apply" | "undo" | "cancel") =>
  api.ask<Body>(`${PATH}/${id}/${step}`, { method: "POST" });

const workerOf = ({ database, clock }: TestApi): ReratingWorker =>
  startReratingWorker({
    database,
    clock,
    logger: createLogger("silent", { write: () => undefined }),
    crash: neverCrash,
    intervalMs: 3_600_000,
  });
/** Works until nothing is left to do. */
async function work(worker: ReratingWorker): Promise<void> {
  while ((await worker.step()) !== "idle");
}

const costOf = async (api: TestApi, orgId: string): Promise<unknown> => {
  const path = `/analytics/v1/orgs/${orgId}/usage?start=2026-11-19&end=2026-11-21`;
  const { body } = await api.ask<{ totals: { cost: { amount: string } } }>(path);
  return body.totals.cost.amount;
};

/** Three orgs with calls of two days that no price was there for. */
async function withUsage(api: TestApi): Promise<void> {
  const events = ["acme", "acme", "globex", "initech"].flatMap((org_id) =>
    ["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"].map((occurred_at) =>
      anEvent({ org_id, occurred_at }),
    ),
  );
  const { body } = await api.send(events);
  assert.equal(body.counts.accepted, 8);
  await api.fold();
}

test("what is previewed is what is applied, every answer shows it, and undone it is as before", async () => {
  await using api = await testApi();
  await withUsage(api);
  await using worker = workerOf(api);
  await work(worker);
  // 100 tokens in, 20 out.
  await setPrices(api, [
    { model: "chat-large", perMillion: { input: "2.5", output: "10" } },
    {
      model: "chat-large",
      orgId: "globex",
      perMillion: { input: "0", output: "0" },
      perRequest: "7",
    },
  ]);

  const made = await order(api);
  assert.deepEqual(
    [made.state, made.bookVersion, made.orgId, made.modelId, made.days.total],
    ["ordered", 1, null, null, 0],
  );
  await work(worker);
  const previewed = await find(api, made.reratingId);
  assert.deepEqual(
    [previewed.state, previewed.days],
    ["previewed", { total: 2, done: 2, withoutRaw: 0 }],
  );
  const foreseen = {
    requestsBefore: 0,
    requestsAfter: 8,
    costBefore: "0.00",
    costAfter: "14.0027",
    difference: "14.0027",
  };
  assert.deepEqual(previewed.totals, [{ currency: "USD", previewed: foreseen, applied: NOTHING }]);
  assert.equal(await costOf(api, "acme"), "0.00", "a preview changes nothing");

  const applying = await take(api, made.reratingId, "apply");
  assert.deepEqual([applying.status, applying.body.state], [200, "applying"], applying.text);
  await work(worker);
  const applied = await find(api, made.reratingId);
  assert.equal(applied.state, "applied");
  assert.deepEqual(applied.totals, [{ currency: "USD", previewed: foreseen, applied: foreseen }]);
  assert.deepEqual([await costOf(api, "acme"), await costOf(api, "globex")], ["0.0018", "14.00"]);
  assert.deepEqual((await take(api, made.reratingId, "apply")).body.state, "applied", "repeated");

  assert.equal((await take(api, made.reratingId, "undo")).body.state, "undoing");
  await work(worker);
  const undone = await find(api, made.reratingId);
  assert.deepEqual([undone.state, undone.totals], ["undone", previewed.totals]);
  assert.equal(await costOf(api, "acme"), "0.00");
  assert.deepEqual((await take(api, made.reratingId, "undo")).body.state, "undone", "repeated");

  const audit = await api.ask<Page<{ action: string; target: string }>>(
    "/analytics/v1/system/audit",
  );
  assert.deepEqual(
    audit.body.items
      .filter(({ action }) => action.startsWith("rerating."))
      .map(({ action, target }) => [action, target]),
    ["undo", "apply", "create"].map((did) => [`rerating.${did}`, String(made.reratingId)]),
    "a change that is repeated changes nothing and is not told again",
  );
});

test("lines come by page, the biggest first when asked for, and all of them as a table", async () => {
  await using api = await testApi();
  await withUsage(api);
  await setPrices(api, [
    { model: "chat-large", perMillion: { input: "1", output: "0" } },
    {
      model: "chat-large",
      orgId: "globex",
      perMillion: { input: "0", output: "0" },
      perRequest: "2",
    },
  ]);
  const { reratingId } = await order(api);
  await using worker = workerOf(api);
  await work(worker);

  const walk = async (query: string): Promise<[string, string, string][]> => {
    const lines: Line[] = [];
    for (let cursor: string | null = ""; cursor !== null;) {
      const after: string = cursor === "" ? "" : `&cursor=${cursor}`;
      const path = `${PATH}/${reratingId}/lines?limit=4${query}${after}`;
      const { body, text }: Answer<Page<Line>> = await api.ask<Page<Line>>(path);
      assert.ok(body.items.length > 0 && body.items.length <= 4, text);
      lines.push(...body.items);
      cursor = body.nextCursor;
    }
    return lines.map((one) => [one.day, one.orgId, one.previewed.difference]);
  };
  const byDay = (["2026-11-19", "2026-11-20"] as const).flatMap(
    (day): [string, string, string][] => [
      [day, "acme", "0.0002"],
      [day, "globex", "2.00"],
      [day, "initech", "0.0001"],
    ],
  );
  assert.deepEqual(await walk(""), byDay);
  assert.deepEqual(
    await walk("&orderBy=difference"),
    ["globex", "acme", "initech"].flatMap((org) => byDay.filter(([, orgId]) => orgId === org)),
  );

  const ask = (path: string) => api.ask<Problem>(path, { headers: { accept: "text/csv" } });
  const table = await ask(`${PATH}/${reratingId}/lines?limit=1`);
  assert.match(table.headers.get("content-type") ?? "", /^text\/csv/);
  const rows = table.text.trimEnd().split("\r\n");
  assert.match(
    rows[0] ?? "",
    /^day,orgId,modelId,currency,previewedRequestsBefore,.*,appliedDifference$/,
  );
  assert.equal(rows.length, 1 + byDay.length, "whatever the page");
  assert.equal(
    rows[2],
    '2026-11-19,"globex","chat-large","USD",0,1,0.00,2.00,2.00,0,0,0.00,0.00,0.00',
  );

  await api.database.sql`
    insert into rerating_line (rerating_id, org_id, model_id, day, currency)
    select l.rerating_id, l.org_id, l.model_id, date '1900-01-01' + i, l.currency
      from generate_series(1, 4000) i, rerating_line l
     where l.rerating_id = ${reratingId}
       and l.day = date '2026-11-19'`;
  const tooLong = await ask(`${PATH}/${reratingId}/lines`);
  assert.deepEqual([tooLong.status, tooLong.body.code], [400, "range_too_large"], tooLong.text);
});

test("orders are listed newest first, by page, each with what it is about", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  const ids: number[] = [];
  for (const more of [{}, { orgId: "acme" }, { modelId: "chat-large" }])
    ids.push((await order(api, more)).reratingId);
  const first = await api.ask<Page<Order>>(`${PATH}?limit=2`);
  assert.deepEqual(
    first.body.items.map(({ reratingId, orgId, modelId }) => [reratingId, orgId, modelId]),
    [
      [ids[2], null, "chat-large"],
      [ids[1], "acme", null],
    ],
  );
  const rest = await api.ask<Page<Order>>(`${PATH}?limit=2&cursor=${first.body.nextCursor}`);
  assert.deepEqual(
    [rest.body.items.map(({ reratingId }) => reratingId), rest.body.nextCursor],
    [[ids[0]], null],
  );
});

test("what cannot be is refused in words, and nothing happens", async () => {
  await using api = await testApi();
  await withUsage(api);
  await using worker = workerOf(api);
  const faults: readonly [object, number, string][] = [
    [{ start: WINDOW.end, end: WINDOW.start }, 400, "/body/end"],
    [{ start: "2026-11-01" }, 400, "/body/start"],
    [{ start: "0000-01-01T00:00:00Z" }, 400, "/body/start"],
    [{ reason: "" }, 400, "/body/reason"],
    [{ reason: "two\nlines" }, 400, "/body/reason"],
    [{ orgId: "nobody" }, 404, ""],
  ];
  for (const [more, status, pointer] of faults) {
    const answer = await send<Problem>(api, PATH, { ...WINDOW, reason: "a test", ...more });
    const told = answer.body.errors[0]?.pointer ?? "";
    assert.deepEqual([answer.status, told], [status, pointer], answer.text);
  }
  assert.deepEqual((await api.ask<Page<Order>>(PATH)).body.items, []);

  const asked: readonly [string, number][] = [
    ["/1", 404],
    ["/1/lines", 404],
    ["/2147483647", 404],
    ["/2147483648", 400],
    ["/0", 400],
    ["/x", 400],
    ["?cursor=x", 400],
    [`?cursor=${Buffer.from('["reratings",9007199254740991]').toString("base64url")}`, 200],
    ["/1/lines?cursor=x", 400],
  ];
  for (const [path, status] of asked)
    assert.equal((await api.ask(`${PATH}${path}`)).status, status, path);

  await setPrices(api, [{ model: "chat-large", perMillion: { input: "1", output: "1" } }]);
  const first = await order(api);
  const refuse = async (id: number, step: "apply" | "undo" | "cancel"): Promise<string> => {
    const { status, body, text } = await take<Problem>(api, id, step);
    assert.deepEqual([status, body.code], [409, "wrong_state"], text);
    return body.detail;
  };
  assert.match(await refuse(first.reratingId, "apply"), /is ordered/);
  await work(worker);
  assert.match(await refuse(first.reratingId, "undo"), /is previewed/);
  await setPrices(api, [{ model: "chat-large", perMillion: { input: "2", output: "2" } }]);
  assert.match(await refuse(first.reratingId, "apply"), /version 1 .* at 2 now/);
  assert.equal((await find(api, first.reratingId)).state, "previewed");

  const [second, third] = [await order(api), await order(api)];
  await work(worker);
  for (const { reratingId } of [second, third]) {
    assert.equal((await take(api, reratingId, "apply")).status, 200);
    assert.match(await refuse(reratingId, "cancel"), /is applying: undo it instead/);
    await work(worker);
    assert.match(await refuse(reratingId, "cancel"), /is applied: undo it instead/);
  }
  assert.match(
    await refuse(second.reratingId, "undo"),
    new RegExp(`${third.reratingId} came later`),
  );
});

test("an order that was not to be applied is cancelled, and stays so", async () => {
  await using api = await testApi();
  await withUsage(api);
  await setPrices(api, [{ model: "chat-large", perMillion: { input: "1", output: "1" } }]);
  await using worker = workerOf(api);
  await work(worker);
  const [{ reratingId: first }, { reratingId: second }] = [await order(api), await order(api)];
  const cancelled = await take(api, second, "cancel");
  const at = new Date(api.clock.now()).toISOString();
  assert.deepEqual(
    [cancelled.status, cancelled.body.state, cancelled.body.finishedAt],
    [200, "cancelled", at],
    cancelled.text,
  );
  assert.deepEqual((await take(api, second, "cancel")).body, cancelled.body, "repeated");
  await work(worker);
  assert.deepEqual((await take(api, first, "cancel")).body.state, "cancelled", "previewed");
  for (const step of ["apply", "undo"] as const) {
    const { status, body } = await take<Problem>(api, first, step);
    assert.deepEqual(
      [status, body.code, /is cancelled/.test(body.detail)],
      [409, "wrong_state", true],
    );
  }
  await work(worker);
  assert.deepEqual(
    (await api.ask<Page<Order>>(PATH)).body.items.map(({ state, days }) => [state, days.total]),
    [
      ["cancelled", 0],
      ["cancelled", 2],
    ],
  );
  const audit = await api.ask<Page<{ action: string; target: string }>>(
    "/analytics/v1/system/audit",
  );
  assert.deepEqual(
    audit.body.items
      .filter(({ action }) => action === "rerating.cancel")
      .map(({ target }) => target),
    [String(first), String(second)],
  );
});

test("an order that fails tells when, how often and why, and one that waits for it tells that", async () => {
  await using api = await testApi();
  await withUsage(api);
  await setPrices(api, [{ model: "chat-large", perMillion: { input: "1", output: "1" } }]);
  await using worker = workerOf(api);
  await work(worker);
  const [{ reratingId: first }, { reratingId: second }] = [await order(api), await order(api)];
  await work(worker);
  for (const id of [first, second]) assert.equal((await take(api, id, "apply")).status, 200);
  await api.database.sql`
    alter table rerating_line add constraint broken check (day <> '2026-11-20' or applied_after = 0) not valid`;
  const startMs = api.clock.now();
  await work(worker);
  api.clock.advance(2000);
  await work(worker);
  const isoAt = (ms: number): string => new Date(startMs + ms).toISOString();
  const failure = {
    day: "2026-11-20",
    times: 2,
    since: isoAt(0),
    failedAt: isoAt(2000),
    nextTryAt: isoAt(6000),
    error: '23514: new row for relation "rerating_line" violates check constraint "broken"',
  };
  const { items } = (await api.ask<Page<Order>>(PATH)).body;
  assert.deepEqual(
    items.map(({ state, waitsFor, failure: told }) => ({ state, waitsFor, told })),
    [
      { state: "applying", waitsFor: first, told: null },
      { state: "applying", waitsFor: null, told: failure },
    ],
  );
  assert.deepEqual((await find(api, first)).failure, failure);
  await api.database.sql`alter table rerating_line drop constraint broken`;
  api.clock.advance(4000);
  await work(worker);
  for (const id of [first, second]) {
    const { state, waitsFor, failure: told } = await find(api, id);
    assert.deepEqual({ state, waitsFor, told }, { state: "applied", waitsFor: null, told: null });
  }
});

test("who may not see money sees that there are orders, and not what they come to", async () => {
  await using api = await testApi();
  const { reratingId } = await order(api);
  const key = await api.keyFor({ orgId: null, roles: ["finance"], scopes: ["system:read"] });
  assert.equal((await api.ask(PATH, { key })).status, 200);
  for (const path of [`${PATH}/${reratingId}`, `${PATH}/${reratingId}/lines`]) {
    const { status, text } = await api.ask(path, { key });
    assert.deepEqual([status, /spend:read/.test(text)], [403, true], text);
  }
});
