import { setTimeout as delay } from "node:timers/promises";

/**
 * Resolves with the first value of `condition` that is neither undefined nor false; an error it throws counts as
 * "not yet". After `msMax` (default 10 s) throws, with what was seen last.
 */
export async function waitFor<T>(
  condition: () => T | undefined | false | Promise<T | undefined | false>,
  options: { msMax?: number; what?: string } = {},
): Promise<T> {
  const until = performance.now() + (options.msMax ?? 10_000);
  let last: unknown;
  do {
    try {
      const value = await condition();
      if (value !== undefined && value !== false) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    await delay(20);
  } while (performance.now() < until);
  throw new Error(`waited in vain for ${options.what ?? "a condition"}: ${String(last)}`, {
    cause: last,
  });
}
