import { OUTCOMES } from "./usage-event.ts";
import type { OutcomeName } from "./usage-event.ts";

/** The outcomes that are errors: who has to act. */
export const ERROR_CLASSES = [
  "client",
  "capacity",
  "upstream",
  "policy",
  "internal",
] as const satisfies OutcomeName[];
export type ErrorClass = (typeof ERROR_CLASSES)[number];

const HTTP_CODE = /^(?:https?[ _-]?)?([1-5]\d\d)$/;

/** Looked at from the top: the first that matches decides. */
const WORDS: readonly (readonly [ErrorClass, RegExp])[] = [
  [
    "capacity",
    /rate_?limit|too_?many_?requests|overload|capacity|quota|throttl|service_?unavailable/,
  ],
  [
    "policy",
    /content_?filter|policy|moderation|safety|unauthori[sz]ed|authenticat|forbidden|permission|api_?key/,
  ],
  ["upstream", /upstream|bad_?gateway|gateway_?time_?out|timed?_?out|deadline_?exceeded/],
  [
    "client",
    /invalid|bad_?request|not_?found|context_?length|unsupported|validation|too_?large|malformed/,
  ],
];

/**
 * The class of an error that came without one, from its code: an HTTP status ("429", "http_503") or a provider's word
 * ("rate_limit_exceeded"). Codes that say nothing are "internal".
 */
export function classifyErrorCode(errorCode: string | null): ErrorClass {
  const code = (errorCode ?? "")
    .trim()
    .toLowerCase()
    .replace(/[\s.-]+/g, "_");
  const status = HTTP_CODE.exec(code)?.[1];
  if (status !== undefined) return classifyStatus(Number(status));
  return WORDS.find(([, words]) => words.test(code))?.[0] ?? "internal";
}

function classifyStatus(status: number): ErrorClass {
  if (status === 429 || status === 503 || status === 529) return "capacity";
  if (status >= 500) return "upstream";
  if (status === 401 || status === 403) return "policy";
  return status >= 400 ? "client" : "internal";
}

/** The outcome's number (usage_event.outcome) of an error class. */
export const outcomeOfError = (errorClass: ErrorClass): number => OUTCOMES.indexOf(errorClass);
