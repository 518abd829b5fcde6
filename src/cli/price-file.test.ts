import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import fc from "fast-check";
import { readPriceFiles } from "./price-file.ts";

const EXAMPLE = new URL("../../prices/example.yaml", import.meta.url);

/** The faults of one file, one line each. */
const faultsOf = (text: string): string[] =>
  (readPriceFiles([{ name: "a.yaml", text }]).faults ?? []).map(
    ({ file, line, path, reason }) => `${file}:${line} ${path}: ${reason}`,
  );

test("the example that comes along is valid", async () => {
  const { prices, faults } = readPriceFiles([
    { name: "example.yaml", text: await readFile(EXAMPLE, "utf8") },
  ]);
  assert.equal(faults, null);
  assert.deepEqual([prices?.prices.length, prices?.pools.length], [7, 1]);
});

test("amounts are taken digit by digit, quoted or not, and equal amounts are written alike", () => {
  const { prices } = readPriceFiles([
    {
      name: "a.yaml",
      text: `
currency: EUR
prices:
  - model: m
    from: 2026-11-20
    to: 2026-12-01T00:00:00+01:00
    perMillion: { input: 0.1234567890123456789, cacheRead: "2.50", output: 1e-7, reasoning: 3 }
    perRequest: 0
    tiers: [{ aboveInputTokens: 200000, perMillion: { input: 1.10 } }]
  - { model: n, currency: USD, perSecond: 0.5, chargedOutcomes: [success, policy] }
`,
    },
  ]);
  assert.deepEqual(prices?.prices, [
    {
      model: "m",
      source: "a.yaml",
      currency: "EUR",
      from: new Date("2026-11-20T00:00:00Z"),
      to: new Date("2026-11-30T23:00:00Z"),
      perMillion: {
        input: "0.1234567890123456789",
        cacheRead: "2.5",
        output: "0.0000001",
        reasoning: "3",
      },
      perRequest: "0",
      tiers: [{ aboveInputTokens: 200_000, perMillion: { input: "1.1" } }],
    },
    {
      model: "n",
      source: "a.yaml",
      currency: "USD",
      perMillion: {},
      perSecond: "0.5",
      chargedOutcomes: ["success", "policy"],
    },
  ]);
});

test("each mistake is told with file, line, place and reason, all at once", () => {
  const faults = faultsOf(`
prices:
  - model: gpt-*-mini
    perMillion: { input: "1,5", ouput: "2" }
  - perMillion: { input: "-1" }
  - model: m
    from: 2026-02-30
    perMillion: { input: "1" }
  - model: free
    perMillion: {}
  - model: n
    from: 2026-11-02
    to: 2026-11-02
    perMillion: { input: "1" }
  - model: o
    currency: XXY
    perMillion: { input: "1" }
    source: me
  - { model: p, perMillion: { input: "1" }, chargedOutcomes: [success, errors] }
  - { model: q, perMillion: { input: "1" }, chargedOutcomes: [success, success] }
`);
  for (const expected of [
    /^a\.yaml:3 prices\[0\]\.model: must be a model's id, or the beginning of ids with \* behind it$/,
    /^a\.yaml:4 prices\[0\]\.perMillion\.input: must be a decimal/,
    /^a\.yaml:4 prices\[0\]\.perMillion\.ouput: there is no such field; did you mean output\?$/,
    /^a\.yaml:5 prices\[1\]\.model: is missing$/,
    /^a\.yaml:5 prices\[1\]\.perMillion\.input: must be a decimal/,
    /^a\.yaml:7 prices\[2\]\.from: must be a date/,
    /^a\.yaml:10 prices\[3\]\.perMillion: must price something/,
    /^a\.yaml:13 prices\[4\]\.to: must be later than from/,
    /^a\.yaml:16 prices\[5\]\.currency: must be an ISO 4217 code/,
    /^a\.yaml:18 prices\[5\]\.source: there is no such field/,
    /^a\.yaml:19 prices\[6\]\.chargedOutcomes\[1\]: must be one of success, cancelled, client/,
    /^a\.yaml:20 prices\[7\]\.chargedOutcomes: names an outcome twice/,
  ])
    assert.ok(
      faults.some((fault) => expected.test(fault)),
      `${expected.source} in\n${faults.join("\n")}`,
    );
  assert.equal(faults.length, 12, faults.join("\n"));
});

test("what is no such document is refused with its line", () => {
  assert.match(
    faultsOf("prices:\n  - model: m\n    model: n\n")[0] ?? "",
    /^a\.yaml:3 : .*unique/i,
  );
  assert.match(faultsOf("prices: [")[0] ?? "", /^a\.yaml:\d+ : /);
  assert.match(
    faultsOf("price: []\n")[0] ?? "",
    /^a\.yaml:1 price: there is no such field; did you mean prices\?$/,
  );
  assert.match(faultsOf("prices: { model: m }\n")[0] ?? "", /^a\.yaml:1 prices: .*array/);
  assert.match(faultsOf("prices: [m]\n")[0] ?? "", /^a\.yaml:1 prices\[0\]: .*object/);
  assert.match(faultsOf("a: 1\n---\nb: 2\n")[0] ?? "", /multiple documents/);
});

test("prices of one model and org that hold at the same time are refused across files, and those that touch are not", () => {
  const file = (name: string, text: string) => ({ name, text });
  const before = file("a.yaml", "prices: [{ model: m, to: 2026-11-20T12:00:00Z, perRequest: 1 }]");
  const after = file(
    "b.yaml",
    "prices: [{ model: n, perRequest: 1 },\n { model: m, from: 2026-11-20T12:00:00Z, perRequest: 2 }]",
  );
  const late = file(
    "b.yaml",
    "prices: [{ model: n, perRequest: 1 },\n { model: m, from: 2026-11-20T11:59:59Z, perRequest: 2 }]",
  );
  const ofOrg = file(
    "c.yaml",
    "prices: [{ model: m, orgId: acme, perRequest: 1 }]\npools: [{ pool: m, perHour: 1, models: [m] }]",
  );
  assert.equal(readPriceFiles([before, after, ofOrg]).faults, null);
  assert.deepEqual(readPriceFiles([before, late, ofOrg]).faults, [
    {
      file: "b.yaml",
      line: 2,
      path: "prices[1].from",
      reason:
        "begins before prices[0] of a.yaml ends, which prices the same (m, in a.yaml, from ever)",
    },
  ]);
});

test("no text breaks the reader: it is prices, or mistakes that say where", () => {
  const bomb = [0, 1, 2, 3, 4, 5, 6, 7, 8]
    .map(
      (i) =>
        `- &a${i} [${i === 0 ? "x" : Array.from({ length: 9 }, () => `*a${i - 1}`).join(",")}]`,
    )
    .join("\n");
  assert.match(faultsOf(`prices:\n${bomb}`)[0] ?? "", /alias/);
  assert.match(faultsOf("prices: [*nothing]")[0] ?? "", /alias/i);
  const scraps =
    "prices:|pools:|- |  |\n|model: m|{|}|[|]|perMillion|: |, |&a |*a |!!int 1|? |<<: *a|>\n|'|\"|#|---|%YAML 1.1|\t|null|input: 1|__proto__|\0";
  const scrap = fc.constantFrom(...scraps.split("|"));
  const text = fc.oneof(
    fc.string(),
    fc.array(scrap, { maxLength: 25 }).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(text, (given) => {
      const { prices, faults } = readPriceFiles([{ name: "a.yaml", text: given }]);
      assert.ok(
        prices !== null || faults.every(({ file, reason }) => file === "a.yaml" && reason !== ""),
      );
    }),
    { numRuns: 3000 },
  );
});
