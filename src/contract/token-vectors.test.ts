/** Usage that providers and their users have published, and what it comes to in classes and in money. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { formatNano } from "./money.ts";
import { createUnitPrices, rateUsage, type TokenPrices } from "./price.ts";
import { fromConvention } from "./token-conventions.ts";
import type { TokenConvention } from "./token-layouts.ts";
import { convert, rowOf, type Row } from "./token-rows.ts";
import type { TokenClasses } from "./usage-event.ts";

/** The exact cost in USD of one call, unpriced nowhere. */
function costOf(classes: TokenClasses, perMillion: TokenPrices): string {
  const prices = createUnitPrices({ currency: "USD", perMillion });
  const rating = rateUsage(prices, { ...classes, requests: 1, durationMs: null });
  assert.ok("nano" in rating, inspect(rating));
  return formatNano(rating.nano);
}

type Vector = { source: string; convention: TokenConvention; usage: unknown; expected: Row };

/** Usage as providers and their users have published it. None is flagged: each adds up to its own total. */
const PUBLISHED: readonly Vector[] = [
  {
    source: "https://platform.openai.com/docs/guides/prompt-caching",
    convention: "openai_chat",
    usage: {
      prompt_tokens: 2006,
      completion_tokens: 300,
      total_tokens: 2306,
      prompt_tokens_details: { cached_tokens: 1920 },
      completion_tokens_details: { reasoning_tokens: 0 },
    },
    expected: [86, 1920, 0, 0, 300, 0],
  },
  {
    source: "https://github.com/dotnet/extensions/issues/7635",
    convention: "openai_chat",
    usage: {
      prompt_tokens: 9657,
      completion_tokens: 78,
      total_tokens: 9735,
      prompt_tokens_details: { cached_tokens: 0, cache_write_tokens: 9654, audio_tokens: 0 },
      completion_tokens_details: {
        reasoning_tokens: 37,
        audio_tokens: 0,
        accepted_prediction_tokens: 0,
        rejected_prediction_tokens: 0,
      },
    },
    expected: [3, 0, 9654, 0, 41, 37],
  },
  {
    source: "https://github.com/dotnet/extensions/issues/7635",
    convention: "openai_responses",
    usage: {
      input_tokens: 9658,
      input_tokens_details: { cache_write_tokens: 9655, cached_tokens: 0 },
      output_tokens: 42,
      output_tokens_details: { reasoning_tokens: 25 },
      total_tokens: 9700,
    },
    expected: [3, 0, 9655, 0, 17, 25],
  },
  {
    source: "https://github.com/charmbracelet/fantasy/pull/331",
    convention: "openai_responses",
    usage: {
      input_tokens: 3438,
      input_tokens_details: { cached_tokens: 3423, cache_write_tokens: 12 },
    },
    expected: [3, 3423, 12, 0, 0, 0],
  },
  {
    source: "https://docs.x.ai/developers/advanced-api-usage/prompt-caching/usage-and-pricing",
    convention: "openai_responses",
    usage: {
      input_tokens: 125,
      output_tokens: 48,
      total_tokens: 173,
      input_tokens_details: { cached_tokens: 98 },
      output_tokens_details: { reasoning_tokens: 0 },
    },
    expected: [27, 98, 0, 0, 48, 0],
  },
  {
    source: "https://github.com/Wei-Shaw/sub2api/issues/5771",
    convention: "openai_chat",
    usage: {
      prompt_tokens: 10_120,
      completion_tokens: 1499,
      total_tokens: 14_428,
      prompt_tokens_details: { cached_tokens: 128 },
      completion_tokens_details: { reasoning_tokens: 2809 },
    },
    expected: [9992, 128, 0, 0, 1499, 2809],
  },
  {
    source: "https://github.com/vercel/ai/pull/12425",
    convention: "openai_chat",
    usage: {
      prompt_tokens: 12,
      completion_tokens: 2,
      total_tokens: 331,
      completion_tokens_details: { reasoning_tokens: 317 },
    },
    expected: [12, 0, 0, 0, 2, 317],
  },
  {
    source: "https://github.com/vllm-project/vllm-ascend/issues/9030",
    convention: "openai_chat",
    usage: {
      prompt_tokens: 25,
      total_tokens: 1049,
      completion_tokens: 1024,
      prompt_tokens_details: null,
      completion_tokens_details: { reasoning_tokens: 428 },
    },
    expected: [25, 0, 0, 0, 596, 428],
  },
  {
    source: "https://github.com/vllm-project/vllm/issues/16162",
    convention: "openai_chat",
    usage: {
      completion_tokens: 73,
      prompt_tokens: 24,
      total_tokens: 97,
      completion_tokens_details: null,
      prompt_tokens_details: { audio_tokens: null, cached_tokens: 16 },
    },
    expected: [8, 16, 0, 0, 73, 0],
  },
  {
    source: "https://github.com/Joouis/agent-maestro/pull/190",
    convention: "gemini",
    usage: {
      promptTokenCount: 220,
      candidatesTokenCount: 5,
      thoughtsTokenCount: 185,
      totalTokenCount: 410,
    },
    expected: [220, 0, 0, 0, 5, 185],
  },
  {
    source: "https://github.com/BerriAI/litellm/pull/10141#discussion_r2052272035",
    convention: "gemini",
    usage: {
      promptTokenCount: 10,
      candidatesTokenCount: 10,
      totalTokenCount: 20,
      thoughtsTokenCount: 5,
    },
    expected: [10, 0, 0, 0, 5, 5],
  },
  {
    // There in the words of a client library; here under the provider's own names.
    source: "https://github.com/danny-avila/LibreChat/issues/12855",
    convention: "gemini",
    usage: {
      promptTokenCount: 11_125,
      cachedContentTokenCount: 7441,
      candidatesTokenCount: 20,
      thoughtsTokenCount: 409,
      totalTokenCount: 11_554,
    },
    expected: [3684, 7441, 0, 0, 20, 409],
  },
  {
    source: "https://github.com/BerriAI/litellm/issues/14849",
    convention: "litellm",
    usage: {
      total_tokens: 264_704,
      prompt_tokens: 262_960,
      completion_tokens: 1744,
      prompt_tokens_details: { text_tokens: 262_960, cached_tokens: 257_955 },
      completion_tokens_details: { reasoning_tokens: 0 },
      response_cost: 0.7642,
    },
    expected: [5005, 257_955, 0, 0, 1744, 0],
  },
  {
    source: "https://github.com/BerriAI/litellm/issues/11364",
    convention: "litellm",
    usage: {
      total_tokens: 103_925,
      prompt_tokens: 98_805,
      completion_tokens: 5120,
      prompt_tokens_details: {
        text_tokens: null,
        cached_tokens: 66_360,
        cache_creation_tokens: 32_435,
      },
      cache_read_input_tokens: 66_360,
      completion_tokens_details: { text_tokens: null, reasoning_tokens: 1710 },
      cache_creation_input_tokens: 32_435,
    },
    expected: [10, 66_360, 32_435, 0, 3410, 1710],
  },
  {
    source:
      "https://github.com/open-telemetry/semantic-conventions-genai/blob/main/model/gen-ai/registry.yaml",
    convention: "otel_genai",
    usage: {
      "gen_ai.usage.input_tokens": 100,
      "gen_ai.usage.cache_read.input_tokens": 50,
      "gen_ai.usage.cache_creation.input_tokens": 25,
      "gen_ai.usage.output_tokens": 180,
      "gen_ai.usage.reasoning.output_tokens": 50,
    },
    expected: [25, 50, 25, 0, 130, 50],
  },
  {
    source: "https://platform.claude.com/docs/en/build-with-claude/prompt-caching",
    convention: "anthropic",
    usage: {
      input_tokens: 2048,
      cache_read_input_tokens: 1800,
      cache_creation_input_tokens: 248,
      output_tokens: 503,
      cache_creation: { ephemeral_5m_input_tokens: 148, ephemeral_1h_input_tokens: 100 },
    },
    expected: [2048, 1800, 148, 100, 503, 0],
  },
  {
    source: "https://platform.minimax.io/docs/api-reference/anthropic-api-compatible-cache",
    convention: "anthropic",
    usage: {
      cache_creation_input_tokens: 188_086,
      cache_read_input_tokens: 0,
      input_tokens: 21,
      output_tokens: 393,
    },
    expected: [21, 0, 188_086, 0, 393, 0],
  },
  {
    source:
      "https://github.com/BerriAI/litellm/blob/main/tests/test_litellm/llms/bedrock/chat/test_converse_transformation.py",
    convention: "bedrock",
    usage: {
      cacheReadInputTokenCount: 0,
      cacheReadInputTokens: 0,
      cacheWriteInputTokenCount: 1789,
      cacheWriteInputTokens: 1789,
      inputTokens: 3,
      outputTokens: 401,
      totalTokens: 2193,
    },
    expected: [3, 0, 1789, 0, 401, 0],
  },
];

for (const { source, convention, usage, expected } of PUBLISHED) {
  test(`${convention} usage of ${source} is split into ${expected.join(", ")}`, () => {
    const { classes, usageSource, flags } = convert(convention, usage);
    assert.deepEqual(rowOf(classes), expected);
    assert.equal(usageSource, "reported");
    assert.equal(flags, 0);
  });
}

// https://github.com/BerriAI/litellm/issues/14849
test("a cache hit is paid once: 0.18 and not 0.76", () => {
  const usage = { prompt_tokens: 262_960, completion_tokens: 1744, total_tokens: 264_704 };
  const details = { prompt_tokens_details: { text_tokens: 262_960, cached_tokens: 257_955 } };
  const prices = { input: "1.25", cacheRead: "0.625", output: "10" };
  const { classes } = convert("litellm", { ...usage, ...details });
  assert.equal(costOf(classes, prices), "0.184918125");

  const gemini = { promptTokenCount: 262_960, cachedContentTokenCount: 257_955 };
  const answer = { candidatesTokenCount: 1744, totalTokenCount: 264_704 };
  assert.equal(costOf(convert("gemini", { ...gemini, ...answer }).classes, prices), "0.184918125");
});

// https://github.com/BerriAI/litellm/issues/11935: 5.94 was spent, and 0.54 shown, which is input and output alone.
test("cache reads and writes beside the input are paid: 5.94 and not 0.54", () => {
  const sonnet = convert("anthropic", {
    input_tokens: 450,
    output_tokens: 36_100,
    cache_read_input_tokens: 14_000_000,
    cache_creation_input_tokens: 293_700,
  }).classes;
  const haiku = convert("anthropic", { input_tokens: 105_400, output_tokens: 3600 }).classes;
  const ofSonnet = { input: "3", cacheRead: "0.30", cacheWrite5m: "3.75", output: "15" };
  const ofHaiku = { input: "0.80", cacheRead: "0.08", cacheWrite5m: "1", output: "4" };
  assert.equal(costOf(sonnet, ofSonnet), "5.844225");
  assert.equal(costOf(haiku, ofHaiku), "0.09872");
  const uncached = { ...sonnet, cacheReadTokens: 0, cacheWrite5mTokens: 0 };
  assert.equal(costOf(uncached, ofSonnet), "0.54285");
});

// https://github.com/can1357/oh-my-pi/issues/6876 and https://github.com/earendil-works/pi/pull/5738
test("an hour's cache write is not paid at the price of five minutes", () => {
  const prices = { input: "5", cacheWrite5m: "6.25", cacheWrite1h: "10", output: "25" };
  const hour = { cache_creation: { ephemeral_1h_input_tokens: 344_139 } };
  const all = { ...hour, cache_creation_input_tokens: 344_139 };
  assert.equal(costOf(convert("anthropic", all).classes, prices), "3.44139");
  const split = { ephemeral_5m_input_tokens: 600_000, ephemeral_1h_input_tokens: 400_000 };
  const mixed = { cache_creation_input_tokens: 1_000_000, cache_creation: split };
  assert.equal(costOf(convert("anthropic", mixed).classes, prices), "7.75");
});

// https://github.com/Wei-Shaw/sub2api/issues/5771: the provider's own figure was 232856000 of 10^10 per USD.
test("reasoning beside the output is paid, to the digit of the provider's own figure", () => {
  const { classes } = convert("openai_chat", {
    prompt_tokens: 10_120,
    completion_tokens: 1499,
    total_tokens: 14_428,
    prompt_tokens_details: { cached_tokens: 128 },
    completion_tokens_details: { reasoning_tokens: 2809 },
  });
  const prices = { input: "1.25", cacheRead: "0.20", output: "2.50" };
  assert.equal(costOf(classes, prices), "0.0232856");
});

type Refusal = { why: string; convention: TokenConvention; usage: unknown; at: string[] };
const REFUSED: readonly Refusal[] = [
  {
    why: "more read from the cache than sent (https://community.openai.com/t/how-to-use-cached-tokens-field-to-calculate-cost-estimation/1330187)",
    convention: "openai_responses",
    usage: {
      input_tokens: 5136,
      total_tokens: 5337,
      output_tokens: 201,
      input_tokens_details: { cached_tokens: 10_192 },
      output_tokens_details: { reasoning_tokens: 0 },
    },
    at: ["invalid_value", "/input_tokens"],
  },
  {
    why: "cache writes left out of the prompt (https://github.com/BerriAI/litellm/issues/15056)",
    convention: "litellm",
    usage: {
      completion_tokens: 467,
      prompt_tokens: 31,
      total_tokens: 498,
      prompt_tokens_details: { cached_tokens: 0 },
      cache_creation_input_tokens: 1253,
      cache_read_input_tokens: 0,
    },
    at: ["invalid_value", "/prompt_tokens"],
  },
  {
    why: "lifetimes that are not the sum (an older example of https://platform.claude.com/docs/en/build-with-claude/prompt-caching)",
    convention: "anthropic",
    usage: {
      input_tokens: 2048,
      cache_read_input_tokens: 1800,
      cache_creation_input_tokens: 248,
      output_tokens: 503,
      cache_creation: { ephemeral_5m_input_tokens: 456, ephemeral_1h_input_tokens: 100 },
    },
    at: ["invalid_value", "/cache_creation_input_tokens"],
  },
  {
    why: "more written for an hour than at all",
    convention: "anthropic",
    usage: { cache_creation_input_tokens: 5, cache_creation: { ephemeral_1h_input_tokens: 6 } },
    at: ["invalid_value", "/cache_creation_input_tokens"],
  },
  {
    why: "a lifetime that has no class",
    convention: "bedrock",
    usage: { cacheWriteInputTokens: 5, cacheDetails: [{ ttl: "24h", inputTokens: 5 }] },
    at: ["invalid_value", "/cacheWriteInputTokens"],
  },
  {
    why: "more reasoning than output",
    convention: "openai_chat",
    usage: {
      prompt_tokens: 1,
      completion_tokens: 9,
      completion_tokens_details: { reasoning_tokens: 94 },
    },
    at: ["invalid_value", "/completion_tokens"],
  },
  {
    why: "tool input does not hide that the cache exceeds the prompt",
    convention: "gemini",
    usage: { promptTokenCount: 10, cachedContentTokenCount: 11, toolUsePromptTokenCount: 50 },
    at: ["invalid_value", "/promptTokenCount"],
  },
  {
    why: "two names of one count that differ",
    convention: "otel_genai",
    usage: { "gen_ai.usage.input_tokens": 3, "gen_ai.usage.prompt_tokens": 4 },
    at: ["invalid_value", "/gen_ai.usage.prompt_tokens"],
  },
  {
    why: "cached tokens of no prompt",
    convention: "openai_chat",
    usage: { prompt_tokens_details: { cached_tokens: 1 } },
    at: ["invalid_value", "/prompt_tokens"],
  },
  {
    why: "a negative count",
    convention: "anthropic",
    usage: { input_tokens: -1 },
    at: ["out_of_range", "/input_tokens"],
  },
  {
    why: "a count above 2^31-1",
    convention: "anthropic",
    usage: { output_tokens: 2 ** 31 },
    at: ["out_of_range", "/output_tokens"],
  },
  {
    why: "a sum above 2^31-1",
    convention: "gemini",
    usage: { promptTokenCount: 2 ** 31 - 1, toolUsePromptTokenCount: 1 },
    at: ["out_of_range", "/promptTokenCount"],
  },
  {
    why: "half a token",
    convention: "bedrock",
    usage: { outputTokens: 1.5 },
    at: ["invalid_number", "/outputTokens"],
  },
  {
    why: "a count as text",
    convention: "bedrock",
    usage: { inputTokens: "3" },
    at: ["invalid_type", "/inputTokens"],
  },
  {
    why: "details that are no object",
    convention: "openai_chat",
    usage: { prompt_tokens_details: 7 },
    at: ["invalid_type", "/prompt_tokens_details"],
  },
  {
    why: "details that are no array",
    convention: "bedrock",
    usage: { cacheDetails: {} },
    at: ["invalid_type", "/cacheDetails"],
  },
  {
    why: "a count inside an array",
    convention: "bedrock",
    usage: { cacheDetails: [null, { ttl: "1h", inputTokens: -2 }] },
    at: ["out_of_range", "/cacheDetails/1/inputTokens"],
  },
  { why: "an array of usage", convention: "gemini", usage: [], at: ["invalid_type", ""] },
];

for (const { why, convention, usage, at } of REFUSED) {
  test(`${convention} usage is refused, never clamped: ${why}`, () => {
    const refused = fromConvention(convention, usage);
    assert.ok("rejection" in refused, inspect(refused));
    assert.deepEqual([refused.rejection, refused.pointer], at);
    assert.notEqual(refused.detail, "");
  });
}
