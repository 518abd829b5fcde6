import { formatElapsed } from "./launcher-plan.mjs";

/** Ends the launcher with a message for the person in front of it: what happened and what to do. */
export class LauncherError extends Error {
  constructor({ what, todo }) {
    super(`${what}\n${todo}`);
    this.name = "LauncherError";
  }
}

/** How often a line is repeated where it cannot be redrawn (a log), ms. */
const LOG_REPEAT_MS = 15_000;

export const say = (text) => process.stderr.write(`tallystick: ${text}\n`);

/** Shows on standard error what is being done and for how long, until `work` is done. */
export async function withProgress(label, work) {
  const startedAt = Date.now();
  const elapsed = () => formatElapsed(Date.now() - startedAt);
  const isTerminal = process.stderr.isTTY === true;
  const draw = () => process.stderr.write(`\rtallystick: ${label} … ${elapsed()} `);
  if (!isTerminal) say(`${label} …`);
  const timer = isTerminal
    ? setInterval(draw, 200)
    : setInterval(() => say(`${label} … ${elapsed()}`), LOG_REPEAT_MS);
  try {
    const result = await work();
    if (isTerminal) process.stderr.write("\r\u001b[K");
    say(`${label}: done in ${elapsed()}`);
    return result;
  } catch (error) {
    if (isTerminal) process.stderr.write("\r\u001b[K");
    say(`${label}: failed after ${elapsed()}`);
    throw error;
  } finally {
    clearInterval(timer);
  }
}
