import { ALL_ORGS, type Span } from "#contract";
import {
  type ConsumerProgress,
  listNewestOfAll,
  listNewestOfOrg,
  listReconciliationOfAll,
  listReconciliationOfOrg,
  type Tx,
} from "#store";
import type { Freshness, Reconciliation } from "./answers.ts";

const iso = (instant: Date | null | undefined): string | null => instant?.toISOString() ?? null;

/** How current an org's answers are that rest on one consumer. */
export async function readFreshness(
  tx: Tx,
  orgId: number,
  progress: ConsumerProgress | undefined,
): Promise<Freshness> {
  const [newest] =
    orgId === ALL_ORGS ? await listNewestOfAll(tx.sql) : await listNewestOfOrg(tx.sql, orgId);
  return {
    completeThrough: iso(progress?.completeThrough),
    lagSeconds: roundLag(progress?.lagSeconds ?? null),
    lastOccurredAt: iso(newest?.lastOccurredAt),
    lastIngestedAt: iso(newest?.lastIngestedAt),
    lastAggregatedAt: iso(newest?.lastAggregatedAt),
  };
}

/** Seconds with three digits. */
export const roundLag = (seconds: number | null): number | null =>
  seconds === null ? null : Math.round(seconds * 1000) / 1000;

/** Over how much of a span, at its end, checks are counted when it is asked about all orgs. */
const SYSTEM_CHECK_DAYS = 2;

/** What the checks of the closed hours of a span found. */
export async function readReconciliation(
  tx: Tx,
  orgId: number,
  span: Span,
): Promise<Reconciliation> {
  const ask = { orgId, start: new Date(span.startMs), end: new Date(span.endMs) };
  const countedFromMs = Math.max(span.startMs, span.endMs - SYSTEM_CHECK_DAYS * 86_400_000);
  const [sums] =
    orgId === ALL_ORGS
      ? await listReconciliationOfAll(tx.sql, { ...ask, countedFrom: new Date(countedFromMs) })
      : await listReconciliationOfOrg(tx.sql, ask);
  const differingHours = (sums?.differingHours ?? []).map((hour) => hour.toISOString());
  const closedHours = sums?.closedHours ?? 0;
  const checkedHours = sums?.checkedHours ?? 0;
  const isMatch = closedHours > 0 && checkedHours === closedHours;
  return {
    state: differingHours.length > 0 ? "differs" : isMatch ? "match" : "unchecked",
    checkedAt: iso(sums?.checkedAt),
    checkedHours,
    closedHours,
    differingHours,
  };
}
