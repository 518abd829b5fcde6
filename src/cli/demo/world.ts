/** A model of the sample world. Prices in billionths of a dollar per token; null: not priced. */
export type DemoModel = {
  id: string;
  latencyMs: number;
  isStreaming: boolean;
  /** Share of the output that is reasoning. */
  reasoningShare: number;
  price: { input: number; cacheRead: number; output: number } | null;
};

/** A calling application. Token counts are means per call. */
export type DemoClient = {
  id: string;
  weight: number;
  inputTokens: number;
  outputTokens: number;
  /** Share of the input served from a cache. */
  cacheShare: number;
  /** False for jobs that act for nobody. */
  hasActors: boolean;
};

/** An org: its zone sets its rhythm, its weight its share of all calls (the weights add up to 1). */
export type DemoOrg = {
  id: string;
  zone: string;
  weight: number;
  actors: number;
  models: readonly { id: string; weight: number }[];
  clients: readonly string[];
};

const model = (
  id: string,
  latencyMs: number,
  price: [number, number, number] | null,
  rest: { isStreaming?: boolean; reasoningShare?: number } = {},
): DemoModel => ({
  id,
  latencyMs,
  isStreaming: rest.isStreaming ?? true,
  reasoningShare: rest.reasoningShare ?? 0,
  price: price && { input: price[0], cacheRead: price[1], output: price[2] },
});

export const DEMO_MODELS: readonly DemoModel[] = [
  model("chat-large", 2100, [2500, 250, 10_000]),
  model("chat-small", 700, [400, 40, 1600]),
  model("chat-mini", 350, [100, 10, 400]),
  model("code-large", 1900, [3000, 300, 15_000]),
  model("code-fast", 420, [800, 80, 3200]),
  model("reason-pro", 9500, [15_000, 1500, 60_000], { reasoningShare: 0.7 }),
  model("reason-lite", 3600, [1100, 110, 4400], { reasoningShare: 0.6 }),
  model("summarize-fast", 900, [150, 15, 600]),
  model("vision-base", 1500, [1200, 120, 5000]),
  model("translate-base", 380, [200, 20, 800]),
  model("embed-v2", 60, [20, 0, 0], { isStreaming: false }),
  // Runs on own machines: nobody set a price, and an unknown price is not a price of zero.
  model("house-llm", 1200, null),
];

const client = (
  id: string,
  weight: number,
  tokens: [input: number, output: number],
  rest: { cacheShare?: number; hasActors?: boolean } = {},
): DemoClient => ({
  id,
  weight,
  inputTokens: tokens[0],
  outputTokens: tokens[1],
  cacheShare: rest.cacheShare ?? 0,
  hasActors: rest.hasActors ?? true,
});

export const DEMO_CLIENTS: readonly DemoClient[] = [
  client("support-bot", 6, [1400, 240], { cacheShare: 0.6 }),
  client("mobile-app", 4, [600, 180]),
  client("web-chat", 5, [900, 310], { cacheShare: 0.3 }),
  client("code-review", 3, [3200, 520], { cacheShare: 0.5 }),
  client("ide-plugin", 5, [1800, 90], { cacheShare: 0.7 }),
  client("search-assist", 4, [450, 60]),
  client("report-writer", 2, [5200, 900]),
  client("nightly-batch", 3, [2400, 350], { hasActors: false }),
];

const org = (
  id: string,
  zone: string,
  [weight, actors]: [number, number],
  [models, clients]: [Record<string, number>, string[]],
): DemoOrg => ({
  id,
  zone,
  weight,
  actors,
  models: Object.entries(models).map(([name, share]) => ({ id: name, weight: share })),
  clients,
});

/** The key of metadata that usage of the sample is broken down by. */
export const DEMO_TAG_KEY = "team";
/** Whom people work for; some of them, and jobs that act for nobody, are in no team. */
export const DEMO_TEAMS = ["search", "support", "growth", "platform", "research"] as const;

export const DEMO_ORGS: readonly DemoOrg[] = [
  org(
    "acme",
    "America/New_York",
    [0.24, 64],
    [
      { "chat-large": 5, "chat-small": 4, "chat-mini": 2, "embed-v2": 2, "reason-lite": 1 },
      ["support-bot", "web-chat", "mobile-app", "report-writer"],
    ],
  ),
  org(
    "globex",
    "Europe/Berlin",
    [0.19, 48],
    [
      { "code-large": 4, "code-fast": 5, "chat-small": 2, "reason-pro": 1 },
      ["code-review", "ide-plugin", "web-chat"],
    ],
  ),
  org(
    "initech",
    "Asia/Kolkata",
    [0.15, 56],
    [
      { "chat-small": 4, "chat-mini": 4, "translate-base": 3, "summarize-fast": 2 },
      ["support-bot", "mobile-app", "nightly-batch"],
    ],
  ),
  org(
    "hooli",
    "America/New_York",
    [0.13, 40],
    [
      { "chat-large": 3, "vision-base": 3, "embed-v2": 3, "chat-mini": 3 },
      ["search-assist", "mobile-app", "web-chat"],
    ],
  ),
  org(
    "umbra-health",
    "Europe/Berlin",
    [0.1, 32],
    [
      { "house-llm": 5, "summarize-fast": 3, "chat-small": 1 },
      ["report-writer", "web-chat", "nightly-batch"],
    ],
  ),
  org(
    "tidewater-bank",
    "America/New_York",
    [0.08, 28],
    [
      { "chat-large": 2, "reason-lite": 2, "summarize-fast": 2, "embed-v2": 1 },
      ["support-bot", "report-writer", "nightly-batch"],
    ],
  ),
  org(
    "lumen-retail",
    "Asia/Kolkata",
    [0.07, 36],
    [
      { "chat-mini": 4, "translate-base": 3, "vision-base": 1, "chat-small": 2 },
      ["support-bot", "search-assist", "mobile-app"],
    ],
  ),
  org(
    "kestrel-games",
    "Europe/Berlin",
    [0.04, 24],
    [{ "chat-mini": 3, "code-fast": 2, "house-llm": 1 }, ["mobile-app", "ide-plugin"]],
  ),
];
