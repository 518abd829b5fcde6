import { z } from "zod";
import { type ApiClient, createApiClient, findApi } from "./api-client.ts";
import { listItems, parseLimit } from "./api-list.ts";
import {
  apiHintsOf,
  parseArguments,
  SERVICE_OPTIONS,
  SERVICE_USAGE,
  withRefusals,
} from "./arguments.ts";
import { type Command, type CommandIo, EXIT, UsageError } from "./command.ts";
import { formatCount, formatFacts, formatNumber, formatTable } from "./table.ts";

const usage = `tallystick quarantine list|show|replay|drop [ID…] --org ORG|--system [options]

Events that were not counted: rejected ones, and those that contradict an event counted before.

  list                the items, newest first
  show ID             one item, with the bytes that were received
  replay ID…|--all    send items through ingestion again, once what was wrong is put right; safe to repeat
  drop ID…|--all      give items up; they stay visible as dropped until quarantine retention

  --org ORG           items of this org
  --system            items whose org could not be told
  --all               replay, drop: every pending item that matches
  --state STATE       list: pending (default), replayed or dropped
  --code CODE         only items refused for this reason, for example too_old
  --source SOURCE     only items from this source, for example http
  --limit N           list: at most N items (default 100)
  --backfill          replay: let events older than the raw retention through
${SERVICE_USAGE}
Exit code: 0 done, 1 some items were refused again or are not there, 2 wrong arguments, 3 the service cannot be reached.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  org: { type: "string" },
  system: { type: "boolean", default: false },
  all: { type: "boolean", default: false },
  state: { type: "string" },
  code: { type: "string" },
  source: { type: "string" },
  limit: { type: "string", default: "100" },
  backfill: { type: "boolean", default: false },
} as const;

const entry = z.object({
  id: z.int(),
  source: z.string(),
  receivedAt: z.string(),
  code: z.string(),
  pointer: z.string(),
  detail: z.string(),
  eventId: z.string().nullable(),
  occurredAt: z.string().nullable(),
  size: z.int(),
  truncated: z.boolean(),
  state: z.string(),
  resolvedAt: z.string().nullable(),
  resolution: z.string().nullable(),
});
const item = entry.extend({ bytes: z.string(), text: z.string().nullable() });
const replayed = z.object({
  id: z.int(),
  status: z.enum(["accepted", "duplicate", "conflict", "rejected"]),
  code: z.string().optional(),
  pointer: z.string().optional(),
  detail: z.string().optional(),
});
const replayedPage = z.object({ results: z.array(replayed), nextCursor: z.string().nullable() });
const dropped = z.object({ dropped: z.int(), more: z.boolean() });

/** `quarantine`: look at what was not counted, and do something about it. */
export const quarantineCommand: Command = {
  name: "quarantine",
  summary: "List, show, replay or drop events that were not counted",
  usage,
  run: async (args, io) => {
    const request = parseRequest(args, io.env);
    const client = createApiClient(await findApi(request.hints));
    return await withRefusals(io, () => ACTIONS[request.action](client, request, io));
  },
};

type Action = "list" | "show" | "replay" | "drop";
type Request = ReturnType<typeof parseRequest>;

function parseRequest(args: readonly string[], env: CommandIo["env"]) {
  const { values, positionals } = parseArguments(args, OPTIONS);
  const [name = "", ...ids] = positionals;
  if (!isAction(name)) throw new UsageError(`Say what to do: ${Object.keys(ACTIONS).join(", ")}.`);
  if ((values.org !== undefined) === values.system)
    throw new UsageError("Give --org ORG, or --system for items of no known org.");
  if (!ids.every((id) => /^[1-9]\d{0,14}$/.test(id)))
    throw new UsageError("Items are named by their number, as in the list.");
  const { all, backfill, code, source, state } = values;
  if (name === "show" && ids.length !== 1)
    throw new UsageError("show takes the number of one item.");
  if (name === "list" && (ids.length > 0 || all)) throw new UsageError("list takes no numbers.");
  if ((name === "replay" || name === "drop") && ids.length > 0 === all) {
    throw new UsageError(
      `${name} takes the numbers of items, or --all for every pending one that matches.`,
    );
  }
  if (ids.length > 0 && (code ?? source) !== undefined)
    throw new UsageError("--code and --source go with list and --all.");
  const place = values.system ? "system" : `orgs/${encodeURIComponent(values.org ?? "")}`;
  const path = `/analytics/v1/${place}/quarantine`;
  return {
    action: name,
    path,
    ids,
    backfill,
    filter: { code, source },
    state,
    limit: parseLimit(values.limit),
    isJson: values.json,
    hints: apiHintsOf(values, env),
  };
}

const ACTIONS: Record<
  Action,
  (client: ApiClient, request: Request, io: CommandIo) => Promise<number>
> = {
  list: listEntries,
  show: showItem,
  replay: replayItems,
  drop: dropItems,
};

const isAction = (name: string): name is Action => Object.hasOwn(ACTIONS, name);

async function listEntries(
  client: ApiClient,
  { path, filter, state, limit, isJson }: Request,
  io: CommandIo,
): Promise<number> {
  const { items, more } = await listItems(
    client,
    { path, limit, query: { ...filter, state } },
    entry,
  );
  if (isJson) {
    io.stdout.write(`${JSON.stringify({ items, more })}\n`);
    return EXIT.ok;
  }
  if (items.length === 0) {
    io.stdout.write(
      `No ${state ?? "pending"} items${filter.code || filter.source ? " match" : ""}.\n`,
    );
    return EXIT.ok;
  }
  const columns = [
    { title: "id", isNumeric: true },
    ...["received", "source", "code", "where", "event"].map((title) => ({ title })),
  ];
  const rows = items.map((one) => [
    String(one.id),
    one.receivedAt,
    one.source,
    one.code,
    one.pointer,
    one.eventId ?? "?",
  ]);
  io.stdout.write(formatTable(columns, rows));
  if (more) io.stderr.write(`There are more; --limit ${limit * 10} shows them.\n`);
  return EXIT.ok;
}

async function showItem(
  client: ApiClient,
  { path, ids, isJson }: Request,
  io: CommandIo,
): Promise<number> {
  const shown = await client.request({ method: "GET", path: `${path}/${ids[0]}` }, item);
  if (isJson) {
    io.stdout.write(`${JSON.stringify(shown)}\n`);
    return EXIT.ok;
  }
  const facts: [string, string | null][] = [
    ["id", String(shown.id)],
    [
      "state",
      shown.resolution === null
        ? shown.state
        : `${shown.state}: ${shown.resolution} (${shown.resolvedAt})`,
    ],
    ["code", shown.code],
    ["where", shown.pointer === "" ? "the whole" : shown.pointer],
    ["why", shown.detail],
    ["source", shown.source],
    ["received", shown.receivedAt],
    ["event", shown.eventId],
    ["occurred", shown.occurredAt],
    [
      "size",
      `${formatCount(shown.size, "byte")}${shown.truncated ? ", only the beginning was kept" : ""}`,
    ],
  ];
  io.stdout.write(formatFacts(facts));
  // Text of producers, as JSON where it is not plain: no terminal escapes on anybody's screen.
  const text = shown.text ?? `base64 ${shown.bytes}`;
  io.stdout.write(`\n${/[\p{Cc}\p{Cf}]/u.test(text) ? JSON.stringify(text) : text}\n`);
  return EXIT.ok;
}

async function replayItems(
  client: ApiClient,
  { path, ids, filter, backfill, isJson }: Request,
  io: CommandIo,
): Promise<number> {
  const results: z.output<typeof replayed>[] = [];
  const flags = backfill ? { backfill: "true" } : {};
  for (const id of ids) {
    results.push(
      await client.request(
        { method: "POST", path: `${path}/${id}/replay`, query: flags },
        replayed,
      ),
    );
  }
  let cursor: string | undefined;
  while (ids.length === 0 && !io.signal.aborted) {
    const query = { ...filter, ...flags, cursor, limit: "200" };
    const answer = await client.request(
      { method: "POST", path: `${path}/replay`, query },
      replayedPage,
    );
    results.push(...answer.results);
    if (answer.nextCursor === null) break;
    cursor = answer.nextCursor;
  }
  const isCounted = ({ status }: { status: string }): boolean =>
    status === "accepted" || status === "duplicate";
  const refused = results.filter((result) => !isCounted(result));
  if (isJson) io.stdout.write(`${JSON.stringify({ results })}\n`);
  else {
    io.stdout.write(
      `${formatCount(results.length, "item")} replayed: ${formatNumber(results.length - refused.length)} counted, ${formatNumber(refused.length)} refused again\n`,
    );
    const columns = [
      { title: "id", isNumeric: true },
      ...["status", "code", "where", "why"].map((title) => ({ title })),
    ];
    const rows = refused
      .slice(0, 20)
      .map(({ id, status, code = "", pointer = "", detail = "" }) => [
        String(id),
        status,
        code,
        pointer,
        detail,
      ]);
    if (rows.length > 0) io.stderr.write(formatTable(columns, rows));
  }
  if (io.signal.aborted) return EXIT.interrupted;
  return refused.length > 0 ? EXIT.failed : EXIT.ok;
}

async function dropItems(
  client: ApiClient,
  { path, ids, filter, isJson }: Request,
  io: CommandIo,
): Promise<number> {
  let count = 0;
  for (const id of ids)
    count += (await client.request({ method: "POST", path: `${path}/${id}/drop` }, dropped))
      .dropped;
  while (ids.length === 0 && !io.signal.aborted) {
    const answer = await client.request(
      { method: "POST", path: `${path}/drop`, query: { ...filter, limit: "5000" } },
      dropped,
    );
    count += answer.dropped;
    if (!answer.more) break;
  }
  io.stdout.write(
    isJson ? `${JSON.stringify({ dropped: count })}\n` : `${formatCount(count, "item")} dropped\n`,
  );
  return io.signal.aborted ? EXIT.interrupted : EXIT.ok;
}
