import { z } from "zod";
import type { App } from "#app";
import { loadConfig, type LoadedConfig } from "#config";
import { createLogger, OperatorError, sleepMs, systemClock } from "#kernel";
import { createApiClient, type ApiClient } from "./api-client.ts";
import { parseArguments } from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { describeSample } from "./demo/guide.ts";
import { createDemoOrgs, type DemoDeps, loadHistory, runLive } from "./demo/load.ts";
import { type DemoMarker, findMarker, writeMarker } from "./demo/marker.ts";
import { SLOT_MS } from "./demo/rhythm.ts";
import { createTraffic } from "./demo/traffic.ts";
import { DEMO_ORGS } from "./demo/world.ts";
import { createProgress } from "./progress.ts";
import { announce, openService, stopService } from "./start.ts";
import { formatNumber } from "./table.ts";

const usage = `tallystick demo [options]

Starts the service with sample data: 8 orgs, 12 models, a month of history with an error incident and a latency
incident, then live traffic until stopped. The data is loaded through the API like any other. A second start on the
same data directory keeps what is there and sends what happened since.

  --port N            port of the HTTP API (default: PORT, else 8080; 0 takes any free one)
  --data-dir DIR      data directory (default: DATA_DIR, else ./.tallystick); one without other data
  --seed N            another sample (default 1); the same number makes the same sample
  --days N            days of history, 1 to the raw retention (default 30)
  --rate N            calls a second on average (default 50)
  --json              print where it listens, what was loaded, and that live traffic begins, as lines of JSON

Exit code: 0 stopped as asked, 2 wrong arguments or settings, 3 database, disk or port in the way, 130 stopped while loading.
`;

const OPTIONS = {
  port: { type: "string" },
  "data-dir": { type: "string" },
  seed: { type: "string", default: "1" },
  days: { type: "string", default: "30" },
  rate: { type: "string", default: "50" },
  json: { type: "boolean", default: false },
} as const;

const DAY_MS = 86_400_000;
const ANSWERS_MS_MAX = 120_000;
const POLL_MS = 200;
const MARK_MS = 10_000;

/** `demo`: see its usage. */
export const demoCommand: Command = {
  name: "demo",
  summary: "Start the service with sample data and live traffic",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    if (positionals.length > 0) throw new UsageError("demo takes options only.");
    const loaded = loadConfig(io.env, { PORT: values.port, DATA_DIR: values["data-dir"] });
    const wanted = parseSample(values, loaded);
    // Lines of log between the progress help nobody who looks at a demo.
    const logger = createLogger(loaded.given.has("LOG_LEVEL") ? loaded.config.logLevel : "warn");
    const app = await openService(loaded, logger, io);
    if (app === undefined) return EXIT.interrupted;
    await announce(app, values.json, io);
    let code: number = EXIT.interrupted;
    try {
      await runDemo(
        app,
        wanted,
        { isJson: values.json, retentionDays: loaded.config.rawRetentionDays },
        io,
      );
      code = EXIT.ok;
    } catch (error) {
      if (!io.signal.aborted) throw error;
    } finally {
      const stopped = await stopService(app, {
        logger,
        graceMs: loaded.config.shutdownGraceMs,
        io,
      });
      if (stopped !== EXIT.ok) code = stopped;
    }
    return code;
  },
};

type Sample = Omit<DemoMarker, "coveredUntilMs">;

function parseSample(
  { seed, days, rate }: { seed: string; days: string; rate: string },
  { config }: LoadedConfig,
): Sample {
  const whole = (name: string, text: string, max: number): number => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= 1 && value <= max) return value;
    throw new UsageError(`--${name} must be a whole number from 1 to ${max}.`);
  };
  const length = whole("days", days, config.rawRetentionDays);
  const today = systemClock.now() - (systemClock.now() % DAY_MS);
  return {
    seed: whole("seed", seed, 2 ** 31 - 1),
    days: length,
    callsPerSecond: whole("rate", rate, 1000),
    // Today is the last day: the first one is then within the raw retention all the time it takes to load.
    startMs: today - (length - 1) * DAY_MS,
  };
}

type DemoOptions = { isJson: boolean; retentionDays: number };

async function runDemo(
  app: App,
  wanted: Sample,
  options: DemoOptions,
  io: CommandIo,
): Promise<void> {
  const client = createApiClient({ url: app.url, apiKey: app.adminKey.key });
  const known = await findMarker(app.dataDir);
  if (known === undefined) await refuseOtherData(client, app);
  if (known !== undefined && known.seed !== wanted.seed) {
    io.stderr.write(`${app.dataDir} holds the sample of seed ${known.seed}; it is kept.\n`);
  }
  const sample: DemoMarker = known ?? { ...wanted, coveredUntilMs: null };
  const clock = systemClock;
  const progress = createProgress(io, clock);
  const traffic = createTraffic(sample);
  const deps: DemoDeps = { client, traffic, clock, progress, signal: io.signal, random: io.random };

  await writeMarker(app.dataDir, sample);
  await createDemoOrgs(client);
  const range = missingRange(sample, clock.now(), options.retentionDays);
  if (range !== undefined) await load(deps, range, options, io);
  await writeMarker(app.dataDir, { ...sample, coveredUntilMs: clock.now() });
  if (options.isJson) {
    io.stdout.write(`${JSON.stringify({ live: { callsPerSecond: sample.callsPerSecond } })}\n`);
  } else {
    io.stdout.write(
      `\n${describeSample({ ...sample, url: app.url, keyFile: app.adminKey.file, incidents: traffic.incidents })}`,
    );
    io.stdout.write(
      `\nLive traffic of about ${sample.callsPerSecond} calls a second runs until Ctrl-C.\n`,
    );
  }

  let markedMs = clock.now();
  let coveredUntilMs = markedMs;
  await runLive(deps, async (untilMs) => {
    coveredUntilMs = untilMs;
    if (untilMs - markedMs < MARK_MS) return;
    markedMs = untilMs;
    await writeMarker(app.dataDir, { ...sample, coveredUntilMs });
  });
  await writeMarker(app.dataDir, { ...sample, coveredUntilMs });
}

/** Sample orgs beside real ones would spoil the system's totals. */
async function refuseOtherData(client: ApiClient, app: App): Promise<void> {
  const answer = z.object({ orgs: z.array(z.object({ orgId: z.string() })) });
  const { orgs } = await client.request(
    { method: "GET", path: "/analytics/v1/system/freshness" },
    answer,
  );
  if (orgs.length === 0) return;
  throw new OperatorError(
    `${app.dataDir} holds other data already (org ${orgs[0]?.orgId} for one). Choose another folder with --data-dir: the sample of ${DEMO_ORGS.length} orgs does not go with it.`,
  );
}

/** The whole quarters of an hour whose traffic was not sent yet, as far as single events of that age are taken. */
function missingRange(
  sample: DemoMarker,
  nowMs: number,
  retentionDays: number,
): { fromMs: number; untilMs: number } | undefined {
  const oldest = nowMs - (nowMs % DAY_MS) - (retentionDays - 1) * DAY_MS;
  const next =
    sample.coveredUntilMs === null
      ? sample.startMs
      : Math.ceil(sample.coveredUntilMs / SLOT_MS) * SLOT_MS;
  const fromMs = Math.max(next, oldest);
  return fromMs < nowMs ? { fromMs, untilMs: nowMs } : undefined;
}

async function load(
  deps: DemoDeps,
  range: { fromMs: number; untilMs: number },
  options: DemoOptions,
  io: CommandIo,
): Promise<void> {
  const { progress, clock, client, signal } = deps;
  const { counted, expected, seconds } = await loadHistory(deps, range);
  progress.clear();
  const speed = Math.round(expected.sent / Math.max(seconds, 0.001));
  io.stderr.write(
    `${formatNumber(expected.sent)} sample events sent in ${formatNumber(seconds)} s (${formatNumber(speed)}/s): ` +
      `${formatNumber(counted.accepted)} accepted, ${formatNumber(counted.duplicate)} duplicate, ` +
      `${formatNumber(counted.conflict)} conflict, ${formatNumber(counted.rejected)} rejected\n`,
  );
  io.stderr.write("Adding them up …\n");
  const sentMs = clock.now();
  const consumer = z.object({ completeThrough: z.iso.datetime().nullable() });
  const freshness = z.object({ consumers: z.object({ usage: consumer, people: consumer }) });
  for (const endMs = sentMs + ANSWERS_MS_MAX; clock.now() < endMs; await sleepMs(POLL_MS, signal)) {
    const { consumers } = await client.request(
      { method: "GET", path: "/analytics/v1/system/freshness" },
      freshness,
    );
    const through = Object.values(consumers).map(({ completeThrough }) =>
      Date.parse(completeThrough ?? ""),
    );
    if (through.every((ms) => ms >= sentMs)) break;
  }
  const answersSeconds = (clock.now() - sentMs) / 1000;
  io.stderr.write(`All of them are in the answers ${formatNumber(answersSeconds)} s later.\n`);
  if (options.isJson) {
    const { cells: _cells, ...sent } = expected;
    io.stdout.write(
      `${JSON.stringify({ loaded: { ...range, expected: sent, counted, seconds, answersSeconds } })}\n`,
    );
  }
}
