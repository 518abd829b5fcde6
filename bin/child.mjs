import { spawn } from "node:child_process";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];

/**
 * Runs a program on this terminal and resolves with how it ended: { code, signal }. Signals that reach this process
 * meanwhile do not end it: they are passed on, except that `interrupts: "terminal"` keeps Ctrl-C to itself, for
 * programs that receive it from the terminal anyway and would take a second one for impatience.
 */
export function runOnTerminal(command, args, { env, cwd, interrupts = "forward" }) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: "inherit", env, cwd });
    const forward = (signal) => {
      if (signal !== "SIGINT" || interrupts === "forward") child.kill(signal);
    };
    for (const signal of SIGNALS) process.on(signal, forward);
    const release = () => {
      for (const signal of SIGNALS) process.off(signal, forward);
    };
    child.on("error", (error) => {
      release();
      reject(error);
    });
    child.on("close", (code, signal) => {
      release();
      resolve({ code, signal });
    });
  });
}

/** Ends this process the way the child ended: with its exit code, or by the same signal. */
export function exitLike({ code, signal }) {
  if (signal === null) process.exit(code ?? 1);
  process.kill(process.pid, signal);
}

/**
 * Runs a program out of sight and resolves with { code, output }: its exit code, or the reason it did not start
 * ("ENOENT"), and the end of what it printed. When this process is told to stop, so is the program, and then this
 * process ends by the same signal.
 */
export function runQuietly(command, args, { env, cwd }) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env, cwd });
    let output = "";
    const keep = (text) => {
      output = (output + text).slice(-OUTPUT_CHARS_MAX);
    };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", keep);
    let stoppedBy = null;
    const stop = (signal) => {
      stoppedBy = signal;
      child.kill(signal);
    };
    for (const signal of SIGNALS) process.on(signal, stop);
    const finish = (code) => {
      for (const signal of SIGNALS) process.off(signal, stop);
      if (stoppedBy !== null) process.kill(process.pid, stoppedBy);
      else resolve({ code, output });
    };
    child.on("error", (error) => finish(error.code));
    child.on("close", (code, signal) => finish(code ?? signal));
  });
}

/** Runs a program and resolves with { code, stdout }, its standard output as one text; its standard error is ours. */
export function runForText(command, args, { env, cwd }) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"], env, cwd });
    let stdout = "";
    child.stdout.setEncoding("utf8").on("data", (text) => {
      stdout += text;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, stdout }));
  });
}

const OUTPUT_CHARS_MAX = 20_000;

/** Copies of one signal within this time are one request, ms. */
const SAME_REQUEST_MS = 500;

/**
 * Makes a request to stop arrive once. Ctrl-C reaches every process of the terminal's group, and both npm and a
 * launcher on an older Node.js pass on what they get; a service manager may signal a whole group as well. Without this
 * the copies would look like a second, impatient request, and cut an orderly shutdown short.
 */
export function countSignalsOnce(target = process, now = () => performance.now()) {
  const emit = target.emit;
  let lastAt = Number.NEGATIVE_INFINITY;
  target.emit = function emitOnce(name, ...args) {
    if (SIGNALS.includes(name)) {
      const at = now();
      if (at - lastAt < SAME_REQUEST_MS) return true;
      lastAt = at;
    }
    return emit.call(this, name, ...args);
  };
}
