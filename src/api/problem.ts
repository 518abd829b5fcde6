import { Failure, type FailureCode, type FailureDetail } from "#contract";

type ProblemKind = {
  status: number;
  title: string;
  /** Sent as Retry-After when the failure does not say itself; absent: trying again does not help. */
  retryAfterSeconds?: number;
};

/** What each failure looks like over HTTP (RFC 9457). A code that is missing here does not compile. */
export const PROBLEMS = {
  invalid_request: { status: 400, title: "The request is not valid" },
  invalid_json: { status: 400, title: "The body is not valid JSON" },
  invalid_encoding: { status: 400, title: "The body is not encoded as it says" },
  unauthenticated: { status: 401, title: "A valid API key or access token is needed" },
  forbidden: { status: 403, title: "This credential may not do that" },
  org_suspended: { status: 403, title: "The org is suspended" },
  cross_site: { status: 403, title: "The request did not come from this service's own pages" },
  not_found: { status: 404, title: "There is no such thing" },
  already_exists: { status: 409, title: "That exists already" },
  wrong_state: { status: 409, title: "Not in a state for that" },
  unknown_zone: { status: 400, title: "The time zone is not known" },
  unsupported_granularity: { status: 400, title: "The window cannot be cut at this granularity" },
  unsupported_combination: { status: 400, title: "These parameters do not go together" },
  range_too_large: { status: 400, title: "The window is too large" },
  not_complete: { status: 409, title: "The window is not complete yet", retryAfterSeconds: 2 },
  too_large: { status: 413, title: "The body is too large" },
  too_many_events: { status: 400, title: "The body holds too many events" },
  empty_batch: { status: 400, title: "The body holds no event" },
  unsupported_media_type: { status: 415, title: "The body's media type is not supported" },
  not_acceptable: { status: 406, title: "No acceptable media type" },
  idempotency_mismatch: { status: 422, title: "The idempotency key was used with another request" },
  idempotency_in_progress: {
    status: 409,
    title: "A request with this idempotency key is being worked on",
    retryAfterSeconds: 1,
  },
  rate_limited: { status: 429, title: "Too many requests", retryAfterSeconds: 60 },
  overloaded: { status: 503, title: "Too much at once", retryAfterSeconds: 1 },
  shutting_down: { status: 503, title: "The service is shutting down", retryAfterSeconds: 5 },
  identity_unavailable: {
    status: 503,
    title: "Access tokens cannot be checked at the moment",
    retryAfterSeconds: 30,
  },
  database_unavailable: {
    status: 503,
    title: "The database cannot be reached",
    retryAfterSeconds: 2,
  },
  broker_unavailable: {
    status: 503,
    title: "The message broker does not take events",
    retryAfterSeconds: 5,
  },
  timeout: { status: 503, title: "The answer took too long", retryAfterSeconds: 2 },
} as const satisfies Record<FailureCode, ProblemKind>;

/** Every `code` a problem may carry: the failures, and what is a fault of the service itself. */
export type ProblemCode = FailureCode | "internal_error";

/** An answer of media type application/problem+json. */
export type Problem = {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ProblemCode;
  requestId: string;
  errors: FailureDetail[];
  /** How fresh the org's last answer was, when an outage keeps this one from being given. */
  freshness?: unknown;
};

/** Media type of every answer that is a problem. */
export const PROBLEM_MEDIA_TYPE = "application/problem+json; charset=utf-8";

const typeOf = (code: ProblemCode): string => `urn:tallystick:problem:${code}`;

/** The problem for a failure, and the seconds for Retry-After when trying again makes sense. */
export function problemOf(
  failure: Failure,
  requestId: string,
): { problem: Problem; retryAfterSeconds: number | undefined } {
  const kind: ProblemKind = PROBLEMS[failure.code];
  return {
    problem: {
      type: typeOf(failure.code),
      title: kind.title,
      status: kind.status,
      detail: failure.message,
      code: failure.code,
      requestId,
      errors: failure.details.map(({ pointer, code, message }) => ({ pointer, code, message })),
    },
    retryAfterSeconds: failure.retryAfterSeconds ?? kind.retryAfterSeconds,
  };
}

/** What is said about a fault of our own: nothing but the id under which the log has the rest. */
export const internalProblem = (requestId: string): Problem => ({
  type: typeOf("internal_error"),
  title: "Something went wrong here",
  status: 500,
  detail:
    "This is a fault of the service, not of the request. Its log has more under this request id.",
  code: "internal_error",
  requestId,
  errors: [],
});
