import { verifyDatabase, type VerifyProgress, type VerifyReport } from "#app";
import { loadConfig } from "#config";
import { createLogger, systemClock } from "#kernel";
import { parseArguments, parseTime } from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { createProgress } from "./progress.ts";
import { formatCount, formatNumber, formatTable } from "./table.ts";

const usage = `tallystick verify [options]

Compares all that is stored with itself: the delivery ledger, the raw events, the keys that recognise duplicates, and
every rollup, latency bins included. Where RABBITMQ_URL names a broker that can be reached, streams are read once more
from their first message up to where they were consumed, and compared with what was counted. Names each difference with
org, hour, source and both figures. Reads only; the service may be running (the comparison rests on one snapshot) or not.

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
          onVerified: (state) => progress.show(describeProgress(state)),
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

function describeProgress(state: VerifyProgress): { done: number; total: number; text: string } {
  if ("days" in state) {
    const { daysDone: done, days: total } = state;
    return {
      done,
      total,
      text: `${formatNumber(done)} of ${formatCount(total, "day")} compared`,
    };
  }
  const { stream, offsetsDone: done, offsets: total } = state;
  return { done, total, text: `${stream}: ${formatNumber(done)} of ${formatNumber(total)} read` };
}

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

/** What is compared, by the name that differences carry. */
const CHECKS = [
  { name: "ledger", title: "ledger and raw events" },
  { name: "ledger_batches", title: "ledger and committed batches" },
  { name: "keys", title: "raw events and their keys" },
  { name: "key_count", title: "number of keys" },
  { name: "rollup_", title: "rollups and raw events" },
  { name: "stream", title: "streams and committed batches" },
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
  if ((report.from === null || report.to === null) && report.differenceCount === 0) {
    io.stdout.write("There is nothing to compare yet.\n");
    return;
  }
  const days = [report.from, report.to].map((time) => time?.slice(0, 10) ?? "–").join(" to ");
  io.stdout.write(
    `${days}, ${formatCount(report.daysChecked, "day")} (UTC), compared in ${formatNumber(seconds)} s\n`,
  );
  printChecks(report, io);
  printStreams(report, io);
  printDifferences(report, io);
}

function printChecks(report: VerifyReport, io: CommandIo): void {
  for (const { name, title } of CHECKS) {
    if (name === "stream" && report.streams.length === 0) continue;
    const made = report.checks.filter(({ check }) =>
      name.endsWith("_") ? check.startsWith(name) : check === name,
    );
    const found = made.reduce((sum, { differences: count }) => sum + count, 0);
    const mark = made.length === 0 ? "–" : found === 0 ? "✓" : "✗";
    const result =
      made.length === 0
        ? `: ${name === "stream" ? "not compared" : "cannot be told for this range"}`
        : found === 0
          ? ""
          : `: ${formatCount(found, "difference")}`;
    io.stdout.write(`${mark} ${title}${result}\n`);
  }
}

/** How far each stream was compared. */
function printStreams({ streams }: VerifyReport, io: CommandIo): void {
  for (const check of streams) {
    const how = check.compared
      ? `${formatCount(check.events, "event")}, offsets ${check.fromOffset} to ${check.toOffset}`
      : `not compared. ${check.reason}`;
    io.stdout.write(`  ${check.stream}: ${how}\n`);
  }
}

function printDifferences({ differences, differenceCount }: VerifyReport, io: CommandIo): void {
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
