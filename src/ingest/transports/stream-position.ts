import { hash } from "node:crypto";

/**
 * Where a stream is read on: after the message at `offset`, or, when `itemsDone` is given, within that message after so
 * many of its events. `digest` tells the message from another one at the same offset of a stream made anew; it is
 * UNKNOWN_DIGEST where there is no message to be read.
 */
export type StreamPosition = { offset: number; itemsDone: number | null; digest: string };

export const UNKNOWN_DIGEST = "0".repeat(16);

const POSITION = /^(\d{1,16})(?:\+(\d{1,9}))?:([0-9a-f]{16})$/;

/** `<offset>:<digest>`, or `<offset>+<items done>:<digest>` within a message. */
export const formatPosition = ({ offset, itemsDone, digest }: StreamPosition): string =>
  `${offset}${itemsDone === null ? "" : `+${itemsDone}`}:${digest}`;

/** Reads what `formatPosition` wrote. Throws a RangeError on anything else. */
export function parsePosition(text: string): StreamPosition {
  const [, offset, items, digest] = POSITION.exec(text) ?? [];
  if (offset === undefined || digest === undefined) throw new RangeError("not a stream position");
  return {
    offset: Number(offset),
    itemsDone: items === undefined ? null : Number(items),
    digest,
  };
}

/** 16 hex digits of a message's body. */
export const digestOf = (content: Buffer): string => hash("sha256", content).slice(0, 16);
