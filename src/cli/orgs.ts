import { z } from "zod";
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
import { formatFacts, formatTable } from "./table.ts";

const usage = `tallystick orgs create|list|show|update|suspend|activate|delete [ORG] [options]

The orgs whose usage is counted.

  create ORG          make an org before its first event; its waiting events can then be replayed from quarantine
  list                all orgs, deleted ones too
  show ORG            one org
  update ORG          change what the options name; the rest stays
  suspend ORG         nobody of it gets in, and its events go into quarantine, until it is activated
  activate ORG        the end of that
  delete ORG          as if it were not there: its keys are revoked and its events refused. There is no way back, so
                      it takes --yes. What was counted stays in the database until its retention.

  --name NAME         create, update: what people call it
  --time-zone ZONE    create, update: where its days begin, for example Europe/Berlin (default UTC)
  --currency CODE     create: ISO 4217, for good (default USD)
  --cost-basis BASIS  create, update: which cost its reports show: event_or_computed (default: the event's own where it
                      has one, else the price book's), event or computed
  --tag-key KEY       create, update: a key of events' metadata to break usage down by (groupBy=tag:KEY), from now on;
                      at most 5, may be repeated; update: in place of all there were, none with --tag-key ""
  --billing-contact C create, update: whom invoices go to
  --entitlement K=V   create, update: what it bought; may be repeated; update: in place of all there were. Numbers,
                      true and false are taken as such
  --yes               delete: yes, for good
  --limit N           list: at most N orgs (default 100)
${SERVICE_USAGE}
Exit code: 0 done, 1 refused or not there, 2 wrong arguments, 3 the service cannot be reached.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  name: { type: "string" },
  "time-zone": { type: "string" },
  currency: { type: "string" },
  "cost-basis": { type: "string" },
  "tag-key": { type: "string", multiple: true },
  "billing-contact": { type: "string" },
  entitlement: { type: "string", multiple: true },
  yes: { type: "boolean", default: false },
  limit: { type: "string", default: "100" },
} as const;

// Fields that this version does not know stay, for --json.
const org = z.looseObject({
  orgId: z.string(),
  name: z.string().nullable(),
  timeZone: z.string(),
  currency: z.string(),
  costBasis: z.string(),
  tagKeys: z.array(z.string()),
  billingContact: z.string().nullable(),
  entitlements: z.record(z.string(), z.unknown()),
  status: z.string(),
  statusChangedAt: z.string().nullable(),
  createdAt: z.string(),
});
type Org = z.output<typeof org>;

const PATH = "/analytics/v1/admin/orgs";

/** `orgs`: who is counted. */
export const orgsCommand: Command = {
  name: "orgs",
  summary: "Create, list, show, update, suspend, activate or delete orgs",
  usage,
  run: async (args, io) => {
    const request = parseRequest(args, io.env);
    const client = createApiClient(await findApi(request.hints));
    return await withRefusals(io, async () => {
      if (request.action === "list") return await listOrgs(client, request, io);
      const changed = await client.request(request.http, org);
      io.stdout.write(request.isJson ? `${JSON.stringify(changed)}\n` : factsOf(changed));
      return EXIT.ok;
    });
  },
};

const STATUS_AFTER = { suspend: "suspended", activate: "active", delete: "deleted" } as const;
const ACTIONS = ["create", "list", "show", "update", "suspend", "activate", "delete"] as const;
type Action = (typeof ACTIONS)[number];
const isAction = (name: string): name is Action => ACTIONS.some((one) => one === name);

type Values = ReturnType<typeof parseArguments<typeof OPTIONS>>["values"];

function parseRequest(args: readonly string[], env: CommandIo["env"]) {
  const { values, positionals } = parseArguments(args, OPTIONS);
  const [action = "", ...ids] = positionals;
  if (!isAction(action)) throw new UsageError(`Say what to do: ${ACTIONS.join(", ")}.`);
  if (ids.length !== (action === "list" ? 0 : 1))
    throw new UsageError(action === "list" ? "list takes no org." : `${action} takes one org.`);
  if (action === "delete" && !values.yes)
    throw new UsageError("delete has no way back: say --yes as well. suspend can be undone.");
  const [orgId = ""] = ids;
  return {
    action,
    http: requestOf(action, orgId, values),
    limit: parseLimit(values.limit),
    isJson: values.json,
    hints: apiHintsOf(values, env),
  };
}

function requestOf(action: Action, orgId: string, values: Values) {
  const path = `${PATH}/${encodeURIComponent(orgId)}`;
  const profile = profileOf(values);
  const isGiven = Object.values(profile).some((value) => value !== undefined);
  const { currency } = values;
  if (action === "create")
    return { method: "POST", path: PATH, ...jsonBody({ orgId, currency, ...profile }) } as const;
  if (currency !== undefined)
    throw new UsageError("--currency goes with create: it stays for good.");
  if (isGiven !== (action === "update"))
    throw new UsageError(isGiven ? `${action} changes no profile.` : "Say what to update.");
  if (action === "update") return { method: "PATCH", path, ...jsonBody(profile) } as const;
  if (action === "show" || action === "list") return { method: "GET", path } as const;
  return { method: "PATCH", path, ...jsonBody({ status: STATUS_AFTER[action] }) } as const;
}

const profileOf = (values: Values) => ({
  name: values.name,
  timeZone: values["time-zone"],
  costBasis: values["cost-basis"],
  tagKeys: values["tag-key"]?.filter((key) => key !== ""),
  billingContact: values["billing-contact"],
  entitlements: values.entitlement && Object.fromEntries(values.entitlement.map(parseEntitlement)),
});

function parseEntitlement(text: string): [string, string | number | boolean] {
  const [, name = "", value = ""] = /^([A-Za-z][\w.-]*)=(.*)$/s.exec(text) ?? [];
  if (name === "") throw new UsageError("--entitlement takes NAME=VALUE, for example seats=20.");
  if (value === "true" || value === "false") return [name, value === "true"];
  return [name, /^-?\d{1,15}(\.\d{1,6})?$/.test(value) ? Number(value) : value];
}

async function listOrgs(
  client: ApiClient,
  { limit, isJson }: { limit: number; isJson: boolean },
  io: CommandIo,
): Promise<number> {
  const { items, more } = await listItems(client, { path: PATH, limit }, org);
  if (isJson) {
    io.stdout.write(`${JSON.stringify({ items, more })}\n`);
    return EXIT.ok;
  }
  if (items.length === 0) {
    io.stdout.write("No orgs.\n");
    return EXIT.ok;
  }
  const columns = ["org", "name", "status", "zone", "currency", "created"].map((title) => ({
    title,
  }));
  const rows = items.map((one) => [
    one.orgId,
    one.name ?? "",
    one.status,
    one.timeZone,
    one.currency,
    one.createdAt,
  ]);
  io.stdout.write(formatTable(columns, rows));
  if (more) io.stderr.write(`There are more; --limit ${limit * 10} shows them.\n`);
  return EXIT.ok;
}

const factsOf = (one: Org): string =>
  formatFacts([
    ["org", one.orgId],
    ["name", one.name],
    [
      "status",
      one.statusChangedAt === null ? one.status : `${one.status} since ${one.statusChangedAt}`,
    ],
    ["time zone", one.timeZone],
    ["currency", one.currency],
    ["cost basis", one.costBasis],
    ["tag keys", one.tagKeys.length === 0 ? null : one.tagKeys.join(", ")],
    ["billing contact", one.billingContact],
    ...Object.entries(one.entitlements).map(([name, value]): [string, string] => [
      `entitlement ${name}`,
      String(value),
    ]),
    ["created", one.createdAt],
  ]);
