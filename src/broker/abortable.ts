import { createDeferred } from "./deferred.ts";

/** `work`, or a rejection with the signal's reason as soon as that is aborted; then `undo` gets what comes late. */
export async function orAborted<T>(
  work: Promise<T>,
  signal: AbortSignal,
  undo?: (late: T) => Promise<void>,
): Promise<T> {
  const aborted = createDeferred<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } catch (error) {
    if (signal.aborted) void work.then(undo, () => undefined).catch(() => undefined);
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
