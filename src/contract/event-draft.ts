import { classifyErrorCode, outcomeOfError } from "./error-class.ts";
import type { Digest } from "./event-digest.ts";
import { EVENT_FIELDS, FIELD } from "./event-fields.ts";
import { ContentHash, EventKey } from "./event-identity.ts";
import type { CachedText } from "./event-texts.ts";
import {
  FLAG_COST_ROUNDED,
  FLAG_INCONSISTENT_TOTAL,
  USAGE_SOURCE_SHIFT,
  packCurrency,
} from "./usage-event.ts";
import type { UsageEvent } from "./usage-event.ts";

/** Values of `status`; the first two are the outcomes of the same number. */
export const STATUSES = ["success", "cancelled", "error"] as const;
export const STATUS_SUCCESS = 0;
export const STATUS_CANCELLED = 1;
/** Values of `usage_source`, as stored in the flags. */
export const USAGE_SOURCES = ["reported", "estimated", "absent"] as const;
const SOURCE_REPORTED = 0;
const SOURCE_ABSENT = 2;

const USD = packCurrency("USD");
/** The bits in `seen` of the six token classes. */
const TOKEN_CLASSES = (1 << (FIELD.reasoningTokens + 1)) - (1 << FIELD.inputTokens);

/** The event being read, field by field. One object serves all events: `reset` between them. */
export class EventDraft {
  /** Bit per field of EVENT_FIELDS that has been met. */
  seen = 0;
  eventId: string | null = null;
  readonly key = new EventKey();
  occurredAtUs = Number.NaN;
  org: CachedText | null = null;
  model: CachedText | null = null;
  actor: CachedText | null = null;
  client: CachedText | null = null;
  errorCode: CachedText | null = null;
  /** By field: the token classes, requests, latency and ttft; -1 for a time that is unknown. */
  readonly counts = new Int32Array(EVENT_FIELDS.length);
  /** total_tokens as sent, -1 when not sent. */
  wireTotal = -1;
  /** Index into STATUSES, -1 when unknown. */
  status = -1;
  /** Outcome of the error class as sent, -1 when not sent. */
  errorClass = -1;
  costNano: number | null = null;
  isCostRounded = false;
  /** Of the cost as written; meant only when `isCostRounded`. */
  readonly costDigest: Digest = { a: 0, b: 0 };
  currency = USD;
  /** Index into USAGE_SOURCES, -1 when not sent. */
  usageSource = -1;
  metadata: string | null = null;
  readonly metadataDigest: Digest = { a: 0, b: 0 };
  /** The unknown fields as JSON members separated by commas, after an opening brace. */
  extra = "";
  /** What the unknown fields take, commas included. */
  extraBytes = 0;
  readonly extraDigest: Digest = { a: 0, b: 0 };

  readonly #hash = new ContentHash();

  reset(): void {
    this.seen = 0;
    this.eventId = null;
    this.occurredAtUs = Number.NaN;
    this.org = null;
    this.model = null;
    this.actor = null;
    this.client = null;
    this.errorCode = null;
    this.counts.fill(0);
    this.counts[FIELD.requests] = 1;
    this.counts[FIELD.latencyMs] = -1;
    this.counts[FIELD.ttftMs] = -1;
    this.wireTotal = -1;
    this.status = -1;
    this.errorClass = -1;
    this.costNano = null;
    this.isCostRounded = false;
    this.currency = USD;
    this.usageSource = -1;
    this.metadata = null;
    this.extra = "";
    this.extraBytes = 0;
    this.extraDigest.a = 0;
    this.extraDigest.b = 0;
  }

  /** The event, or null when a required field is missing. */
  createEvent(): UsageEvent | null {
    const { eventId, org, model, counts, key } = this;
    if (eventId === null || org === null || model === null || this.status < 0) return null;
    const latencyMs = counts[FIELD.latencyMs] ?? -1;
    const ttftMs = counts[FIELD.ttftMs] ?? -1;
    const outcome = this.#outcome();
    const flags = this.#flags();
    return {
      eventId,
      key: key.toTuple(),
      isUuidKey: key.isUuid,
      contentHash: this.#contentHash(outcome, flags),
      orgId: org.text,
      modelId: model.text,
      clientId: this.client === null ? null : this.client.text,
      actorId: this.actor === null ? null : this.actor.text,
      occurredAtUs: this.occurredAtUs,
      requests: counts[FIELD.requests] ?? 1,
      inputTokens: counts[FIELD.inputTokens] ?? 0,
      cacheReadTokens: counts[FIELD.cacheReadTokens] ?? 0,
      cacheWrite5mTokens: counts[FIELD.cacheWrite5mTokens] ?? 0,
      cacheWrite1hTokens: counts[FIELD.cacheWrite1hTokens] ?? 0,
      outputTokens: counts[FIELD.outputTokens] ?? 0,
      reasoningTokens: counts[FIELD.reasoningTokens] ?? 0,
      latencyMs: latencyMs < 0 ? null : latencyMs,
      ttftMs: ttftMs < 0 ? null : ttftMs,
      outcome,
      errorCode: this.errorCode === null ? null : this.errorCode.text,
      currency: this.currency,
      costNano: this.costNano,
      metadata: this.metadata,
      extra: this.extra === "" ? null : `${this.extra}}`,
      flags,
    };
  }

  #outcome(): number {
    if (this.status <= STATUS_CANCELLED) return this.status;
    if (this.errorClass >= 0) return this.errorClass;
    return outcomeOfError(classifyErrorCode(this.errorCode === null ? null : this.errorCode.text));
  }

  #flags(): number {
    let source = this.usageSource;
    if (source < 0) source = (this.seen & TOKEN_CLASSES) === 0 ? SOURCE_ABSENT : SOURCE_REPORTED;
    let flags = source << USAGE_SOURCE_SHIFT;
    if (this.isCostRounded) flags |= FLAG_COST_ROUNDED;
    if (this.wireTotal >= 0 && this.wireTotal !== this.#totalTokens())
      flags |= FLAG_INCONSISTENT_TOTAL;
    return flags;
  }

  #totalTokens(): number {
    let total = 0;
    for (let field: number = FIELD.inputTokens; field <= FIELD.reasoningTokens; field++)
      total += this.counts[field] ?? 0;
    return total;
  }

  /** All that makes two deliveries of one id the same event: everything but occurred_at and schema_version. */
  #contentHash(outcome: number, flags: number): readonly [number, number] {
    const hash = this.#hash;
    hash.start();
    hash.addDigest(this.org);
    hash.addDigest(this.model);
    hash.addDigest(this.client);
    hash.addDigest(this.actor);
    hash.addDigest(this.errorCode);
    for (let field: number = FIELD.requests; field <= FIELD.ttftMs; field++)
      hash.addWord(this.counts[field] ?? 0);
    // The class of a cancelled call is not kept, but a changed one is a changed event all the same.
    hash.addWord(outcome === STATUS_CANCELLED ? ((this.errorClass + 1) << 8) | outcome : outcome);
    hash.addWord((flags << 16) | this.currency);
    hash.addWord(this.key.isUuid ? 1 : 0);
    hash.addInteger(this.costNano);
    hash.addDigest(this.isCostRounded ? this.costDigest : null);
    hash.addInteger((flags & FLAG_INCONSISTENT_TOTAL) === 0 ? null : this.wireTotal);
    hash.addDigest(this.metadata === null ? null : this.metadataDigest);
    hash.addDigest(this.extra === "" ? null : this.extraDigest);
    return hash.toTuple();
  }
}
