/** A key of an object, or the item of an array whose `ttl` it is. */
export type Step = string | { readonly ttl: string };
/** Where a count stands in a usage object. */
export type Path = readonly Step[];

/** How a convention writes usage: where each count stands, under each name in use, and what includes what. */
export type Layout = {
  readonly counts: {
    readonly input: readonly Path[];
    /** Input that comes from tools and is counted beside `input`. */
    readonly toolInput: readonly Path[];
    readonly cacheRead: readonly Path[];
    /** All cache writes, whatever their lifetime. */
    readonly cacheWrite: readonly Path[];
    readonly cacheWrite5m: readonly Path[];
    readonly cacheWrite1h: readonly Path[];
    readonly output: readonly Path[];
    readonly reasoning: readonly Path[];
    readonly total: readonly Path[];
  };
  /** Whether `input` counts cache reads and cache writes too. */
  readonly isCacheInInput: boolean;
  /** Whether `output` counts reasoning too, where the total does not show otherwise. */
  readonly isReasoningInOutput: boolean;
};

const NOWHERE: readonly Path[] = [];
const at = (...keys: string[]): readonly Path[] => keys.map((key) => [key]);

const promptDetail = (key: string): Path => ["prompt_tokens_details", key];
const ttlDetail = (key: string): Path => [
  "prompt_tokens_details",
  "cache_creation_token_details",
  key,
];

const openaiChat: Layout = {
  counts: {
    input: at("prompt_tokens"),
    toolInput: NOWHERE,
    cacheRead: [promptDetail("cached_tokens")],
    cacheWrite: [promptDetail("cache_write_tokens")],
    cacheWrite5m: NOWHERE,
    cacheWrite1h: NOWHERE,
    output: at("completion_tokens"),
    reasoning: [["completion_tokens_details", "reasoning_tokens"]],
    total: at("total_tokens"),
  },
  isCacheInInput: true,
  isReasoningInOutput: true,
};

const openaiResponses: Layout = {
  counts: {
    input: at("input_tokens"),
    toolInput: NOWHERE,
    cacheRead: [["input_tokens_details", "cached_tokens"]],
    cacheWrite: [["input_tokens_details", "cache_write_tokens"]],
    cacheWrite5m: NOWHERE,
    cacheWrite1h: NOWHERE,
    output: at("output_tokens"),
    reasoning: [["output_tokens_details", "reasoning_tokens"]],
    total: at("total_tokens"),
  },
  isCacheInInput: true,
  isReasoningInOutput: true,
};

/** Storing a cache is billed by time, so there are no cache writes. Counts of 0 are left out on the wire. */
const gemini: Layout = {
  counts: {
    input: at("promptTokenCount"),
    toolInput: at("toolUsePromptTokenCount"),
    cacheRead: at("cachedContentTokenCount"),
    cacheWrite: NOWHERE,
    cacheWrite5m: NOWHERE,
    cacheWrite1h: NOWHERE,
    output: at("candidatesTokenCount"),
    reasoning: at("thoughtsTokenCount"),
    total: at("totalTokenCount"),
  },
  isCacheInInput: true,
  isReasoningInOutput: false,
};

/**
 * The chat shape for every provider, with the cache counts of some under a second name. Older versions left cache writes
 * out of `prompt_tokens`. Where the writes exceed it this shows, and is refused; elsewhere it cannot be seen.
 */
const litellm: Layout = {
  ...openaiChat,
  counts: {
    ...openaiChat.counts,
    cacheRead: [promptDetail("cached_tokens"), ["cache_read_input_tokens"]],
    cacheWrite: [
      promptDetail("cache_creation_tokens"),
      promptDetail("cache_write_tokens"),
      ["cache_creation_input_tokens"],
    ],
    cacheWrite5m: [ttlDetail("ephemeral_5m_input_tokens")],
    cacheWrite1h: [ttlDetail("ephemeral_1h_input_tokens")],
  },
};

/** Attributes of a span or log record, by their flat names; older names behind the current one. */
const otelGenai: Layout = {
  counts: {
    input: at("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    toolInput: NOWHERE,
    cacheRead: at(
      "gen_ai.usage.cache_read.input_tokens",
      "gen_ai.usage.cache_read_input_tokens",
      "gen_ai.usage.input_tokens.cached",
    ),
    cacheWrite: at(
      "gen_ai.usage.cache_creation.input_tokens",
      "gen_ai.usage.cache_creation_input_tokens",
      "gen_ai.usage.cache_write_input_tokens",
      "gen_ai.usage.input_tokens.cache_write",
    ),
    cacheWrite5m: NOWHERE,
    cacheWrite1h: NOWHERE,
    output: at("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    reasoning: at("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.output_tokens.reasoning"),
    total: at("gen_ai.usage.total_tokens", "llm.usage.total_tokens"),
  },
  isCacheInInput: true,
  isReasoningInOutput: true,
};

const anthropic: Layout = {
  counts: {
    input: at("input_tokens"),
    toolInput: NOWHERE,
    cacheRead: at("cache_read_input_tokens"),
    cacheWrite: at("cache_creation_input_tokens"),
    cacheWrite5m: [["cache_creation", "ephemeral_5m_input_tokens"]],
    cacheWrite1h: [["cache_creation", "ephemeral_1h_input_tokens"]],
    output: at("output_tokens"),
    reasoning: [["output_tokens_details", "thinking_tokens"]],
    total: NOWHERE,
  },
  isCacheInInput: false,
  isReasoningInOutput: true,
};

/** Converse. Reasoning is part of the output and not told apart. */
const bedrock: Layout = {
  counts: {
    input: at("inputTokens"),
    toolInput: NOWHERE,
    cacheRead: at("cacheReadInputTokens", "cacheReadInputTokenCount"),
    cacheWrite: at("cacheWriteInputTokens", "cacheWriteInputTokenCount"),
    cacheWrite5m: [["cacheDetails", { ttl: "5m" }, "inputTokens"]],
    cacheWrite1h: [["cacheDetails", { ttl: "1h" }, "inputTokens"]],
    output: at("outputTokens"),
    reasoning: NOWHERE,
    total: at("totalTokens"),
  },
  isCacheInInput: false,
  isReasoningInOutput: true,
};

/** By convention: inclusive ones first, then those whose input leaves out what a cache served or took. */
export const LAYOUTS = {
  openai_chat: openaiChat,
  openai_responses: openaiResponses,
  gemini,
  litellm,
  otel_genai: otelGenai,
  anthropic,
  bedrock,
} as const satisfies Record<string, Layout>;

/** The words in which producers write usage. */
export type TokenConvention = keyof typeof LAYOUTS;
