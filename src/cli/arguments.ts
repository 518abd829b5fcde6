import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { loadConfig } from "#config";
import { type ApiHints, ApiProblem } from "./api-client.ts";
import { type CommandIo, EXIT, UsageError } from "./command.ts";

/** `parseArgs`, strict, with positional arguments; what it refuses is a UsageError. */
export function parseArguments<Options extends ParseArgsOptionsConfig>(
  args: readonly string[],
  options: Options,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** Options of every command that talks to a running service. */
export const SERVICE_OPTIONS = {
  url: { type: "string" },
  "api-key": { type: "string" },
  "data-dir": { type: "string" },
  json: { type: "boolean", default: false },
} as const satisfies ParseArgsOptionsConfig;

/** Their part of a help text. */
export const SERVICE_USAGE = `  --url URL           the service (default: the one that runs on the data directory)
  --api-key KEY       its API key; better in TALLYSTICK_API_KEY, where other users of this machine cannot see it
                      (default: the admin key in the data directory)
  --data-dir DIR      data directory (default: DATA_DIR, else ./.tallystick)
  --json              print the answer as JSON
`;

type ServiceValues = {
  url?: string | undefined;
  "api-key"?: string | undefined;
  "data-dir"?: string | undefined;
};

/** What these options and the environment say about where the service is. Throws UsageError on a broken URL. */
export function apiHintsOf(values: ServiceValues, env: CommandIo["env"]): ApiHints {
  if (values.url !== undefined && !/^https?:\/\/./.test(values.url)) {
    throw new UsageError("--url must begin with http:// or https://.");
  }
  return {
    url: values.url,
    apiKey: values["api-key"] ?? env["TALLYSTICK_API_KEY"],
    dataDir: dataDirOf(values, env),
  };
}

/** The data directory: as given, else DATA_DIR, else the default. */
export const dataDirOf = (values: Pick<ServiceValues, "data-dir">, env: CommandIo["env"]): string =>
  loadConfig(env, { DATA_DIR: values["data-dir"] }).config.dataDir;

/** A day, or an instant with its zone, as ms: what a clock without a zone means is nobody's to guess. */
export function parseTime(option: string, text: string): number {
  const ms = findTime(text);
  if (ms === undefined)
    throw new UsageError(
      `${option} must be a day (2026-11-20) or a time with its zone (2026-11-20T10:00:00Z).`,
    );
  return ms;
}

/** The same; undefined when the text is neither. */
export function findTime(text: string): number | undefined {
  const ms = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/.test(text)
    ? Date.parse(text)
    : Number.NaN;
  return Number.isNaN(ms) ? undefined : ms;
}

/** What the service would do for nobody or not for this key: told on standard error, with exit code 1. */
const REFUSED = new Set([400, 403, 404, 409, 422]);

/** Runs what talks to the service; a refusal is an answer, everything else that goes wrong is thrown on. */
export async function withRefusals(io: CommandIo, work: () => Promise<number>): Promise<number> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ApiProblem) || !REFUSED.has(error.status)) throw error;
    io.stderr.write(`${error.message}\n`);
    return EXIT.failed;
  }
}
