import { type RowField, ROW_FIELDS, isRowField } from "#app";
import { findClosest, systemClock } from "#kernel";
import { createApiClient, findApi, type ApiHints } from "./api-client.ts";
import { apiHintsOf, parseArguments, SERVICE_OPTIONS, SERVICE_USAGE } from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { openImportFile } from "./import-file.ts";
import { type ImportReport, runImport } from "./import-run.ts";
import { type Format, FORMATS } from "./import-rows.ts";
import { createProgress } from "./progress.ts";
import { formatCount, formatNumber, formatTable } from "./table.ts";

const usage = `tallystick import FILE|- --format FORMAT [options]

Sends the rows of a file, or of standard input (-), to the running service. Repeating the same command is safe: a row
without an id of its own gets one made of the file's content and the row's number, so no row is counted twice.

  --format FORMAT     ndjson, csv or azure-llm-trace
  --org ORG           org_id of rows that do not give one
  --model MODEL       model_id of rows that do not give one
  --set FIELD=VALUE   any other field of rows that do not give it; may be repeated
  --column FIELD=COL  csv: which column holds a field; may be repeated. Columns called like a field need none
  --backfill          let rows older than the raw retention through: history loaded on purpose
${SERVICE_USAGE}
Exit code: 0 every row is counted, 1 some rows were refused, 2 wrong arguments, 3 service or file cannot be reached,
130 stopped.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  format: { type: "string" },
  org: { type: "string" },
  model: { type: "string" },
  set: { type: "string", multiple: true },
  column: { type: "string", multiple: true },
  backfill: { type: "boolean", default: false },
} as const;

/** `import`: rows of a file into the running service. */
export const importCommand: Command = {
  name: "import",
  summary: "Send the events of a file to the running service",
  usage,
  run: async (args, io) => {
    const request = parseRequest(args, io.env);
    const client = createApiClient(await findApi(request.hints));
    const progress = createProgress(io, systemClock);
    try {
      await using file = await openImportFile(request.file, process.stdin, io.signal);
      const report = await runImport({
        ...request,
        file,
        client,
        progress,
        signal: io.signal,
        clock: systemClock,
        random: io.random,
      });
      progress.clear();
      printReport(report, request, io);
      if (report.failure !== null) throw report.failure;
      if (report.isInterrupted) return EXIT.interrupted;
      return report.conflict + report.rejected > 0 ? EXIT.failed : EXIT.ok;
    } catch (error) {
      progress.clear();
      if (!io.signal.aborted) throw error;
      io.stderr.write("Stopped before anything was sent.\n");
      return EXIT.interrupted;
    }
  },
};

type ImportRequest = {
  file: string;
  format: Format;
  columns: ReadonlyMap<RowField, string>;
  defaults: ReadonlyMap<RowField, string>;
  backfill: boolean;
  isJson: boolean;
  hints: ApiHints;
};

function parseRequest(args: readonly string[], env: CommandIo["env"]): ImportRequest {
  const { values, positionals } = parseArguments(args, OPTIONS);
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0)
    throw new UsageError("Name one file, or - for standard input.");
  const format = FORMATS.find((name) => name === values.format);
  if (format === undefined) throw new UsageError(`--format must be one of ${FORMATS.join(", ")}.`);
  const columns = parsePairs("--column", values.column ?? []);
  if (columns.size > 0 && format !== "csv")
    throw new UsageError("--column goes with --format csv only.");

  const defaults = parsePairs("--set", values.set ?? []);
  if (defaults.has("event_id"))
    throw new UsageError("--set event_id would make all rows one event.");
  if (values.org !== undefined) defaults.set("org_id", values.org);
  if (values.model !== undefined) defaults.set("model_id", values.model);
  if (format === "azure-llm-trace" && !(defaults.has("org_id") && defaults.has("model_id"))) {
    throw new UsageError("A trace names no org and no model: give --org and --model.");
  }
  const { backfill, json: isJson } = values;
  return { file, format, columns, defaults, backfill, isJson, hints: apiHintsOf(values, env) };
}

function parsePairs(option: string, pairs: readonly string[]): Map<RowField, string> {
  const parsed = new Map<RowField, string>();
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    const field = pair.slice(0, at);
    if (at < 1 || at === pair.length - 1)
      throw new UsageError(`${option} takes FIELD=VALUE, not "${pair}".`);
    if (!isRowField(field)) {
      const closest = findClosest(field, ROW_FIELDS);
      const hint =
        closest === undefined ? `Fields: ${ROW_FIELDS.join(", ")}.` : `Did you mean ${closest}?`;
      throw new UsageError(`${option}: an event has no field "${field}". ${hint}`);
    }
    if (parsed.has(field)) throw new UsageError(`${option} names ${field} twice.`);
    parsed.set(field, pair.slice(at + 1));
  }
  return parsed;
}

const COLUMNS = [
  { title: "row", isNumeric: true },
  { title: "status" },
  { title: "code" },
  { title: "where" },
  { title: "why" },
];

function printReport(report: ImportReport, request: ImportRequest, io: CommandIo): void {
  const { failure, isInterrupted, ...figures } = report;
  const isComplete = failure === null && !isInterrupted;
  if (request.isJson) {
    const { file, format, backfill } = request;
    io.stdout.write(
      `${JSON.stringify({ file, format, backfill, ...figures, complete: isComplete })}\n`,
    );
  } else {
    io.stdout.write(summaryOf(report));
  }
  const notShown = report.conflict + report.rejected - report.refused.length;
  if (report.refused.length > 0 && !request.isJson) {
    const rows = report.refused.map(({ row, status, code, pointer, detail }) => [
      String(row),
      status,
      code,
      pointer,
      detail,
    ]);
    io.stderr.write(formatTable(COLUMNS, rows));
    if (notShown > 0) io.stderr.write(`… and ${formatNumber(notShown)} more.\n`);
  }
  if (report.kept > 0) {
    const org = request.defaults.get("org_id") ?? "ORG";
    io.stderr.write(
      `Kept for you to look at: ${formatCount(report.kept, "row")}; see "tallystick quarantine list --org ${org}".\n`,
    );
  }
  if (report.tooOld > 0) {
    io.stderr.write(
      `Older than single events are kept: ${formatCount(report.tooOld, "row")}. To load such history on purpose, run the same command with --backfill.\n`,
    );
  }
  if (!isComplete) {
    io.stderr.write(
      "Not all rows were sent. Repeating the same command is safe: rows counted already are recognised.\n",
    );
  }
}

function summaryOf(report: ImportReport): string {
  const speed =
    report.seconds > 0
      ? ` in ${formatNumber(report.seconds)} s (${formatNumber(Math.round(report.rows / report.seconds))}/s)`
      : "";
  return (
    `${formatCount(report.rows, "row")}${speed}: ${formatNumber(report.accepted)} accepted, ` +
    `${formatNumber(report.duplicate)} duplicate, ${formatNumber(report.conflict)} conflict, ${formatNumber(report.rejected)} rejected\n`
  );
}
