import type { Clock } from "#kernel";
import { type Database, listOrgLabels, sumUsageByOrg } from "#store";
import type { OrgRow, TopOrgsAnswer } from "./answers.ts";
import {
  addSums,
  createTally,
  measuresOf,
  ranksAfter,
  rankTallies,
  shareOf,
  type Tally,
  totalOf,
} from "./measures.ts";
import { formatRankCursor, parseRankCursor } from "./cursor.ts";
import { planOf } from "./plan.ts";
import type { TopOrgsQuestion } from "./questions.ts";
import { askOf, EVERY_ORG, moneyFrameOf, type Reading, withReading } from "./reading.ts";

/**
 * The orgs that used most over a window, and one row for the rest, so that the column adds up to the totals. Money is
 * ranked in the currency of all orgs together. Throws Failure as `getUsage` does.
 */
export async function getTopOrgs(
  database: Database,
  clock: Clock,
  question: TopOrgsQuestion,
): Promise<TopOrgsAnswer> {
  const plan = planOf(question, "system");
  const list = `orgs/${plan.orderBy}`;
  const after = parseRankCursor(list, question.cursor);
  return await withReading(
    { database, clock },
    { ...question, orgId: EVERY_ORG, plan },
    async (reading) => {
      const { currency } = reading.org;
      const byOrg = await readOrgs(reading);
      const total = totalOf(byOrg.values());
      const ranks = ranksAfter(rankTallies(plan.orderBy, currency, byOrg), after);
      const shown = ranks.slice(0, plan.limit);
      const last = shown.length < ranks.length ? (shown.at(-1) ?? null) : null;
      const ids = shown.map(({ key }) => key);
      const names = await listOrgLabels(reading.tx.sql, ids);
      const rowOf = (tally: Tally) => ({
        ...measuresOf(tally, currency),
        share: shareOf(tally, total, currency),
      });
      const orgs: OrgRow[] = ids.map((id) => {
        const org = names.find((one) => one.id === id);
        return {
          orgId: org?.externalId ?? null,
          name: org?.name ?? null,
          isOther: false,
          ...rowOf(byOrg.get(id) ?? createTally()),
        };
      });
      const isShown = new Set(ids);
      const rest = [...byOrg].flatMap(([id, tally]) => (isShown.has(id) ? [] : [tally]));
      if (rest.length > 0)
        orgs.push({ orgId: null, name: null, isOther: true, ...rowOf(totalOf(rest)) });
      const frame = await moneyFrameOf(reading);
      return {
        window: frame.window,
        totals: measuresOf(total, currency),
        orgs,
        nextCursor: last && formatRankCursor(list, last),
        pricing: frame.pricing,
        freshness: frame.freshness,
        reconciliation: frame.reconciliation,
      };
    },
  );
}

async function readOrgs(reading: Reading): Promise<Map<number, Tally>> {
  const ask = await askOf(reading, [reading.window]);
  const byOrg = new Map<number, Tally>();
  for (const sums of await sumUsageByOrg(reading.tx.sql, ask)) {
    let tally = byOrg.get(sums.orgId);
    if (tally === undefined) byOrg.set(sums.orgId, (tally = createTally()));
    addSums(tally, sums);
  }
  return byOrg;
}
