import { createHash, hash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { type FileHandle, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { OperatorError } from "#kernel";

/** A file to import, held open and known by its content. */
export type ImportFile = AsyncDisposable & {
  /** SHA-256 of the content. */
  readonly digest: Buffer;
  /** Bytes. */
  readonly size: number;
  /** Reads it from the beginning. Throws OperatorError at the end when it was changed since it was opened. */
  chunks(): AsyncIterable<Buffer>;
};

const CHUNK_BYTES = 256 * 1024;

/**
 * Opens a file, or standard input (`-`), and reads it once for its digest. What can be read only once (standard input,
 * a pipe) is kept in a temporary file until disposed. Throws OperatorError when it cannot be read.
 */
export async function openImportFile(
  name: string,
  stdin: Readable,
  signal: AbortSignal,
): Promise<ImportFile> {
  try {
    const isStdin = name === "-";
    const spool =
      isStdin || !(await isRegular(name))
        ? await spoolOf(isStdin ? stdin : name, signal)
        : undefined;
    const handle = await open(spool?.path ?? name, "r");
    const opened = await handle.stat();
    const digest = createHash("sha256");
    for await (const chunk of chunksOf(handle)) {
      signal.throwIfAborted();
      digest.update(chunk);
    }
    return {
      digest: digest.digest(),
      size: opened.size,
      chunks: async function* () {
        yield* chunksOf(handle);
        const now = await handle.stat();
        if (now.size === opened.size && now.mtimeMs === opened.mtimeMs) return;
        throw new OperatorError(
          `${name} was changed while it was being read. Import it again when nothing writes to it.`,
        );
      },
      [Symbol.asyncDispose]: async () => {
        await handle.close();
        await spool?.[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    if (error instanceof Error && "code" in error && "syscall" in error) {
      throw new OperatorError(`${name} cannot be read: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

async function isRegular(name: string): Promise<boolean> {
  await using handle = await open(name, "r");
  const stat = await handle.stat();
  if (stat.isDirectory()) throw new OperatorError(`${name} is a folder.`);
  return stat.isFile();
}

async function spoolOf(
  source: Readable | string,
  signal: AbortSignal,
): Promise<AsyncDisposable & { path: string }> {
  const folder = await mkdtemp(join(tmpdir(), "tallystick-import-"));
  const remove = async (): Promise<void> => await rm(folder, { recursive: true, force: true });
  try {
    const path = join(folder, "input");
    const handle = typeof source === "string" ? await open(source, "r") : undefined;
    const input = handle?.createReadStream() ?? source;
    if (typeof input === "string") throw new TypeError("a name was opened above");
    await pipeline(input, createWriteStream(path, { mode: 0o600 }), { signal });
    return { path, [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function* chunksOf(handle: FileHandle): AsyncGenerator<Buffer> {
  for (let at = 0; ;) {
    const { bytesRead, buffer } = await handle.read(
      Buffer.allocUnsafe(CHUNK_BYTES),
      0,
      CHUNK_BYTES,
      at,
    );
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/**
 * The id of a row that has none: the same for the same row of the same file, whatever it is called. A canonical
 * UUIDv8 made of SHA-256(digest of the file, row number).
 */
export function rowIdOf(digest: Buffer, row: number): string {
  const input = Buffer.allocUnsafe(digest.length + 8);
  digest.copy(input);
  input.writeBigUInt64BE(BigInt(row), digest.length);
  const hex = hash("sha256", input, "hex");
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 3) | 8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
