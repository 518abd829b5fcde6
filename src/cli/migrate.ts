import { migrateDatabase } from "#app";
import { loadConfig } from "#config";
import { createLogger, systemClock } from "#kernel";
import { parseArguments } from "./arguments.ts";
import { EXIT, UsageError, type Command } from "./command.ts";

const usage = `tallystick migrate [options]

Brings the database's schema up to date and ends. \`start\` does the same first; this is for doing it at a time of your
own. Several at once wait for each other; a killed one can be run again. Migrations are never undone.

  --data-dir DIR      data directory (default: DATA_DIR, else ./.tallystick)
  --json              print the answer as JSON

Exit code: 0 up to date, 2 wrong arguments or settings, 3 the database cannot be used.
`;

const OPTIONS = {
  "data-dir": { type: "string" },
  json: { type: "boolean", default: false },
} as const;

/** `migrate`: see its usage. */
export const migrateCommand: Command = {
  name: "migrate",
  summary: "Bring the database's schema up to date",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    if (positionals.length > 0) throw new UsageError("migrate takes options only.");
    const { config } = loadConfig(io.env, { DATA_DIR: values["data-dir"] });
    const { applied, version, explanation } = await migrateDatabase(config, {
      logger: createLogger(config.logLevel === "info" ? "warn" : config.logLevel),
      clock: systemClock,
      random: io.random,
      onProgress: (step) => void io.stderr.write(`${step} …\n`),
      signal: io.signal,
    });
    if (values.json) {
      io.stdout.write(
        `${JSON.stringify({ applied, state: version.state, schemaVersion: version.schemaVersion })}\n`,
      );
      return EXIT.ok;
    }
    for (const name of applied) io.stdout.write(`applied ${name}\n`);
    io.stdout.write(`${explanation}\n`);
    return EXIT.ok;
  },
};
