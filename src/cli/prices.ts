import { type CatalogueNote, convertCatalogue, listProviders, type PriceList } from "#app";
import { findClosest } from "#kernel";
import manifest from "../../package.json" with { type: "json" };
import { type ApiClient, createApiClient, findApi } from "./api-client.ts";
import { jsonBody, listItems, parseLimit } from "./api-list.ts";
import {
  apiHintsOf,
  parseArguments,
  SERVICE_OPTIONS,
  SERVICE_USAGE,
  withRefusals,
} from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { readPriceFiles } from "./price-file.ts";
import {
  appliedPrices,
  type AppliedPrices,
  formatBook,
  formatChanges,
  formatOrgPrices,
  listedEntry,
  orgEntry,
} from "./price-table.ts";
import { formatCount, formatTable } from "./table.ts";
import { formatFaults, loadFiles } from "./yaml-files.ts";

const usage = `tallystick prices diff|apply|list|seed [PATH …] [options]

What usage costs. Own prices are YAML files, best kept under version control; contracts/prices.md describes them.

  diff [PATH …]       what apply would change; exit code 1 when there is something
  apply [PATH …]      make the own prices what the files say, all of them together, under a new version of the price
                      book: what is in none of them is no longer in the book. Safe to repeat
  list                the price book, or with --org the prices that hold for an org now
  seed                put the catalogue of @pydantic/genai-prices under the own prices: it prices models that no own
                      price is for. Tells what of it the price book cannot say. Safe to repeat

PATH is a file, or a folder whose .yaml files are meant (default: prices).

  --org ORG           list: what holds for this org
  --model MODEL       list: only prices that this model could have (with --org: the one that it has)
  --limit N           list: at most N prices (default 100)
  --provider ID       seed: only this provider of the catalogue; may be repeated. What was seeded of others goes
  --dry-run           seed: tell what would change, and change nothing
  --notes             seed: list everything that could not be said, not only the models left out
${SERVICE_USAGE}
Exit code: 0 done, 1 refused, or diff found differences, 2 wrong arguments or files, 3 the service cannot be reached.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  org: { type: "string" },
  model: { type: "string" },
  limit: { type: "string" },
  provider: { type: "string", multiple: true },
  "dry-run": { type: "boolean", default: false },
  notes: { type: "boolean", default: false },
} as const;
type Values = ReturnType<typeof parseArguments<typeof OPTIONS>>["values"];

const PATH = "/analytics/v1/admin/prices";
const LIST_DEFAULT = "100";
const CATALOGUE = "@pydantic/genai-prices";
const ACTIONS = ["diff", "apply", "list", "seed"] as const;

/** Options that only one action takes. */
const ONLY: Readonly<Record<string, (typeof ACTIONS)[number]>> = {
  org: "list",
  model: "list",
  limit: "list",
  provider: "seed",
  "dry-run": "seed",
  notes: "seed",
};

/** `prices`: what usage costs. */
export const pricesCommand: Command = {
  name: "prices",
  summary: "Compare, apply or list prices, or take them from a catalogue",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    const [named, ...paths] = positionals;
    const action = ACTIONS.find((one) => one === named);
    if (action === undefined) throw new UsageError(`Say what to do: ${ACTIONS.join(", ")}.`);
    for (const [option, value] of Object.entries(values))
      if (ONLY[option] !== undefined && ONLY[option] !== action && value !== false)
        throw new UsageError(`--${option} goes with ${ONLY[option]}.`);
    if ((action === "list" || action === "seed") && paths.length > 0)
      throw new UsageError(`${action} takes no path.`);
    if (action === "list") return await list(values, io);
    if (action === "seed") return await seed(values, io);
    return await applyFiles(paths.length === 0 ? ["prices"] : paths, { action, values, io });
  },
};

const clientOf = async (values: Values, io: CommandIo): Promise<ApiClient> =>
  createApiClient(await findApi(apiHintsOf(values, io.env)));

async function applyFiles(
  paths: readonly string[],
  { action, values, io }: { action: "diff" | "apply"; values: Values; io: CommandIo },
): Promise<number> {
  const { prices, faults } = readPriceFiles(await loadFiles(paths));
  if (prices === null) {
    io.stderr.write(`${formatFaults(faults)}Nothing was sent.\n`);
    return EXIT.usage;
  }
  const client = await clientOf(values, io);
  return await withRefusals(io, async () => {
    const isDryRun = action === "diff";
    const applied = await put(client, { layer: "own", prices, isDryRun });
    io.stdout.write(values.json ? `${JSON.stringify(applied)}\n` : formatChanges(applied));
    return isDryRun && applied.changes.length > 0 ? EXIT.failed : EXIT.ok;
  });
}

const put = (
  client: ApiClient,
  { layer, prices, isDryRun }: { layer: string; prices: PriceList; isDryRun: boolean },
): Promise<AppliedPrices> =>
  client.request(
    {
      method: "PUT",
      path: PATH,
      query: { dryRun: String(isDryRun) },
      ...jsonBody({ layer, ...prices }),
    },
    appliedPrices,
  );

async function list(values: Values, io: CommandIo): Promise<number> {
  const { org, model: modelId, json: isJson } = values;
  const limit = parseLimit(values.limit ?? LIST_DEFAULT);
  const client = await clientOf(values, io);
  const tell = <Item>(
    { items, more }: { items: Item[]; more: boolean },
    format: (items: readonly Item[]) => string,
  ): number => {
    if (isJson) io.stdout.write(`${JSON.stringify({ items, more })}\n`);
    else io.stdout.write(items.length === 0 ? "No prices.\n" : format(items));
    if (more && !isJson) io.stderr.write(`There are more; --limit ${limit * 10} shows them.\n`);
    return EXIT.ok;
  };
  return await withRefusals(io, async () => {
    const query = { modelId };
    if (org === undefined)
      return tell(await listItems(client, { path: PATH, limit, query }, listedEntry), formatBook);
    const path = `/analytics/v1/orgs/${encodeURIComponent(org)}/prices`;
    return tell(await listItems(client, { path, limit, query }, orgEntry), formatOrgPrices);
  });
}

async function seed(values: Values, io: CommandIo): Promise<number> {
  const { waitForUpdate } = await import("@pydantic/genai-prices");
  const data: unknown = await waitForUpdate();
  const known = listProviders(data);
  for (const id of values.provider ?? []) {
    if (known.includes(id)) continue;
    const closest = findClosest(id, known);
    const hint = closest === undefined ? `It has ${known.join(", ")}.` : `Did you mean ${closest}?`;
    throw new UsageError(`The catalogue has no provider "${id}". ${hint}`);
  }
  const source = `${CATALOGUE} ${manifest.dependencies[CATALOGUE]}`;
  const { list: prices, notes } = convertCatalogue(data, { source, providers: values.provider });
  const client = await clientOf(values, io);
  return await withRefusals(io, async () => {
    const isDryRun = values["dry-run"];
    const applied = await put(client, { layer: "catalogue", prices, isDryRun });
    if (values.json) io.stdout.write(`${JSON.stringify({ ...applied, source, notes })}\n`);
    else io.stdout.write(formatChanges(applied));
    if (!values.json) tellNotes(notes, values.notes, io);
    return EXIT.ok;
  });
}

/** What the price book cannot say: models without a price one by one, the rest when it is asked for. */
function tellNotes(notes: readonly CatalogueNote[], isAll: boolean, io: CommandIo): void {
  const shown = notes.filter(({ what }) => isAll || what === "left_out");
  const columns = ["model", "what", "why"].map((title) => ({ title }));
  if (shown.length > 0)
    io.stderr.write(
      formatTable(
        columns,
        shown.map((note) => [note.model, note.what, note.reason]),
      ),
    );
  const rest = notes.length - shown.length;
  if (rest > 0)
    io.stderr.write(
      `${formatCount(rest, "more note")} about names and charges that are not taken; --notes lists them.\n`,
    );
}
