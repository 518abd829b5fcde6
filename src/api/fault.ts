import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";
import { Failure, type FailureCode, type FailureDetail } from "#contract";

/** What the HTTP framework may find wrong with a request before a handler sees it. */
const FRAMEWORK_FAILURES: Record<string, readonly [FailureCode, string]> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ["too_large", "The body is larger than this route takes."],
  FST_ERR_CTP_INVALID_JSON_BODY: ["invalid_json", "The body is not a JSON document."],
  FST_ERR_CTP_EMPTY_JSON_BODY: ["invalid_json", "The body is empty; a JSON object is expected."],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    "unsupported_media_type",
    "This route does not take a body of that type.",
  ],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [
    "invalid_request",
    "Content-Length differs from the body's length.",
  ],
  FST_ERR_BAD_URL: ["invalid_request", "The path is not valid percent-encoded UTF-8."],
  FST_ERR_MAX_PARAM_LENGTH: ["invalid_request", "A part of the path is too long."],
  FST_ERR_HANDLER_TIMEOUT: ["timeout", "The answer was not ready in time."],
};

const SOCKET_CODES = new Set([
  "ECONNRESET",
  "ECONNREFUSED",
  "EPIPE",
  "ETIMEDOUT",
  "ENOENT",
  "ENOTFOUND",
  "EHOSTUNREACH",
]);
const LOST =
  /Connection terminated|not queryable|timeout exceeded when trying to connect|Client was closed/i;

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

/**
 * The failure behind anything thrown while a request was answered, or null for a fault of our own. The caller logs;
 * nothing of the original message gets into the failure.
 */
export function failureOf(error: unknown): Failure | null {
  if (error instanceof Failure) return error;
  if (hasZodFastifySchemaValidationErrors(error)) return invalidRequest(error);
  const code = codeOf(error);
  const known = FRAMEWORK_FAILURES[code];
  if (known !== undefined) return new Failure(known[0], known[1], { cause: error });
  return outageOf(error, code);
}

/** Database trouble, by SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html) and socket error. */
function outageOf(error: unknown, code: string): Failure | null {
  // A statement that ran into its time limit, or waited too long for a lock.
  const isOverdue =
    code === "57014" ||
    code === "55P03" ||
    (error instanceof Error && error.message === "Query read timeout");
  if (isOverdue) {
    return new Failure("timeout", "The database did not answer in time.", { cause: error });
  }
  const isLost =
    SOCKET_CODES.has(code) ||
    /^(08...|57P..|53...|58...|25006)$/.test(code) ||
    (error instanceof Error && LOST.test(error.message));
  if (!isLost) return null;
  return new Failure("database_unavailable", "The database cannot be reached at the moment.", {
    cause: error,
  });
}

type ValidationError = { validation: readonly Issue[]; validationContext?: string | undefined };
type Issue = {
  keyword: string;
  instancePath: string;
  message?: string | undefined;
  params: Record<string, unknown>;
};

function invalidRequest(error: ValidationError): Failure {
  const where = error.validationContext ?? "request";
  const details = error.validation.flatMap((issue) => detailsOf(issue, where));
  return new Failure("invalid_request", SENTENCES[where] ?? "The request is not valid.", {
    details,
  });
}

const SENTENCES: Record<string, string> = {
  body: "The body is not valid.",
  querystring: "The query parameters are not valid.",
  params: "The path is not valid.",
  headers: "The headers are not valid.",
};

function detailsOf(issue: Issue, where: string): FailureDetail[] {
  const keys = issue.params["keys"];
  if (issue.keyword === "unrecognized_keys" && Array.isArray(keys)) {
    return keys.map((key) => ({
      pointer: `/${where === "querystring" ? "query" : where}/${String(key).slice(0, 100)}`,
      code: where === "body" ? "unknown_field" : "unknown_parameter",
      message: where === "body" ? "There is no such field." : "There is no such parameter.",
    }));
  }
  const place = where === "querystring" ? "query" : where;
  return [
    {
      pointer: `/${place}${issue.instancePath === "/" ? "" : issue.instancePath}`,
      code: issue.keyword,
      message: issue.message ?? "Not valid.",
    },
  ];
}
