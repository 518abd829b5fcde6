import { isUtf8 } from "node:buffer";

/** Header by which a producer holds a message's events to one org. */
export const ORG_HEADER = "tallystick-org";

/**
 * RabbitMQ 3 hands the application properties of an AMQP 1.0 message over as one header that holds the section as
 * encoded, and the client library has made text of it by then: every byte that is no UTF-8 is U+FFFD.
 */
const PACKED_PROPERTIES = "x-amqp-1.0-app-properties";

/** As HTTP takes a request id: short and plain, since it is logged and stored. */
const PLAIN_ID = /^[A-Za-z0-9._:-]{1,64}$/;
/** W3C Trace Context, level 2; later versions may append fields. */
const TRACEPARENT =
  /^(?!ff)([0-9a-f]{2})-(?!0+-)([0-9a-f]{32})-(?!0+-)[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$/;

export type MessageHeaders = Readonly<Record<string, unknown>>;

/** A header as text: undefined when there is none, null when there is one that is no text (a number, a table, null). */
export function findHeaderText(
  headers: MessageHeaders | undefined,
  name: string,
): string | null | undefined {
  if (headers === undefined) return undefined;
  if (Object.hasOwn(headers, name)) return textOf(headers[name]);
  if (!Object.hasOwn(headers, PACKED_PROPERTIES)) return undefined;
  const packed = headers[PACKED_PROPERTIES];
  return findPackedText(Buffer.isBuffer(packed) ? packed.toString() : packed, name);
}

function textOf(value: unknown): string | null {
  if (typeof value === "string") return value;
  return Buffer.isBuffer(value) && isUtf8(value) ? value.toString() : null;
}

/** The value behind a name in packed properties; null too where the lost bytes leave its length unknown. */
function findPackedText(packed: unknown, name: string): string | null | undefined {
  if (typeof packed !== "string") return undefined;
  const key = `${String.fromCharCode(name.length)}${name}`;
  const at = packed.indexOf(key);
  if (at < 0) return undefined;
  // A constructor of text (no UTF-8 in itself), then the length in one byte or, after three zeros, in the fourth.
  const rest = packed.slice(at + key.length);
  const [head, lengthText] = /^\uFFFD(?:\0\0\0)?([\x01-\x7f]|\0(?=\uFFFD|$))/.exec(rest) ?? [];
  if (head === undefined || lengthText === undefined) return null;
  const length = lengthText.charCodeAt(0);
  const bytes = Buffer.from(rest.slice(head.length, head.length + length));
  return bytes.length < length ? null : textOf(bytes.subarray(0, length));
}

/**
 * The id under which a message is followed: the trace id (32 hex digits) of its W3C `traceparent` header, else its
 * correlation-id when that is short and plain, else undefined.
 */
export function correlationIdOf({
  properties,
}: {
  properties: { headers?: MessageHeaders | undefined; correlationId?: unknown };
}): string | undefined {
  const traceparent = findHeaderText(properties.headers, "traceparent");
  const [, version, traceId, tail] = TRACEPARENT.exec(traceparent ?? "") ?? [];
  if (traceId !== undefined && (version !== "00" || tail === undefined)) return traceId;
  const { correlationId } = properties;
  return typeof correlationId === "string" && PLAIN_ID.test(correlationId)
    ? correlationId
    : undefined;
}
