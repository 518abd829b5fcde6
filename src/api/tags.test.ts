import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import { testApi, type TestApi } from "./test-api.ts";

const DAY = "start=2026-11-19&end=2026-11-20&timeZone=UTC";
const OWN = "/analytics/v1/orgs/acme";

type Group = { tag: string | null; requests: number; isOther: boolean };
type Report = { totals: { requests: number }; groups: Group[]; errors: { pointer: string }[] };

const call = (metadata: object | undefined, rest: object = {}) =>
  anEvent({ occurred_at: "2026-11-19T10:00:00Z", metadata, ...rest });

async function declare(api: TestApi, tagKeys: readonly string[]): Promise<void> {
  const headers = { "content-type": "application/json" };
  const answer = await api.ask(OWN, {
    method: "PATCH",
    headers,
    body: JSON.stringify({ tagKeys }),
  });
  assert.equal(answer.status, 200, answer.text);
}

/** One call from before the keys were declared, then of four teams (three are kept apart) and of none. */
async function taggedApi(): Promise<TestApi> {
  const api = await testApi();
  await api.createOrg("acme");
  await api.send([call({ team: "search" })]);
  await declare(api, ["team", "tier"]);
  const teams = ["search", "search", "search", "search", "ads", "ads", "=shop", "late", "late"];
  for (const team of teams) await api.send([call({ team, tier: 1 })]);
  await api.send([call({ tier: 1 }), call(undefined), call({ team: null }, { status: "error" })]);
  await api.fold();
  return api;
}

const groupsOf = async (
  api: TestApi,
  query: string,
): Promise<(readonly [string | null, number])[]> => {
  const { status, body, text } = await api.ask<Report>(`${OWN}/${query}`);
  assert.equal(status, 200, text);
  const sum = body.groups.reduce((total, { requests }) => total + requests, 0);
  assert.equal(sum, body.totals.requests);
  return body.groups.map(({ tag, requests }) => [tag, requests] as const);
};

test("usage and reliability by a declared key: each value, one row of those beyond the cap, one of calls without, in all every call once", async () => {
  await using api = await taggedApi();
  for (const report of ["usage", "reliability"]) {
    const by = `${report}?${DAY}&groupBy=tag:team`;
    assert.deepEqual(await groupsOf(api, by), [
      [null, 4],
      ["search", 4],
      ["ads", 2],
      ["=shop", 1],
      ["(other)", 2],
    ]);
    assert.deepEqual(await groupsOf(api, `${by}&limit=2`), [
      [null, 4],
      ["search", 4],
      ["(other)", 5],
    ]);
    assert.deepEqual(await groupsOf(api, `${by}&tag=team=ads&tag=team=(none)&tag=team=never`), [
      [null, 4],
      ["ads", 2],
    ]);
    assert.deepEqual(await groupsOf(api, `${by}&tag=team=(other)`), [["(other)", 2]]);
    assert.deepEqual(await groupsOf(api, `${by}&tag:team=ads&tag:team=%3Dshop&tag=team=search`), [
      ["search", 4],
      ["ads", 2],
      ["=shop", 1],
    ]);
    assert.deepEqual(await groupsOf(api, `${report}?${DAY}&groupBy=tag:tier`), [
      ["1", 10],
      [null, 3],
    ]);
    assert.deepEqual(await groupsOf(api, `${report}?${DAY}&groupBy=tag:tier&limit=1`), [
      ["1", 10],
      ["(other)", 3],
    ]);
    const filtered = await api.ask<Report>(`${OWN}/${report}?${DAY}&tag=team%3D%3Dshop`);
    assert.equal(filtered.body.totals.requests, 1);
    const failed = await api.ask<Report>(`${OWN}/${report}?${DAY}&tag=team=(none)&status=error`);
    assert.equal(failed.body.totals.requests, 1);
  }
  const table = await api.ask(`${OWN}/usage?${DAY}&groupBy=tag:team`, {
    headers: { accept: "text/csv" },
  });
  const lines = table.text.trim().split(/\r?\n/);
  assert.match(lines[0] ?? "", /^"?tag"?,"?isOther"?,"?start"?/);
  assert.deepEqual(
    lines.slice(1).map((line) => line.split(",").slice(0, 2).join()),
    [",false", '"search",false', '"ads",false', `"'=shop",false`, '"(other)",true'],
  );
});

test("a key that is not declared is refused, with those that are; so are two keys, and a key beside a model", async () => {
  await using api = await taggedApi();
  const refusals: [query: string, code: string, pointer: string, detail: RegExp][] = [
    ["groupBy=tag:Team", "invalid_request", "/query/groupBy", /declared are: team, tier/],
    ["tag=a=b", "invalid_request", "/query/tag", /declared are: team, tier/],
    ["groupBy=tag:team&tag=tier=1", "unsupported_combination", "/query/tag", /per tag key/],
    ["tag=team=a&tag=tier=1", "unsupported_combination", "/query/tag", /per tag key/],
    ["groupBy=model&tag=tier=1", "unsupported_combination", "/query/tag", /per tag key/],
    ["groupBy=tag:", "invalid_request", "/query/groupBy", /./],
    ["tag=team", "invalid_request", "/query/tag/0", /KEY=VALUE/],
    ["tag:a%20b=c", "invalid_request", "/query/tag/0", /KEY=VALUE/],
    ["tag:tier=1&tag:team=a", "unsupported_combination", "/query/tag", /per tag key/],
    ["team=a", "invalid_request", "/query/team", /./],
  ];
  for (const [query, code, pointer, detail] of refusals) {
    const { status, body, text } = await api.ask<Report & { code: string; detail: string }>(
      `${OWN}/usage?${DAY}&${query}`,
    );
    assert.equal(status, 400, text);
    assert.deepEqual([body.code, body.errors[0]?.pointer], [code, pointer], query);
    assert.match(text, detail);
  }
  await declare(api, []);
  const none = await api.ask(`${OWN}/usage?${DAY}&groupBy=tag:team`);
  assert.equal(none.status, 400);
  assert.match(none.text, /declared are: none/);
  await declare(api, ["team"]);
  assert.equal((await groupsOf(api, `usage?${DAY}&groupBy=tag:team`)).length, 5);
});
