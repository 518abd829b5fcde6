import { diagnose, type Check } from "#app";
import { loadConfig } from "#config";
import { systemClock } from "#kernel";
import { parseArguments } from "./arguments.ts";
import { EXIT, UsageError, type Command } from "./command.ts";

const usage = `tallystick doctor [options]

Looks at Node.js, disk, data directory, port, identity provider, database (version, rights, time zones), migrations and
row-level security, and says what to do about what is wrong. Changes nothing; the service may be running or not.

  --port N            port the service is to use (default: PORT, else 8080)
  --data-dir DIR      data directory (default: DATA_DIR, else ./.tallystick)
  --json              print the answer as JSON

Exit code: 0 nothing is in the way, 1 something is, 2 wrong arguments or settings.
`;

const OPTIONS = {
  port: { type: "string" },
  "data-dir": { type: "string" },
  json: { type: "boolean", default: false },
} as const;

const MARKS = { ok: "✓", warning: "!", failed: "✗" } as const satisfies Record<
  Check["state"],
  string
>;

/** `doctor`: see its usage. */
export const doctorCommand: Command = {
  name: "doctor",
  summary: "Look for what keeps the service from working",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    if (positionals.length > 0) throw new UsageError("doctor takes options only.");
    const { config, warnings } = loadConfig(io.env, {
      PORT: values.port,
      DATA_DIR: values["data-dir"],
    });
    const settings: Check[] = warnings.map((detail) => ({
      name: "settings",
      state: "warning",
      detail,
    }));
    const checks = [...settings, ...(await diagnose(config, systemClock))];
    const hasFailed = checks.some((check) => check.state === "failed");
    if (values.json) io.stdout.write(`${JSON.stringify({ ok: !hasFailed, checks })}\n`);
    else
      for (const { name, state, detail } of checks)
        io.stdout.write(`${MARKS[state]} ${name.padEnd(18)} ${detail}\n`);
    return hasFailed ? EXIT.failed : EXIT.ok;
  },
};
