import type { IncomingHttpHeaders } from "node:http";

const GIVEN = /^[A-Za-z0-9._:-]{1,64}$/;
const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;

/**
 * The id under which a request is logged and answered: the caller's `X-Request-Id` when it is short and plain, else
 * the trace id of a W3C `traceparent`, else a new one.
 */
export function requestIdOf(headers: IncomingHttpHeaders, createId: () => string): string {
  const given = headers["x-request-id"];
  if (typeof given === "string" && GIVEN.test(given)) return given;
  const traceId = TRACEPARENT.exec(traceparentOf(headers) ?? "")?.[1];
  return traceId !== undefined && !/^0+$/.test(traceId) ? traceId : createId();
}

/** The request's W3C `traceparent`, if it has a well-formed one. */
export function traceparentOf({ traceparent }: IncomingHttpHeaders): string | undefined {
  return typeof traceparent === "string" && TRACEPARENT.test(traceparent) ? traceparent : undefined;
}
