import { z } from "zod";
import { createApiClient, findApi } from "./api-client.ts";
import { jsonBody, listItems, parseLimit } from "./api-list.ts";
import {
  apiHintsOf,
  parseArguments,
  SERVICE_OPTIONS,
  SERVICE_USAGE,
  withRefusals,
} from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { formatFacts, formatTable } from "./table.ts";

const usage = `tallystick models list|set [MODEL] [options]

What models are called and what they are billed as, for all orgs. Events of models that nobody described count all the
same.

  list                the models that were described
  set MODEL           describe a model, in place of what was said of it before

  --name NAME         set: what people call it
  --billing-tier TIER set: what it is billed as
  --limit N           list: at most N models (default 100)
${SERVICE_USAGE}
Exit code: 0 done, 1 refused, 2 wrong arguments, 3 the service cannot be reached.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  name: { type: "string" },
  "billing-tier": { type: "string" },
  limit: { type: "string", default: "100" },
} as const;

// Fields that this version does not know stay, for --json.
const model = z.looseObject({
  modelId: z.string(),
  displayName: z.string().nullable(),
  billingTier: z.string().nullable(),
  createdAt: z.string(),
  updatedAt: z.string().nullable(),
});
type Model = z.output<typeof model>;

const PATH = "/analytics/v1/admin/models";

/** `models`: what they are called and billed as. */
export const modelsCommand: Command = {
  name: "models",
  summary: "List models or describe one",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    const [action, ...ids] = positionals;
    if (action !== "list" && action !== "set") throw new UsageError("Say what to do: list, set.");
    if (ids.length !== (action === "set" ? 1 : 0))
      throw new UsageError(action === "set" ? "set takes one model." : "list takes no model.");
    const { name, "billing-tier": tier, json: isJson } = values;
    const limit = parseLimit(values.limit);
    if ((name ?? tier) === undefined ? action === "set" : action === "list")
      throw new UsageError("set takes --name NAME, --billing-tier TIER or both.");
    const client = createApiClient(await findApi(apiHintsOf(values, io.env)));
    return await withRefusals(io, async () => {
      if (action === "list")
        return tellList(await listItems(client, { path: PATH, limit }, model), {
          isJson,
          io,
          limit,
        });
      const path = `${PATH}/${encodeURIComponent(ids[0] ?? "")}`;
      const body = { displayName: name ?? null, billingTier: tier ?? null };
      const set = await client.request({ method: "PUT", path, ...jsonBody(body) }, model);
      io.stdout.write(isJson ? `${JSON.stringify(set)}\n` : factsOf(set));
      return EXIT.ok;
    });
  },
};

function tellList(
  { items, more }: { items: readonly Model[]; more: boolean },
  { isJson, io, limit }: { isJson: boolean; io: CommandIo; limit: number },
): number {
  if (isJson) {
    io.stdout.write(`${JSON.stringify({ items, more })}\n`);
    return EXIT.ok;
  }
  if (items.length === 0) {
    io.stdout.write("No model was described yet.\n");
    return EXIT.ok;
  }
  const columns = ["model", "name", "billing tier"].map((title) => ({ title }));
  const rows = items.map((one) => [one.modelId, one.displayName ?? "", one.billingTier ?? ""]);
  io.stdout.write(formatTable(columns, rows));
  if (more) io.stderr.write(`There are more; --limit ${limit * 10} shows them.\n`);
  return EXIT.ok;
}

const factsOf = (one: Model): string =>
  formatFacts([
    ["model", one.modelId],
    ["name", one.displayName],
    ["billing tier", one.billingTier],
  ]);
