/** Places where a fault test may end the process with SIGKILL. Without a setting each is an empty function. */
export const CRASHPOINTS = [
  "after_decode",
  "before_begin",
  "after_keys",
  "after_raw",
  "before_commit",
  "after_commit_before_ack",
  "after_ack",
  "fold_after_read",
  "fold_before_commit",
  "fold_after_commit",
  "migrate_after_step",
  "rerate_before_commit",
  "rerate_after_commit",
  "shutdown_mid_drain",
] as const;
export type Crashpoint = (typeof CRASHPOINTS)[number];
export type Crash = (at: Crashpoint) => void;

export const neverCrash: Crash = () => undefined;

/** Kills this process at the `pass`-th time `name` is reached (1 is the first). */
export function createCrash(name: Crashpoint, pass: number): Crash {
  let left = pass;
  return (at) => {
    if (at === name && --left === 0) process.kill(process.pid, "SIGKILL");
  };
}
