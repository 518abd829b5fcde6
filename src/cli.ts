import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import manifest from "../package.json" with { type: "json" };
import { ConfigError } from "#config";
import { findClosest, OperatorError } from "#kernel";
import { EXIT, UsageError, type Command, type CommandIo } from "./cli/command.ts";

/** Every command, loaded when it is needed. */
const COMMANDS = new Map<string, () => Promise<Command>>([
  ["start", async () => (await import("./cli/start.ts")).startCommand],
  ["demo", async () => (await import("./cli/demo.ts")).demoCommand],
  ["migrate", async () => (await import("./cli/migrate.ts")).migrateCommand],
  ["import", async () => (await import("./cli/import.ts")).importCommand],
  ["replay", async () => (await import("./cli/replay.ts")).replayCommand],
  ["verify", async () => (await import("./cli/verify.ts")).verifyCommand],
  ["orgs", async () => (await import("./cli/orgs.ts")).orgsCommand],
  ["keys", async () => (await import("./cli/keys.ts")).keysCommand],
  ["models", async () => (await import("./cli/models.ts")).modelsCommand],
  ["budgets", async () => (await import("./cli/budgets.ts")).budgetsCommand],
  ["prices", async () => (await import("./cli/prices.ts")).pricesCommand],
  ["rerate", async () => (await import("./cli/rerate.ts")).rerateCommand],
  ["sign-in-link", async () => (await import("./cli/sign-in-link.ts")).signInLinkCommand],
  ["quarantine", async () => (await import("./cli/quarantine.ts")).quarantineCommand],
  ["audit", async () => (await import("./cli/audit.ts")).auditCommand],
  ["config", async () => (await import("./cli/config.ts")).configCommand],
  ["doctor", async () => (await import("./cli/doctor.ts")).doctorCommand],
]);

/** Runs one command line and resolves to the exit code; every failure is told on standard error in its own words. */
async function main([name, ...args]: readonly string[], io: CommandIo): Promise<number> {
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    const load = args[0] === undefined ? undefined : COMMANDS.get(args[0]);
    (name === undefined ? io.stderr : io.stdout).write(
      load ? (await load()).usage : await formatHelp(),
    );
    return name === undefined ? EXIT.usage : EXIT.ok;
  }
  if (name === "--version" || name === "-v" || name === "version") {
    io.stdout.write(`tallystick ${manifest.version}\n`);
    return EXIT.ok;
  }
  const load = COMMANDS.get(name);
  if (load === undefined) {
    const closest = findClosest(name, [...COMMANDS.keys()]);
    const hint = closest ? ` Did you mean "${closest}"?` : "";
    io.stderr.write(`There is no command "${name}".${hint} "tallystick --help" lists them.\n`);
    return EXIT.usage;
  }
  try {
    const command = await load();
    const own = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
    if (own.includes("--help") || own.includes("-h")) {
      io.stdout.write(command.usage);
      return EXIT.ok;
    }
    return await command.run(args, io);
  } catch (error) {
    return explain(error, name, io);
  }
}

function explain(error: unknown, name: string, io: CommandIo): number {
  if (error instanceof UsageError) {
    io.stderr.write(`${error.message}\n"tallystick ${name} --help" tells more.\n`);
    return EXIT.usage;
  }
  if (error instanceof OperatorError) {
    io.stderr.write(`${error.message}\n`);
    return error instanceof ConfigError ? EXIT.usage : EXIT.unavailable;
  }
  if (io.signal.aborted) return EXIT.interrupted;
  io.stderr.write(
    `This should not have happened:\n${error instanceof Error ? error.stack : String(error)}\n`,
  );
  return EXIT.bug;
}

async function formatHelp(): Promise<string> {
  const commands = await Promise.all([...COMMANDS.values()].map((load) => load()));
  const lines = commands.map((command) => `  ${command.name.padEnd(12)} ${command.summary}\n`);
  return `tallystick COMMAND [options]

Usage, cost and reliability analytics for inference platforms.

${lines.join("")}
"tallystick COMMAND --help" tells more about one. Settings are environment variables: see docs/configuration.md.
`;
}

/** First signal: the command is asked to stop. Second: the process ends at once. */
function listenForSignals(): AbortSignal {
  const stopping = new AbortController();
  const names: NodeJS.Signals[] = isHangupIgnored()
    ? ["SIGINT", "SIGTERM"]
    : ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const name of names) {
    process.on(name, () => {
      if (stopping.signal.aborted) process.exit(EXIT.interrupted);
      stopping.abort(new Error(`stopped by ${name}`));
    });
  }
  return stopping.signal;
}

/** Whether whoever started this process wants it to outlive the terminal (nohup). Listening would undo that. */
function isHangupIgnored(): boolean {
  try {
    const [, mask = "0"] =
      /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
    return (BigInt(`0x${mask}`) & 1n) === 1n;
  } catch {
    return false;
  }
}

/** A reader that left (a closed pipe) ends a command quietly; any other trouble with standard output is an error. */
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? EXIT.ok : EXIT.unavailable);
});
process.stderr.on("error", () => undefined); // nobody is left to tell

const code = await main(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  isTty: process.stderr.isTTY,
  random: () => randomInt(2 ** 32) / 2 ** 32,
  signal: listenForSignals(),
});
// Standard output may be a pipe that is still being read; ending now would cut it off.
process.stdout.write("", () => process.exit(code));
