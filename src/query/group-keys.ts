import { FIRST_ERROR_OUTCOME, MEMBER_NONE, MEMBER_OTHER, packCurrency, type Span } from "#contract";
import { listTopMembers } from "#store";
import { compareTallies, type Tally, totalOf } from "./measures.ts";
import { isByOutcome } from "./questions.ts";
import { askOf, type GroupKeys, NO_GROUPS, type Reading } from "./reading.ts";
import type { TagReading } from "./tags.ts";
import { readTallies } from "./tallies.ts";

/** The first groups of a span, by the measure that was asked for. */
export async function chooseKeys(reading: Reading, span: Span): Promise<GroupKeys> {
  const { grouping, limit, orderBy } = reading.plan;
  if (grouping === null) return NO_GROUPS;
  if (isByOutcome(grouping)) return await chooseOutcomes(reading, span, grouping);
  if (reading.tags !== null) return await chooseTags(reading, span, reading.tags);
  const order = { by: orderBy, currency: packCurrency(reading.org.currency), limit };
  const top = await listTopMembers(reading.tx.sql, await askOf(reading, [span]), order);
  return { by: "member", shown: top.map((row) => row.memberId), groupOf: (key) => key };
}

/** All calls that did not fail are one group by error class: that of the last outcome that is no error. */
const NOT_FAILED = FIRST_ERROR_OUTCOME - 1;

/** Rows come per outcome, of which there are few; what they are put together to is decided here. */
async function chooseOutcomes(
  reading: Reading,
  span: Span,
  grouping: "status" | "errorClass",
): Promise<GroupKeys> {
  const merge = (outcome: number) =>
    grouping === "status" ? outcome : Math.max(outcome, NOT_FAILED);
  const keys: GroupKeys = { by: "outcome", shown: [], groupOf: merge };
  const shown = firstOf(reading, await readTallies(reading, [span], keys));
  const groupOf = (outcome: number) =>
    shown.includes(merge(outcome)) ? merge(outcome) : MEMBER_OTHER;
  return { by: "outcome", shown, groupOf };
}

/** A key has few values, and those without one are to be counted first: so they are ranked here. */
async function chooseTags(reading: Reading, span: Span, tags: TagReading): Promise<GroupKeys> {
  const each: GroupKeys = { by: "member", shown: tags.ids, groupOf: (key) => key };
  const tallies = await readTallies(reading, [span], each);
  if (tags.otherId !== null) tallies.delete(tags.otherId);
  const shown = firstOf(reading, tallies);
  const isNoneShown = shown.includes(MEMBER_NONE);
  const groupOf = (key: number) => (key === MEMBER_NONE && !isNoneShown ? MEMBER_OTHER : key);
  return { by: "member", shown, groupOf };
}

/** The keys of the first groups in the order that was asked for, equal ones by key. */
function firstOf({ plan, org }: Reading, tallies: ReadonlyMap<number, readonly Tally[]>): number[] {
  return [...tallies]
    .map(([key, parts]) => [key, totalOf(parts)] as const)
    .toSorted(([a, x], [b, y]) => compareTallies(plan.orderBy, org.currency, x, y) || a - b)
    .slice(0, plan.limit)
    .map(([key]) => key);
}
