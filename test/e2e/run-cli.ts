import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));

/** How a command ended, and what it wrote. */
export type Ended = { code: number | null; stdout: string; stderr: string };

/** A command while it runs. Disposing kills it when it still does. */
export type RunningCli = AsyncDisposable & {
  readonly ended: Promise<Ended>;
  /** Its standard output so far, in whole lines. */
  readonly lines: readonly string[];
  kill(signal: NodeJS.Signals): void;
};

export type CliOptions = { env?: Record<string, string>; stdin?: string | Buffer };

/** Starts `tallystick …` as a process of its own, with no more environment than given. */
export function startCli(
  args: readonly string[],
  { env = {}, stdin = "" }: CliOptions = {},
): RunningCli {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { PATH: process.env["PATH"], ...env },
  });
  const lines: string[] = [];
  let stderr = "";
  createInterface(child.stdout).on("line", (line) => lines.push(line));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdin.on("error", () => undefined).end(stdin);
  const ended = once(child, "close").then(() => ({
    code: child.exitCode,
    stdout: lines.map((line) => `${line}\n`).join(""),
    stderr,
  }));
  return {
    ended,
    lines,
    kill: (signal) => void child.kill(signal),
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await ended;
    },
  };
}

/** Runs `tallystick …` to its end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<Ended> {
  await using cli = startCli(args, options);
  return await cli.ended;
}
