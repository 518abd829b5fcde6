import type { z } from "zod";
import { sleepMs, systemClock } from "#kernel";
import { type ApiClient, createApiClient, findApi, retryAnswer } from "./api-client.ts";
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
import { createProgress, type Progress } from "./progress.ts";
import {
  differsFromPreview,
  formatLines,
  formatOrder,
  formatOrders,
  formatTally,
  formatTotals,
  formatTrouble,
  isLeftApplied,
  line,
  order,
  orderWithTotals,
} from "./rerate-table.ts";
import { formatNumber } from "./table.ts";

const usage = `tallystick rerate preview|apply|undo|cancel|list|show [ID] [options]

Rates again, by the newest price book, what was rated by an older one or had no price. Looked at first, then applied; what
was applied can be undone. An order whose work fails is tried again with growing pauses; list, show and the commands that
wait for it say so, and why.

  preview             find what would change, without changing it: by currency, the lines (day, org, model) that change
                      most, and the order's ID, by which it is applied
  apply ID            do what was previewed, and compare what was done with it. Refused when prices changed since. Safe to
                      repeat
  undo ID             take it back, of the newest one that was applied, or of one that is still being applied. Safe to repeat
  cancel ID           give up an order that was not to be applied yet: it never will be. Safe to repeat
  list                the orders, newest first
  show ID             one of them, how far it is, and the lines that change most

  --from TIME         preview: first day (2026-11-20, UTC) or time with its zone (default: 30 days before --to)
  --to TIME           preview: the end, which is no longer in it (default: now)
  --org ORG           preview: only this org's usage
  --model MODEL       preview: only this model's
  --reason TEXT       preview: why; for the audit log (needed)
  --no-wait           preview, apply, undo: do not wait until it is done
  --limit N           preview, show: at most N lines (default 20); list: at most N orders (default 100)
${SERVICE_USAGE}
Exit code: 0 done, 1 refused or not there, or what was applied is not what was previewed, 2 wrong arguments, 3 the service
cannot be reached, 130 stopped waiting: the service goes on.
`;

const OPTIONS = {
  ...SERVICE_OPTIONS,
  from: { type: "string" },
  to: { type: "string" },
  org: { type: "string" },
  model: { type: "string" },
  reason: { type: "string" },
  "no-wait": { type: "boolean", default: false },
  limit: { type: "string" },
} as const;
type Values = ReturnType<typeof parseArguments<typeof OPTIONS>>["values"];

const PATH = "/analytics/v1/admin/reratings";
const WINDOW_MS = 30 * 86_400_000;
const LINES_DEFAULT = "20";
const LIST_DEFAULT = "100";
/** A question about an order is in the audit log: they become rarer while it takes its time. */
const ASK_MS = 200;
const ASK_MS_MAX = 3000;
const ASK_GROWTH = 1.3;
/** So long an order may lie about before that is said. */
const IDLE_MS_MAX = 15_000;

type Action = "preview" | "apply" | "undo" | "cancel" | "list" | "show";
type Order = z.output<typeof order>;
type Deps = { client: ApiClient; values: Values; io: CommandIo };

/** What of the arguments each action takes. */
const TAKES: Readonly<Record<Action, { id: boolean; options: readonly string[] }>> = {
  preview: { id: false, options: ["from", "to", "org", "model", "reason", "no-wait", "limit"] },
  apply: { id: true, options: ["no-wait"] },
  undo: { id: true, options: ["no-wait"] },
  cancel: { id: true, options: [] },
  list: { id: false, options: ["limit"] },
  show: { id: true, options: ["limit"] },
};
const isAction = (name: string): name is Action => Object.hasOwn(TAKES, name);

/** `rerate`: rates again by the newest prices. */
export const rerateCommand: Command = {
  name: "rerate",
  summary: "Rate usage again by the newest prices: preview, apply, undo, cancel",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, OPTIONS);
    const [name = "", ...ids] = positionals;
    if (!isAction(name)) throw new UsageError(`Say what to do: ${Object.keys(TAKES).join(", ")}.`);
    const path = pathOf(name, ids);
    for (const [option, value] of Object.entries(values)) {
      if (Object.hasOwn(SERVICE_OPTIONS, option) || value === false) continue;
      if (!TAKES[name].options.includes(option))
        throw new UsageError(`${name} takes no --${option}.`);
    }
    const limit = parseLimit(values.limit ?? (name === "list" ? LIST_DEFAULT : LINES_DEFAULT));
    const wish = name === "preview" ? wishOf(values) : undefined;
    const client = createApiClient(await findApi(apiHintsOf(values, io.env)));
    const deps = { client, values, io };
    return await withRefusals(io, async () => {
      if (name === "list") return await list(deps, limit);
      if (name === "cancel") return await cancel(deps, path);
      if (name === "show") {
        await show(deps, path, limit);
        return EXIT.ok;
      }
      if (wish !== undefined) return await preview(deps, wish, limit);
      return await step(deps, path, name === "undo" ? "undo" : "apply");
    });
  },
};

function pathOf(action: Action, ids: readonly string[]): string {
  if (!TAKES[action].id) {
    if (ids.length > 0) throw new UsageError(`${action} takes no number.`);
    return PATH;
  }
  const [id, ...more] = ids;
  if (id === undefined || more.length > 0 || !/^[1-9]\d{0,9}$/.test(id))
    throw new UsageError(`${action} takes the number of one order, as list shows it.`);
  return `${PATH}/${id}`;
}

function wishOf({ from, to, org, model, reason }: Values) {
  if (reason === undefined || reason.trim() === "")
    throw new UsageError("Say why with --reason TEXT: the audit log keeps it.");
  const endMs = to === undefined ? systemClock.now() : parseTime("--to", to);
  const startMs = from === undefined ? endMs - WINDOW_MS : parseTime("--from", from);
  if (startMs >= endMs) throw new UsageError("--from must be earlier than --to.");
  return {
    start: new Date(startMs).toISOString(),
    end: new Date(endMs).toISOString(),
    orgId: org,
    modelId: model,
    reason,
  };
}

/** Says what is printed: JSON, or text for people. */
const tell = ({ values, io }: Deps, answer: object, text: () => string): void => {
  io.stdout.write(values.json ? `${JSON.stringify(answer)}\n` : text());
};

async function preview(
  deps: Deps,
  wish: ReturnType<typeof wishOf>,
  limit: number,
): Promise<number> {
  const { client, values } = deps;
  const made = await client.request({ method: "POST", path: PATH, ...jsonBody(wish) }, order);
  const path = `${PATH}/${made.reratingId}`;
  if (values["no-wait"]) return tellBegun(deps, made);
  if (!(await isWorkedOff(deps, path))) return EXIT.interrupted;
  const { state } = await show(deps, path, limit);
  if (state !== "cancelled") return EXIT.ok;
  deps.io.stderr.write("It was cancelled meanwhile.\n");
  return EXIT.failed;
}

async function cancel(deps: Deps, path: string): Promise<number> {
  const { client } = deps;
  const done = await client.request({ method: "POST", path: `${path}/cancel` }, order);
  tell(deps, done, () => `${formatOrder(done)}\nIt is cancelled, and has changed nothing.\n`);
  return EXIT.ok;
}

async function step(deps: Deps, path: string, action: "apply" | "undo"): Promise<number> {
  const { client, values, io } = deps;
  const begun = await client.request({ method: "POST", path: `${path}/${action}` }, order);
  if (values["no-wait"]) return tellBegun(deps, begun);
  if (!(await isWorkedOff(deps, path))) return EXIT.interrupted;
  const done = await client.request({ method: "GET", path }, orderWithTotals);
  tell(deps, done, () => `${formatOrder(done)}\n${formatTotals(done)}${formatTally(done)}`);
  const outcome = (action === "apply" ? judgeApplied : judgeUndone)(done);
  if (!outcome.isGood) io.stderr.write(`${outcome.text}\n`);
  else if (!values.json) io.stdout.write(`${outcome.text}\n`);
  return outcome.isGood ? EXIT.ok : EXIT.failed;
}

type Outcome = { isGood: boolean; text: string };

function judgeApplied(done: z.output<typeof orderWithTotals>): Outcome {
  if (done.state !== "applied")
    return { isGood: false, text: `It is ${done.state}: somebody took it back meanwhile.` };
  if (!differsFromPreview(done)) return { isGood: true, text: "Previewed = applied." };
  return {
    isGood: false,
    text:
      "What was applied is NOT what was previewed: events have come or gone since, or single events of a day were deleted.\n" +
      `"rerate undo ${done.reratingId}" takes back what was applied.`,
  };
}

const judgeUndone = (done: z.output<typeof orderWithTotals>): Outcome =>
  isLeftApplied(done)
    ? {
        isGood: false,
        text: "Not all of it could be taken back: of what is still applied, the single events were deleted meanwhile.",
      }
    : { isGood: true, text: "All of it is taken back." };

function tellBegun(deps: Deps, begun: Order): number {
  tell(deps, begun, () => formatOrder(begun));
  if (!deps.values.json)
    deps.io.stderr.write(`"rerate show ${begun.reratingId}" tells how far it is.\n`);
  return EXIT.ok;
}

async function list(deps: Deps, limit: number): Promise<number> {
  const { client, values, io } = deps;
  const found = await listItems(client, { path: PATH, limit }, order);
  tell(deps, found, () => (found.items.length === 0 ? "No orders.\n" : formatOrders(found.items)));
  if (found.more && !values.json)
    io.stderr.write(`There are more; --limit ${limit * 10} shows them.\n`);
  return EXIT.ok;
}

async function show(
  deps: Deps,
  path: string,
  limit: number,
): Promise<z.output<typeof orderWithTotals>> {
  const { client, values, io } = deps;
  const found = await client.request({ method: "GET", path }, orderWithTotals);
  const { items: lines, more } = await listItems(
    client,
    { path: `${path}/lines`, limit, query: { orderBy: "difference" } },
    line,
  );
  tell(deps, { ...found, lines, more }, () =>
    [
      formatOrder(found),
      formatTotals(found) + formatTally(found),
      ...(lines.length > 0 ? [formatLines(lines)] : []),
    ].join("\n"),
  );
  if (values.json) return found;
  if (more) io.stderr.write(`These change most; --limit ${limit * 10} shows more.\n`);
  if (found.state === "previewed" && found.totals.length > 0)
    io.stderr.write(`"rerate apply ${found.reratingId}" does it.\n`);
  return found;
}

/** Waits until no work is left of an order; false when the person did not want to wait longer. */
async function isWorkedOff(deps: Deps, path: string): Promise<boolean> {
  const { io } = deps;
  const progress = createProgress(io, systemClock);
  try {
    await waitForEnd(deps, path, progress);
    return true;
  } catch (error) {
    if (!io.signal.aborted) throw error;
    progress.clear();
    io.stderr.write("Not waited for any longer; the service goes on with it.\n");
    return false;
  } finally {
    progress.clear();
  }
}

async function waitForEnd({ client, io }: Deps, path: string, progress: Progress): Promise<void> {
  const startedMs = systemClock.now();
  let isTold = false;
  let toldTrouble: string | undefined;
  for (let waitMs = ASK_MS; ; waitMs = Math.min(ASK_MS_MAX, waitMs * ASK_GROWTH)) {
    const now = await retryAnswer(() => client.request({ method: "GET", path }, order), {
      attemptsMax: 10,
      random: io.random,
      sleep: sleepMs,
      signal: io.signal,
    });
    if (!/^ordered$|ing$/.test(now.state)) return;
    const { done, total } = now.days;
    const days = `${formatNumber(done)} of ${formatNumber(total)} days`;
    progress.show({ done, total, text: `${now.state}: ${days}` });
    const trouble = formatTrouble(now);
    if (trouble !== undefined && trouble !== toldTrouble) progress.note(trouble);
    toldTrouble = trouble;
    if (
      trouble === undefined &&
      now.state === "ordered" &&
      !isTold &&
      systemClock.now() - startedMs > IDLE_MS_MAX
    ) {
      isTold = true;
      progress.note(
        "Nobody has begun with it yet: another order is worked off first, or no process has the role scheduler.",
      );
    }
    await sleepMs(waitMs, io.signal);
  }
}
