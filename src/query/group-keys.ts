import { FIRST_ERROR_OUTCOME, MEMBER_KIND, MEMBER_OTHER, packCurrency, type Span } from "#contract";
import { countWords, listTopMembers } from "#store";
import { addTallies, compareTallies, type Tally, totalOf } from "./measures.ts";
import { isByOutcome } from "./questions.ts";
import { askOf, type GroupKeys, NO_GROUPS, type Reading, type ReadKeys } from "./reading.ts";
import { readTallies } from "./tallies.ts";

/** Members and spans together up to which all are read at once and ranked here, rather than ranked first and read then. */
const CELLS_MAX = 10_000;

/** The first groups of a window, by the measure that was asked for. */
export async function chooseKeys(reading: Reading, window: Span): Promise<GroupKeys> {
  const each = await keysOfEach(reading, 1);
  if (each === null) return await chooseTop(reading, window);
  return showFirst(reading, each, rank(reading, await readTallies(reading, [window], each)));
}

/**
 * The first groups of a window, as `chooseKeys`, with their usage in the window's parts, one tally a part. Groups that
 * are not shown are one.
 */
export async function readGroups(
  reading: Reading,
  window: Span,
  parts: readonly Span[],
): Promise<{ keys: GroupKeys; byKey: Map<number, Tally[]> }> {
  const each = await keysOfEach(reading, parts.length);
  if (each === null) {
    const keys = await chooseKeys(reading, window);
    return { keys, byKey: await readTallies(reading, parts, keys) };
  }
  const byEach = await readTallies(reading, parts, each);
  const keys = showFirst(reading, each, rank(reading, byEach));
  return { keys, byKey: mergeGroups(byEach, keys) };
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

async function chooseTop(reading: Reading, window: Span): Promise<GroupKeys> {
  const { limit, orderBy } = reading.plan;
  const order = { by: orderBy, currency: packCurrency(reading.org.currency), limit };
  const top = await listTopMembers(reading.tx.sql, await askOf(reading, [window]), order);
  return { by: "member", shown: top.map((row) => row.memberId), groupOf: (key) => key };
}

/** Keys in the order that was asked for, equal ones by key. */
function rank({ plan, org }: Reading, byEach: ReadonlyMap<number, readonly Tally[]>): number[] {
  return [...byEach]
    .map(([key, parts]) => [key, totalOf(parts)] as const)
    .toSorted(([a, x], [b, y]) => compareTallies(plan.orderBy, org.currency, x, y) || a - b)
    .map(([key]) => key);
}

/** The first of the groups that were ranked; what stands for members beyond a cap is never among them. */
export function showFirst(
  { plan, tags }: Reading,
  each: ReadKeys,
  ranked: readonly number[],
): GroupKeys {
  if (plan.grouping === null) return NO_GROUPS;
  const isRest = (key: number) =>
    each.by === "member" && (key === MEMBER_OTHER || key === tags?.otherId);
  const shown = ranked.filter((key) => !isRest(key)).slice(0, plan.limit);
  const isShown = new Set(shown);
  const groupOf = (key: number) => {
    const group = each.groupOf(key);
    return isShown.has(group) ? group : MEMBER_OTHER;
  };
  return { by: each.by, shown, groupOf };
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
