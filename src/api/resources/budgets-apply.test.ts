import assert from "node:assert/strict";
import test from "node:test";
import type { Problem } from "../problem.ts";
import { testApi, type TestApi } from "../test-api.ts";

type Said = {
  budgetId: string;
  modelId: string | null;
  amount: { amount: string; currency: string };
};
type Applied = {
  isApplied: boolean;
  counts: Record<"added" | "changed" | "removed", number>;
  changes: { what: string; orgId: string; before: Said | null; after: Said | null }[];
};

const PATH = "/analytics/v1/admin/budgets";

const ask = <Body>(api: TestApi, path: string, body: unknown, key?: string) =>
  api.ask<Body>(path, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...(key !== undefined && { key }),
  });
const apply = <Body = Applied>(api: TestApi, orgs: unknown, query = "", key?: string) =>
  ask<Body>(api, `${PATH}${query}`, { orgs }, key);

const of = (orgId: string, ...budgets: object[]) => ({ orgId, budgets });
const aBudget = (budgetId: string, amount: string, rest: object = {}) => ({
  budgetId,
  amount,
  ...rest,
});

/** "acme/all 60.00 USD", for each budget there is. */
async function listAll(api: TestApi, orgIds = ["acme", "globex"], query = ""): Promise<string[]> {
  const found = await Promise.all(
    orgIds.map(async (orgId) => {
      const { body } = await api.ask<{ budgets: Said[] }>(
        `/analytics/v1/orgs/${orgId}/budgets${query}`,
      );
      return body.budgets.map(
        ({ budgetId, amount }) => `${orgId}/${budgetId} ${amount.amount} ${amount.currency}`,
      );
    }),
  );
  return found.flat();
}

/** Actions and targets of all audit logs, but for what was only read. */
async function listAudited(api: TestApi): Promise<string[]> {
  const rows = await api.database.withSystem(
    ({ sql }) => sql<{ org: string; entry: string }>`
      select org.external_id as org, entry
        from audit_log
        join org on org.id = audit_log.org_id
       where action like 'budget.%'
       order by org.id, seq`,
  );
  return rows.map(({ org, entry }) => {
    const { action, target, details } = JSON.parse(entry) as Record<string, unknown>;
    return `${org} ${String(action)} ${String(target)} ${JSON.stringify(details ?? null)}`;
  });
}

async function twoOrgs(): Promise<TestApi> {
  const api = await testApi();
  await api.createOrg("acme");
  await api.createOrg("globex");
  return api;
}

test("budgets of many orgs are applied at once, each audited in its org's log; the same again changes nothing", async () => {
  await using api = await twoOrgs();
  // Not in the order of the orgs' own ids.
  const orgs = [
    of("globex", aBudget("all", "900", { name: "Everything" })),
    of("acme", aBudget("all", "60"), aBudget("large", "0.000000001", { modelId: "chat-large" })),
  ];
  const foreseen = await apply(api, orgs, "?dryRun=true");
  assert.deepEqual([foreseen.status, foreseen.body.isApplied], [200, false], foreseen.text);
  assert.deepEqual([await listAll(api), await listAudited(api)], [[], []]);

  const applied = await apply(api, orgs);
  assert.deepEqual(applied.body, { ...foreseen.body, isApplied: true }, applied.text);
  assert.deepEqual(applied.body.counts, { added: 3, changed: 0, removed: 0 });
  assert.deepEqual(await listAll(api), [
    "acme/all 60.00 USD",
    "acme/large 0.000000001 USD",
    "globex/all 900.00 USD",
  ]);
  const nothing = { isApplied: false, counts: { added: 0, changed: 0, removed: 0 }, changes: [] };
  assert.deepEqual((await apply(api, orgs)).body, nothing);
  assert.deepEqual((await apply(api, orgs.toReversed(), "?prune=true")).body, nothing);

  const [globex = of("globex"), acme = of("acme")] = orgs;
  const changed = await apply(api, [
    globex,
    of("acme", aBudget("all", "70", { thresholds: [100, 50] }), ...acme.budgets.slice(1)),
  ]);
  assert.deepEqual(
    changed.body.changes.map(({ what, orgId, before, after }) => [
      what,
      orgId,
      before?.amount.amount,
      after?.amount.amount,
    ]),
    [["changed", "acme", "60.00", "70.00"]],
  );
  const fields = '"changed":["name","amount","thresholds"]';
  assert.deepEqual(await listAudited(api), [
    `acme budget.set all {${fields},"modelId":null}`,
    `acme budget.set large {${fields},"modelId":"chat-large"}`,
    'acme budget.set all {"changed":["amount","thresholds"],"modelId":null}',
    `globex budget.set all {${fields},"modelId":null}`,
  ]);
});

test("budgets that are not in the list stay; with prune those of the orgs in it go, and no others", async () => {
  await using api = await twoOrgs();
  for (const orgId of ["acme", "globex"])
    for (const budgetId of ["all", "by-hand"])
      await ask(api, `/analytics/v1/orgs/${orgId}/budgets/${budgetId}`, { amount: "5" });
  const kept = await apply(api, [of("acme", aBudget("all", "6"))]);
  assert.deepEqual(kept.body.counts, { added: 0, changed: 1, removed: 0 });
  assert.deepEqual(await listAll(api, ["acme"]), ["acme/all 6.00 USD", "acme/by-hand 5.00 USD"]);

  const pruned = await apply(api, [of("acme", aBudget("all", "6"))], "?prune=true");
  assert.deepEqual(
    pruned.body.changes.map(({ what, before, after }) => [what, before?.budgetId, after]),
    [["removed", "by-hand", null]],
  );
  assert.deepEqual(await listAll(api), [
    "acme/all 6.00 USD",
    "globex/all 5.00 USD",
    "globex/by-hand 5.00 USD",
  ]);
  assert.equal((await listAudited(api)).at(-3), "acme budget.delete by-hand null");
  // An org that is named with none is to have none.
  await apply(api, [of("globex")], "?prune=true");
  assert.deepEqual(await listAll(api), ["acme/all 6.00 USD"]);
});

test("one budget that cannot be keeps all others from being applied, and every such place is named", async () => {
  await using api = await twoOrgs();
  await api.createOrg("gone");
  await api.setStatus("gone", "deleted");
  await apply(api, [of("acme", aBudget("all", "5"))]);
  await api.database.sql`
    insert into budget (org_id, budget_id, created_at, updated_at)
    select id, 'b' || n, now(), now() from org, generate_series(1, 199) n where external_id = 'globex'`;
  const good = aBudget("all", "6");
  const cases: [orgs: object[], places: [pointer: string, code: string][]][] = [
    [
      [of("acme", good), of("nobody", good), of("gone", good)],
      [
        ["/body/orgs/1/orgId", "unknown_org"],
        ["/body/orgs/2/orgId", "unknown_org"],
      ],
    ],
    [
      [
        of("globex", aBudget("x", "1"), aBudget("y", "1")),
        of("acme", aBudget("new", "1"), aBudget("all", "6", { modelId: "chat-large" })),
      ],
      [
        ["/body/orgs/1/budgets/1/modelId", "other_model"],
        ["/body/orgs/0/budgets", "too_many_budgets"],
      ],
    ],
    [[of("*", good)], [["/body/orgs/0/orgId", "invalid_format"]]],
    [[of("acme", good), of("acme")], [["/body/orgs/1/orgId", "custom"]]],
    [[of("acme", good, good)], [["/body/orgs/0/budgets/1/budgetId", "custom"]]],
    [[of("acme", aBudget("all", "1,5"))], [["/body/orgs/0/budgets/0/amount", "custom"]]],
    [[of("acme", { ...good, amount: 6 })], [["/body/orgs/0/budgets/0/amount", "invalid_type"]]],
    [
      Array.from({ length: 11 }, (_, i) =>
        of(`org-${i}`, ...Array.from({ length: 199 }, (_one, j) => aBudget(`b${j}`, "1"))),
      ),
      [["/body/orgs", "custom"]],
    ],
  ];
  for (const [orgs, places] of cases) {
    const foreseen = await apply<Problem>(api, orgs, "?dryRun=true");
    const { status, body, text } = await apply<Problem>(api, orgs);
    const found = body.errors.map(({ pointer, code }) => [pointer, code]);
    assert.deepEqual([status, found], [400, places], text.slice(0, 500));
    assert.deepEqual(foreseen.body.errors, body.errors, "a dry run refuses the same");
  }
  assert.deepEqual(await listAll(api), ["acme/all 5.00 USD"]);
  // One more is possible, and one in place of another.
  assert.equal((await apply(api, [of("globex", aBudget("x", "1"))])).status, 200);
  const instead = await apply(api, [of("globex", aBudget("z", "1"))], "?prune=true");
  assert.deepEqual(instead.body.counts, { added: 1, changed: 0, removed: 1 }, instead.text);
});

test("a budget holds from the current month of its org's own calendar on", async () => {
  await using api = await testApi();
  const create = async (orgId: string, timeZone: string): Promise<void> => {
    const { status } = await api.ask("/analytics/v1/admin/orgs", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ orgId, timeZone }),
    });
    assert.equal(status, 201);
  };
  await create("early", "Pacific/Kiritimati");
  await create("late", "Pacific/Pago_Pago");
  api.clock.advance(Date.parse("2026-11-30T23:00:00Z") - api.clock.now());
  await apply(api, [of("early", aBudget("all", "1")), of("late", aBudget("all", "1"))]);
  const orgIds = ["early", "late"];
  assert.deepEqual(await listAll(api, orgIds, "?month=2026-11"), ["late/all 1.00 USD"]);
  assert.equal((await listAll(api, orgIds, "?month=2026-12")).length, 2);
});

test("whoever belongs to an org applies nothing here, and of staff only who may change budgets", async () => {
  await using api = await twoOrgs();
  const orgs = [of("acme", aBudget("all", "1"))];
  const admin = await api.keyFor({ orgId: "acme", roles: ["org_admin"] });
  const finance = await api.keyFor({ orgId: null, roles: ["finance"] });
  for (const key of [admin, finance])
    for (const query of ["", "?dryRun=true"])
      assert.equal((await apply(api, orgs, query, key)).status, 403);
  assert.deepEqual(await listAll(api), []);
});

test("many who apply at once are heeded in turn, and what is the same is made once", async () => {
  await using api = await twoOrgs();
  const orgs = [of("acme", aBudget("all", "1")), of("globex", aBudget("all", "1"))];
  const answers = await Promise.all(
    Array.from({ length: 6 }, (_, i) => apply(api, i % 2 === 0 ? orgs : orgs.toReversed())),
  );
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200, 200, 200, 200],
  );
  assert.equal(answers.filter(({ body }) => body.isApplied).length, 1);
  assert.equal((await listAudited(api)).length, 2);
});
