import type { IngestOutcome, Rejection } from "#contract";
import type { BatchItem } from "./prepared-batch.ts";

export type TimeRules = { futureToleranceSeconds: number; rawRetentionDays: number };

const DAY_US = 86_400_000_000;

/** Why an event cannot be counted at this time: too far ahead of its arrival, or older than what is kept. */
export function judgeTime(
  {
    item: { event },
    isBackfill,
    receivedAtMs,
  }: Pick<BatchItem, "item" | "isBackfill" | "receivedAtMs">,
  { futureToleranceSeconds, rawRetentionDays }: TimeRules,
): Rejection | undefined {
  if (!event) return undefined;
  const aheadUs = event.occurredAtUs - receivedAtMs * 1000;
  if (aheadUs > futureToleranceSeconds * 1_000_000) {
    return reject(
      event,
      "future_timestamp",
      "/occurred_at",
      `occurred_at is more than ${futureToleranceSeconds} s in the future.`,
    );
  }
  if (!isBackfill && -aheadUs > rawRetentionDays * DAY_US) {
    const detail = `occurred_at is older than the ${rawRetentionDays} days of raw events kept; send it as backfill to count it.`;
    return reject(event, "too_old", "/occurred_at", detail);
  }
  return undefined;
}

/** A rejection of an event that could be read. */
export const reject = (
  { eventId, orgId, occurredAtUs }: { eventId: string; orgId: string; occurredAtUs: number },
  code: Rejection["code"],
  pointer: string,
  detail: string,
): Rejection => ({ code, pointer, detail, eventId, orgId, occurredAtUs });

/** What its sender is told. */
export const rejectedAs = ({ code, pointer, detail }: Rejection): IngestOutcome => ({
  status: "rejected",
  code,
  pointer,
  detail,
});
