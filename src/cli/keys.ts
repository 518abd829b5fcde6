import { z } from "zod";
import { type ApiClient, createApiClient, findApi } from "./api-client.ts";
import { jsonBody, listItems, parseLimit } from "./api-list.ts";
import {
  apiHintsOf,
  parseArguments,
  parseTime,
  SERVICE_OPTIONS,
  SERVICE_USAGE,
  withRefusals,
} from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { formatFacts, formatTable } from "./table.ts";

const usage = `tallystick keys create|list|rotate|revoke [ID] --org ORG|--system [options]

API keys of an org, or of no org: those of the operator's staff, and of producers that send events for several orgs.

  create              make a key; it is printed this once and kept nowhere
  list                the keys, newest first; revoked and expired ones too
  rotate ID           make a key like this one; the old one works for some hours more
  revoke ID           end a key, within 30 seconds everywhere; safe to repeat

  --org ORG           keys of this org
  --system            keys of no org
  --name NAME         create: what people will call it
  --role ROLE         create: org_admin, engineer, finance, producer or (with --system) system_admin; may be repeated
  --scope SCOPE       create: no more than this of what the role allows, for example usage:read; may be repeated
  --writes-for ORG    create, with --system: an org it may send events for; may be repeated; * is any
  --expires TIME      create: a day, or a time with its zone, from which on it is refused (default: never)
  --overlap-hours N   rotate: how long the old key goes on working (default 24)
  --limit N           list: at most N keys (default 100)
${SERVICE_USAGE}
Exit code: 0 done, 1 refused or not there, 2 wrong arguments, 3 the service cannot be reached.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  org: { type: "string" },
  system: { type: "boolean", default: false },
  name: { type: "string" },
  role: { type: "string", multiple: true },
  scope: { type: "string", multiple: true },
  "writes-for": { type: "string", multiple: true },
  expires: { type: "string" },
  "overlap-hours": { type: "string", default: "24" },
  limit: { type: "string", default: "100" },
} as const;

const keyFields = {
  id: z.string(),
  name: z.string(),
  orgId: z.string().nullable(),
  roles: z.array(z.string()),
  scopes: z.array(z.string()).nullable(),
  writesFor: z.union([z.literal("any"), z.array(z.string())]).nullable(),
  createdAt: z.string(),
  createdBy: z.string(),
  expiresAt: z.string().nullable(),
  revokedAt: z.string().nullable(),
  lastUsedAt: z.string().nullable(),
  replaces: z.string().nullable(),
};
// Fields that this version does not know stay, for --json.
const key = z.looseObject(keyFields);
const madeKey = z.looseObject({ ...keyFields, key: z.string() });
type Key = z.output<typeof key>;

/** `keys`: the API keys of an org, or of none. */
export const keysCommand: Command = {
  name: "keys",
  summary: "Create, list, rotate or revoke API keys",
  usage,
  run: async (args, io) => {
    const request = parseRequest(args, io.env);
    const client = createApiClient(await findApi(request.hints));
    return await withRefusals(io, () => ACTIONS[request.action](client, request, io));
  },
};

type Action = "create" | "list" | "rotate" | "revoke";
type Request = ReturnType<typeof parseRequest>;

const ACTIONS: Record<
  Action,
  (client: ApiClient, request: Request, io: CommandIo) => Promise<number>
> = { create: createKey, list: listKeys, rotate: rotateKey, revoke: revokeKey };

const isAction = (name: string): name is Action => Object.hasOwn(ACTIONS, name);

function parseRequest(args: readonly string[], env: CommandIo["env"]) {
  const { values, positionals } = parseArguments(args, OPTIONS);
  const [action = "", ...ids] = positionals;
  if (!isAction(action))
    throw new UsageError(`Say what to do: ${Object.keys(ACTIONS).join(", ")}.`);
  if ((values.org !== undefined) === values.system)
    throw new UsageError("Give --org ORG, or --system for keys of no org.");
  const isOfOne = action === "rotate" || action === "revoke";
  if (ids.length !== (isOfOne ? 1 : 0))
    throw new UsageError(isOfOne ? `${action} takes the id of one key.` : `${action} takes no id.`);
  const [id = ""] = ids;
  if (isOfOne && !/^[0-9A-Za-z]{1,64}$/.test(id))
    throw new UsageError("A key is named by its id, as in the list: never by the key itself.");
  const overlapHours = Number(values["overlap-hours"]);
  if (!/^\d{1,4}$/.test(values["overlap-hours"]))
    throw new UsageError("--overlap-hours must be a whole number of hours.");
  const place = values.system ? "admin" : `orgs/${encodeURIComponent(values.org ?? "")}`;
  return {
    action,
    path: `/analytics/v1/${place}/keys`,
    id,
    newKey: action === "create" ? parseNewKey(values) : undefined,
    overlapHours,
    limit: parseLimit(values.limit),
    isJson: values.json,
    hints: apiHintsOf(values, env),
  };
}

type NewKeyValues = {
  name?: string | undefined;
  role?: string[] | undefined;
  scope?: string[] | undefined;
  "writes-for"?: string[] | undefined;
  expires?: string | undefined;
};

function parseNewKey({ name, role, scope, "writes-for": orgs, expires }: NewKeyValues) {
  if (name === undefined || role === undefined)
    throw new UsageError("create takes --name NAME and --role ROLE.");
  const expiresAt =
    expires === undefined ? undefined : new Date(parseTime("--expires", expires)).toISOString();
  const writesFor = orgs?.includes("*") ? "any" : orgs;
  return { name, roles: role, scopes: scope, writesFor, expiresAt };
}

async function createKey(
  client: ApiClient,
  { path, newKey, isJson }: Request,
  io: CommandIo,
): Promise<number> {
  const made = await client.request({ method: "POST", path, ...jsonBody(newKey) }, madeKey);
  return tellMade(made, { isJson, io });
}

async function rotateKey(
  client: ApiClient,
  { path, id, overlapHours, isJson }: Request,
  io: CommandIo,
): Promise<number> {
  const made = await client.request(
    { method: "POST", path: `${path}/${id}/rotate`, ...jsonBody({ overlapHours }) },
    madeKey,
  );
  if (!isJson) {
    const until = overlapHours === 0 ? "works no longer" : `works for ${overlapHours} h more`;
    io.stderr.write(`Key ${id} ${until}.\n`);
  }
  return tellMade(made, { isJson, io });
}

function tellMade(
  made: z.output<typeof madeKey>,
  { isJson, io }: { isJson: boolean; io: CommandIo },
): number {
  if (isJson) io.stdout.write(`${JSON.stringify(made)}\n`);
  else {
    io.stdout.write(factsOf(made));
    io.stdout.write(`\nThe key, shown this once:\n\n  ${made.key}\n\n`);
  }
  return EXIT.ok;
}

async function listKeys(
  client: ApiClient,
  { path, limit, isJson }: Request,
  io: CommandIo,
): Promise<number> {
  const { items, more } = await listItems(client, { path, limit }, key);
  if (isJson) {
    io.stdout.write(`${JSON.stringify({ items, more })}\n`);
    return EXIT.ok;
  }
  if (items.length === 0) {
    io.stdout.write("No keys.\n");
    return EXIT.ok;
  }
  const columns = ["id", "name", "roles", "created", "last used", "ends"].map((title) => ({
    title,
  }));
  const rows = items.map((one) => [
    one.id,
    one.name,
    one.roles.join(","),
    one.createdAt,
    one.lastUsedAt ?? "never",
    one.revokedAt === null ? (one.expiresAt ?? "never") : `revoked ${one.revokedAt}`,
  ]);
  io.stdout.write(formatTable(columns, rows));
  if (more) io.stderr.write(`There are more; --limit ${limit * 10} shows them.\n`);
  return EXIT.ok;
}

async function revokeKey(
  client: ApiClient,
  { path, id, isJson }: Request,
  io: CommandIo,
): Promise<number> {
  const revoked = await client.request({ method: "DELETE", path: `${path}/${id}` }, key);
  io.stdout.write(isJson ? `${JSON.stringify(revoked)}\n` : factsOf(revoked));
  return EXIT.ok;
}

const factsOf = (one: Key): string =>
  formatFacts([
    ["id", one.id],
    ["name", one.name],
    ["org", one.orgId ?? "none"],
    ["roles", one.roles.join(", ")],
    ["scopes", one.scopes === null ? "all of the roles'" : one.scopes.join(", ")],
    ["writes for", one.writesFor === "any" ? "any org" : (one.writesFor?.join(", ") ?? null)],
    ["created", `${one.createdAt} by ${one.createdBy}`],
    ["expires", one.expiresAt ?? "never"],
    ["revoked", one.revokedAt],
    ["last used", one.lastUsedAt],
    ["in place of", one.replaces],
  ]);
