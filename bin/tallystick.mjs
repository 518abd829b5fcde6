#!/usr/bin/env node
/**
 * Starts Tallystick from a fresh clone: provides the Node.js it needs, installs its packages, runs the command.
 * Needs nothing installed itself and runs on any Node.js from 18 on. With everything in place it adds nothing but a
 * look at two files.
 */
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { countSignalsOnce, exitLike, runOnTerminal } from "./child.mjs";
import { pathWith, provideNode, providePackages } from "./install.mjs";
import { flagsFor, planNode, SERVICE_ENV } from "./launcher-plan.mjs";
import { LauncherError } from "./progress.mjs";

/** The launcher's own failures end with this, so that they are not taken for a command's answer (the command line says 3 for "something outside is missing or broken" as well). */
const EXIT_UNAVAILABLE = 3;

const self = fileURLToPath(import.meta.url);
const root = dirname(dirname(self));
const args = process.argv.slice(2);

async function launch() {
  const plan = planNode(process);
  const flags = flagsFor(args, process.execArgv);
  const env = { ...(flags.length > 0 && SERVICE_ENV), ...process.env };
  if (plan.kind === "unsupported") throw new LauncherError(plan);
  if (plan.kind === "toolchain") {
    const node = await provideNode(root, plan.toolchain);
    const command = [...flags, self, ...args];
    exitLike(await runOnTerminal(node, command, { env: { ...env, PATH: pathWith(node) } }));
    return;
  }
  await providePackages(root);
  if (args[0] === "dev") {
    const { runDevTask } = await import("./dev.mjs");
    exitLike(await runDevTask(root, args.slice(1)));
    return;
  }
  if (flags.length > 0) {
    exitLike(await runOnTerminal(process.execPath, [...flags, self, ...args], { env }));
    return;
  }
  countSignalsOnce();
  const cli = join(root, "src", "cli.ts");
  process.argv[1] = cli;
  await import(pathToFileURL(cli).href);
}

try {
  await launch();
} catch (error) {
  if (!(error instanceof LauncherError)) throw error;
  process.stderr.write(`tallystick: ${error.message.replaceAll("\n", "\ntallystick: ")}\n`);
  process.exitCode = EXIT_UNAVAILABLE;
}
