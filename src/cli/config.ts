import { loadConfig, printConfig } from "#config";
import { parseArguments } from "./arguments.ts";
import { EXIT, UsageError, type Command } from "./command.ts";

const usage = `tallystick config check|print [options]

check reports every bad setting at once, and unknown variables; print shows the settings in force, secrets blanked.

  --data-dir DIR      data directory (default: DATA_DIR, else ./.tallystick)
  --json              print the answer as JSON

Exit code: 0 all settings can be used, 2 some cannot.
`;

const OPTIONS = {
  "data-dir": { type: "string" },
  json: { type: "boolean", default: false },
} as const;

/** `config`: see its usage. */
export const configCommand: Command = {
  name: "config",
  summary: "Check or print the settings",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    const [action, ...more] = positionals;
    if ((action !== "check" && action !== "print") || more.length > 0) {
      throw new UsageError("Say what to do: config check, or config print.");
    }
    const loaded = loadConfig(io.env, { DATA_DIR: values["data-dir"] });
    const printed = printConfig(loaded);
    for (const warning of loaded.warnings) io.stderr.write(`${warning}\n`);
    if (values.json) {
      const answer =
        action === "print" ? { settings: printed } : { ok: true, warnings: loaded.warnings };
      io.stdout.write(`${JSON.stringify(answer)}\n`);
      return EXIT.ok;
    }
    if (action === "check") {
      const given = printed.filter((item) => !item.isDefault).map((item) => item.name);
      io.stdout.write(
        `All settings can be used (${given.length > 0 ? `given: ${given.join(", ")}` : "all at their defaults"}).\n`,
      );
      return EXIT.ok;
    }
    for (const { name, value, isDefault } of printed) {
      io.stdout.write(`${isDefault ? "# " : ""}${name}=${value}\n`);
    }
    return EXIT.ok;
  },
};
