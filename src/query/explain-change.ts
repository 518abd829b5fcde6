import { formatNano, MEMBER_OTHER, packCurrency, type Span } from "#contract";
import type { Clock } from "#kernel";
import { type Database, listTopMembers, sumUsage, type UsageSums } from "#store";
import type {
  Amount,
  Freshness,
  Measures,
  Pricing,
  Reconciliation,
  SpanAnswer,
  WindowAnswer,
} from "./answers.ts";
import { addSums, createTally, measuresOf } from "./measures.ts";
import { planOf } from "./plan.ts";
import type { BreakdownQuestion } from "./questions.ts";
import { askOf, bucketOf, moneyFrameOf, nameGroups, type Reading, withReading } from "./reading.ts";
import {
  type Basis,
  type ModelChange,
  noSpend,
  type Part,
  PARTS,
  type Parts,
  type Spend,
  type SpendPair,
  splitChanges,
  totalPartsOf,
  totalSpendOf,
} from "./spend-parts.ts";
import { elapsedOf } from "./usage.ts";

/** When, which calls (a filter that is not kept per model is refused), and how many models stand alone. */
export type SpendChangeQuestion = Omit<BreakdownQuestion, "orderBy">;

/** What has a cost in the org's currency, and that cost. */
export type SpendAnswer = { pricedRequests: number; pricedTokens: number; cost: Amount };

/** Of a whole window; costs in other currencies and usage without a price are told, and not explained. */
export type WindowSpend = SpanAnswer & SpendAnswer & Pick<Measures, "otherCosts" | "pricedShare">;

/** What became dearer or cheaper, and why. The parts add up to `change`, exactly. */
type Explained = { change: Amount; parts: Record<Part, Amount> };

/** `modelId` null: none was named. `basis` null: the row is all further models. */
export type ModelSpendChange = Explained & {
  modelId: string | null;
  isOther: boolean;
  basis: Basis | null;
  current: SpendAnswer;
  previous: SpendAnswer;
};

export type SpendChangeAnswer = {
  orgId: string;
  window: WindowAnswer;
  /** Null when nothing of the window has elapsed. */
  explained:
    | (Explained & { current: WindowSpend; previous: WindowSpend; models: ModelSpendChange[] })
    | null;
  pricing: Pricing;
  freshness: Freshness;
  reconciliation: Reconciliation;
};

/** Models split one by one; those with the smallest costs beyond are one model. */
const MODELS_MAX = 10_000;

/**
 * Why an org's spend differs from the same elapsed part of the period before: what came of more or fewer requests, of
 * their length, of the mix of models, of prices, and of models that came or went; in all and per model, which add up
 * both ways (`splitChanges` says how). In the org's currency, of usage that has a price. Throws Failure as `getUsage`.
 */
export async function getSpendChange(
  database: Database,
  clock: Clock,
  question: SpendChangeQuestion & { orgId: string },
): Promise<SpendChangeAnswer> {
  const plan = planOf({ ...question, groupBy: "model" }, "org", "path");
  return await withReading({ database, clock }, { ...question, plan }, async (reading) => {
    const spans = elapsedOf(reading);
    const explained = spans && (await explain(reading, spans));
    return { orgId: question.orgId, explained, ...(await moneyFrameOf(reading)) };
  });
}

async function explain(
  reading: Reading,
  { current, previous }: { current: Span; previous: Span },
): Promise<SpendChangeAnswer["explained"]> {
  const { currency } = reading.org;
  const rows = await readSums(reading, [previous, current]);
  const models = splitChanges(pairByModel(rows, currency));
  const windowOf = (span: Span, bucketNo: number): WindowSpend => {
    const { start, end } = bucketOf(reading, span);
    const tally = createTally();
    for (const row of rows) if (row.bucketNo === bucketNo) addSums(tally, row);
    const { otherCosts, pricedShare } = measuresOf(tally, currency);
    const side = bucketNo === 0 ? "previous" : "current";
    const spend = totalSpendOf([...models.values()].map((model) => model[side]));
    return { start, end, ...spendOf(spend, currency), otherCosts, pricedShare };
  };
  return {
    current: windowOf(current, 1),
    previous: windowOf(previous, 0),
    ...explainedOf(totalPartsOf([...models.values()].map(({ parts }) => parts)), currency),
    models: await listModels(reading, models),
  };
}

/** Sums per model; bucket 0 is the first span. */
async function readSums(reading: Reading, spans: readonly Span[]): Promise<UsageSums[]> {
  const ask = await askOf(reading, spans);
  const currency = packCurrency(reading.org.currency);
  const order = { by: "cost", currency, after: null, limit: MODELS_MAX } as const;
  const top = await listTopMembers(reading.tx.sql, ask, order);
  const shown = top.map((row) => row.memberId);
  return await sumUsage(reading.tx.sql, ask, { by: "member", shown });
}

/** What each model spent in one currency, in both windows. Models without any such spend are left out. */
function pairByModel(rows: readonly UsageSums[], currency: string): Map<number, SpendPair> {
  const pairs = new Map<number, SpendPair>();
  for (const row of rows) {
    const hasSpend = row.pricedRequests > 0 || row.costNano !== "0";
    if (row.currency !== packCurrency(currency) || !hasSpend) continue;
    const pair = pairs.get(row.key) ?? { previous: noSpend(), current: noSpend() };
    const spend = row.bucketNo === 0 ? pair.previous : pair.current;
    spend.requests += BigInt(row.pricedRequests);
    spend.tokens += BigInt(row.pricedTokens);
    spend.nano += BigInt(row.costNano);
    pairs.set(row.key, pair);
  }
  return pairs;
}

/** The largest changes first, whichever way; all others in one row, so that every column adds up. */
async function listModels(
  reading: Reading,
  models: ReadonlyMap<number, ModelChange>,
): Promise<ModelSpendChange[]> {
  const { currency } = reading.org;
  const ranked = [...models]
    .filter(([key]) => key !== MEMBER_OTHER)
    .toSorted(([a, x], [b, y]) => compareMagnitudes(y.nano, x.nano) || a - b);
  const shown = ranked.slice(0, reading.plan.limit);
  const beyond = models.get(MEMBER_OTHER);
  const rest = [
    ...ranked.slice(reading.plan.limit).map(([, model]) => model),
    ...(beyond === undefined ? [] : [beyond]),
  ];
  const name = await nameGroups(
    reading,
    shown.map(([key]) => key),
  );
  const rowOf = (key: number, basis: Basis | null, of: SpendPair & { parts: Parts }) => {
    const { modelId = null, isOther } = name(key);
    const current = spendOf(of.current, currency);
    const previous = spendOf(of.previous, currency);
    return { modelId, isOther, basis, current, previous, ...explainedOf(of.parts, currency) };
  };
  const rows = shown.map(([key, model]) => rowOf(key, model.basis, model));
  if (rest.length === 0) return rows;
  const other = {
    previous: totalSpendOf(rest.map(({ previous }) => previous)),
    current: totalSpendOf(rest.map(({ current }) => current)),
    parts: totalPartsOf(rest.map(({ parts }) => parts)),
  };
  return [...rows, rowOf(MEMBER_OTHER, null, other)];
}

const magnitude = (n: bigint): bigint => (n < 0n ? -n : n);
const compareMagnitudes = (a: bigint, b: bigint): number =>
  magnitude(a) === magnitude(b) ? 0 : magnitude(a) > magnitude(b) ? 1 : -1;

const amountOf = (nano: bigint, currency: string): Amount => ({
  amount: formatNano(nano),
  currency,
});

/** Throws a RangeError beyond exact numbers (2^53). */
function spendOf({ requests, tokens, nano }: Spend, currency: string): SpendAnswer {
  const [pricedRequests, pricedTokens] = [Number(requests), Number(tokens)];
  if (!Number.isSafeInteger(pricedRequests) || !Number.isSafeInteger(pricedTokens)) {
    throw new RangeError("usage adds up to more than a number holds exactly");
  }
  return { pricedRequests, pricedTokens, cost: amountOf(nano, currency) };
}

function explainedOf(parts: Parts, currency: string): Explained {
  const amount = (part: Part) => amountOf(parts[part], currency);
  return {
    change: amountOf(
      PARTS.reduce((sum, part) => sum + parts[part], 0n),
      currency,
    ),
    parts: {
      requests: amount("requests"),
      tokensPerRequest: amount("tokensPerRequest"),
      modelMix: amount("modelMix"),
      price: amount("price"),
      modelsCame: amount("modelsCame"),
      modelsWent: amount("modelsWent"),
    },
  };
}
