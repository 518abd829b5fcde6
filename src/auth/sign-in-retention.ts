import { type Clock, type Logger, sleepMs } from "#kernel";
import { type Database, deleteEndedSignIns, deleteEndedTokenRevocations } from "#store";

export type SignInRetentionDeps = {
  database: Pick<Database, "sql">;
  clock: Clock;
  logger: Logger;
  /** How often, ms; every ten minutes by itself. */
  intervalMs?: number;
};

/** The running deletion. Disposing lets a turn that has begun finish. */
export type SignInRetention = AsyncDisposable & {
  /** One turn, now; tells how many rows went. */
  run(): Promise<number>;
};

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
  const stop = new AbortController();
  let turn: Promise<unknown> = Promise.resolve();
  const run = (): Promise<number> => {
    const result = turn.then(() => deleteEnded(deps, stop.signal));
    turn = result.catch(() => undefined);
    return result;
  };
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await run().catch((error: unknown) =>
        deps.logger.warn({ err: error }, "Expired sign-ins are deleted later"),
      );
      await sleepMs(deps.intervalMs ?? INTERVAL_MS, stop.signal).catch(() => undefined);
    }
  };
  const running = loop();
  return {
    run,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await running;
      await turn;
    },
  };
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
