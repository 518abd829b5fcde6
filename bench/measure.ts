import { readdirSync, readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** The middle of the values (of an even number of them, the mean of the two in the middle). Throws on none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  if (low === undefined || high === undefined) throw new RangeError("no values");
  return (low + high) / 2;
}

/** The value at or below which a share `q` (0 … 1) of the values lies: nearest rank. Throws on none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = Float64Array.from(values).sort();
  const value = sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
  if (value === undefined) throw new RangeError("no values");
  return value;
}

/** Seconds that `work` took, by a clock that nothing sets. */
export async function timeSeconds(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1000;
}

/** CPU time used so far by each part, µs; null where it is no process of its own or cannot be read. */
export type CpuReading = { nodeUs: number; rollupUs: number | null; postgresUs: number | null };

/** CPU time between two readings, µs. */
export const cpuBetween = (from: CpuReading, to: CpuReading): CpuReading => ({
  nodeUs: to.nodeUs - from.nodeUs,
  rollupUs: to.rollupUs === null || from.rollupUs === null ? null : to.rollupUs - from.rollupUs,
  postgresUs:
    to.postgresUs === null || from.postgresUs === null ? null : to.postgresUs - from.postgresUs,
});

/** CPU time of this process with all its threads, µs. */
export function readOwnCpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Linux counts CPU time in hundredths of a second, whatever the kernel's own tick. */
const TICK_US = 10_000;

type ProcessStat = { parentPid: number; ownUs: number; reapedUs: number };

/**
 * CPU time of a PostgreSQL server, µs: the postmaster, its living children, and those it has reaped. Null where
 * there is no /proc. Ticks of 10 ms: measure over seconds.
 */
export function readPostgresCpuUs(postmasterPid: number): number | null {
  const postmaster = readStat(postmasterPid);
  if (!postmaster) return null;
  let totalUs = postmaster.ownUs + postmaster.reapedUs;
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    const stat = Number.isInteger(pid) ? readStat(pid) : undefined;
    if (stat?.parentPid === postmasterPid) totalUs += stat.ownUs + stat.reapedUs;
  }
  return totalUs;
}

/** CPU time of a process with all its threads and the children it has reaped, µs. Null where there is no /proc. */
export function readProcessCpuUs(pid: number): number | null {
  const stat = readStat(pid);
  return stat ? stat.ownUs + stat.reapedUs : null;
}

/** Memory of a process that is resident now, and the most that ever was, bytes. Undefined where there is no /proc. */
export function readMemory(pid: number): { residentBytes: number; peakBytes: number } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/status`, "latin1");
  } catch {
    return undefined;
  }
  const kib = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
  return { residentBytes: kib("VmRSS") * 1024, peakBytes: kib("VmHWM") * 1024 };
}

/** A process's line in /proc; undefined when it is gone. */
function readStat(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The second field is the program's name in brackets and may hold anything, spaces too.
  const fields = text
    .slice(text.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
  const ticks = (at: number): number => fields[at] ?? 0;
  return {
    parentPid: ticks(1),
    ownUs: (ticks(11) + ticks(12)) * TICK_US,
    reapedUs: (ticks(13) + ticks(14)) * TICK_US,
  };
}

/** Memory of this process outside the heap that something still holds, bytes: buffers and typed arrays. */
export function readHeldBufferBytes(): number {
  setFlagsFromString("--expose-gc");
  const collectGarbage: unknown = runInNewContext("gc");
  // Twice: what the first finds of buffers is let go of in the background.
  for (let n = 0; n < 2; n++) if (typeof collectGarbage === "function") collectGarbage();
  return process.memoryUsage().arrayBuffers;
}
