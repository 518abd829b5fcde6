import { readFileSync } from "node:fs";

/** Whether a process of this id runs (of any user). A zombie, dead but not collected, counts as gone. */
export function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (!isPermissionError(error)) return false;
  }
  const stat = readProcessStat(pid);
  return stat === undefined || !["Z", "X"].includes(stat[0] ?? "");
}

/**
 * When a process started, in a form only good for comparing: ids are used again, most of all in containers, and the
 * start tells two bearers apart. "" where the system does not say (no /proc).
 */
export const processStart = (pid: number): string => readProcessStat(pid)?.[19] ?? "";

/** Command line of a process, or undefined where the system does not say. */
export function commandLineOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return undefined;
  }
}

/** Fields of /proc/<pid>/stat from the third (state) on; the second may hold blanks and is cut off. */
function readProcessStat(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}

const isPermissionError = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "EPERM";
