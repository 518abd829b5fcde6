import { type Clock, type Logger, type Repeating, startRepeating } from "#kernel";
import { type Database, deleteEndedSignIns, deleteEndedTokenRevocations } from "#store";

export type SignInRetentionDeps = {
  database: Pick<Database, "sql">;
  clock: Clock;
  logger: Logger;
  /** How often, ms; every ten minutes by itself. */
  intervalMs?: number;
};

/** The running deletion. A turn tells how many rows went. */
export type SignInRetention = Repeating<number>;

/** Often: everybody can begin a sign-in at the identity provider, and each leaves a row until it has expired. */
const INTERVAL_MS = 600_000;
const ROWS_AT_ONCE = 10_000;
/** A session may outlast the token that it began with: while one may, its subject's revocation is asked for. */
const SESSION_MS_MAX = 31 * 86_400_000;

/**
 * Deletes what nobody can use any more: sessions, links and sign-ins that have expired, revocations when no token and no
 * session can rest on them. Any number of processes may do so at once.
 */
export function startSignInRetention(deps: SignInRetentionDeps): SignInRetention {
  return startRepeating({
    work: (signal) => deleteEnded(deps, signal),
    intervalMs: deps.intervalMs ?? INTERVAL_MS,
    onError: (error) => deps.logger.warn({ err: error }, "Expired sign-ins are deleted later"),
  });
}

async function deleteEnded(
  { database: { sql }, clock }: SignInRetentionDeps,
  signal: AbortSignal,
): Promise<number> {
  const before = new Date(clock.now());
  const at = new Date(clock.now() - SESSION_MS_MAX);
  const limit = ROWS_AT_ONCE;
  let count = 0;
  for (let deleted = -1; deleted !== 0 && !signal.aborted;) {
    const revocations = await deleteEndedTokenRevocations(sql, { at, limit });
    deleted = (await deleteEndedSignIns(sql, { before, limit })) + revocations.length;
    count += deleted;
  }
  return count;
}
