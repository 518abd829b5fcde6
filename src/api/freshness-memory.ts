import type { Clock } from "#kernel";

/** What an answer said about its own freshness, and when it said it (RFC 3339). */
export type LastKnownFreshness = { completeThrough: string | null; asOf: string };

/**
 * The freshness of each org's last answer, so that even an outage can say how old the newest numbers are.
 * In memory; knows nothing after a restart.
 */
export type FreshnessMemory = {
  remember(orgId: string, completeThrough: string | null): void;
  find(orgId: string): LastKnownFreshness | undefined;
};

/** The name under which system-wide answers are remembered: no org can have it, for `*` is the row of all orgs. */
export const ALL_ORGS_NAME = "*";

export function createFreshnessMemory(clock: Clock, orgsMax: number): FreshnessMemory {
  const byOrg = new Map<string, LastKnownFreshness>();
  return {
    remember: (orgId, completeThrough) => {
      byOrg.delete(orgId);
      byOrg.set(orgId, { completeThrough, asOf: new Date(clock.now()).toISOString() });
      const oldest = byOrg.keys().next();
      if (byOrg.size > orgsMax && oldest.done !== true) byOrg.delete(oldest.value);
    },
    find: (orgId) => byOrg.get(orgId),
  };
}
