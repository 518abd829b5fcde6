import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { parseNano } from "#contract";
import { anEvent } from "#harness";
import { completionsPage, costsPage } from "../openai-results.ts";
import { testApi, type TestApi, type TestApiOptions } from "../test-api.ts";

const USAGE = "/v1/organization/usage/completions";
const COSTS = "/v1/organization/costs";
const DAY = 86_400;
/** The clock of the tests stands at noon of 20 November. */
const START = Date.UTC(2026, 10, 8) / 1000;
const END = Date.UTC(2026, 10, 20) / 1000;
const WINDOW = `start_time=${START}&end_time=${END}`;
/** All that is asked for below, on one page. */
const WHOLE = `${WINDOW}&limit=31`;

/**
 * An org, far from Greenwich, with twelve days of calls by three users with two keys to two models; every third call has
 * no price, one another currency.
 */
async function filledApi(options: TestApiOptions = {}): Promise<TestApi> {
  const api = await testApi(options);
  const events = Array.from({ length: 12 }, (_, at) => {
    const day = (hour: number) => new Date((START + at * DAY + hour * 3600) * 1000).toISOString();
    return [
      anEvent({
        occurred_at: day(1),
        cache_read_tokens: 7,
        cache_write_5m_tokens: 5,
        cache_write_1h_tokens: 3,
        reasoning_tokens: 11,
        cost_estimate: "0.100000007",
      }),
      anEvent({ occurred_at: day(9), model_id: "chat-small", actor_id: `user-${at % 3}` }),
      anEvent({
        occurred_at: day(20),
        model_id: "chat-small",
        client_id: "app",
        cost_estimate: "0.2",
      }),
      ...(at === 4
        ? [anEvent({ occurred_at: day(5), cost_estimate: "1.25", currency: "EUR" })]
        : []),
    ];
  }).flat();
  const { body } = await api.send([...events, anEvent({ org_id: "globex", cost_estimate: "9" })]);
  assert.equal(body.counts.accepted, events.length + 1);
  await api.fold();
  const zone = await api.ask("/analytics/v1/admin/orgs/acme", {
    method: "PATCH",
    headers: { "content-type": "application/json" },
    body: '{"timeZone":"Asia/Kathmandu"}',
  });
  assert.equal(zone.status, 200, zone.text);
  return api;
}

const clientOf = (api: TestApi, adminAPIKey: string) =>
  new OpenAI({ baseURL: `${api.url}/v1`, adminAPIKey });

/** Reads page after page, as programs written for OpenAI do. */
async function readPages<Bucket>(
  read: (
    page: string | undefined,
  ) => Promise<{ data: Bucket[]; has_more: boolean; next_page: string | null }>,
): Promise<Bucket[][]> {
  const pages: Bucket[][] = [];
  for (let page: string | undefined; ;) {
    const answer = await read(page);
    pages.push(answer.data);
    assert.equal(answer.has_more, answer.next_page !== null);
    if (answer.next_page === null) return pages;
    page = answer.next_page;
  }
}

test("OpenAI's own client, told another address and key, reads usage and costs page by page", async () => {
  await using api = await filledApi();
  const { organization } = clientOf(
    api,
    await api.keyFor({ orgId: "acme", roles: ["finance"] }),
  ).admin;
  const window = { start_time: START, end_time: END };

  const usage = await readPages(async (page) =>
    organization.usage.completions({
      ...window,
      group_by: ["model", "project_id"],
      models: ["chat-large"],
      ...(page !== undefined && { page }),
    }),
  );
  assert.deepEqual(
    usage.map((buckets) => buckets.length),
    [7, 5],
  );
  const days = usage.flat();
  assert.deepEqual(
    days.map(({ start_time, end_time }) => [start_time, end_time]),
    days.map((_, at) => [START + at * DAY, START + (at + 1) * DAY]),
  );
  assert.deepEqual(days[0]?.results, [
    {
      object: "organization.usage.completions.result",
      input_tokens: 115,
      input_cached_tokens: 7,
      input_cache_write_tokens: 8,
      input_uncached_tokens: 100,
      output_tokens: 31,
      num_model_requests: 1,
      project_id: "acme",
      user_id: null,
      api_key_id: null,
      model: "chat-large",
      batch: null,
      service_tier: null,
      api_source: null,
    },
  ]);

  const costs = await readPages(async (page) =>
    organization.usage.costs({
      ...window,
      limit: 5,
      group_by: ["line_item"],
      ...(page !== undefined && { page }),
    }),
  );
  assert.deepEqual(
    costs.map((buckets) => buckets.length),
    [5, 5, 2],
  );
  assert.deepEqual(costs[0]?.[0]?.results, [
    {
      object: "organization.costs.result",
      amount: { value: 0.2, currency: "usd" },
      line_item: "chat-small",
      project_id: null,
      user_id: null,
      api_key_id: null,
      quantity: null,
      quantity_unit: null,
      api_source: null,
    },
    {
      object: "organization.costs.result",
      amount: { value: 0.100000007, currency: "usd" },
      line_item: "chat-large",
      project_id: null,
      user_id: null,
      api_key_id: null,
      quantity: null,
      quantity_unit: null,
      api_source: null,
    },
  ]);
});

type Report = {
  totals: Record<string, number> & {
    cost: { amount: string };
    otherCosts: { amount: string; currency: string }[];
  };
};

/** The amounts of a page as they are written, added up per currency, in billionths. */
function amountsIn(text: string): Record<string, bigint> {
  const sums: Record<string, bigint> = {};
  for (const [, value = "", currency = ""] of text.matchAll(
    /"value":([-\d.]+),"currency":"(\w+)"/g,
  ))
    sums[currency] = (sums[currency] ?? 0n) + (parseNano(value)?.nano ?? 0n);
  return sums;
}

const UNLABELED = '"api_source":"unlabeled"';
const groupedBy = (fields: string): string =>
  fields === ""
    ? ""
    : fields
        .split(",")
        .map((field) => `&group_by=${field}`)
        .join("");

test("however they are grouped, usage and costs add up to the org's own report, to the last digit", async () => {
  await using api = await filledApi();
  const key = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const report = "start=2026-11-08T00:00:00Z&end=2026-11-20T00:00:00Z&timeZone=UTC";
  const { body } = await api.ask<Report>(`/analytics/v1/orgs/acme/usage?${report}`, { key });
  const { totals } = body;
  const alone = ["project_id", "batch", "service_tier", "api_source"];
  const kept = ["model", "user_id", "api_key_id"].flatMap((field) => [
    field,
    [field, ...alone].join(),
  ]);
  for (const field of ["", ...alone, ...kept]) {
    const grouped = groupedBy(field);
    const { text } = await api.ask(`${USAGE}?${WHOLE}${grouped}`, { key });
    const { data } = completionsPage.parse(JSON.parse(text));
    assert.equal(text.includes(UNLABELED), field.includes("api_source"), field);
    const sums = { requests: 0, uncached: 0, cached: 0, written: 0, input: 0, output: 0 };
    for (const result of data.flatMap(({ results }) => results)) {
      sums.requests += result.num_model_requests;
      sums.uncached += result.input_uncached_tokens;
      sums.cached += result.input_cached_tokens;
      sums.written += result.input_cache_write_tokens;
      sums.input += result.input_tokens;
      sums.output += result.output_tokens;
    }
    const { inputTokens = 0, cacheReadTokens = 0 } = totals;
    const written = (totals["cacheWrite5mTokens"] ?? 0) + (totals["cacheWrite1hTokens"] ?? 0);
    assert.deepEqual(
      sums,
      {
        requests: totals["requests"],
        uncached: inputTokens,
        cached: cacheReadTokens,
        written,
        input: inputTokens + cacheReadTokens + written,
        output: (totals["outputTokens"] ?? 0) + (totals["reasoningTokens"] ?? 0),
      },
      field,
    );
    assert.equal(data.length, 12, field);
  }
  assert.deepEqual(totals.otherCosts, [{ amount: "1.25", currency: "EUR" }]);
  const spent = { usd: parseNano(totals.cost.amount)?.nano, eur: 1_250_000_000n };
  assert.equal(spent.usd, 3_600_000_084n);
  const costFields = ["project_id", "line_item", "user_id", "api_key_id", "api_source"];
  for (const field of ["", ...costFields, "line_item,project_id,api_source"]) {
    const grouped = groupedBy(field);
    const { text, headers } = await api.ask(`${COSTS}?${WHOLE}${grouped}`, { key });
    costsPage.parse(JSON.parse(text));
    assert.equal(text.includes(UNLABELED), field.includes("api_source"), field);
    assert.deepEqual(amountsIn(text), spent, field);
    assert.equal(headers.get("tallystick-priced-request-share"), "0.675676", field);
    assert.match(headers.get("tallystick-complete-through") ?? "", /^2026-.*Z$/, field);
  }
});

test("filters leave out what they do not name, in either spelling of a list", async () => {
  await using api = await filledApi();
  const key = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const requestsOf = async (query: string): Promise<number> => {
    const { body } = await api.ask(`${USAGE}?${WHOLE}&${query}`, { key });
    return completionsPage
      .parse(body)
      .data.flatMap(({ results }) => results)
      .reduce((sum, { num_model_requests }) => sum + num_model_requests, 0);
  };
  assert.equal(await requestsOf("models=chat-large"), 13);
  assert.equal(await requestsOf("models[]=chat-large&models%5B%5D=chat-small"), 37);
  assert.equal(await requestsOf("models=chat-large&models[]=chat-small"), 37);
  assert.equal(await requestsOf("models=never-called"), 0);
  assert.equal(await requestsOf("user_ids=user-0&user_ids=user-2"), 8);
  assert.equal(await requestsOf("api_key_ids[]=app"), 12);
  assert.equal(await requestsOf("api_key_ids=app&group_by=api_key_id&group_by[]=project_id"), 12);
  assert.equal(await requestsOf("project_ids=acme"), 37);
  const { text } = await api.ask(`${COSTS}?${WHOLE}&line_items=chat-small`, { key });
  assert.deepEqual(amountsIn(text), { usd: 2_400_000_000n });
  const byKey = await api.ask(`${COSTS}?${WHOLE}&group_by=api_key_id`, { key });
  const [first] = costsPage.parse(byKey.body).data;
  assert.deepEqual(
    first?.results.map(({ api_key_id }) => api_key_id),
    ["app", "web"],
  );
});

test("amounts keep digits that a number of JavaScript's does not hold; what has no price is no result", async () => {
  await using api = await testApi();
  const key = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const large = { occurred_at: "2026-11-18T10:00:00Z", cost_estimate: "9007198.123456789" };
  await api.send([
    anEvent(large),
    anEvent(large),
    anEvent({ occurred_at: "2026-11-19T10:00:00Z" }),
  ]);
  await api.fold();
  const { text, body } = await api.ask(`${COSTS}?start_time=${START}&limit=31`, { key });
  assert.match(text, /"value":18014396\.246913578,/);
  const results = costsPage.parse(body).data.map((bucket) => bucket.results.length);
  assert.deepEqual(results, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
});

test("what cannot be answered is refused in OpenAI's shape, and names the parameter", async () => {
  await using api = await filledApi();
  const key = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const cases: readonly (readonly [string, string, string])[] = [
    [USAGE, "start_time", "invalid_request"],
    [`${COSTS}?end_time=${END}`, "start_time", "invalid_request"],
    [`${USAGE}?start_time=${START}000`, "start_time", "invalid_request"],
    [`${USAGE}?start_time=0`, "start_time", "invalid_request"],
    [`${USAGE}?start_time=yesterday`, "start_time", "invalid_request"],
    [`${USAGE}?start_time=${END}&end_time=${START}`, "end_time", "invalid_request"],
    [`${USAGE}?${WINDOW}&bucket_width=1m`, "bucket_width", "unsupported_granularity"],
    [`${USAGE}?${WINDOW}&bucket_width=1w`, "bucket_width", "invalid_request"],
    [`${COSTS}?${WINDOW}&bucket_width=1h`, "bucket_width", "invalid_request"],
    [`${USAGE}?${WINDOW}&limit=32`, "limit", "invalid_request"],
    [`${USAGE}?${WINDOW}&limit=169&bucket_width=1h`, "limit", "invalid_request"],
    [`${COSTS}?${WINDOW}&limit=181`, "limit", "invalid_request"],
    [`${COSTS}?${WINDOW}&limit=0`, "limit", "invalid_request"],
    [`${USAGE}?${WINDOW}&page=page_2`, "page", "invalid_request"],
    [`${USAGE}?${WINDOW}&group_by=line_item`, "group_by", "invalid_request"],
    [`${COSTS}?${WINDOW}&group_by[]=model`, "group_by", "invalid_request"],
    [`${USAGE}?${WINDOW}&group_by=model&group_by=user_id`, "group_by", "unsupported_combination"],
    [`${USAGE}?${WINDOW}&group_by=model&user_ids=user-1`, "group_by", "unsupported_combination"],
    [`${USAGE}?${WINDOW}&models=a&group_by=api_key_id`, "group_by", "unsupported_combination"],
    [`${COSTS}?${WINDOW}&line_items=a&api_key_ids=b`, "api_key_ids", "unsupported_combination"],
    [`${USAGE}?${WINDOW}&user_ids=a&models[]=b`, "user_ids", "unsupported_combination"],
    [`${USAGE}?${WINDOW}&batch=false`, "batch", "unsupported_combination"],
    [`${COSTS}?${WINDOW}&batch=true`, "batch", "invalid_request"],
    [`${COSTS}?${WINDOW}&models=chat-large`, "models", "invalid_request"],
    [`${USAGE}?${WINDOW}&line_items=chat-large`, "line_items", "invalid_request"],
    [`${USAGE}?${WINDOW}&project_id=acme`, "project_id", "invalid_request"],
    [`${USAGE}?${WINDOW}&sort=desc`, "sort", "invalid_request"],
  ];
  for (const [path, param, code] of cases) {
    const { status, headers, body, text } = await api.ask<{ error: Record<string, unknown> }>(
      path,
      { key },
    );
    assert.equal(headers.get("content-type"), "application/json; charset=utf-8", path);
    const { message, ...error } = body.error;
    assert.deepEqual(
      [status, error],
      [400, { type: "invalid_request_error", param, code }],
      `${path}: ${text}`,
    );
    assert.ok(typeof message === "string" && message.includes(param), `${path}: ${message}`);
    if (code !== "unsupported_combination" || param === "batch") continue;
    const model = path.startsWith(USAGE) ? "model" : "line_item";
    for (const each of [model, "user_id", "api_key_id"])
      assert.ok(message.includes(`${each} (filter: ${each}s`), `${path}: ${message}`);
  }
});

test("a page goes on with the question that gave it out, and with no other", async () => {
  await using api = await filledApi();
  const key = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const foreign = await api.keyFor({ orgId: "globex", roles: ["finance"] });
  const { body } = await api.ask(`${USAGE}?${WINDOW}`, { key });
  const page = `page=${completionsPage.parse(body).next_page}`;
  const statusOf = async (path: string, whose: string) =>
    (await api.ask(path, { key: whose })).status;
  assert.equal(await statusOf(`${USAGE}?${WINDOW}&${page}`, key), 200);
  assert.equal(await statusOf(`${USAGE}?${WINDOW}&${page}&limit=3`, key), 200);
  assert.equal(await statusOf(`${USAGE}?${WINDOW}&${page}`, foreign), 400);
  assert.equal(await statusOf(`${COSTS}?${WINDOW}&${page}`, key), 400);
  assert.equal(await statusOf(`${USAGE}?${WINDOW}&${page}&models=chat-large`, key), 400);
  assert.equal(await statusOf(`${USAGE}?${WINDOW}&${page}&group_by=model`, key), 400);
});

test("the most buckets that a page may have are answered, of every width", async () => {
  await using api = await filledApi();
  const key = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const start = Date.UTC(2026, 4, 24, 5, 30) / 1000;
  for (const [path, buckets] of [
    [`${USAGE}?start_time=${start}&limit=31&group_by=user_id`, 31],
    [`${USAGE}?start_time=${start}&limit=168&bucket_width=1h&group_by=model`, 168],
    [`${USAGE}?start_time=${start}`, 7],
    [`${USAGE}?start_time=${start}&bucket_width=1h`, 24],
    [`${COSTS}?start_time=${start}&limit=180&group_by=line_item`, 180],
    [`${COSTS}?start_time=${start}`, 7],
  ] as const) {
    const { body, text } = await api.ask<{
      data: { start_time: number; results: unknown[] }[];
      has_more: boolean;
    }>(path, { key });
    assert.equal(body.data?.length, buckets, `${path}: ${text.slice(0, 300)}`);
    assert.equal(body.data[0]?.start_time, start - 1800, path);
    assert.deepEqual(body.data[0]?.results, [], path);
    assert.equal(body.has_more, true, path);
  }
});

test("OpenAI's client throws its own errors for what is refused", async () => {
  const rates = { address: 0, failedLogin: 0, key: 3, org: 0, events: 0 };
  await using api = await filledApi({ limits: { rates } });
  const finance = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const engineer = await api.keyFor({ orgId: "acme", roles: ["engineer"] });
  const window = { start_time: START, end_time: END };
  const usageOf = (key: string) => clientOf(api, key).admin.organization.usage;
  await assert.rejects(
    async () => usageOf("wrong").completions(window),
    (error) =>
      error instanceof OpenAI.AuthenticationError &&
      error.code === "invalid_api_key" &&
      error.requestID !== null,
  );
  await assert.rejects(
    async () => usageOf(engineer).costs(window),
    (error) =>
      error instanceof OpenAI.PermissionDeniedError &&
      error.code === "forbidden" &&
      error.message.includes("spend:read"),
  );
  await assert.rejects(
    async () => usageOf(finance).costs({ ...window, limit: 1000 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "limit",
  );
  await assert.rejects(
    async () => usageOf(finance).costs({ ...window, project_ids: ["globex"] }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "not_found",
  );
  await assert.rejects(
    async () => usageOf(engineer).embeddings(window),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "not_found",
  );
  await usageOf(finance).costs(window);
  await assert.rejects(
    async () => usageOf(finance).costs(window, { maxRetries: 0 }),
    (error) =>
      error instanceof OpenAI.RateLimitError &&
      error.code === "rate_limit_exceeded" &&
      error.headers.has("retry-after"),
  );
});

test("what is too much at once, or fails here, is a server error that says when to try again", async () => {
  await using api = await testApi({ limits: { readsMax: 0 } });
  const key = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  for (const path of [USAGE, COSTS]) {
    const { status, headers, body } = await api.ask(`${path}?${WINDOW}`, { key });
    assert.deepEqual(
      [status, headers.get("retry-after"), body],
      [
        503,
        "1",
        {
          error: {
            message: "Too many questions at once; try again in a moment.",
            type: "server_error",
            param: null,
            code: "overloaded",
          },
        },
      ],
    );
  }
});

test("an org of others, one that was never and one that is deleted are the same to a stranger, byte for byte", async () => {
  await using api = await filledApi();
  await api.createOrg("gone");
  await api.setStatus("gone", "deleted");
  const key = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  for (const path of [USAGE, COSTS]) {
    const texts = await Promise.all(
      [
        "project_ids=globex",
        "project_ids=never-was",
        "project_ids=gone",
        "project_ids[]=acme&project_ids=globex",
      ].map(async (projects) => {
        const { status, text } = await api.ask(`${path}?${WINDOW}&${projects}`, { key });
        assert.equal(status, 404);
        return text;
      }),
    );
    assert.equal(new Set(texts).size, 1);
  }
});

test("who belongs to no org names one, and each page is in that org's audit log", async () => {
  await using api = await filledApi();
  type Log = { items: { action: string; target: string }[] };
  const logOf = async (orgId: string) => {
    const { body } = await api.ask<Log>(`/analytics/v1/orgs/${orgId}/audit?limit=500`);
    return body.items
      .filter(({ action, target }) => action === "org.read" && /^get(?:Comp|Costs)/.test(target))
      .map(({ target }) => target)
      .toReversed();
  };
  const key = await api.keyFor({ orgId: null, roles: ["finance"] });
  for (const query of [WINDOW, `${WINDOW}&project_ids=acme&project_ids[]=globex`]) {
    const { status, text } = await api.ask(`${COSTS}?${query}`, { key });
    assert.equal(status, 400);
    assert.match(text, /This credential belongs to no org: name one in project_ids\./);
  }
  assert.equal((await api.ask(`${COSTS}?${WINDOW}&project_ids=never-was`, { key })).status, 404);
  assert.deepEqual(await logOf("acme"), []);
  for (const path of [USAGE, COSTS]) {
    const { body } = await api.ask(`${path}?${WINDOW}&project_ids=acme&group_by=project_id`, {
      key,
    });
    const { data } = (path === USAGE ? completionsPage : costsPage).parse(body);
    assert.equal(data[0]?.results[0]?.project_id, "acme");
  }
  assert.deepEqual(await logOf("acme"), [
    "getCompletionsUsage?end_time&group_by&project_ids&start_time",
    "getCosts?end_time&group_by&project_ids&start_time",
  ]);
  assert.deepEqual(await logOf("globex"), []);
});
