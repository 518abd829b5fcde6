import assert from "node:assert/strict";
import test from "node:test";
import type { Problem } from "../problem.ts";
import { testApi, type TestApi } from "../test-api.ts";

type Entry = {
  model: string | null;
  orgId: string | null;
  price: { perMillion: { input?: string } } | null;
  version: number;
};
type Page = { version: number; items: Entry[]; nextCursor: string | null };
type Applied = {
  version: number;
  isApplied: boolean;
  counts: Record<"added" | "changed" | "removed", number>;
  changes: { what: string; before: Entry | null; after: Entry | null }[];
};
type OrgPage = {
  version: number;
  items: {
    model: string;
    isOwn: boolean;
    from: string | null;
    price: { perMillion: { input?: string } };
  }[];
  nextCursor: string | null;
};

const BOOK = "/analytics/v1/admin/prices";

const put = <Body = Applied>(api: TestApi, body: unknown, query = "") =>
  api.ask<Body>(`${BOOK}${query}`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

const aPrice = (model: string, input: string, rest: object = {}) => ({
  model,
  perMillion: { input },
  ...rest,
});

test("prices are applied as a whole, shown by page, and an org sees those that hold for it at an instant", async () => {
  await using api = await testApi();
  const finance = await api.keyFor({ orgId: "acme", roles: ["finance"] });
  const prices = [
    aPrice("m", "1", { to: "2026-11-20T12:00:00Z" }),
    aPrice("m", "2", { from: "2026-11-20T12:00:00Z" }),
    aPrice("m", "0.5", { orgId: "acme", from: "2026-12-01" }),
    aPrice("n*", "3"),
  ];
  const foreseen = await put(api, { prices }, "?dryRun=true");
  assert.deepEqual(
    [foreseen.status, foreseen.body.version, foreseen.body.isApplied],
    [200, 1, false],
    foreseen.text,
  );
  const applied = await put(api, { prices });
  assert.deepEqual(applied.body.counts, { added: 4, changed: 0, removed: 0 });
  assert.deepEqual(applied.body, { ...foreseen.body, isApplied: true });
  const again = await put(api, { prices });
  assert.deepEqual(again.body, {
    version: 1,
    isApplied: false,
    counts: { added: 0, changed: 0, removed: 0 },
    changes: [],
  });

  const models: (string | null)[] = [];
  for (let cursor: string | null = ""; cursor !== null;) {
    const after: string = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const { body }: { body: Page } = await api.ask<Page>(`${BOOK}?limit=3${after}`);
    assert.equal(body.version, 1);
    models.push(...body.items.map(({ model }) => model));
    cursor = body.nextCursor;
  }
  assert.deepEqual(models, ["m", "m", "m", "n*"]);

  const held = async (query: string) => {
    const { body, status, text } = await api.ask<OrgPage>(
      `/analytics/v1/orgs/acme/prices${query}`,
      { key: finance },
    );
    assert.equal(status, 200, text);
    return body.items.map((one) => [one.model, one.isOwn, one.price.perMillion.input]);
  };
  assert.deepEqual(await held("?at=2026-11-20T11:59:59.999Z"), [
    ["m", false, "1"],
    ["n*", false, "3"],
  ]);
  assert.deepEqual(
    await held(""),
    [
      ["m", false, "2"],
      ["n*", false, "3"],
    ],
    "now is noon",
  );
  assert.deepEqual(await held("?at=2026-12-01T00:00:00Z&modelId=m"), [["m", true, "0.5"]]);
  assert.deepEqual(await held("?modelId=unheard-of"), []);
  const first = await api.ask<OrgPage>("/analytics/v1/orgs/acme/prices?limit=1", { key: finance });
  assert.deepEqual([first.body.items.length, first.body.nextCursor], [1, "m"]);
  assert.deepEqual(await held("?limit=1&cursor=m"), [["n*", false, "3"]]);
});

test("a price that is wrong is named by its place, and nothing of the list is applied", async () => {
  await using api = await testApi();
  const cases: readonly [object, pointer: string, code: string][] = [
    [
      { prices: [aPrice("m", "1"), aPrice("m", "1,5")] },
      "/body/prices/1/perMillion/input",
      "custom",
    ],
    [
      { prices: [{ model: "m", perMillion: { input: 1.5 } }] },
      "/body/prices/0/perMillion/input",
      "invalid_type",
    ],
    [
      { prices: [aPrice("m", "1"), aPrice("m", "2", { from: "2026-01-01" })] },
      "/body/prices/1/from",
      "overlap",
    ],
    [{ prices: [aPrice("m", "1", { orgId: "nobody" })] }, "/body/prices/0/orgId", "unknown_org"],
    [{ prices: [{ model: "m" }] }, "/body/prices/0/perMillion", "custom"],
    [{ prices: [aPrice("m", "1", { orgId: "*" })] }, "/body/prices/0/orgId", "invalid_format"],
    [{ layer: "mine" }, "/body/layer", "invalid_value"],
  ];
  for (const [body, pointer, code] of cases) {
    const answer = await put<Problem>(api, body);
    assert.deepEqual(
      [answer.status, answer.body.errors[0]?.pointer, answer.body.errors[0]?.code],
      [400, pointer, code],
      answer.text,
    );
    const foreseen = await put<Problem>(api, body, "?dryRun=true");
    assert.deepEqual(foreseen.body.errors, answer.body.errors, "a dry run refuses the same");
  }
  const { body } = await api.ask<Page>(BOOK);
  assert.deepEqual([body.version, body.items], [0, []]);
});

test("a catalogue's worth of prices is taken in one request, though other changes may be no such size", async () => {
  await using api = await testApi();
  const prices = Array.from({ length: 6000 }, (_, i) =>
    aPrice(`model-${i}`, `0.${i}`, { source: "a published list" }),
  );
  const { status, body, text } = await put(api, { layer: "catalogue", prices });
  assert.deepEqual([status, body.counts?.added], [200, 6000], text.slice(0, 500));
  assert.equal(body.changes.length, 1000);
  const { body: page } = await api.ask<Page>(`${BOOK}?modelId=model-5999`);
  assert.deepEqual(
    page.items.map(({ model }) => model),
    ["model-5999"],
  );
});
