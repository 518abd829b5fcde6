/** `npm run bench`: measures everything docs/benchmarks.md promises, as ratios to what the same server can do at all. */
import { mkdir, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { systemClock } from "#kernel";
import { type Bench, LONG, scaleSize, SHORT } from "./bench.ts";
import { calibrate } from "./calibration.ts";
import { describeMachine, type Machine } from "./machine.ts";
import { formatNumber, Report } from "./report.ts";
import { SERVER_KINDS, type ServerKind, startServer } from "./server.ts";
import { measureWholePath } from "./whole-path.ts";
import { measureDuplicates } from "./duplicates.ts";
import { measureKeyLedger } from "./key-ledger.ts";
import { measurePaced } from "./paced.ts";
import { measureQueries } from "./queries.ts";
import { measureHttp } from "./http.ts";
import { measureAccess } from "./access.ts";
import { BROKER_BENCHES } from "./broker.ts";
import { drawSeries } from "./chart.ts";
import { measureNaive } from "./naive.ts";

const BENCHES: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  "whole-path": measureWholePath,
  duplicates: measureDuplicates,
  "key-ledger": measureKeyLedger,
  http: measureHttp,
  paced: measurePaced,
  queries: measureQueries,
  access: measureAccess,
  ...BROKER_BENCHES,
  naive: measureNaive,
};
const USAGE = `usage: npm run bench -- [--short|--long] [--only name,…] [--write] [--server ${SERVER_KINDS.join("|")}] [--scale 0.1]
benches: ${Object.keys(BENCHES).join(", ")}
A name chooses all benches that begin with it: "broker" those that go through RabbitMQ. A whole run is written to bench/results; one of some benches only with --write, one that is scaled never.
`;

type Options = {
  mode: "short" | "long";
  names: string[];
  /** As it was chosen, for the name of the file; undefined: all. */
  only: string | undefined;
  isWritten: boolean;
  server: ServerKind;
  scale: number;
};
type Outcome = { report: Report; machine: Machine; calibration: number; failed: string[] };

const startedMs = performance.now();
const options = readOptions();
process.exitCode = options === undefined ? 2 : await run(options);

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      options: {
        short: { type: "boolean" },
        long: { type: "boolean" },
        only: { type: "string" },
        write: { type: "boolean" },
        server: { type: "string", default: "embedded" },
        scale: { type: "string", default: "1" },
      },
    });
    const names = (values.only?.split(",") ?? Object.keys(BENCHES)).flatMap(namesOf);
    const server = SERVER_KINDS.find((kind) => kind === values.server);
    if (server === undefined) throw new Error(`there is no server "${values.server}"`);
    const scale = Number(values.scale);
    if (!(scale > 0 && scale <= 1)) throw new Error("--scale is above 0 and at most 1");
    if (values.short && values.long) throw new Error("--short or --long, not both");
    const isWritten = scale === 1 && (values.only === undefined || values.write === true);
    const { only } = values;
    return { mode: values.long ? "long" : "short", names, only, isWritten, server, scale };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    return undefined;
  }
}

function namesOf(chosen: string): string[] {
  const names = Object.keys(BENCHES).filter(
    (name) => name === chosen || name.startsWith(`${chosen}-`),
  );
  if (names.length === 0) throw new Error(`there is no bench "${chosen}"`);
  return names;
}

/** Runs the benches and returns the exit code: 1 when one of them failed, whatever the budgets say. */
async function run(options: Options): Promise<number> {
  const outcome = await measure(options);
  process.stdout.write(`${outcome.report.formatTable()}\n`);
  if (options.isWritten && outcome.failed.length === 0) await writeResults(options, outcome);
  for (const name of outcome.failed) say(`${name} failed; see above`);
  return outcome.failed.length > 0 ? 1 : 0;
}

async function measure({ mode, names, server: kind, scale }: Options): Promise<Outcome> {
  await using scope = new AsyncDisposableStack();
  stopOnSignals(scope);
  say(`starting PostgreSQL (${kind})`);
  const server = scope.use(await startServer(kind));
  const report = new Report();
  const size = scaleSize(mode === "long" ? LONG : SHORT, scale);
  const base = { server, size, clock: systemClock, report, say };
  const machine = await describe(base);
  const calibration = await calibrate(base);
  report.add({
    bench: "calibration",
    what: "two concurrent COPYs from files",
    value: calibration,
    unit: "rows/s",
  });
  const failed: string[] = [];
  for (const name of names) {
    say(name);
    try {
      await BENCHES[name]?.({ ...base, calibration });
    } catch (error) {
      failed.push(name);
      process.stderr.write(`${name}: ${error instanceof Error ? error.stack : String(error)}\n`);
    }
  }
  return { report, machine, calibration, failed };
}

async function describe({ server }: Pick<Bench, "server">): Promise<Machine> {
  await using db = await server.createDatabase();
  return await describeMachine(db.database);
}

/** PostgreSQL runs in a session of its own and does not hear Ctrl-C. */
function stopOnSignals(scope: AsyncDisposableStack): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      say("stopping");
      const end = (): void => process.exit(130);
      scope.disposeAsync().then(end, end);
    });
  }
}

async function writeResults(
  { mode, only, server }: Options,
  { report, machine, calibration }: Outcome,
): Promise<void> {
  const date = new Date(systemClock.now()).toISOString();
  const folder = new URL("./results/", import.meta.url);
  await mkdir(folder, { recursive: true });
  const parts = [date.slice(0, 10), mode, ...(only?.split(",") ?? [])];
  const name = [...parts, ...(server === "embedded" ? [] : [server])].join("-");
  const { rows: figures, series, facts } = report;
  const results = { date, mode, server, machine: { ...machine, ...facts }, calibration, figures };
  await writeFile(new URL(`${name}.json`, folder), `${JSON.stringify(results, null, 2)}\n`);
  say(`written to bench/results/${name}.json`);
  if (series.length === 0) return;
  await writeFile(new URL(`${name}.series.json`, folder), `${JSON.stringify(series)}\n`);
  await writeFile(new URL(`${name}.svg`, folder), drawSeries(series));
}

function say(text: string): void {
  process.stderr.write(`[${formatNumber((performance.now() - startedMs) / 1000)} s] ${text}\n`);
}
