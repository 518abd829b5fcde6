import type { UsageEvent } from "./usage-event.ts";

/** Why an event was not counted. Closed: docs, metrics and quarantine filters list these. */
export const REJECTION_CODES = [
  "invalid_json",
  "invalid_encoding",
  "unsupported_body",
  "invalid_character",
  "duplicate_key",
  "forbidden_key",
  "too_deep",
  "too_large",
  "missing_field",
  "invalid_type",
  "invalid_number",
  "out_of_range",
  "invalid_range",
  "invalid_timestamp",
  "invalid_value",
  "invalid_currency",
  "too_long",
  "unknown_schema",
  "future_timestamp",
  "too_old",
  "unknown_org",
  "org_mismatch",
  "org_forbidden",
  "org_suspended",
  "conflict",
  "internal_error",
] as const;
export type RejectionCode = (typeof REJECTION_CODES)[number];

/** A rejected event: code, where (JSON pointer, "" for the whole), why in one sentence without values that may be secret. */
export type Rejection = {
  code: RejectionCode;
  pointer: string;
  detail: string;
  /** What could still be read of it, for the ledger and the quarantine. */
  eventId: string | null;
  orgId: string | null;
  occurredAtUs: number | null;
};

/** One item of what a transport received: an event or why it is none, and its own bytes. */
export type ParsedItem =
  | { event: UsageEvent; rejection: null; bytes: Buffer }
  | { event: null; rejection: Rejection; bytes: Buffer };

/** What became of one item, in the order received. Everything but a thrown error is durable when returned. */
export type IngestOutcome =
  | { status: "accepted" }
  | { status: "duplicate" }
  | { status: "conflict" | "rejected"; code: RejectionCode; pointer: string; detail: string };

export const ACCEPTED: IngestOutcome = { status: "accepted" };
export const DUPLICATE: IngestOutcome = { status: "duplicate" };
