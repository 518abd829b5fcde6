import { verifyDatabase, type VerifyReport } from "#app";
import { loadConfig } from "#config";
import { createLogger, systemClock } from "#kernel";
import { parseArguments } from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { createProgress } from "./progress.ts";
import { formatCount, formatNumber, formatTable } from "./table.ts";

const usage = `tallystick verify [options]

Compares all that is stored with itself: the delivery ledger, the raw events, the keys that recognise duplicates, and
every rollup, latency bins included. Names each difference with org, hour, source and both figures. Reads only; the
service may be running (the comparison rests on one snapshot) or not.

  --from TIME         from this day on: 2026-11-20 or 2026-11-20T10:00:00Z; whole UTC days are compared (default: all)
  --to TIME           up to and without this time
  --data-dir DIR      data directory (default: DATA_DIR, else ./.tallystick); DATABASE_URL, when set, comes first
  --json              print the answer as JSON

Exit code: 0 everything agrees, 1 something differs, 2 wrong arguments, 3 the database cannot be reached, 130 stopped.
`;

const OPTIONS = {
  from: { type: "string" },
  to: { type: "string" },
  "data-dir": { type: "string" },
  json: { type: "boolean", default: false },
} as const;

/** `verify`: see its usage. */
export const verifyCommand: Command = {
  name: "verify",
  summary: "Compare ledger, raw events, keys and every rollup",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    if (positionals.length > 0) throw new UsageError("verify takes options only.");
    const range = parseRange(values.from, values.to);
    const { config } = loadConfig(io.env, { DATA_DIR: values["data-dir"] });
    const progress = createProgress(io, systemClock);
    const startedMs = systemClock.now();
    try {
      const report = await verifyDatabase(
        config,
        {
          logger: createLogger(config.logLevel === "info" ? "warn" : config.logLevel),
          clock: systemClock,
          random: io.random,
          onProgress: (step) => progress.note(`${step} …`),
          signal: io.signal,
        },
        {
          range,
          onVerified: ({ daysDone, days }) =>
            progress.show({
              done: daysDone,
              total: days,
              text: `${formatNumber(daysDone)} of ${formatCount(days, "day")} compared`,
            }),
        },
      );
      progress.clear();
      if (values.json) io.stdout.write(`${JSON.stringify(report)}\n`);
      else printReport(report, (systemClock.now() - startedMs) / 1000, io);
      return report.isMatch ? EXIT.ok : EXIT.failed;
    } finally {
      progress.clear();
    }
  },
};

function parseRange(
  from: string | undefined,
  to: string | undefined,
): { fromMs?: number; toMs?: number } {
  const range = {
    ...(from === undefined ? {} : { fromMs: parseTime("--from", from) }),
    ...(to === undefined ? {} : { toMs: parseTime("--to", to) }),
  };
  if (range.fromMs !== undefined && range.toMs !== undefined && range.fromMs >= range.toMs) {
    throw new UsageError("--from must be before --to.");
  }
  return range;
}

/** A day, or an instant with its zone: what a clock without a zone means is nobody's to guess. */
function parseTime(option: string, text: string): number {
  const ms = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/.test(text)
    ? Date.parse(text)
    : Number.NaN;
  if (Number.isNaN(ms))
    throw new UsageError(
      `${option} must be a day (2026-11-20) or a time with its zone (2026-11-20T10:00:00Z).`,
    );
  return ms;
}

/** What is compared, by the name that differences carry. */
const CHECKS = [
  { name: "ledger", title: "ledger and raw events" },
  { name: "ledger_batches", title: "ledger and committed batches" },
  { name: "keys", title: "raw events and their keys" },
  { name: "key_count", title: "number of keys" },
  { name: "rollup_", title: "rollups and raw events" },
] as const;

const COLUMNS = [
  { title: "check" },
  { title: "org" },
  { title: "hour" },
  { title: "source" },
  { title: "figure" },
  { title: "expected", isNumeric: true },
  { title: "found", isNumeric: true },
];

function printReport(report: VerifyReport, seconds: number, io: CommandIo): void {
  if (report.from === null || report.to === null) {
    io.stdout.write("There is nothing to compare yet.\n");
    return;
  }
  const { differences, differenceCount } = report;
  io.stdout.write(
    `${report.from.slice(0, 10)} to ${report.to.slice(0, 10)}, ${formatCount(report.daysChecked, "day")} (UTC), compared in ${formatNumber(seconds)} s\n`,
  );
  for (const { name, title } of CHECKS) {
    const made = report.checks.filter(({ check }) =>
      name.endsWith("_") ? check.startsWith(name) : check === name,
    );
    const found = made.reduce((sum, { differences: count }) => sum + count, 0);
    const mark = made.length === 0 ? "–" : found === 0 ? "✓" : "✗";
    const result =
      made.length === 0
        ? ": cannot be told for this range"
        : found === 0
          ? ""
          : `: ${formatCount(found, "difference")}`;
    io.stdout.write(`${mark} ${title}${result}\n`);
  }
  if (differenceCount === 0) {
    io.stdout.write("Everything agrees.\n");
    return;
  }
  const rows = differences.map((one) => [
    one.check,
    one.org,
    one.hour ?? "",
    one.source ?? "",
    one.figure,
    one.expected,
    one.found,
  ]);
  io.stdout.write(`\n${formatTable(COLUMNS, rows)}`);
  const notListed = differenceCount - differences.length;
  io.stdout.write(
    `${formatCount(differenceCount, "difference")}${notListed > 0 ? `, ${formatNumber(notListed)} of them not listed` : ""}.\n`,
  );
}
