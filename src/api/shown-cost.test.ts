import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import { testApi, type TestApi } from "./test-api.ts";

const DAY = "start=2026-11-19&end=2026-11-20&timeZone=UTC";
const SECONDS = Date.parse("2026-11-19T00:00:00Z") / 1000;

type Money = { amount: string; currency: string };
type Measured = { cost: Money; otherCosts: Money[]; pricedShare: { requests: number | null } };
type Pricing = { costBasis: string; bookVersion: number };
type Usage = {
  totals: Measured;
  series: (Measured & { start: string })[];
  pricing: Pricing;
};

const change = async (api: TestApi, [method, path]: [string, string], body: unknown) => {
  const headers = { "content-type": "application/json" };
  const answer = await api.ask(path, { method, headers, body: JSON.stringify(body) });
  assert.equal(answer.status, 200, answer.text);
};
const applyPrices = (api: TestApi, prices: unknown) =>
  change(api, ["PUT", "/analytics/v1/admin/prices"], { prices });
const setBasis = (api: TestApi, costBasis: string) =>
  change(api, ["PATCH", "/analytics/v1/orgs/acme"], { costBasis });

const perCall = (model: string, perRequest: string, rest: object = {}) => ({
  model,
  perRequest,
  perMillion: { input: "0", output: "0" },
  ...rest,
});

test("a price that changes at noon moves later hours only, one for an org alone moves that org only, and a new version of the book nothing", async () => {
  await using api = await testApi();
  const at = ["10:30:00Z", "11:59:59.999999Z", "12:00:00Z", "14:00:00Z"];
  const calls = (org_id: string) =>
    at.map((time) => anEvent({ org_id, occurred_at: `2026-11-19T${time}` }));
  await api.createOrg("globex");
  await applyPrices(api, [
    perCall("chat-large", "1", { to: "2026-11-19T12:00:00Z" }),
    perCall("chat-large", "2", { from: "2026-11-19T12:00:00Z" }),
    perCall("chat-large", "5", { orgId: "globex" }),
  ]);
  await api.send([...calls("acme"), ...calls("globex")]);
  await api.fold();
  const hoursOf = async (path: string): Promise<string[]> => {
    const { body } = await api.ask<Usage>(`/analytics/v1/${path}/usage?${DAY}&granularity=hour`);
    return body.series
      .filter(({ cost }) => cost.amount !== "0.00")
      .map(({ start, cost }) => `${start.slice(11, 13)} ${cost.amount}`);
  };
  const changed = ["10 1.00", "11 1.00", "12 2.00", "14 2.00"];
  assert.deepEqual(await hoursOf("orgs/acme"), changed);
  assert.deepEqual(await hoursOf("orgs/globex"), ["10 5.00", "11 5.00", "12 5.00", "14 5.00"]);
  assert.deepEqual(await hoursOf("system"), ["10 6.00", "11 6.00", "12 7.00", "14 7.00"]);

  await applyPrices(api, [perCall("chat-large", "9")]);
  const { body } = await api.ask<Usage>(`/analytics/v1/orgs/acme/usage?${DAY}`);
  assert.deepEqual(body.pricing, { costBasis: "event_or_computed", bookVersion: 2 });
  assert.deepEqual(await hoursOf("orgs/acme"), changed);
});

/** Of an event's own cost and one by the price book: both, one, the other, none. */
async function filledApi(): Promise<TestApi> {
  const api = await testApi();
  await applyPrices(api, [perCall("priced", "1"), perCall("euro", "3", { currency: "EUR" })]);
  const occurred_at = "2026-11-19T10:00:00Z";
  await api.send([
    anEvent({ occurred_at, model_id: "priced", cost_estimate: "0.50" }),
    anEvent({ occurred_at, model_id: "priced" }),
    anEvent({ occurred_at, model_id: "unpriced", cost_estimate: "0.25" }),
    anEvent({ occurred_at, model_id: "unpriced" }),
    anEvent({ occurred_at, model_id: "euro" }),
  ]);
  await api.fold();
  return api;
}

const BASES = {
  event_or_computed: { usd: "1.75", eur: "3.00", share: 0.8 },
  event: { usd: "0.75", eur: null, share: 0.4 },
  computed: { usd: "2.00", eur: "3.00", share: 0.6 },
} as const;

/** What a report of acme says it spent: the money of one place, and of all groups. */
const REPORTS: Record<string, (body: Record<string, unknown>) => Measured> = {
  [`usage?${DAY}`]: ({ totals }) => totals as Measured,
  [`usage?${DAY}&compare=previous`]: ({ comparison }) =>
    (comparison as { current: { totals: Measured } }).current.totals,
  [`models?${DAY}`]: ({ totals }) => totals as Measured,
  [`users?${DAY}`]: ({ groups }) => (groups as [Measured])[0],
  [`clients?${DAY}`]: ({ groups }) => (groups as [Measured])[0],
  [`spend/change?${DAY}`]: ({ explained }) => (explained as { current: Measured }).current,
  "budgets?month=2026-11": ({ budgets }) => {
    const [{ spent, ...rest }] = budgets as [Measured & { spent: Money }];
    return { ...rest, cost: spent };
  },
};

test("every report shows the cost that the org's basis says, and says so; all orgs together keep to one", async () => {
  await using api = await filledApi();
  await change(api, ["PUT", "/analytics/v1/orgs/acme/budgets/all"], { amount: "10" });
  const both = (usd: string, eur: string | null) => [
    { amount: usd, currency: "USD" },
    ...(eur === null ? [] : [{ amount: eur, currency: "EUR" }]),
  ];
  for (const [basis, { usd, eur, share }] of Object.entries(BASES)) {
    await setBasis(api, basis);
    for (const [report, moneyIn] of Object.entries(REPORTS)) {
      const { status, body, headers, text } = await api.ask(`/analytics/v1/orgs/acme/${report}`);
      assert.equal(status, 200, text);
      const { cost, otherCosts, pricedShare } = moneyIn(body);
      assert.deepEqual([cost, ...otherCosts], both(usd, eur), `${basis} ${report}`);
      assert.equal(pricedShare.requests, share, `${basis} ${report}`);
      assert.deepEqual(body["pricing"], { costBasis: basis, bookVersion: 1 }, report);
      assert.equal(headers.get("tallystick-cost-basis"), basis);
    }
    const table = await api.ask(`/analytics/v1/orgs/acme/clients?${DAY}`, {
      headers: { accept: "text/csv" },
    });
    const other = eur === null ? "" : `EUR ${eur}`;
    assert.ok(table.text.includes(`,${usd},"USD","${other}",${share},`), table.text);
    assert.equal(table.headers.get("tallystick-cost-basis"), basis);
    assert.equal(table.headers.get("tallystick-price-book-version"), "1");

    const costs = await api.ask(
      `/v1/organization/costs?start_time=${SECONDS}&end_time=${SECONDS + 86_400}&project_ids=acme`,
    );
    const amounts = [...costs.text.matchAll(/"value":([\d.]+),"currency":"(\w+)"/g)];
    assert.deepEqual(
      amounts.map(([, amount, currency]) => ({ amount, currency: currency?.toUpperCase() })),
      both(usd, eur),
    );
    assert.equal(costs.headers.get("tallystick-cost-basis"), basis);
    assert.equal(costs.headers.get("tallystick-priced-request-share"), String(share));

    for (const report of ["usage", "orgs"]) {
      const { body } = await api.ask<Usage & { orgs?: Measured[] }>(
        `/analytics/v1/system/${report}?${DAY}`,
      );
      const { cost, otherCosts } = body.orgs?.[0] ?? body.totals;
      assert.deepEqual([cost, ...otherCosts], both("1.75", "3.00"), report);
      assert.deepEqual(body.pricing, { costBasis: "event_or_computed", bookVersion: 1 });
    }
  }
});

test("groups are ranked by the cost that is shown", async () => {
  await using api = await filledApi();
  const first = async (basis: string) => {
    await setBasis(api, basis);
    const path = `/analytics/v1/orgs/acme/models?${DAY}&orderBy=cost`;
    const { body } = await api.ask<{ groups: (Measured & { modelId: string })[] }>(path);
    return body.groups.map(({ modelId, cost }) => `${modelId} ${cost.amount}`);
  };
  assert.deepEqual(await first("event"), ["priced 0.50", "unpriced 0.25", "euro 0.00"]);
  assert.deepEqual((await first("computed"))[0], "priced 2.00");
  await applyPrices(api, [perCall("unpriced", "7")]);
  await api.send([anEvent({ occurred_at: "2026-11-19T11:00:00Z", model_id: "unpriced" })]);
  await api.fold();
  assert.deepEqual(await first("event"), ["priced 0.50", "unpriced 0.25", "euro 0.00"]);
  assert.deepEqual((await first("computed"))[0], "unpriced 7.00");
  assert.deepEqual((await first("event_or_computed"))[0], "unpriced 7.25");
});
