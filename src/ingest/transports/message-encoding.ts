import {
  brotliDecompressSync,
  constants,
  gunzipSync,
  inflateRawSync,
  inflateSync,
  zstdDecompressSync,
} from "node:zlib";
import { isInflated } from "#kernel";
import { BodyFault } from "./body-fault.ts";

/** Largest window a zstd body may ask memory for: 2^23 bytes, the level every encoder uses by default. */
const ZSTD_WINDOW_LOG_MAX = 23;
/** A zstd body may be frames in a row; each costs a decoder, so that a body of nothing else must end somewhere. */
const FRAMES_MAX = 1000;

/** Inflates what stands at the beginning of the bytes; the answer is zlib's `{ buffer, engine }`. */
type Inflater = (bytes: Buffer, bytesMax: number) => unknown;

const gunzip: Inflater = (bytes, maxOutputLength) =>
  gunzipSync(bytes, { maxOutputLength, info: true });

const INFLATERS: Readonly<Record<string, Inflater>> = {
  gzip: gunzip,
  "x-gzip": gunzip,
  // The name means zlib's format, but some senders leave its header out.
  deflate: (bytes, maxOutputLength) =>
    (hasZlibHeader(bytes) ? inflateSync : inflateRawSync)(bytes, { maxOutputLength, info: true }),
  br: (bytes, maxOutputLength) => brotliDecompressSync(bytes, { maxOutputLength, info: true }),
  zstd: (bytes, maxOutputLength) =>
    zstdDecompressSync(bytes, {
      maxOutputLength,
      info: true,
      params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
    }),
};

/** Message libraries write the character set here (Spring "UTF-8", Celery "utf-8" and "binary"): nothing to undo. */
const PLAIN = new Set(["", "identity", "utf-8", "utf8", "us-ascii", "ascii", "binary", "8bit"]);

/**
 * The body as it was before compression, at most `bytesMax` long: a bomb is stopped at that size. `contentEncoding` is
 * the message property, if any. Throws BodyFault: `too_large`, `invalid_encoding` when the bytes are damaged or cut
 * short, `unsupported_body` for an encoding that is not known.
 */
export function decodeBody(bytes: Buffer, contentEncoding: unknown, bytesMax: number): Buffer {
  const name = findCompression(contentEncoding);
  if (name === undefined || bytes.length === 0) return bytes;
  const inflater = Object.hasOwn(INFLATERS, name) ? INFLATERS[name] : undefined;
  if (inflater === undefined) {
    throw new BodyFault(
      "unsupported_body",
      "The message's content-encoding is not read here; it may be gzip, deflate, br or zstd.",
    );
  }
  return inflate(bytes, { name, inflater, bytesMax });
}

/** Spring appends what was there before: "gzip:UTF-8", "gzip, UTF-8". */
function findCompression(contentEncoding: unknown): string | undefined {
  if (typeof contentEncoding !== "string" || PLAIN.has(contentEncoding)) return undefined;
  const names = contentEncoding.split(/[,:]/).map((name) => name.trim().toLowerCase());
  const compressions = names.filter((name) => !PLAIN.has(name));
  return compressions.length > 0 ? compressions.join() : undefined;
}

type Compression = { name: string; inflater: Inflater; bytesMax: number };

function inflate(bytes: Buffer, compression: Compression): Buffer {
  const { name, bytesMax } = compression;
  const parts: Buffer[] = [];
  let rest = bytes;
  let length = 0;
  do {
    const { buffer, bytesRead } = inflatePart(rest, compression, bytesMax - length);
    parts.push(buffer);
    length += buffer.length;
    rest = rest.subarray(bytesRead);
    // zlib stops behind a frame of zstd without a word about what follows, and that may be events.
  } while (name === "zstd" && rest.length > 0 && parts.length < FRAMES_MAX);
  if (rest.length > 0 && !isPadding(name, rest)) throw damaged(name);
  return Buffer.concat(parts, length);
}

function inflatePart(
  bytes: Buffer,
  { name, inflater, bytesMax }: Compression,
  roomBytes: number,
): { buffer: Buffer; bytesRead: number } {
  let inflated: unknown;
  try {
    inflated = inflater(bytes, Math.max(1, roomBytes));
  } catch (error) {
    throw error instanceof RangeError ? tooLarge(bytesMax) : damaged(name, error);
  }
  if (!isInflated(inflated)) throw new Error("zlib did not say how far it read");
  if (inflated.buffer.length > roomBytes) throw tooLarge(bytesMax);
  return { buffer: inflated.buffer, bytesRead: inflated.engine.bytesWritten };
}

/** RFC 1950 §2.2: method 8, and the first two bytes are a multiple of 31. */
const hasZlibHeader = (bytes: Buffer): boolean =>
  bytes.length >= 2 && ((bytes[0] ?? 0) & 0x0f) === 8 && bytes.readUInt16BE() % 31 === 0;

/** gzip files may be filled up with zeros. */
const isPadding = (name: string, rest: Buffer): boolean =>
  name.endsWith("gzip") && rest.every((byte) => byte === 0);

const tooLarge = (bytesMax: number): BodyFault =>
  new BodyFault("too_large", `The body is larger than ${bytesMax} bytes once decompressed.`);

const damaged = (name: string, cause?: unknown): BodyFault =>
  new BodyFault(
    "invalid_encoding",
    `The message's content-encoding says ${name}, but the body is no whole ${name} data.`,
    { cause },
  );
