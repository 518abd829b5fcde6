/** What a command has to do with the world outside. */
export type CommandIo = {
  /** The answer goes here, and nothing else: it may be piped into another program. */
  stdout: { write(text: string): unknown };
  /** Progress, warnings and errors. */
  stderr: { write(text: string): unknown };
  /** The environment variables. */
  env: Readonly<Record<string, string | undefined>>;
  /** Whether a person looks at standard error: progress is redrawn in place only then. */
  isTty: boolean;
  /** 0 ≤ random() < 1: jitter and names, no secrets. */
  random: () => number;
  /** Aborted when the person asks to stop (Ctrl-C, SIGTERM). */
  signal: AbortSignal;
};

/** One command of the command line: `tallystick <name> …`. */
export type Command = {
  name: string;
  /** One line for the list of commands. */
  summary: string;
  /** The whole help text. */
  usage: string;
  /**
   * Runs with the arguments after the name and resolves to the exit code (see EXIT). May throw UsageError or
   * OperatorError, which are printed as they are.
   */
  run(args: readonly string[], io: CommandIo): Promise<number>;
};

/** Exit codes; stable, scripts rely on them. */
export const EXIT = {
  ok: 0,
  /** The command did its work and the answer is no: figures differ, a check failed. */
  failed: 1,
  /** Wrong arguments or settings: nothing was done. */
  usage: 2,
  /** Something outside is missing or broken: database, network, disk, rights. */
  unavailable: 3,
  /** A fault of Tallystick itself; the stack is printed. */
  bug: 70,
  /** Stopped by the person (128 + SIGINT). */
  interrupted: 130,
} as const;

/** Arguments that make no sense; the message says which and why. */
export class UsageError extends Error {}
