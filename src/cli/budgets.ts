import { z } from "zod";
import { type ApiClient, createApiClient, findApi } from "./api-client.ts";
import { jsonBody } from "./api-list.ts";
import {
  apiHintsOf,
  parseArguments,
  SERVICE_OPTIONS,
  SERVICE_USAGE,
  withRefusals,
} from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { formatFacts, formatTable } from "./table.ts";

const usage = `tallystick budgets list|set|delete [BUDGET] --org ORG [options]

What an org means to spend in a month, on everything or on one model, in its own currency and time zone.

  list                the org's budgets: spent so far, per day, days left at this rate, expected at the month's end, and
                      the thresholds that were crossed
  set BUDGET          make a budget or change it, from the current month on. BUDGET is a name of your choice
  delete BUDGET       delete it, with what was recorded of it

  --org ORG           the org (needed)
  --amount AMOUNT     set: what a month may cost, for example 2500 or 99.95 (needed)
  --model MODEL       set: only this model's spend, for good (default: all of the org's)
  --name NAME         set: what people call it
  --threshold PERCENT set: record when so much of the amount is spent; may be repeated (default 50, 80 and 100)
  --month MONTH       list: another month, for example 2026-10 (default: the current one)
${SERVICE_USAGE}
Exit code: 0 done, 1 refused or not there, 2 wrong arguments, 3 the service cannot be reached.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  org: { type: "string" },
  amount: { type: "string" },
  model: { type: "string" },
  name: { type: "string" },
  threshold: { type: "string", multiple: true },
  month: { type: "string" },
} as const;
type Values = ReturnType<typeof parseArguments<typeof OPTIONS>>["values"];

// Fields that this version does not know stay, for --json.
const amount = z.object({ amount: z.string(), currency: z.string() });
const terms = {
  budgetId: z.string(),
  name: z.string().nullable(),
  modelId: z.string().nullable(),
  amount,
};
const budget = z.looseObject({ ...terms, thresholds: z.array(z.int()) });
const budgetState = z.looseObject({
  ...terms,
  spent: amount,
  share: z.number(),
  burnPerDay: amount.nullable(),
  daysLeft: z.string().nullable(),
  expected: amount.nullable(),
  thresholds: z.array(z.looseObject({ percent: z.int(), crossedAt: z.string().nullable() })),
});
const answer = z.looseObject({ month: z.string(), budgets: z.array(budgetState) });

const ACTIONS = ["list", "set", "delete"] as const;
type Action = (typeof ACTIONS)[number];

/** Options that only one action takes. */
const ONLY: Readonly<Record<string, Action>> = {
  amount: "set",
  model: "set",
  name: "set",
  threshold: "set",
  month: "list",
};

/** `budgets`: what a month may cost. */
export const budgetsCommand: Command = {
  name: "budgets",
  summary: "List, set or delete budgets of an org",
  usage,
  run: async (args, io) => {
    const { action, path, values } = parseRequest(args);
    const client = createApiClient(await findApi(apiHintsOf(values, io.env)));
    return await withRefusals(io, async () => {
      if (action === "list") return await list(client, { path, values, io });
      const request =
        action === "set"
          ? ({ method: "PUT", path, ...jsonBody(orderOf(values)) } as const)
          : ({ method: "DELETE", path } as const);
      const one = await client.request(request, budget);
      io.stdout.write(values.json ? `${JSON.stringify(one)}\n` : factsOf(one));
      return EXIT.ok;
    });
  },
};

function parseRequest(args: readonly string[]): { action: Action; path: string; values: Values } {
  const { values, positionals } = parseArguments(args, OPTIONS);
  const [named, ...ids] = positionals;
  const action = ACTIONS.find((one) => one === named);
  if (action === undefined) throw new UsageError(`Say what to do: ${ACTIONS.join(", ")}.`);
  if (ids.length !== (action === "list" ? 0 : 1))
    throw new UsageError(
      action === "list" ? "list takes no budget." : `${action} takes one budget.`,
    );
  if (values.org === undefined) throw new UsageError("Say whose with --org ORG.");
  for (const option of Object.keys(values))
    if (ONLY[option] !== undefined && ONLY[option] !== action)
      throw new UsageError(`--${option} goes with ${ONLY[option]}.`);
  if (action === "set" && values.amount === undefined)
    throw new UsageError("set takes --amount AMOUNT.");
  values.threshold?.forEach(requirePercent);
  const all = `/analytics/v1/orgs/${encodeURIComponent(values.org)}/budgets`;
  const path = action === "list" ? all : `${all}/${encodeURIComponent(ids[0] ?? "")}`;
  return { action, path, values };
}

function requirePercent(text: string): void {
  if (/^[1-9]\d{0,3}$/.test(text)) return;
  throw new UsageError("--threshold must be a whole number of per cent, for example 80.");
}

const orderOf = ({ amount: ask, model, name, threshold }: Values) => ({
  amount: ask,
  modelId: model,
  name,
  thresholds: threshold?.map(Number),
});

async function list(
  client: ApiClient,
  { path, values, io }: { path: string; values: Values; io: CommandIo },
): Promise<number> {
  const found = await client.request(
    { method: "GET", path, query: { month: values.month } },
    answer,
  );
  if (values.json) {
    io.stdout.write(`${JSON.stringify(found)}\n`);
    return EXIT.ok;
  }
  if (found.budgets.length === 0) {
    io.stdout.write("No budgets.\n");
    return EXIT.ok;
  }
  const titles = [
    "budget",
    "model",
    "currency",
    "amount",
    "spent",
    "used",
    "per day",
    "days left",
    "expected",
    "crossed",
  ];
  const rows = found.budgets.map((one) => [
    one.budgetId,
    one.modelId ?? "",
    one.amount.currency,
    one.amount.amount,
    one.spent.amount,
    `${Math.floor(one.share * 1000) / 10} %`,
    one.burnPerDay?.amount ?? "",
    one.daysLeft ?? "",
    one.expected?.amount ?? "",
    one.thresholds
      .flatMap(({ percent, crossedAt }) => (crossedAt === null ? [] : [`${percent} %`]))
      .join(", "),
  ]);
  io.stdout.write(
    formatTable(
      titles.map((title) => ({ title })),
      rows,
    ),
  );
  return EXIT.ok;
}

const factsOf = (one: z.output<typeof budget>): string =>
  formatFacts([
    ["budget", one.budgetId],
    ["name", one.name],
    ["model", one.modelId ?? "all"],
    ["per month", `${one.amount.amount} ${one.amount.currency}`],
    ["thresholds", one.thresholds.map((percent) => `${percent} %`).join(", ")],
  ]);
