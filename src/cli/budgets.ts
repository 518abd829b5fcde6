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
       tallystick budgets diff|apply [PATH …] [--prune] [options]

What an org means to spend in a month, on everything or on one model, in its own currency and time zone; said by one
command at a time, or in YAML files, best kept under version control, which contracts/budgets.md describes.

  list                the org's budgets: spent so far, per day, days left at this rate, expected at the month's end, and
                      the thresholds that were crossed
  set BUDGET          make a budget or change it, from the current month on. BUDGET is a name of your choice
  delete BUDGET       delete it, with what was recorded of it
  diff [PATH …]       what apply would change; exit code 1 when there is something
  apply [PATH …]      make and change budgets as the files say, all of it or nothing. Safe to repeat

PATH is a file, or a folder whose .yaml files are meant (default: budgets).

  --org ORG           list, set, delete: the org (needed)
  --amount AMOUNT     set: what a month may cost, for example 2500 or 99.95 (needed)
  --model MODEL       set: only this model's spend, for good (default: all of the org's)
  --name NAME         set: what people call it
  --threshold PERCENT set: record when so much of the amount is spent; may be repeated (default 50, 80 and 100)
  --month MONTH       list: another month, for example 2026-10 (default: the current one)
  --prune             diff, apply: delete the budgets that are in none of the files, of the orgs that the files name
${SERVICE_USAGE}
Exit code: 0 done, 1 refused or not there, or diff found differences, 2 wrong arguments or files, 3 the service cannot be
reached.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  org: { type: "string" },
  amount: { type: "string" },
  model: { type: "string" },
  name: { type: "string" },
  threshold: { type: "string", multiple: true },
  month: { type: "string" },
  prune: { type: "boolean", default: false },
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

const ACTIONS = ["list", "set", "delete", "diff", "apply"] as const;
type Action = (typeof ACTIONS)[number];

/** Options that only some actions take. */
const ONLY: Readonly<Record<string, readonly Action[]>> = {
  org: ["list", "set", "delete"],
  amount: ["set"],
  model: ["set"],
  name: ["set"],
  threshold: ["set"],
  month: ["list"],
  prune: ["diff", "apply"],
};

/** `budgets`: what a month may cost. */
export const budgetsCommand: Command = {
  name: "budgets",
  summary: "List, set or delete budgets of an org, or apply those of files",
  usage,
  run: async (args, io) => {
    const { action, names, values } = parseRequest(args);
    const open = async () => createApiClient(await findApi(apiHintsOf(values, io.env)));
    if (action === "diff" || action === "apply") {
      const paths = names.length === 0 ? ["budgets"] : names;
      const { prune, json: isJson } = values;
      const options = { isDryRun: action === "diff", prune, isJson };
      const { applyBudgetFiles } = await import("./budgets-apply.ts");
      return await withRefusals(io, () => applyBudgetFiles(paths, options, { io, open }));
    }
    const path = pathOf(values, names);
    const client = await open();
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

/** What was said, sound but for what the service has to judge. `names` are budgets, or for diff and apply paths. */
function parseRequest(args: readonly string[]): {
  action: Action;
  names: string[];
  values: Values;
} {
  const { values, positionals } = parseArguments(args, OPTIONS);
  const [named, ...names] = positionals;
  const action = ACTIONS.find((one) => one === named);
  if (action === undefined) throw new UsageError(`Say what to do: ${ACTIONS.join(", ")}.`);
  for (const [option, value] of Object.entries(values))
    if (value !== false && ONLY[option]?.includes(action) === false)
      throw new UsageError(`--${option} goes with ${ONLY[option].join(", ")}.`);
  if (action === "list" && names.length > 0) throw new UsageError("list takes no budget.");
  if ((action === "set" || action === "delete") && names.length !== 1)
    throw new UsageError(`${action} takes one budget.`);
  if (action === "set" && values.amount === undefined)
    throw new UsageError("set takes --amount AMOUNT.");
  values.threshold?.forEach(requirePercent);
  return { action, names, values };
}

function pathOf({ org }: Values, [budgetId]: readonly string[]): string {
  if (org === undefined) throw new UsageError("Say whose with --org ORG.");
  const all = `/analytics/v1/orgs/${encodeURIComponent(org)}/budgets`;
  return budgetId === undefined ? all : `${all}/${encodeURIComponent(budgetId)}`;
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
