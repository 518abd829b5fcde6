import type { Config } from "#config";
import { ALL_HOURS, type StreamCheck, type StreamVerification, verifyStreams } from "#ingest";
import {
  verify,
  type VerifyProgress as StoredProgress,
  type VerifyRange,
  type VerifyReport as StoredReport,
} from "#rollup";
import type { Database } from "#store";
import { awaitBroker, messageSettings, openBroker } from "./broker.ts";
import { reachDatabase } from "./database.ts";
import type { AppDeps } from "./deps.ts";

/** What a verification found. Differences of streams carry the check "stream". */
export type VerifyReport = StoredReport & {
  /** Every stream that was ever consumed: how far it was compared with what was counted, or why it was not. */
  streams: StreamCheck[];
};

/** How far a verification has come: days of what is stored, then offsets of one stream after another. */
export type VerifyProgress =
  | StoredProgress
  | { stream: string; offsetsDone: number; offsets: number };

/** One statement of a verification may take this long: it reads all events of a day. */
const VERIFY_STATEMENT_MS_MAX = 600_000;
const DAY_MS = 86_400_000;
/** The streams are read beside the live consumption: no more than this on its way. */
const PREFETCH_MAX = 5000;

/**
 * Compares all that is stored with itself, and with the streams it was read from where the broker can be reached,
 * whether the service runs or not: the database brought along is started for the time when it does not. Reads only.
 * Throws OperatorError when there is no database, or none of this version.
 */
export async function verifyDatabase(
  config: Config,
  deps: AppDeps,
  { range, onVerified }: { range: VerifyRange; onVerified: (progress: VerifyProgress) => void },
): Promise<VerifyReport> {
  await using scope = new AsyncDisposableStack();
  const patient = { ...config, ownerStatementMsMax: VERIFY_STATEMENT_MS_MAX };
  const database = await reachDatabase(patient, deps, scope);
  const onProgress = (progress: VerifyProgress): void => {
    deps.signal.throwIfAborted();
    onVerified(progress);
  };
  const stored = await verify({ database, clock: deps.clock }, range, onProgress);
  const found = await compareStreams(config, { ...deps, database }, { range, onProgress });
  return merge(stored, found);
}

async function compareStreams(
  config: Config,
  { database, clock, random, signal }: AppDeps & { database: Database },
  { range, onProgress }: { range: VerifyRange; onProgress: (progress: VerifyProgress) => void },
): Promise<StreamVerification> {
  await using scope = new AsyncDisposableStack();
  const { rabbitmqUrl } = config;
  const connection =
    rabbitmqUrl === undefined
      ? { reason: "RABBITMQ_URL is not set." }
      : scope.use(openBroker(rabbitmqUrl, config, random));
  if (!("reason" in connection)) await awaitBroker(connection, signal);
  const prefetch = Math.min(config.streamPrefetch, PREFETCH_MAX);
  const settings = { ...messageSettings(config), prefetch };
  const verifier = { connection, database, clock, settings, onProgress };
  return await verifyStreams(verifier, hoursOf(range), signal);
}

/** The hours of the whole UTC days that a range touches. */
function hoursOf({ fromMs, toMs }: VerifyRange) {
  if (fromMs === undefined && toMs === undefined) return ALL_HOURS;
  const day = (ms: number, round: (days: number) => number): number =>
    (round(ms / DAY_MS) * DAY_MS) / 1000;
  return {
    fromSeconds: fromMs === undefined ? ALL_HOURS.fromSeconds : day(fromMs, Math.floor),
    toSeconds: toMs === undefined ? ALL_HOURS.toSeconds : day(toMs, Math.ceil),
  };
}

function merge(stored: StoredReport, found: StreamVerification): VerifyReport {
  const isCompared = found.streams.some(({ compared }) => compared);
  return {
    ...stored,
    isMatch: stored.isMatch && found.differenceCount === 0,
    checks: isCompared
      ? [...stored.checks, { check: "stream", differences: found.differenceCount }]
      : stored.checks,
    // First: what is wrong where the events came from shows again in what was made of them.
    differences: [...found.differences, ...stored.differences],
    differenceCount: stored.differenceCount + found.differenceCount,
    streams: found.streams,
  };
}
