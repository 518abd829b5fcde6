import { z } from "zod";
import { type AuditFault, type AuditReport, verifyAuditLog } from "#app";
import { loadConfig } from "#config";
import { createLogger, systemClock } from "#kernel";
import { type ApiClient, ApiProblem, createApiClient, findApi } from "./api-client.ts";
import { apiHintsOf, parseArguments, SERVICE_OPTIONS, SERVICE_USAGE } from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { createProgress } from "./progress.ts";
import { formatCount, formatNumber, formatTable } from "./table.ts";

const usage = `tallystick audit verify [--org ORG] [--anchors FILE] [options]
tallystick audit list --org ORG|--system [--limit N] [options]

verify follows every chain of the audit log from its first row to its last, and holds it against the anchors: the ends
of the chains as they were told every hour in the service's log (audit_anchor), in the data directory's
audit-anchors.ndjson, and in the database. It names each row that was edited, moved, taken out or put in, and what is cut
off at the end. Whoever can change the database can change the anchors in it, too: keep copies of the file elsewhere.
Reads only; the service may be running or not.

list shows who changed what in an org, and who outside of it read its data, newest first.

  --org ORG           this org's chain (verify: default all; "*" is the chain of all orgs together)
  --system            list: what concerns all orgs together
  --anchors FILE      verify: another copy of the anchor file
  --limit N           list: rows to show (default: 50)
${SERVICE_USAGE}
verify reads the database itself: --data-dir says where it is, or DATABASE_URL, which comes first.

Exit code: 0 nothing is wrong, 1 the log was tampered with or there is no such org, 2 wrong arguments, 3 the service or the
database cannot be reached, 130 stopped.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  org: { type: "string" },
  system: { type: "boolean", default: false },
  anchors: { type: "string" },
  limit: { type: "string" },
} as const;

const LIST_DEFAULT = 50;
const PAGE_MAX = 200;

/** `audit`: see its usage. */
export const auditCommand: Command = {
  name: "audit",
  summary: "Verify the audit log's chains, or show it",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    const [action, ...more] = positionals;
    if (more.length > 0) throw new UsageError(`audit ${action} takes options only.`);
    if (action === "verify") return await verifyLog(values, io);
    if (action === "list") return await listLog(values, io);
    throw new UsageError("Say what to do: verify, list.");
  },
};

type Values = ReturnType<typeof parseArguments<typeof OPTIONS>>["values"];

async function verifyLog(values: Values, io: CommandIo): Promise<number> {
  if (values.system || values.limit !== undefined)
    throw new UsageError('--system and --limit go with list. The chain of all orgs is --org "*".');
  if (values.url !== undefined || values["api-key"] !== undefined)
    throw new UsageError(
      "verify reads the database itself, not a service: no --url, no --api-key.",
    );
  const { config } = loadConfig(io.env, { DATA_DIR: values["data-dir"] });
  const progress = createProgress(io, systemClock);
  try {
    const report = await verifyAuditLog(
      config,
      {
        logger: createLogger(config.logLevel === "info" ? "warn" : config.logLevel),
        clock: systemClock,
        random: io.random,
        onProgress: (step) => progress.note(`${step} …`),
        signal: io.signal,
      },
      {
        org: values.org,
        anchorFile: values.anchors,
        onVerified: ({ rowsDone: done, rows: total }) =>
          progress.show({ done, total, text: `${formatNumber(done)} rows followed` }),
      },
    );
    progress.clear();
    if (values.json) io.stdout.write(`${JSON.stringify(report)}\n`);
    else printReport(report, io);
    return report.isSound ? EXIT.ok : EXIT.failed;
  } finally {
    progress.clear();
  }
}

const FAULT_COLUMNS = ["org", "rows", "what"].map((title) => ({ title }));

const MEANINGS: Record<AuditFault["kind"], string> = {
  edited: "not what was hashed, or what was hashed before it is no more",
  moved: "hashed under other numbers: rows were put in, taken out or reordered here",
  missing: "not there",
  rewritten: "not what was anchored: some of these were hashed anew",
  cut: "anchored, and gone from the end",
};

function printReport(report: AuditReport, io: CommandIo): void {
  const { chains, rows, anchors, faults, faultCount } = report;
  const held = `${formatCount(anchors.stored, "anchor")} in the database`;
  const file =
    report.anchorFile === null
      ? "no anchor file: whoever can change the log can change those, too"
      : `${formatNumber(anchors.given)} in ${report.anchorFile}`;
  io.stdout.write(`${formatCount(rows, "row")} in ${formatCount(chains, "chain")}\n`);
  io.stdout.write(`${held}, ${file}\n`);
  if (faultCount === 0) {
    io.stdout.write("Nothing is wrong.\n");
    return;
  }
  const lines = faults.map(({ org, orgId, kind, seq, lastSeq }) => [
    org ?? `(${orgId})`,
    seq === lastSeq ? String(seq) : `${seq}–${lastSeq}`,
    `${kind}: ${MEANINGS[kind]}`,
  ]);
  io.stdout.write(`\n${formatTable(FAULT_COLUMNS, lines)}`);
  const notListed = faultCount - faults.length;
  const rest = notListed > 0 ? `, ${formatNumber(notListed)} of them not listed` : "";
  io.stdout.write(`${formatCount(faultCount, "fault")}${rest}.\n`);
}

const entry = z.object({
  seq: z.int(),
  at: z.string(),
  actor: z.string(),
  actorName: z.string().nullable(),
  action: z.string(),
  target: z.string().nullable(),
  requestId: z.string().nullable(),
  details: z.record(z.string(), z.unknown()).nullable(),
});
type Entry = z.output<typeof entry>;
const page = z.object({ items: z.array(entry), nextCursor: z.string().nullable() });

async function listLog(values: Values, io: CommandIo): Promise<number> {
  if (values.anchors !== undefined) throw new UsageError("--anchors goes with verify.");
  if ((values.org !== undefined) === values.system)
    throw new UsageError("Give --org ORG, or --system for what concerns all orgs.");
  const limit = Number(values.limit ?? LIST_DEFAULT);
  if (!Number.isInteger(limit) || limit < 1)
    throw new UsageError("--limit must be a whole number from 1.");
  const place = values.system ? "system" : `orgs/${encodeURIComponent(values.org ?? "")}`;
  const client = createApiClient(await findApi(apiHintsOf(values, io.env)));
  try {
    const found = await readEntries(client, `/analytics/v1/${place}/audit`, limit);
    if (values.json) io.stdout.write(`${JSON.stringify({ items: found.entries })}\n`);
    else printEntries(found, limit, io);
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof ApiProblem) || error.status !== 404) throw error;
    io.stderr.write(`${error.message}\n`);
    return EXIT.failed;
  }
}

async function readEntries(
  client: ApiClient,
  path: string,
  limit: number,
): Promise<{ entries: Entry[]; isMore: boolean }> {
  const entries: Entry[] = [];
  let cursor: string | undefined;
  for (;;) {
    const query = { cursor, limit: String(Math.min(PAGE_MAX, limit - entries.length)) };
    const answer = await client.request({ method: "GET", path, query }, page);
    entries.push(...answer.items);
    if (answer.nextCursor === null) return { entries, isMore: false };
    if (entries.length >= limit) return { entries, isMore: true };
    cursor = answer.nextCursor;
  }
}

const ENTRY_COLUMNS = [
  { title: "no", isNumeric: true },
  ...["at", "who", "did", "to what", "details"].map((title) => ({ title })),
];

function printEntries(
  { entries, isMore }: { entries: readonly Entry[]; isMore: boolean },
  limit: number,
  io: CommandIo,
): void {
  if (entries.length === 0) {
    io.stdout.write("Nothing was recorded.\n");
    return;
  }
  const rows = entries.map((one) => [
    String(one.seq),
    one.at,
    one.actorName === null || one.actorName === one.actor
      ? one.actor
      : `${one.actorName} (${one.actor})`,
    one.action,
    one.target ?? "",
    one.details === null ? "" : JSON.stringify(one.details),
  ]);
  io.stdout.write(formatTable(ENTRY_COLUMNS, rows));
  if (isMore) io.stderr.write(`There are more; --limit ${limit * 10} shows them.\n`);
}
