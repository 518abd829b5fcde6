import { replayStream, type ReplayOrder, type ReplayProgress, type ReplayReport } from "#app";
import { loadConfig } from "#config";
import { createLogger, systemClock } from "#kernel";
import { findTime, parseArguments } from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { createProgress } from "./progress.ts";
import { formatCount, formatNumber } from "./table.ts";

const usage = `tallystick replay --source stream/NAME --from OFFSET|TIME|first [options]

Takes a stream of RABBITMQ_URL in once more, up to the last message it holds when the command begins: what was counted
is recognised as a duplicate, what is missing is counted. Safe to interrupt and to repeat; the service may be running or
not, and goes on where it is.

  --source S          stream/NAME: a stream, a super stream (all its partitions), or one partition
  --from WHERE        first, an offset, or a time: 2026-11-20 or 2026-11-20T10:00:00Z
  --to OFFSET         last offset (default: the last there is)
  --backfill          let events older than the raw retention through
  --data-dir DIR      data directory (default: DATA_DIR, else ./.tallystick); DATABASE_URL, when set, comes first
  --json              print the answer as JSON

Exit code: 0 every event is counted, 1 some were refused, 2 wrong arguments, 3 broker, stream or database cannot be
reached, 130 stopped.
`;

const OPTIONS = {
  source: { type: "string" },
  from: { type: "string" },
  to: { type: "string" },
  backfill: { type: "boolean", default: false },
  "data-dir": { type: "string" },
  json: { type: "boolean", default: false },
} as const;

/** `replay`: see its usage. */
export const replayCommand: Command = {
  name: "replay",
  summary: "Take the events of a stream in once more",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    if (positionals.length > 0) throw new UsageError("replay takes options only.");
    const order = parseOrder(values);
    const { config } = loadConfig(io.env, { DATA_DIR: values["data-dir"] });
    const progress = createProgress(io, systemClock);
    const startedMs = systemClock.now();
    const elapsedSeconds = (): number => (systemClock.now() - startedMs) / 1000;
    try {
      const report = await replayStream(config, order, {
        logger: createLogger(config.logLevel === "info" ? "warn" : config.logLevel),
        clock: systemClock,
        random: io.random,
        signal: io.signal,
        onProgress: (step) => progress.note(`${step} …`),
        onTrouble: (trouble) => progress.note(`${trouble} Trying again.`),
        onReplayed: (state) => progress.show(describeProgress(state, elapsedSeconds())),
      });
      progress.clear();
      printReport(report, { isJson: values.json, seconds: elapsedSeconds(), order }, io);
      if (report.failure !== null) throw report.failure;
      if (report.isInterrupted) return EXIT.interrupted;
      return report.conflict + report.rejected > 0 ? EXIT.failed : EXIT.ok;
    } finally {
      progress.clear();
    }
  },
};

function parseOrder(values: {
  source?: string | undefined;
  from?: string | undefined;
  to?: string | undefined;
  backfill: boolean;
}): ReplayOrder {
  const stream = /^stream\/(.+)$/.exec(values.source ?? "")?.[1];
  if (stream === undefined)
    throw new UsageError("--source must name a stream: stream/analytics.usage.v1, for example.");
  const from = parseStart(values.from);
  const toOffset = values.to === undefined ? undefined : findOffset(values.to);
  if (values.to !== undefined && toOffset === undefined)
    throw new UsageError("--to must be an offset: a whole number.");
  if (typeof from === "number" && toOffset !== undefined && toOffset < from)
    throw new UsageError("--to must not be before --from.");
  return { stream, from, toOffset, backfill: values.backfill };
}

function parseStart(text: string | undefined): ReplayOrder["from"] {
  if (text === "first") return text;
  const offset = findOffset(text ?? "");
  if (offset !== undefined) return offset;
  const timeMs = findTime(text ?? "");
  if (timeMs === undefined)
    throw new UsageError(
      "--from must be first, an offset, a day (2026-11-20) or a time with its zone (2026-11-20T10:00:00Z).",
    );
  return { timeMs };
}

const findOffset = (text: string): number | undefined =>
  /^\d{1,15}$/.test(text) ? Number(text) : undefined;

function describeProgress(
  { events, offsetsDone, offsets, lastOffset }: ReplayProgress,
  seconds: number,
): { done: number; total: number; text: string } {
  const speed = seconds > 0.5 ? ` (${formatNumber(Math.round(events / seconds))}/s)` : "";
  const text = `offset ${lastOffset} · ${formatNumber(events)} events${speed}`;
  return { done: offsetsDone, total: offsets, text };
}

function printReport(
  report: ReplayReport,
  how: { isJson: boolean; seconds: number; order: ReplayOrder },
  io: CommandIo,
): void {
  const { failure, isInterrupted, ...figures } = report;
  const isComplete = failure === null && !isInterrupted;
  if (how.isJson) {
    const seconds = Math.round(how.seconds * 1000) / 1000;
    io.stdout.write(`${JSON.stringify({ ...figures, seconds, complete: isComplete })}\n`);
  } else {
    io.stdout.write(summaryOf(report, how.seconds));
  }
  for (const { stream, fromOffset, toOffset } of report.gaps)
    io.stderr.write(
      `${stream}: offsets ${fromOffset} to ${toOffset} are not in the stream any more: its retention deleted them.\n`,
    );
  const refused = report.conflict + report.rejected;
  if (refused > 0)
    io.stderr.write(
      `Kept for you to look at: ${formatCount(refused, "event")}; see "tallystick quarantine list --org ORG".\n`,
    );
  if (report.tooOld > 0 && !how.order.backfill)
    io.stderr.write(
      `Older than single events are kept: ${formatCount(report.tooOld, "event")}. To load such history on purpose, run the same command with --backfill.\n`,
    );
  if (!isComplete)
    io.stderr.write(
      "Not everything was read. Repeating the same command is safe: events counted already are recognised.\n",
    );
}

function summaryOf(report: ReplayReport, seconds: number): string {
  const streams = report.streams.map(({ stream, fromOffset, throughOffset }) =>
    fromOffset === null || throughOffset === null
      ? `  ${stream}: nothing in this range\n`
      : `  ${stream}: offsets ${fromOffset} to ${throughOffset}\n`,
  );
  const counts = (["accepted", "duplicate", "conflict", "rejected"] as const).map(
    (status) => `${formatNumber(report[status])} ${status}`,
  );
  const speed = seconds > 0 ? ` (${formatNumber(Math.round(report.events / seconds))}/s)` : "";
  return `${formatCount(report.events, "event")} in ${formatNumber(seconds)} s${speed}: ${counts.join(", ")}\n${streams.join("")}`;
}
