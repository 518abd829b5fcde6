import { promisify } from "node:util";
import { constants, gunzip, zstdDecompress } from "node:zlib";
import { Failure } from "#contract";
import { isInflated } from "#kernel";

/** How the events of a body are written down. */
export type BodyFormat = "json" | "ndjson";

const FORMATS: Record<string, BodyFormat> = {
  "application/json": "json",
  "application/x-ndjson": "ndjson",
};

/** One media type, then at most `charset=utf-8`; no tabs, no empty parameters, nothing that two parsers could read differently. */
const CONTENT_TYPE = /^ *([a-z]+\/[a-z-]+)(?: *; *charset=("?)utf-8\2)? *$/i;

/** The body format a `Content-Type` header names. Throws Failure `unsupported_media_type` for anything else. */
export function formatOfContentType(contentType: string | undefined): BodyFormat {
  const [, mediaType = ""] = CONTENT_TYPE.exec(contentType ?? "") ?? [];
  const format = FORMATS[mediaType.toLowerCase()];
  if (format !== undefined) return format;
  throw new Failure(
    "unsupported_media_type",
    "Send events as application/json (one event or an array) or application/x-ndjson, in UTF-8.",
  );
}

/** How a body is compressed; null: not at all. */
export type BodyEncoding = "gzip" | "zstd" | null;

/** The compression a `Content-Encoding` header names. Throws Failure `unsupported_media_type` for anything else. */
export function encodingOfHeader(contentEncoding: string | undefined): BodyEncoding {
  const name = (contentEncoding ?? "identity").trim().toLowerCase();
  if (name === "identity") return null;
  if (name === "gzip" || name === "zstd") return name;
  throw new Failure("unsupported_media_type", "Content-Encoding may be gzip or zstd.");
}

const inflateGzip = promisify<Buffer, { maxOutputLength: number }, Buffer>(gunzip);
const inflateZstdFrame = promisify<Buffer, Parameters<typeof zstdDecompress>[1], unknown>(
  zstdDecompress,
);

/** Largest window a zstd body may ask memory for: 2^23 bytes, the level every encoder uses by default. */
const ZSTD_WINDOW_LOG_MAX = 23;

/**
 * The body as it was before compression, at most `bytesMax` long: a bomb is stopped at that size, not inflated and
 * then measured. Throws Failure `too_large`, or `invalid_encoding` when the bytes are damaged or cut short.
 */
export async function inflate(
  bytes: Buffer,
  encoding: BodyEncoding,
  bytesMax: number,
): Promise<Buffer> {
  try {
    if (encoding === "gzip") return await inflateGzip(bytes, { maxOutputLength: bytesMax });
    if (encoding === "zstd") return await inflateZstd(bytes, bytesMax);
    return bytes;
  } catch (error) {
    if (error instanceof RangeError) {
      throw new Failure(
        "too_large",
        `The body is larger than ${bytesMax} bytes once decompressed.`,
        { cause: error },
      );
    }
    throw new Failure("invalid_encoding", `The body is not valid ${encoding}.`, { cause: error });
  }
}

/** Frame by frame: zlib stops behind the first without a word about what follows, and that may be events. */
async function inflateZstd(bytes: Buffer, bytesMax: number): Promise<Buffer> {
  const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
  const parts: Buffer[] = [];
  let length = 0;
  for (let rest = bytes; rest.length > 0 || parts.length === 0;) {
    const maxOutputLength = Math.max(1, bytesMax - length);
    const inflated = await inflateZstdFrame(rest, { maxOutputLength, params, info: true });
    if (!isInflated(inflated)) throw new Error("zlib did not say how far it read");
    parts.push(inflated.buffer);
    length += inflated.buffer.length;
    if (length > bytesMax) throw new RangeError("larger than it may be");
    rest = rest.subarray(inflated.engine.bytesWritten);
  }
  return Buffer.concat(parts, length);
}
