/** What became of a call. The position in this list is the number stored (usage_event.outcome). */
export const OUTCOMES = [
  "success",
  "cancelled",
  "client",
  "capacity",
  "upstream",
  "policy",
  "internal",
] as const;
export type OutcomeName = (typeof OUTCOMES)[number];
/** Outcomes from this number on are errors; their name is the error class. */
export const FIRST_ERROR_OUTCOME = 2;

/** Disjoint token counts, each 0 … 2^31-1. Their sum is `totalTokens`, which is always derived. */
export type TokenClasses = {
  /** Input not served from a cache. */
  inputTokens: number;
  cacheReadTokens: number;
  cacheWrite5mTokens: number;
  cacheWrite1hTokens: number;
  /** Visible output. */
  outputTokens: number;
  reasoningTokens: number;
};

/** Bits of `UsageEvent.flags`. Bits 2 and 3 hold the usage source: 0 reported, 1 estimated, 2 absent. */
export const FLAG_INCONSISTENT_TOTAL = 1;
export const FLAG_COST_ROUNDED = 2;
export const USAGE_SOURCE_SHIFT = 2;

/** One inference call, parsed and valid: nothing downstream checks it again. */
export type UsageEvent = TokenClasses & {
  eventId: string;
  /**
   * Identity: the 16 bytes as four unsigned 32-bit words, big-endian. The event id itself when it is a
   * canonical lower-case UUID, else the first 16 bytes of SHA-256 over the id's UTF-8.
   */
  key: readonly [number, number, number, number];
  isUuidKey: boolean;
  /** 64-bit hash of the content (all but occurredAt and transport facts), as [high, low] unsigned words. */
  contentHash: readonly [number, number];
  orgId: string;
  modelId: string;
  clientId: string | null;
  actorId: string | null;
  /** Microseconds since the Unix epoch, UTC. */
  occurredAtUs: number;
  /** Calls this record stands for, ≥ 1. */
  requests: number;
  latencyMs: number | null;
  ttftMs: number | null;
  /** Index into OUTCOMES. */
  outcome: number;
  errorCode: string | null;
  /** ISO 4217 letters packed: (a*26+b)*26+c with A=0. */
  currency: number;
  /** The event's own cost, in billionths of the currency's unit; a safe integer. Null: none given. */
  costNano: number | null;
  /** JSON text, as sent. */
  metadata: string | null;
  /** Unknown top-level fields as one JSON object text. */
  extra: string | null;
  flags: number;
};

/** Packs three upper-case letters. */
export const packCurrency = (code: string): number =>
  ((code.charCodeAt(0) - 65) * 26 + (code.charCodeAt(1) - 65)) * 26 + (code.charCodeAt(2) - 65);

export const unpackCurrency = (packed: number): string =>
  String.fromCharCode(
    65 + Math.floor(packed / 676),
    65 + (Math.floor(packed / 26) % 26),
    65 + (packed % 26),
  );
