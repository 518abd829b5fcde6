/** Every way a request can fail that is not a bug. The API's problem table must cover each (it `satisfies` a record of them). */
export const FAILURE_CODES = [
  "invalid_request",
  "invalid_json",
  "invalid_encoding",
  "unauthenticated",
  "forbidden",
  "org_suspended",
  "cross_site",
  "not_found",
  "already_exists",
  "wrong_state",
  "unknown_zone",
  "unsupported_granularity",
  "unsupported_combination",
  "range_too_large",
  "not_complete",
  "too_large",
  "too_many_events",
  "empty_batch",
  "unsupported_media_type",
  "not_acceptable",
  "idempotency_mismatch",
  "idempotency_in_progress",
  "rate_limited",
  "overloaded",
  "shutting_down",
  "identity_unavailable",
  "database_unavailable",
  "broker_unavailable",
  "timeout",
] as const;
export type FailureCode = (typeof FAILURE_CODES)[number];

/** One thing wrong with a request: where (JSON pointer or query parameter), and what to do. */
export type FailureDetail = { pointer: string; code: string; message: string };

/** What may go wrong and a caller should hear about, in words for the person who reads it. */
export class Failure extends Error {
  readonly code: FailureCode;
  readonly details: readonly FailureDetail[];
  /** Seconds after which trying again makes sense. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: FailureCode,
    message: string,
    options: {
      details?: readonly FailureDetail[];
      retryAfterSeconds?: number;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = "Failure";
    this.code = code;
    this.details = options.details ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** What everybody hears about an org that they cannot see, whether or not it is there. */
export const noSuchOrg = (): Failure => new Failure("not_found", "There is no such org.");

/** One place of a request (a JSON pointer: "/body/roles") that cannot be as it was sent, and why. */
export const refuseField = (pointer: string, code: string, message: string): Failure =>
  new Failure("invalid_request", message, { details: [{ pointer, code, message }] });
