import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import type { Problem } from "./problem.ts";
import { testApi, type TestApi } from "./test-api.ts";

const DAY = "start=2026-11-19&end=2026-11-20&timeZone=UTC";
const OWN = "/analytics/v1/orgs/acme";
const PAIR = "unsupported_combination";

type Group = {
  tag: string | null;
  requests: number;
  isOther: boolean;
  share: { requests: number };
  change: { requests: number | null } | null;
};
type Report = { totals: { requests: number }; groups: Group[] };

/** The refusal of a question about an org: status, code, the parameters it names and its words. */
async function refusalOf(api: TestApi, path: string) {
  const { status, body } = await api.ask<Problem>(`${OWN}/${path}`);
  const pointers = body.errors.map(({ pointer }) => pointer);
  const words = [body.detail, ...body.errors.map(({ message }) => message)].join(" ");
  return { answer: [status, body.code, ...pointers], words };
}

const call = (metadata: object | undefined, rest: object = {}) =>
  anEvent({ occurred_at: "2026-11-19T10:00:00Z", metadata, ...rest });

/** One call from before the keys were declared, then of four teams (three are kept apart) and of none. */
async function taggedApi(): Promise<TestApi> {
  const api = await testApi();
  await api.createOrg("acme");
  await api.send([call({ team: "search" })]);
  await api.declareTags("acme", ["team", "tier"]);
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
  const refusals: [query: string, code: string, pointers: string[], words: RegExp][] = [
    ["usage?groupBy=tag:Team", "invalid_request", ["groupBy"], /declared are: team, tier/],
    ["usage?tag=a=b", "invalid_request", ["tag"], /declared are: team, tier/],
    ["usage?groupBy=tag:team&tag=tier=1", PAIR, ["tag", "groupBy"], /per tag key/],
    ["usage?tag=team=a&tag=tier=1", PAIR, ["tag"], /per tag key/],
    ["usage?groupBy=model&tag=tier=1", PAIR, ["tag", "groupBy"], /per tag key/],
    ["usage?groupBy=tag:", "invalid_request", ["groupBy"], /./],
    ["usage?tag=team", "invalid_request", ["tag/0"], /KEY=VALUE/],
    ["usage?tag:a%20b=c", "invalid_request", ["tag/0"], /KEY=VALUE/],
    ["usage?tag:tier=1&tag:team=a", PAIR, ["tag"], /per tag key/],
    ["usage?team=a", "invalid_request", ["team"], /./],
    ["reliability?groupBy=client&tag:tier=1", PAIR, ["tag", "groupBy"], /per tag key/],
    ["tags?tagKey=Team", "invalid_request", ["tagKey"], /declared are: team, tier/],
    ["tags?tagKey=a%20b", "invalid_request", ["tagKey"], /./],
    ["tags?tag=team=a", "invalid_request", ["tagKey"], /./],
    ["tags?tagKey=team&tag=tier=1", PAIR, ["tag", "tagKey"], /per tag key/],
    ["tags?tagKey=team&modelId=m", PAIR, ["modelId", "tagKey"], /per tag key/],
    ["tags?tagKey=team&clientId=c", PAIR, ["clientId", "tagKey"], /per tag key/],
  ];
  for (const [path, code, pointers, words] of refusals) {
    const refusal = await refusalOf(api, `${path}&${DAY}`);
    const expected = [400, code, ...pointers.map((name) => `/query/${name}`)];
    assert.deepEqual(refusal.answer, expected, path);
    assert.match(refusal.words, words, path);
  }
  await api.declareTags("acme", []);
  const none = await api.ask(`${OWN}/usage?${DAY}&groupBy=tag:team`);
  assert.equal(none.status, 400);
  assert.match(none.text, /declared are: none/);
  await api.declareTags("acme", ["team"]);
  assert.equal((await groupsOf(api, `usage?${DAY}&groupBy=tag:team`)).length, 5);
});

test("a report by something else refuses a filter by tag, client or actor, and says by what it is", async () => {
  await using api = await taggedApi();
  const filters = { tag: "tag=team=ads", clientId: "clientId=web", actorId: "actorId=a" };
  const reports: [report: string, by: RegExp, own?: string][] = [
    ["models", /is by model/],
    ["users", /is by actor/, "actorId"],
    ["clients", /is by client/, "clientId"],
    ["spend/change", /is by model/],
    ["spend/unpriced", /is by model/],
    ["incidents", /is by model/],
  ];
  for (const [report, by, own] of reports) {
    for (const [name, filter] of Object.entries(filters)) {
      const path = `${report}?${DAY}&${filter}`;
      if (name === own) {
        assert.equal((await api.ask(`${OWN}/${path}`)).status, 200, path);
        continue;
      }
      const { answer, words } = await refusalOf(api, path);
      assert.deepEqual(answer, [400, PAIR, `/query/${name}`], path);
      assert.match(words, by, path);
    }
    const { answer } = await refusalOf(api, `${report}?${DAY}&tag:team=ads`);
    assert.deepEqual(answer, [400, PAIR, "/query/tag"], report);
  }
});

test("the values of a declared key as a report of their own: shares, change to the day before, the first so many and the rest, also as a table", async () => {
  await using api = await taggedApi();
  const before = { occurred_at: "2026-11-18T10:00:00Z" };
  for (const team of ["search", "ads", "ads", "ads", "ads"])
    await api.send([call({ team }, before)]);
  await api.fold();
  const rowsOf = async (query: string) => {
    const { body, text } = await api.ask<Report>(`${OWN}/tags?${DAY}&tagKey=team${query}`);
    assert.ok(Array.isArray(body.groups), text);
    return body.groups.map((one) => [
      one.tag,
      one.requests,
      one.share.requests,
      one.change?.requests,
    ]);
  };
  assert.deepEqual(await rowsOf(""), [
    [null, 4, 0.307692, null],
    ["search", 4, 0.307692, 3],
    ["ads", 2, 0.153846, -0.5],
    ["=shop", 1, 0.076923, null],
    ["(other)", 2, 0.153846, null],
  ]);
  assert.deepEqual(await rowsOf("&limit=1&orderBy=errors"), [
    [null, 4, 0.307692, null],
    ["(other)", 9, 0.692308, 0.8],
  ]);
  assert.deepEqual(await rowsOf("&tag:team=ads&tag=team=(none)&status=success"), [
    [null, 3, 0.6, null],
    ["ads", 2, 0.4, -0.5],
  ]);
  const accept = { headers: { accept: "text/csv" } };
  const table = await api.ask(`${OWN}/tags?${DAY}&tagKey=team&limit=4`, accept);
  assert.match(table.headers.get("content-disposition") ?? "", /"tags\.csv"/);
  const [head = "", ...rows] = table.text.trim().split(/\r?\n/);
  assert.match(head, /^tag,isOther,requests,.*,requestShare,.*,requestChange,/);
  assert.deepEqual(
    rows.map((line) => line.split(",").slice(0, 3).join()),
    [",false,4", '"search",false,4', '"ads",false,2', `"'=shop",false,1`, '"(other)",true,2'],
  );
});
