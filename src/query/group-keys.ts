import { FIRST_ERROR_OUTCOME, MEMBER_KIND, MEMBER_OTHER, packCurrency, type Span } from "#contract";
import { countWords, listTopMembers } from "#store";
import { addTallies, type Rank, ranksAfter, rankTallies, type Tally, totalOf } from "./measures.ts";
import { isByOutcome } from "./questions.ts";
import { askOf, type GroupKeys, NO_GROUPS, type Reading, type ReadKeys } from "./reading.ts";
import { readTallies } from "./tallies.ts";

/** Members and spans together up to which all are read at once and ranked here, rather than ranked first and read then. */
const CELLS_MAX = 10_000;

/** The first groups of a window, by the measure that was asked for. */
export const chooseKeys = async (reading: Reading, window: Span): Promise<GroupKeys> =>
  (await choose(reading, window, null)).keys;

/** Groups with their usage, one tally a part of the window; `last`: the rank of the last one shown, if more come after. */
type ReadGroups = { keys: GroupKeys; byKey: Map<number, Tally[]>; last: Rank | null };

/**
 * The first groups of a window that come after one (null: of all), with their usage in the window's parts. All that are
 * not shown, those before as well, are one group.
 */
export async function readGroups(
  reading: Reading,
  window: Span,
  parts: readonly Span[],
  after: Rank | null = null,
): Promise<ReadGroups> {
  const each = await keysOfEach(reading, parts.length);
  if (each === null) {
    const { keys, hasMore } = await choose(reading, window, after);
    const byKey = await readTallies(reading, parts, keys);
    return { keys, byKey, last: hasMore ? rankOfLast(reading, keys, byKey) : null };
  }
  const byEach = await readTallies(reading, parts, each);
  const { keys, hasMore } = showFirst(reading, each, rank(reading, byEach, after));
  const byKey = mergeGroups(byEach, keys);
  return { keys, byKey, last: hasMore ? rankOfLast(reading, keys, byKey) : null };
}

type Choice = { keys: GroupKeys; hasMore: boolean };

async function choose(reading: Reading, window: Span, after: Rank | null): Promise<Choice> {
  const each = await keysOfEach(reading, 1);
  if (each === null) return await chooseTop(reading, window, after);
  const byEach = await readTallies(reading, [window], each);
  return showFirst(reading, each, rank(reading, byEach, after));
}

/** All calls that did not fail are one group by error class: that of the last outcome that is no error. */
const NOT_FAILED = FIRST_ERROR_OUTCOME - 1;

/** Every group by itself, when there are few enough over so many spans; null when not. */
export async function keysOfEach(reading: Reading, spans: number): Promise<ReadKeys | null> {
  const { org, tags, tx } = reading;
  const { grouping, dimension } = reading.plan;
  if (grouping === null) return NO_GROUPS;
  if (isByOutcome(grouping)) {
    const groupOf = (outcome: number) =>
      grouping === "status" ? outcome : Math.max(outcome, NOT_FAILED);
    return { by: "outcome", shown: [], groupOf };
  }
  const groupOf = (key: number) => key;
  const most = Math.floor(CELLS_MAX / spans);
  // Calls without a value of a tag key are to be counted before they can be ranked: so all are read over one span.
  if (tags !== null)
    return tags.ids.length > most && spans > 1 ? null : { by: "member", shown: tags.ids, groupOf };
  if (dimension === "org" || dimension === "tag") throw new RangeError("groups without members");
  const words = { orgId: org.id, kind: MEMBER_KIND[dimension], most: most + 1 };
  const members = reading.memberIds?.length ?? (await countWords(tx.sql, words));
  return members > most ? null : { by: "member", shown: null, groupOf };
}

async function chooseTop(reading: Reading, window: Span, after: Rank | null): Promise<Choice> {
  const { limit, orderBy } = reading.plan;
  const currency = packCurrency(reading.org.currency);
  const order = { by: orderBy, currency, after, limit: limit + 1 };
  const top = await listTopMembers(reading.tx.sql, await askOf(reading, [window]), order);
  const shown = top.slice(0, limit).map((row) => row.memberId);
  return { keys: { by: "member", shown, groupOf: (key) => key }, hasMore: top.length > limit };
}

/** Keys in the order that was asked for, those after a rank alone. */
function rank(
  { plan, org }: Reading,
  byEach: ReadonlyMap<number, readonly Tally[]>,
  after: Rank | null,
): number[] {
  const totals = [...byEach].map(([key, parts]) => [key, totalOf(parts)] as const);
  const ranks = rankTallies(plan.orderBy, org.currency, totals);
  return ranksAfter(ranks, after).map(({ key }) => key);
}

function rankOfLast(
  { plan, org }: Reading,
  { shown }: GroupKeys,
  byKey: ReadonlyMap<number, readonly Tally[]>,
): Rank | null {
  const key = shown.at(-1);
  if (key === undefined) return null;
  const [last = null] = rankTallies(plan.orderBy, org.currency, [
    [key, totalOf(byKey.get(key) ?? [])],
  ]);
  return last;
}

/** The first of the groups that were ranked; what stands for members beyond a cap is never among them. */
export function showFirst(
  { plan, tags }: Reading,
  each: ReadKeys,
  ranked: readonly number[],
): Choice {
  if (plan.grouping === null) return { keys: NO_GROUPS, hasMore: false };
  const isRest = (key: number) =>
    each.by === "member" && (key === MEMBER_OTHER || key === tags?.otherId);
  const named = ranked.filter((key) => !isRest(key));
  const shown = named.slice(0, plan.limit);
  const isShown = new Set(shown);
  const groupOf = (key: number) => {
    const group = each.groupOf(key);
    return isShown.has(group) ? group : MEMBER_OTHER;
  };
  return { keys: { by: each.by, shown, groupOf }, hasMore: named.length > shown.length };
}

/** What was read by each group, by those shown. */
function mergeGroups(byEach: ReadonlyMap<number, Tally[]>, keys: GroupKeys): Map<number, Tally[]> {
  const byKey = new Map<number, Tally[]>();
  for (const [each, tallies] of byEach) {
    const key = keys.groupOf(each);
    const known = byKey.get(key);
    if (known === undefined) byKey.set(key, tallies);
    else addTallies(known, tallies);
  }
  return byKey;
}
