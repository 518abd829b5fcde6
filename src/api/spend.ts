import type { Principal } from "#auth";
import { Failure } from "#contract";

/** Members of answers that tell money. */
const SPEND_MEMBERS = new Set(["cost", "otherCosts", "pricedShare", "pricing"]);

/** Whether answers to this principal may hold money. */
export const seesSpend = ({ scopes }: Pick<Principal, "scopes">): boolean =>
  scopes.includes("spend:read");

/** An answer as JSON without what tells money, at any depth. Makes a copy; the answer stays. */
export function withoutSpend(answer: unknown): unknown {
  if (Array.isArray(answer)) return answer.map(withoutSpend);
  if (typeof answer !== "object" || answer === null) return answer;
  return Object.fromEntries(
    Object.entries(answer)
      .filter(([name]) => !SPEND_MEMBERS.has(name))
      .map(([name, value]) => [name, withoutSpend(value)]),
  );
}

/** Throws Failure `forbidden` for a question that ranks by money: the order alone would tell who spends most. */
export function refuseSpendOrder(query: unknown): void {
  const isByCost =
    typeof query === "object" && query !== null && "orderBy" in query && query.orderBy === "cost";
  if (!isByCost) return;
  throw new Failure("forbidden", "Ranking by cost takes the scope spend:read.", {
    details: [
      {
        pointer: "/query/orderBy",
        code: "forbidden",
        message: "Order by requests, errors or totalTokens.",
      },
    ],
  });
}
