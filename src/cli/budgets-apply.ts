import { z } from "zod";
import { type ApiClient, ApiProblem } from "./api-client.ts";
import { jsonBody } from "./api-list.ts";
import { readBudgetFiles, type ReadBudgets } from "./budget-file.ts";
import { type CommandIo, EXIT } from "./command.ts";
import { formatCount, formatTable } from "./table.ts";
import { formatFaults, loadFiles } from "./yaml-files.ts";

// Fields that this version does not know stay, for --json.
const said = z.looseObject({
  budgetId: z.string(),
  modelId: z.string().nullable(),
  name: z.string().nullable(),
  amount: z.object({ amount: z.string(), currency: z.string() }),
  thresholds: z.array(z.int()),
});
const applied = z.looseObject({
  isApplied: z.boolean(),
  counts: z.object({ added: z.int(), changed: z.int(), removed: z.int() }),
  changes: z.array(
    z.looseObject({
      what: z.string(),
      orgId: z.string(),
      before: said.nullable(),
      after: said.nullable(),
    }),
  ),
});
type Applied = z.output<typeof applied>;

/** What is asked: `isDryRun` only compares, `prune` deletes other budgets of the orgs that the files name. */
export type ApplyOptions = { isDryRun: boolean; prune: boolean; isJson: boolean };

/** `budgets diff` and `budgets apply`. `open` finds the service, once the files are known to be right. */
export async function applyBudgetFiles(
  paths: readonly string[],
  { isDryRun, prune, isJson }: ApplyOptions,
  { io, open }: { io: CommandIo; open: () => Promise<ApiClient> },
): Promise<number> {
  const read = readBudgetFiles(await loadFiles(paths));
  if (read.request === null) {
    io.stderr.write(`${formatFaults(read.faults)}Nothing was sent.\n`);
    return EXIT.usage;
  }
  const client = await open();
  const result = await put(client, read, { dryRun: String(isDryRun), prune: String(prune) });
  if (typeof result === "string") {
    io.stderr.write(`${result}Nothing was changed.\n`);
    return EXIT.failed;
  }
  const total = read.request.orgs.reduce((sum, { budgets }) => sum + budgets.length, 0);
  io.stdout.write(isJson ? `${JSON.stringify(result)}\n` : formatChanges(result, total));
  return isDryRun && result.changes.length > 0 ? EXIT.failed : EXIT.ok;
}

/** What changed; as text, what the service finds wrong with the files, each mistake with its place in them. */
async function put(
  client: ApiClient,
  { request, locate }: Extract<ReadBudgets, { faults: null }>,
  query: Record<string, string>,
): Promise<Applied | string> {
  const path = "/analytics/v1/admin/budgets";
  try {
    return await client.request({ method: "PUT", path, query, ...jsonBody(request) }, applied);
  } catch (error) {
    if (!(error instanceof ApiProblem) || error.errors.length === 0) throw error;
    const places = error.errors.map(({ pointer, message }) => locate(pointer, message));
    const faults = places.flatMap((place) => place ?? []);
    if (faults.length < places.length) throw error;
    return formatFaults(faults);
  }
}

/** A table of differences, and how many there are. */
function formatChanges({ changes, counts, isApplied }: Applied, total: number): string {
  if (changes.length === 0)
    return `Nothing to change: ${formatCount(total, "budget")} in the files, and all are as they say.\n`;
  const titles = ["change", "org", "budget", "model", "per month", "thresholds", "name"];
  const rows = changes.flatMap(({ what, orgId, before, after }) =>
    [
      { mark: what === "changed" ? "was" : "removed", one: before },
      { mark: what, one: after },
    ].flatMap(({ mark, one }) => (one === null ? [] : [[mark, orgId, ...cellsOf(one)]])),
  );
  const table = formatTable(
    titles.map((title) => ({ title })),
    rows,
  );
  const sum = `${counts.added} added, ${counts.changed} changed, ${counts.removed} removed`;
  return `${table}${isApplied ? `Applied: ${sum}.` : `Would be: ${sum}.`}\n`;
}

const cellsOf = ({ budgetId, modelId, amount, thresholds, name }: z.output<typeof said>) => [
  budgetId,
  modelId ?? "",
  `${amount.amount} ${amount.currency}`,
  thresholds.map((percent) => `${percent} %`).join(", "),
  name ?? "",
];
