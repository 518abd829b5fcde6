import { openApp, type App } from "#app";
import { loadConfig, type LoadedConfig } from "#config";
import { createLogger, sleepMs, systemClock, type Logger } from "#kernel";
import { parseArguments } from "./arguments.ts";
import { EXIT, UsageError, type Command, type CommandIo } from "./command.ts";

const usage = `tallystick start [options]

Starts the service and stays in the foreground. Ctrl-C or SIGTERM stops it: what was begun is finished first; a second
signal stops it at once. The first start creates the database and the admin key, and prints the key and a link that signs
a browser in, this once.

  --port N            port of the HTTP API (default: PORT, else 8080; 0 takes any free one)
  --data-dir DIR      data directory (default: DATA_DIR, else ./.tallystick)
  --json              print where it listens as one line of JSON

Settings are environment variables: see docs/configuration.md, or \`tallystick config print\`.
Exit code: 0 stopped as asked, 2 wrong arguments or settings, 3 database, disk or port in the way.
`;

const OPTIONS = {
  port: { type: "string" },
  "data-dir": { type: "string" },
  json: { type: "boolean", default: false },
} as const;

/** Without a person watching, whoever balances the load gets this long to see that readiness fails. */
const RETIRED_MS = 500;

/** `start`: see its usage. */
export const startCommand: Command = {
  name: "start",
  summary: "Start the service",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    if (positionals.length > 0) throw new UsageError("start takes options only.");
    const loaded = loadConfig(io.env, { PORT: values.port, DATA_DIR: values["data-dir"] });
    const logger = createLogger(loaded.config.logLevel);
    const app = await openService(loaded, logger, io);
    if (app === undefined) return EXIT.interrupted;
    await announce(app, values.json, io);
    await untilAborted(io.signal);
    return await stopService(app, { logger, graceMs: loaded.config.shutdownGraceMs, io });
  },
};

/** Starts the app with progress on standard error. Resolves to undefined when the person stopped it meanwhile. */
export async function openService(
  { config, warnings }: LoadedConfig,
  logger: Logger,
  io: CommandIo,
): Promise<App | undefined> {
  for (const warning of warnings) logger.warn({ warning }, "Unknown setting");
  try {
    const app = await openApp(config, {
      logger,
      clock: systemClock,
      random: io.random,
      onProgress: (step) => void io.stderr.write(`${step} …\n`),
      signal: io.signal,
    });
    // A second signal ends the process at once; PostgreSQL is then still asked to stop.
    process.once("exit", () => app.abandon());
    return app;
  } catch (error) {
    if (io.signal.aborted) return undefined;
    throw error;
  }
}

/** Says where the service listens; key and sign-in link only at the first start, since terminals are remembered. */
export async function announce(app: App, asJson: boolean, io: CommandIo): Promise<void> {
  const { url, dataDir, adminKey } = app;
  if (asJson) {
    io.stdout.write(
      `${JSON.stringify({ url, pid: process.pid, dataDir, adminKeyFile: adminKey.file })}\n`,
    );
    return;
  }
  io.stdout.write(`Tallystick listens on ${url} (data in ${dataDir})\n`);
  if (!adminKey.isNew) return;
  io.stdout.write(
    `Admin key, shown this once and kept in ${adminKey.file}:\n\n  ${adminKey.key}\n\n`,
  );
  if (app.makeSignInLink === undefined) return;
  io.stdout.write(
    `Sign in with a browser, once and within 15 minutes ("tallystick sign-in-link" makes another):\n\n  ${await app.makeSignInLink()}\n\n`,
  );
}

/** Readiness off, drain, dispose; gives up after the grace period. Resolves to the exit code. */
export async function stopService(
  app: App,
  { logger, graceMs, io }: { logger: Logger; graceMs: number; io: CommandIo },
): Promise<number> {
  logger.info("Stopping: finishing what was begun");
  app.retire();
  if (!io.isTty) await sleepMs(Math.min(RETIRED_MS, graceMs / 10));
  const timeUp = new AbortController();
  const stopped = app[Symbol.asyncDispose]().then(() => EXIT.ok);
  const overdue = sleepMs(graceMs, timeUp.signal).then(
    () => EXIT.failed,
    () => EXIT.ok,
  );
  const code = await Promise.race([stopped, overdue]);
  timeUp.abort();
  if (code === EXIT.failed)
    logger.error({ graceMs }, "The grace period is over: stopping with work unfinished");
  else logger.info("Stopped");
  return code;
}

const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
