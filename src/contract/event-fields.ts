/**
 * The fields of the event contract, in the order in which producers are shown them. `expects` finishes the sentence
 * that begins with the field's name and is what a sender reads when the field is wrong.
 */
export const EVENT_FIELDS = [
  { name: "event_id", expects: "must be text of 1 to 128 bytes of UTF-8." },
  {
    name: "occurred_at",
    expects:
      "must be an RFC 3339 timestamp with a zone, such as 2026-11-20T10:59:59.123Z, of a date that exists, from 1970 to 2199.",
  },
  {
    name: "timestamp",
    expects:
      "must be an RFC 3339 timestamp with a zone; it is another name of occurred_at, so only one of them may be given.",
  },
  {
    name: "org_id",
    expects: "must be text of 1 to 256 characters; * alone stands for all orgs and is none.",
  },
  { name: "model_id", expects: "must be text of 1 to 256 characters." },
  { name: "actor_id", expects: "must be text of 1 to 256 characters, null or absent." },
  { name: "client_id", expects: "must be text of 1 to 256 characters, null or absent." },
  { name: "requests", expects: "must be a whole number from 1 to 1000000, written in digits." },
  {
    name: "input_tokens",
    expects: "must be a whole number from 0 to 2147483647, written in digits.",
  },
  {
    name: "cache_read_tokens",
    expects: "must be a whole number from 0 to 2147483647, written in digits.",
  },
  {
    name: "cache_write_5m_tokens",
    expects: "must be a whole number from 0 to 2147483647, written in digits.",
  },
  {
    name: "cache_write_1h_tokens",
    expects: "must be a whole number from 0 to 2147483647, written in digits.",
  },
  {
    name: "output_tokens",
    expects: "must be a whole number from 0 to 2147483647, written in digits.",
  },
  {
    name: "reasoning_tokens",
    expects: "must be a whole number from 0 to 2147483647, written in digits.",
  },
  {
    name: "total_tokens",
    expects: "must be a whole number from 0 to 9007199254740991, written in digits.",
  },
  {
    name: "latency_ms",
    expects: "must be a whole number of milliseconds from 0 to 2147483647, null or absent.",
  },
  {
    name: "ttft_ms",
    expects: "must be a whole number of milliseconds from 0 to 2147483647, null or absent.",
  },
  { name: "status", expects: 'must be "success", "error" or "cancelled".' },
  { name: "error_code", expects: "must be text of 1 to 256 characters, null or absent." },
  {
    name: "error_class",
    expects:
      'must be "client", "capacity", "upstream", "policy" or "internal", null or absent, and goes with the status "error" or "cancelled" only.',
  },
  {
    name: "cost_estimate",
    expects:
      'must be a decimal such as "0.0125", text or number, of at most 9007199 units of the currency, null or absent.',
  },
  {
    name: "currency",
    expects: "must be an ISO 4217 code of three upper-case letters, null or absent.",
  },
  { name: "usage_source", expects: 'must be "reported", "estimated" or "absent", null or absent.' },
  { name: "metadata", expects: "must be an object of at most 8192 bytes of JSON, null or absent." },
  {
    name: "schema_version",
    expects: 'must be 1 or "1", with or without a minor version such as "1.2".',
  },
] as const;

/** Indexes into EVENT_FIELDS. */
export const FIELD = {
  eventId: 0,
  occurredAt: 1,
  timestamp: 2,
  orgId: 3,
  modelId: 4,
  actorId: 5,
  clientId: 6,
  requests: 7,
  inputTokens: 8,
  cacheReadTokens: 9,
  cacheWrite5mTokens: 10,
  cacheWrite1hTokens: 11,
  outputTokens: 12,
  reasoningTokens: 13,
  totalTokens: 14,
  latencyMs: 15,
  ttftMs: 16,
  status: 17,
  errorCode: 18,
  errorClass: 19,
  costEstimate: 20,
  currency: 21,
  usageSource: 22,
  metadata: 23,
  schemaVersion: 24,
  unknown: 25,
} as const;

/** Each field's name followed by the quote that ends it, as bytes. */
export const KEY_TOKENS: readonly Buffer[] = EVENT_FIELDS.map(({ name }) =>
  Buffer.from(`${name}"`),
);

const BY_LENGTH: readonly (readonly number[])[] = Array.from({ length: 32 }, (_, length) =>
  EVENT_FIELDS.flatMap(({ name }, index) => (name.length === length ? [index] : [])),
);

/** The field whose name is `source[start, end)`, or FIELD.unknown. */
export function findField(source: Uint8Array, start: number, end: number): number {
  for (const field of BY_LENGTH[end - start] ?? []) {
    const token = KEY_TOKENS[field];
    if (token !== undefined && isSame(token, source, start, end)) return field;
  }
  return FIELD.unknown;
}

/** Whether `source[start, end)` begins like `token`. */
function isSame(token: Uint8Array, source: Uint8Array, start: number, end: number): boolean {
  for (let i = 0; start + i < end; i++) if (token[i] !== source[start + i]) return false;
  return true;
}
