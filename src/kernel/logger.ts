import { pino, type Logger as PinoLogger } from "pino";

/** Structured logs: constant messages plus fields. No payloads, no secrets; an error is logged once, where it is handled. */
export type Logger = Pick<PinoLogger, "debug" | "info" | "warn" | "error">;

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const SECRET_FIELDS = [
  "authorization",
  "cookie",
  "password",
  "secret",
  "token",
  "key",
  "apiKey",
  "adminKey",
  "databaseUrl",
];
const REDACTED_PATHS = [
  ...SECRET_FIELDS,
  ...SECRET_FIELDS.map((field) => `*.${field}`),
  ...SECRET_FIELDS.map((field) => `*.headers.${field}`),
  'headers["set-cookie"]',
  '*.headers["set-cookie"]',
];

/**
 * JSON lines on standard error (or `to`), so that standard output stays free for what a command answers.
 * Fields that may hold credentials are blanked; of an error only name, message, code, stack and cause are kept,
 * because a database error's `detail` and `where` quote the rows it failed on.
 */
export function createLogger(level: LogLevel, to?: { write(line: string): void }): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: REDACTED_PATHS, censor: "[redacted]" },
      serializers: { err: describeError, error: describeError },
    },
    to ?? openStandardError(),
  );
}

/** A log that cannot be written (a full disk, a reader that left) costs its lines and never the process. */
function openStandardError() {
  const destination = pino.destination({ dest: 2, sync: true });
  destination.on("error", () => undefined);
  return destination;
}

/** Says nothing: for code that needs a logger where none is wanted. */
export const silentLogger: Logger = createLogger("silent");

type ErrorFields = {
  type: string;
  message: string;
  code?: string;
  stack?: string | undefined;
  cause?: unknown;
};

function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const fields: ErrorFields = { type: error.name, message: error.message };
  if ("code" in error && typeof error.code === "string") fields.code = error.code;
  fields.stack = error.stack;
  if (error.cause !== undefined) fields.cause = describeError(error.cause);
  return fields;
}
