import type { Clock } from "#kernel";
import type { Database } from "#store";
import type { BreakdownAnswer } from "./answers.ts";
import { formatRankCursor, parseRankCursor } from "./cursor.ts";
import { readGroups } from "./group-keys.ts";
import { changeOf, measuresOf, shareOf, totalOf } from "./measures.ts";
import { planOf } from "./plan.ts";
import { type BreakdownQuestion, isByTag, type TagGrouping } from "./questions.ts";
import { bucketOf, moneyFrameOf, nameGroups, orderKeys, withReading } from "./reading.ts";
import { readTallies } from "./tallies.ts";
import { elapsedOf } from "./usage.ts";

/**
 * An org's usage by model, client, actor or the values of a tag key over a window: the first by a measure and one row
 * for the rest, so that the column adds up to the totals; each with its share, and its change against the same elapsed
 * part of the period before. A page after the first has the groups before it in the row for the rest. Throws Failure as
 * `getUsage` does, and `invalid_request` for a cursor of another list.
 */
export async function getBreakdown(
  database: Database,
  clock: Clock,
  question: BreakdownQuestion & { orgId: string; by: "model" | "client" | "actor" | TagGrouping },
): Promise<BreakdownAnswer> {
  const { by } = question;
  const plan = planOf({ ...question, groupBy: by }, "org", isByTag(by) ? "tagKey" : "path");
  const list = `breakdown/${question.orgId}/${by}/${plan.orderBy}`;
  const after = parseRankCursor(list, question.cursor);
  return await withReading({ database, clock }, { ...question, plan }, async (reading) => {
    const { window, org } = reading;
    const spans = elapsedOf(reading);
    const { keys, byKey: now, last } = await readGroups(reading, window, [window], after);
    const isWhole = spans?.current.endMs === window.endMs;
    const elapsed =
      spans === null || isWhole ? now : await readTallies(reading, [spans.current], keys);
    const hasBefore = spans !== null && spans.previous.startMs < spans.previous.endMs;
    const before = hasBefore
      ? await readTallies(reading, [spans.previous], keys)
      : new Map<number, never>();
    const total = totalOf([...now.values()].flat());
    const ordered = orderKeys(keys, now.keys());
    const name = await nameGroups(reading, ordered);
    const frame = await moneyFrameOf(reading);
    const groups = ordered.map((key) => {
      const tally = totalOf(now.get(key) ?? []);
      const change =
        spans === null
          ? null
          : changeOf(totalOf(elapsed.get(key) ?? []), totalOf(before.get(key) ?? []), org.currency);
      return {
        ...name(key),
        ...measuresOf(tally, org.currency),
        share: shareOf(tally, total, org.currency),
        change,
      };
    });
    const spanAnswer = (span: { startMs: number; endMs: number }) => {
      const { start, end } = bucketOf(reading, span);
      return { start, end };
    };
    return {
      orgId: question.orgId,
      window: frame.window,
      totals: measuresOf(total, org.currency),
      groups,
      comparedWith: spans && {
        current: spanAnswer(spans.current),
        previous: spanAnswer(spans.previous),
      },
      nextCursor: last && formatRankCursor(list, last),
      pricing: frame.pricing,
      freshness: frame.freshness,
      reconciliation: frame.reconciliation,
    };
  });
}
