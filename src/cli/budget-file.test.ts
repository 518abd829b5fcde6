import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { readBudgetFiles } from "./budget-file.ts";

const EXAMPLE = new URL("../../budgets/example.yaml", import.meta.url);

const read = (...texts: string[]) =>
  readBudgetFiles(texts.map((text, i) => ({ name: `${"abc"[i]}.yaml`, text })));

/** The faults of files, one line each. */
const faultsOf = (...texts: string[]): string[] =>
  (read(...texts).faults ?? []).map(
    ({ file, line, path, reason }) => `${file}:${line} ${path}: ${reason}`,
  );

test("the example that comes along is valid", async () => {
  const { request, faults } = read(await readFile(EXAMPLE, "utf8"));
  assert.equal(faults, null);
  assert.deepEqual(
    request?.orgs.map(({ orgId, budgets }) => [orgId, budgets.length]),
    [
      ["acme", 2],
      ["globex", 1],
    ],
  );
});

test("files are one list by org; amounts are taken digit by digit, quoted or not, and names that look like numbers stay", () => {
  const { request } = read(
    `
orgId: acme
budgets:
  - { budgetId: all, amount: 12345678901234567890.123456789 }
  - { budgetId: "2026", orgId: 007, name: null, amount: "1e3", thresholds: [100, 80, "100"] }
`,
    "budgets: [{ orgId: acme, budgetId: large, modelId: 1.10, amount: 0.1 }]",
    "orgId: initech\nbudgets: []",
  );
  const usual = { name: null, modelId: null, thresholds: [50, 80, 100] };
  assert.deepEqual(request?.orgs, [
    {
      orgId: "acme",
      budgets: [
        { ...usual, budgetId: "all", amount: "12345678901234567890.123456789" },
        { ...usual, budgetId: "large", modelId: "1.10", amount: "0.10" },
      ],
    },
    {
      orgId: "007",
      budgets: [
        { ...usual, budgetId: "2026", name: "null", amount: "1000.00", thresholds: [80, 100] },
      ],
    },
    { orgId: "initech", budgets: [] },
  ]);
});

test("each mistake is told with file, line, place and reason, all at once", () => {
  const faults = faultsOf(`
budgets:
  - budgetId: all
    amount: "1,5"
  - orgId: acme
    budgetId: -all
    amount: 0
  - orgId: acme
    budgetId: large
    amount: 0.0000000001
    threshold: [50]
  - { orgId: acme, budgetId: small, thresholds: [50, half, 0] }
  - 7
`);
  for (const expected of [
    /^a\.yaml:3 budgets\[0\]\.orgId: is missing$/,
    /^a\.yaml:4 budgets\[0\]\.amount: must be a decimal above 0 with at most 9 decimals$/,
    /^a\.yaml:6 budgets\[1\]\.budgetId: at most 64 of/,
    /^a\.yaml:7 budgets\[1\]\.amount: must be a decimal above 0/,
    /^a\.yaml:10 budgets\[2\]\.amount: must be a decimal above 0/,
    /^a\.yaml:11 budgets\[2\]\.threshold: there is no such field; did you mean thresholds\?$/,
    /^a\.yaml:12 budgets\[3\]\.amount: is missing$/,
    /^a\.yaml:12 budgets\[3\]\.thresholds\[1\]: must be a whole number of per cent$/,
    /^a\.yaml:12 budgets\[3\]\.thresholds\[2\]: .*>=1$/,
    /^a\.yaml:13 budgets\[4\]: .*object/,
  ])
    assert.ok(
      faults.some((fault) => expected.test(fault)),
      `${expected.source} in\n${faults.join("\n")}`,
    );
  assert.equal(faults.length, 10, faults.join("\n"));
  assert.match(faultsOf("budget: []")[0] ?? "", /^a\.yaml:\S+ budgets: is missing$/);
  assert.match(faultsOf('orgId: "*"\nbudgets: []')[0] ?? "", /^a\.yaml:1 orgId: must be an org/);
  assert.match(faultsOf("budgets: [")[0] ?? "", /^a\.yaml:\d+ : /);
});

test("a budget that is there twice is refused across files, and the same name of another org is not", () => {
  const acme = "orgId: acme\nbudgets: [{ budgetId: all, amount: 1 }]";
  const globex = "orgId: globex\nbudgets:\n  - { budgetId: all, amount: 1 }";
  assert.equal(read(acme, globex).faults, null);
  assert.deepEqual(faultsOf(acme, `${globex}\n  - { orgId: acme, budgetId: all, amount: 2 }`), [
    "b.yaml:4 budgets[1].budgetId: all of acme is there already, as budgets[0] of a.yaml",
  ]);
});

test("what the service refuses is found in the files by its place in the request", () => {
  const result = read(
    "orgId: acme\nbudgets:\n  - { orgId: globex, budgetId: all, amount: 1 }\n  - { budgetId: all, amount: 1 }",
    "budgets:\n  - { orgId: globex,\n      budgetId: large,\n      amount: 1, modelId: m }",
    "orgId: initech\nbudgets: []",
  );
  assert.ok(result.faults === null);
  const place = (pointer: string): string | undefined => {
    const fault = result.locate(pointer, "why");
    return fault && `${fault.file}:${fault.line} ${fault.path}`;
  };
  assert.equal(place("/body/orgs/0/orgId"), "a.yaml:3 budgets[0].orgId");
  assert.equal(place("/body/orgs/0/budgets/1/modelId"), "b.yaml:4 budgets[0].modelId");
  assert.equal(place("/body/orgs/0/budgets"), "a.yaml:3 budgets[0].orgId");
  assert.equal(place("/body/orgs/1/orgId"), "a.yaml:1 orgId");
  assert.equal(place("/body/orgs/2/orgId"), "c.yaml:1 orgId");
  for (const unknown of ["/body/orgs/3/orgId", "/body/orgs/0/budgets/2", "/query/prune", ""])
    assert.equal(place(unknown), undefined, unknown);
});
