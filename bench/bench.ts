import type { Clock } from "#kernel";
import type { Report } from "./report.ts";
import type { BenchServer } from "./server.ts";

/** How much each bench does. Events, keys and repetitions are plain numbers, times in seconds. */
export type Size = {
  calibrationEvents: number;
  calibrationRuns: number;
  /** Events sent before the clock starts: they make the dictionary, the partitions and the compiled code. */
  warmUpEvents: number;
  wholePathEvents: number;
  wholePathRuns: number;
  duplicatesEvents: number;
  duplicatesRuns: number;
  ledgerKeys: number;
  ledgerPartitionKeysMax: number;
  ledgerEvents: number;
  ledgerRuns: number;
  httpEvents: number;
  httpRuns: number;
  pacedSeconds: number;
  /** Usual orgs that have hourly and quarter-hourly rows; all of them have daily ones. */
  queryFineOrgs: number;
  queryRepeats: number;
  brokerEvents: number;
  brokerRuns: number;
  brokerBacklogEvents: number;
  brokerPacedSeconds: number;
  naiveEvents: number;
  naiveQueryEvents: number;
};

/** A short run is for a look while working; on two idle cores it takes about seven minutes. */
export const SHORT: Size = {
  calibrationEvents: 300_000,
  calibrationRuns: 3,
  warmUpEvents: 40_000,
  wholePathEvents: 300_000,
  wholePathRuns: 3,
  duplicatesEvents: 150_000,
  duplicatesRuns: 2,
  ledgerKeys: 5_000_000,
  ledgerPartitionKeysMax: 1_200_000,
  ledgerEvents: 150_000,
  ledgerRuns: 2,
  httpEvents: 200_000,
  httpRuns: 2,
  pacedSeconds: 30,
  queryFineOrgs: 20,
  queryRepeats: 15,
  brokerEvents: 300_000,
  brokerRuns: 1,
  brokerBacklogEvents: 1_000_000,
  brokerPacedSeconds: 30,
  naiveEvents: 20_000,
  naiveQueryEvents: 200_000,
};

/** A long run is for the record. An hour or so, most of it for the broker; key partitions have the size they have in production. */
export const LONG: Size = {
  calibrationEvents: 1_000_000,
  calibrationRuns: 5,
  warmUpEvents: 100_000,
  wholePathEvents: 1_000_000,
  wholePathRuns: 3,
  duplicatesEvents: 500_000,
  duplicatesRuns: 3,
  ledgerKeys: 50_000_000,
  ledgerPartitionKeysMax: 12_000_000,
  ledgerEvents: 500_000,
  ledgerRuns: 3,
  httpEvents: 500_000,
  httpRuns: 3,
  pacedSeconds: 180,
  queryFineOrgs: 249,
  queryRepeats: 50,
  brokerEvents: 1_000_000,
  brokerRuns: 3,
  brokerBacklogEvents: 10_000_000,
  brokerPacedSeconds: 900,
  naiveEvents: 100_000,
  naiveQueryEvents: 1_000_000,
};

/** A part of a size, for trying things out; repetitions become one. */
export function scaleSize(size: Size, scale: number): Size {
  if (scale === 1) return size;
  const scaled = { ...size };
  for (const name of Object.keys(size) as (keyof Size)[]) {
    scaled[name] = /Runs$|Repeats$/.test(name) ? 1 : Math.ceil(size[name] * scale);
  }
  return scaled;
}

/** What every bench is given. */
export type Bench = {
  server: BenchServer;
  size: Size;
  clock: Clock;
  report: Report;
  /** Rows per second of the calibration. */
  calibration: number;
  /** Tells whoever waits. */
  say: (text: string) => void;
};
