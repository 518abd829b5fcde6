import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromConvention } from "./token-conventions.ts";
import { LAYOUTS, type TokenConvention } from "./token-layouts.ts";
import { convert, rowOf, type Row } from "./token-rows.ts";
import { FLAG_INCONSISTENT_TOTAL } from "./usage-event.ts";

test("usage that nobody counted is absent, which is not 0", () => {
  for (const usage of [undefined, null, {}, { prompt_tokens: null }, { total_tokens: 0 }])
    assert.equal(convert("openai_chat", usage).usageSource, "absent");
  assert.equal(convert("openai_chat", { prompt_tokens: 0 }).usageSource, "reported");
});

test("a cache write without a lifetime is one of 5 minutes, and one lifetime leaves the rest to the other", () => {
  const writesOf = (name: TokenConvention, usage: unknown): number[] =>
    rowOf(convert(name, usage).classes).slice(2, 4);
  const sum = { cacheWriteInputTokens: 7 };
  assert.deepEqual(writesOf("bedrock", { ...sum, cacheDetails: [] }), [7, 0]);
  const hour = { cacheDetails: [{ ttl: "1h", inputTokens: 7 }] };
  assert.deepEqual(writesOf("bedrock", { ...sum, ...hour }), [0, 7]);
  const only = (lifetime: string): unknown => ({
    cache_creation_input_tokens: 7,
    cache_creation: { [lifetime]: 3 },
  });
  assert.deepEqual(writesOf("anthropic", only("ephemeral_1h_input_tokens")), [4, 3]);
  assert.deepEqual(writesOf("anthropic", only("ephemeral_5m_input_tokens")), [3, 4]);
});

test("tokens that tools sent are input beside the prompt", () => {
  const usage = { promptTokenCount: 10, cachedContentTokenCount: 4, toolUsePromptTokenCount: 7 };
  const answer = { candidatesTokenCount: 2, thoughtsTokenCount: 3, totalTokenCount: 22 };
  const { classes, flags } = convert("gemini", { ...usage, ...answer });
  assert.deepEqual(rowOf(classes), [13, 4, 0, 0, 2, 3]);
  assert.equal(flags, 0);
});

const CONVENTIONS: TokenConvention[] = [
  "openai_chat",
  "openai_responses",
  "gemini",
  "litellm",
  "otel_genai",
  "anthropic",
  "bedrock",
];

/** Writes classes as a provider would. A class that the convention does not know must be 0. */
function write(name: TokenConvention, row: Row): Record<string, unknown> {
  const [input, read, in5m, in1h, output, reasoning] = row;
  const inclusive = input + read + in5m + in1h;
  const total = inclusive + output + reasoning;
  switch (name) {
    case "openai_chat":
      return {
        prompt_tokens: inclusive,
        prompt_tokens_details: { cached_tokens: read, cache_write_tokens: in5m },
        completion_tokens: output + reasoning,
        completion_tokens_details: { reasoning_tokens: reasoning },
        total_tokens: total,
      };
    case "openai_responses":
      return {
        input_tokens: inclusive,
        input_tokens_details: { cached_tokens: read, cache_write_tokens: in5m },
        output_tokens: output + reasoning,
        output_tokens_details: { reasoning_tokens: reasoning },
        total_tokens: total,
      };
    case "gemini":
      return {
        promptTokenCount: inclusive,
        cachedContentTokenCount: read,
        candidatesTokenCount: output,
        thoughtsTokenCount: reasoning,
        totalTokenCount: total,
      };
    case "litellm":
      return {
        prompt_tokens: inclusive,
        prompt_tokens_details: {
          cached_tokens: read,
          cache_creation_tokens: in5m + in1h,
          cache_creation_token_details: {
            ephemeral_5m_input_tokens: in5m,
            ephemeral_1h_input_tokens: in1h,
          },
        },
        cache_read_input_tokens: read,
        cache_creation_input_tokens: in5m + in1h,
        completion_tokens: output + reasoning,
        completion_tokens_details: { reasoning_tokens: reasoning },
        total_tokens: total,
      };
    case "otel_genai":
      return {
        "gen_ai.usage.input_tokens": inclusive,
        "gen_ai.usage.cache_read.input_tokens": read,
        "gen_ai.usage.cache_creation.input_tokens": in5m,
        "gen_ai.usage.output_tokens": output + reasoning,
        "gen_ai.usage.reasoning.output_tokens": reasoning,
        "gen_ai.usage.total_tokens": total,
      };
    case "anthropic":
      return {
        input_tokens: input,
        cache_read_input_tokens: read,
        cache_creation_input_tokens: in5m + in1h,
        cache_creation: { ephemeral_5m_input_tokens: in5m, ephemeral_1h_input_tokens: in1h },
        output_tokens: output + reasoning,
        output_tokens_details: { thinking_tokens: reasoning },
      };
    case "bedrock":
      return {
        inputTokens: input,
        cacheReadInputTokens: read,
        cacheWriteInputTokens: in5m + in1h,
        cacheDetails: [
          { ttl: "1h", inputTokens: in1h },
          { ttl: "5m", inputTokens: in5m },
        ],
        outputTokens: output,
        totalTokens: total,
      };
  }
}

/** Four of them fit one count, and six make a total beyond what a count can hold. */
const tokens = fc.nat(530_000_000);
const rows = (name: TokenConvention): fc.Arbitrary<Row> => {
  const { cacheWrite, cacheWrite1h, reasoning } = LAYOUTS[name].counts;
  const none = fc.constant(0);
  return fc.tuple(
    tokens,
    tokens,
    cacheWrite.length > 0 ? tokens : none,
    cacheWrite1h.length > 0 ? tokens : none,
    tokens,
    reasoning.length > 0 ? tokens : none,
  );
};

const written = fc
  .constantFrom(...CONVENTIONS)
  .chain((name) => rows(name).map((row) => ({ name, row })));

test("whatever the convention, the classes that were written are read, and nothing is flagged", () => {
  assert.deepEqual(CONVENTIONS.toSorted(), Object.keys(LAYOUTS).toSorted());
  fc.assert(
    fc.property(written, ({ name, row }) => {
      const { classes, flags } = convert(name, write(name, row));
      assert.deepEqual(rowOf(classes), row);
      assert.equal(flags, 0);
    }),
  );
});

test("a total that adds up in no way is flagged and handed on as sent, and changes no class", () => {
  fc.assert(
    fc.property(written, fc.integer({ min: -9, max: 9 }), ({ name, row }, by) => {
      const key = LAYOUTS[name].counts.total[0]?.[0];
      const total = row.reduce((a, b) => a + b) + by;
      fc.pre(typeof key === "string" && total >= 0 && by !== 0 && Math.abs(by) !== row[5]);
      const converted = convert(name, { ...write(name, row), [String(key)]: total });
      assert.deepEqual(rowOf(converted.classes), row);
      assert.equal(converted.flags, FLAG_INCONSISTENT_TOTAL);
      assert.equal(converted.totalTokens, total);
    }),
  );
});

test("no input makes it throw, and what it takes is whole, disjoint and not negative", () => {
  const keys = CONVENTIONS.flatMap((name) =>
    Object.values(LAYOUTS[name].counts).flatMap((paths) =>
      paths.flatMap((path) => path.flatMap((step) => (typeof step === "string" ? [step] : []))),
    ),
  );
  const key = fc.constantFrom(...keys, "ttl", "__proto__");
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.nat(100),
      fc.anything({ maxDepth: 1 }),
      fc.constantFrom("5m", "1h", null),
      fc.dictionary(key, tie("value"), { maxKeys: 8 }),
      fc.array(tie("value"), { maxLength: 3 }),
    ),
  }));
  fc.assert(
    fc.property(fc.constantFrom(...CONVENTIONS), value, (name, usage) => {
      const converted = fromConvention(name, usage);
      if ("rejection" in converted) return;
      for (const count of rowOf(converted.classes))
        assert.ok(Number.isSafeInteger(count) && count >= 0 && count < 2 ** 31, String(count));
    }),
    { numRuns: 2000 },
  );
});
