import type { Logger as PinoLogger } from "pino";

/** Structured logs: constant messages plus fields. No payloads, no secrets; an error is logged once, where it is handled. */
export type Logger = Pick<PinoLogger, "debug" | "info" | "warn" | "error">;
