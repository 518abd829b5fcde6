import { Failure, type ParsedItem, type RejectionCode, parseUsageEvents } from "#contract";
import { isAmqp10, readAmqp10Body } from "./amqp10-body.ts";
import { BodyFault } from "./body-fault.ts";
import { decodeBody } from "./message-encoding.ts";
import { ORG_HEADER, type MessageHeaders, findHeaderText } from "./message-headers.ts";

export { correlationIdOf } from "./message-headers.ts";

/** What of a delivered message is read. Properties may hold whatever the broker let through. */
export type AmqpMessage = {
  content: Buffer;
  properties: {
    /** Not read: bytes say better than "amqp-1.0" what they are. */
    type?: unknown;
    contentType?: unknown;
    contentEncoding?: unknown;
    headers?: MessageHeaders | undefined;
    correlationId?: unknown;
  };
};

export type MessageLimits = {
  /** Bytes of a body, as received and once inflated. */
  bytesMax: number;
  eventsMax: number;
};

/** Names that have been in use for NDJSON. */
const NDJSON = /^ *(?:application|text)\/(?:x-)?(?:nd-?json|json-?l|json-?lines) *(?:;|$)/i;

const NEWLINE = 0x0a;

/**
 * Reads the events of a message: one JSON object, an array of them, or NDJSON, in any of the content encodings, and
 * also where a broker hands over AMQP 1.0 sections. Items come in the order sent and hold slices of the content.
 *
 * Never throws, and always gives an item at least, so that no message vanishes: one that cannot be read as a whole is
 * a single rejection (`invalid_json`, `invalid_encoding`, `unsupported_body`, `too_large`) with the content as received.
 * Where the message carries a `tallystick-org` header, events of any other org are rejections (`org_mismatch`).
 */
export function readMessage(message: AmqpMessage, limits: MessageLimits): ParsedItem[] {
  const { content, properties } = message;
  try {
    if (content.length > limits.bytesMax)
      throw new BodyFault("too_large", `The message is larger than ${limits.bytesMax} bytes.`);
    const items = isAmqp10(content)
      ? readSections(message, limits)
      : readBody(content, properties, limits);
    const org = findHeaderText(properties.headers, ORG_HEADER);
    return org === undefined ? items : items.map((item) => holdToOrg(item, org));
  } catch (error) {
    return [refuse(content, error)];
  }
}

/**
 * RabbitMQ 3 hands over several data sections last one first, other brokers in order, and no broker says which. Events
 * cut in two by a section's end are whole in one order only.
 */
function readSections(message: AmqpMessage, limits: MessageLimits): ParsedItem[] {
  const { bytes, backwards } = readAmqp10Body(message.content);
  if (backwards === null) return readBody(bytes, message.properties, limits);
  const inOrder = tryBody(bytes, message, limits);
  if (inOrder.rejectedCount === 0) return inOrder.items;
  const turned = tryBody(backwards, message, limits);
  return turned.rejectedCount < inOrder.rejectedCount ? turned.items : inOrder.items;
}

function tryBody(
  bytes: Buffer,
  { content, properties }: AmqpMessage,
  limits: MessageLimits,
): { items: ParsedItem[]; rejectedCount: number } {
  try {
    const items = readBody(bytes, properties, limits);
    return { items, rejectedCount: items.filter(({ event }) => event === null).length };
  } catch (error) {
    return { items: [refuse(content, error)], rejectedCount: Number.POSITIVE_INFINITY };
  }
}

function readBody(
  bytes: Buffer,
  { contentType, contentEncoding }: AmqpMessage["properties"],
  limits: MessageLimits,
): ParsedItem[] {
  const body = decodeBody(bytes, contentEncoding, limits.bytesMax);
  if (typeof contentType === "string" && NDJSON.test(contentType))
    return parseUsageEvents(body, "ndjson", limits);
  try {
    return parseUsageEvents(body, "json", limits);
  } catch (error) {
    const isBroken = error instanceof Failure && error.code === "invalid_json";
    if (isBroken && looksLikeLines(body)) return parseUsageEvents(body, "ndjson", limits);
    throw error;
  }
}

/**
 * Whether a body that is not JSON is NDJSON: its first or its last line is an object by itself. Either will do, so that
 * one broken line does not take the others with it, and a broken array or object over many lines stays one rejection.
 */
function looksLikeLines(body: Buffer): boolean {
  // From the first visible ASCII on, so behind a byte order mark.
  const start = body.findIndex((byte) => byte > 0x20 && byte < 0x80);
  const end = body.findLastIndex((byte) => byte > 0x20) + 1;
  const firstEnd = body.indexOf(NEWLINE, start);
  if (body[start] === 0x5b || firstEnd < 0 || firstEnd >= end) return false;
  const lastStart = body.lastIndexOf(NEWLINE, end - 1) + 1;
  return isObject(body.subarray(start, firstEnd)) || isObject(body.subarray(lastStart, end));
}

function isObject(line: Buffer): boolean {
  try {
    const [item] = parseUsageEvents(line, "ndjson", { eventsMax: 1 });
    return item?.bytes[0] === 0x7b && item.rejection?.code !== "invalid_json";
  } catch (error) {
    if (error instanceof Failure) return false;
    throw error;
  }
}

/** `org` is what the message claims; null: a claim that is no text, to which nothing can be held. */
function holdToOrg(item: ParsedItem, org: string | null): ParsedItem {
  const about = item.event ?? item.rejection;
  if (about.orgId === null || about.orgId === org) return item;
  const detail =
    org === null
      ? `The message's ${ORG_HEADER} header is no text, so none of its events can be held to it.`
      : `This event names another org than the message's ${ORG_HEADER} header.`;
  const { eventId, occurredAtUs } = about;
  return {
    event: null,
    // Of no org: which of the two it belongs to is what cannot be told, and an org sees its own quarantine.
    rejection: {
      code: "org_mismatch",
      pointer: "/org_id",
      detail,
      eventId,
      orgId: null,
      occurredAtUs,
    },
    bytes: item.bytes,
  };
}

function refuse(content: Buffer, error: unknown): ParsedItem {
  const { code, detail } = describe(error);
  return {
    event: null,
    rejection: { code, pointer: "", detail, eventId: null, orgId: null, occurredAtUs: null },
    bytes: content,
  };
}

function describe(error: unknown): { code: RejectionCode; detail: string } {
  if (error instanceof BodyFault) return { code: error.code, detail: error.message };
  if (error instanceof Failure) {
    const detail = error.message;
    if (error.code === "too_many_events") return { code: "too_large", detail };
    if (error.code === "invalid_encoding") return { code: "invalid_encoding", detail };
    return { code: "invalid_json", detail };
  }
  return {
    code: "internal_error",
    detail: "The message could not be read, by a fault of the service; its bytes are kept.",
  };
}
