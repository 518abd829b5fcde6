import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import {
  type Clock,
  LineReader,
  type Logger,
  OperatorError,
  type Repeating,
  startRepeating,
} from "#kernel";
import {
  type AuditAnchor,
  type AuditHead,
  type Database,
  getInstallationId,
  insertAnchors,
  listMovedHeads,
} from "#store";

const HOUR_MS = 3_600_000;
const HEADS_AT_ONCE = 1000;
const LF = 0x0a;
const LINE_BYTES_MAX = 4096;

/** Where the anchors of a data directory lie: copy this file, or ship the log, to where nobody of the database can write. */
export const auditAnchorFile = (folder: string): string => join(folder, "audit-anchors.ndjson");

export type AuditAnchorsDeps = {
  database: Database;
  logger: Logger;
  clock: Clock;
  /** The data directory. */
  folder: string;
  /** How often, ms; hourly by itself. */
  intervalMs?: number;
};

/** The running anchoring. A turn tells how many chains had grown. */
export type AuditAnchors = Repeating<number>;

/**
 * Tells the ends of the audit chains outside of the database, at once and then hourly where they have moved: in the log
 * ("audit_anchor"), in the anchor file, and only then in the database, so that what could not be told is told again.
 */
export function startAuditAnchors(deps: AuditAnchorsDeps): AuditAnchors {
  return startRepeating({
    work: () => anchorChains(deps),
    intervalMs: deps.intervalMs ?? HOUR_MS,
    onError: (error) =>
      deps.logger.error({ err: error }, "The audit log's anchors are told again later"),
  });
}

async function anchorChains(deps: AuditAnchorsDeps): Promise<number> {
  const { database, logger, clock, folder } = deps;
  const installation = await getInstallationId(database.sql);
  let count = 0;
  for (let afterOrg = -1; ;) {
    const heads = await listMovedHeads(database.sql, { afterOrg, limit: HEADS_AT_ONCE });
    const last = heads.at(-1);
    if (last === undefined) return count;
    const at = new Date(clock.now());
    for (const { org, orgId, seq, hash } of heads)
      logger.info({ installation, org, orgId, seq, hash }, "audit_anchor");
    await appendLines(
      auditAnchorFile(folder),
      heads.map((head) => formatLine(head, { installation, at })),
    );
    await insertAnchors(database.sql, { anchors: heads, at });
    count += heads.length;
    afterOrg = last.orgId;
  }
}

const formatLine = (
  { orgId, org, seq, hash }: AuditHead,
  { installation, at }: { installation: string; at: Date },
): string => `${JSON.stringify({ installation, orgId, org, seq, hash, at: at.toISOString() })}\n`;

/** On disk when it returns. */
async function appendLines(path: string, lines: readonly string[]): Promise<void> {
  await using file = await open(path, "a+", 0o600);
  await file.truncate(await findWholeSize(file));
  await file.appendFile(lines.join(""));
  await file.datasync();
}

/** Length up to the last line end: what a crash left after it was never noted as told, and comes again. */
async function findWholeSize(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  const from = Math.max(0, size - LINE_BYTES_MAX);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(size - from), 0, size - from, from);
  const end = buffer.subarray(0, bytesRead).lastIndexOf(LF);
  return end < 0 ? from : from + end + 1;
}

const anchorLine = z.object({
  installation: z.string(),
  orgId: z.int(),
  seq: z.int().positive(),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
});

/**
 * The anchors that a file holds at this moment; undefined when there is no file. Reading them throws OperatorError at a
 * line that is no anchor of this installation. A last line without its end is still being written, and not read.
 */
export async function openAuditAnchorFile(
  path: string,
  installation: string,
): Promise<(AsyncIterable<AuditAnchor> & AsyncDisposable) | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new OperatorError(
      `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  const { size } = await file.stat();
  return {
    [Symbol.asyncIterator]: () => readAnchors(file, { path, size, installation }),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

async function* readAnchors(
  file: FileHandle,
  { path, size, installation }: { path: string; size: number; installation: string },
): AsyncGenerator<AuditAnchor> {
  const lines = new LineReader({ lineBytesMax: LINE_BYTES_MAX });
  if (size === 0) return;
  const stream: AsyncIterable<Buffer> = file.createReadStream({
    start: 0,
    end: size - 1,
    autoClose: false,
  });
  for await (const chunk of stream) {
    for (const { line, bytes } of lines.push(chunk)) {
      const anchor = parseAnchor(bytes);
      if (anchor === undefined) {
        throw new OperatorError(
          `Line ${line} of ${path} is no anchor of the audit log: somebody changed the file. Take a copy that nobody could change.`,
        );
      }
      if (anchor.installation !== installation) {
        throw new OperatorError(
          `Line ${line} of ${path} is an anchor of another installation (${anchor.installation}; this database is ${installation}).`,
        );
      }
      const { orgId, seq, hash } = anchor;
      yield { orgId, seq, hash };
    }
  }
}

function parseAnchor(bytes: Buffer | null): z.output<typeof anchorLine> | undefined {
  try {
    return anchorLine.safeParse(JSON.parse(bytes?.toString("utf8") ?? "")).data;
  } catch {
    return undefined;
  }
}
