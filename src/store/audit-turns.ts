/** Runs work under a key when all that came before it under that key has ended, well or not. */
export type Turns = <T>(key: number, work: () => Promise<T>) => Promise<T>;

/** Waited too long for a turn. `code` is PostgreSQL's for a lock that was not to be had. */
export class TurnOverdue extends Error {
  readonly code = "55P03";
}

/**
 * Turns within this process. Whoever waits for a chain here holds no connection meanwhile: without this, a few readers
 * of one chain would hold all of a pool's while they wait for the lock in the database. Whose turn does not come within
 * `waitMsMax` is refused with TurnOverdue, and the work is never begun.
 */
export function createTurns({ waitMsMax }: { waitMsMax: number }): Turns {
  const last = new Map<number, Promise<void>>();
  return (key, work) =>
    new Promise((resolve, reject) => {
      let isOverdue = false;
      const timer = setTimeout(() => {
        isOverdue = true;
        reject(new TurnOverdue("too many wait for their turn"));
      }, waitMsMax);
      const turn = async (): Promise<void> => {
        await last.get(key);
        clearTimeout(timer);
        if (!isOverdue) await Promise.resolve().then(work).then(resolve, reject);
      };
      const ended: Promise<void> = turn().finally(() => {
        if (last.get(key) === ended) last.delete(key);
      });
      last.set(key, ended);
    });
}
