import { CHARGED_OUTCOMES, createUnitPrices, type Price, rateUsage } from "./price.ts";
import { OUTCOMES, packCurrency, type UsageEvent, USAGE_SOURCE_SHIFT } from "./usage-event.ts";

/** What of an event its cost depends on: all of it is kept in raw, so that any rating can be made again. */
export type RateableEvent = Pick<
  UsageEvent,
  | "inputTokens"
  | "cacheReadTokens"
  | "cacheWrite5mTokens"
  | "cacheWrite1hTokens"
  | "outputTokens"
  | "reasoningTokens"
  | "requests"
  | "latencyMs"
  | "outcome"
  | "flags"
>;

/** A price read once, to rate many events with. */
export type EventRater = {
  /** Of what `rate` returns, packed. */
  readonly currency: number;
  /**
   * What the price makes of an event, in billionths of the currency's unit: 0 for an outcome that is not charged; null
   * where it is charged and the price does not say what something that was used costs, where nobody counted what was
   * used, and for a cost beyond 2^53 billionths, which an event's own cost may not have either. Null is unpriced.
   */
  rate(event: RateableEvent): number | null;
};

const USAGE_ABSENT = 2;
/** Numbers below are exact. */
const EXACT_BELOW = 2 ** 53;

/** Throws `invalid_request` with what is wrong with the price. */
export function createEventRater(price: Price): EventRater {
  const prices = createUnitPrices(price);
  const { chargedOutcomes = CHARGED_OUTCOMES } = price;
  const isCharged = OUTCOMES.map((outcome) => chargedOutcomes.includes(outcome));
  const namesTokens = prices.steps.some(({ amounts }) => amounts.size > 0);
  const steps = prices.steps.map(({ above, amounts }) => ({
    above: Number(above),
    input: amountOf(amounts.get("input")),
    cacheRead: amountOf(amounts.get("cacheRead")),
    cacheWrite5m: amountOf(amounts.get("cacheWrite5m")),
    cacheWrite1h: amountOf(amounts.get("cacheWrite1h")),
    output: amountOf(amounts.get("output")),
    reasoning: amountOf(amounts.get("reasoning")),
  }));
  const perRequest = Number(prices.perRequest ?? 0n);
  const perMillisecond = prices.perMillisecond === null ? null : Number(prices.perMillisecond);
  const denominator = 10 ** (prices.scale - 3);

  const rateExactly = (event: RateableEvent): number | null => {
    const durationMs =
      event.latencyMs === null ? null : BigInt(event.latencyMs) * BigInt(event.requests);
    const rating = rateUsage(prices, { ...event, durationMs });
    if ("unpricedClasses" in rating) return null;
    return rating.nano < EXACT_BELOW ? Number(rating.nano) : null;
  };

  const rate = (event: RateableEvent): number | null => {
    if (!isCharged[event.outcome]) return 0;
    if (namesTokens && ((event.flags >> USAGE_SOURCE_SHIFT) & 3) === USAGE_ABSENT) return null;
    const { inputTokens, cacheReadTokens, cacheWrite5mTokens, cacheWrite1hTokens } = event;
    const inputSide = inputTokens + cacheReadTokens + cacheWrite5mTokens + cacheWrite1hTokens;
    let step = steps[0];
    for (let i = 1; i < steps.length; i++)
      if (inputSide > (steps[i]?.above ?? 0) * event.requests) step = steps[i];
    if (step === undefined) throw new Error("a price has at least one step");
    let sum = event.requests * perRequest;
    // A class without a price is NaN: times a count it stays that, and is left to the exact arithmetic, which names it.
    if (inputTokens > 0) sum += inputTokens * step.input;
    if (cacheReadTokens > 0) sum += cacheReadTokens * step.cacheRead;
    if (cacheWrite5mTokens > 0) sum += cacheWrite5mTokens * step.cacheWrite5m;
    if (cacheWrite1hTokens > 0) sum += cacheWrite1hTokens * step.cacheWrite1h;
    if (event.outputTokens > 0) sum += event.outputTokens * step.output;
    if (event.reasoningTokens > 0) sum += event.reasoningTokens * step.reasoning;
    if (perMillisecond !== null)
      sum +=
        event.latencyMs === null ? Number.NaN : event.latencyMs * event.requests * perMillisecond;
    // Sums of whole numbers, none negative, are exact while they stay below 2^53; halves then fit as well.
    if (!(sum < EXACT_BELOW / 4)) return rateExactly(event);
    const rest = sum % denominator;
    return (sum - rest) / denominator + (2 * rest >= denominator ? 1 : 0);
  };
  return { currency: packCurrency(prices.currency), rate };
}

const amountOf = (amount: bigint | undefined): number =>
  amount === undefined ? Number.NaN : Number(amount);
