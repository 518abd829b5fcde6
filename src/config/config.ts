import { findClosest, OperatorError } from "#kernel";
import { aboutSettings, variableOf, type About } from "./setting.ts";
import { settings, type Config } from "./settings.ts";

const PREFIX = "TALLYSTICK_";
/** Variables that are read, though not by the service. */
const OTHER_VARIABLES = ["TALLYSTICK_API_KEY"];

/** One row of the settings table. */
export type SettingRow = About & { key: string; name: string };

/** The settings table, in the order it is documented. */
export const SETTING_ROWS: readonly SettingRow[] = Object.entries(settings.shape).map(
  ([key, schema]) => {
    const about = aboutSettings.get(schema);
    if (about === undefined) throw new Error(`setting ${key} is not described`);
    return { ...about, key, name: about.name ?? variableOf(key) };
  },
);

/** Bad settings, all of them. The message names each and never quotes a value, which may be a secret. */
export class ConfigError extends OperatorError {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(
      `Settings that cannot be used:\n${problems.map((problem) => `  ${problem}\n`).join("")}See docs/configuration.md.`,
    );
    this.name = "ConfigError";
    this.problems = problems;
  }
}

export type LoadedConfig = {
  config: Config;
  /** Names of the settings that were given, not taken from the defaults. */
  given: ReadonlySet<string>;
  /** Variables that look like ours and are not. */
  warnings: string[];
};

/**
 * Reads the settings from environment variables (names as in the table; an empty one counts as not given), with
 * `overrides` (same names, from the command line) in their place. Throws ConfigError with every problem at once.
 */
export function loadConfig(
  env: Readonly<Record<string, string | undefined>>,
  overrides: Readonly<Record<string, string | undefined>> = {},
): LoadedConfig {
  const input: Record<string, string> = {};
  const given = new Set<string>();
  for (const { key, name } of SETTING_ROWS) {
    const value = (overrides[name] ?? env[name] ?? "").trim();
    if (value === "") continue;
    input[key] = value;
    given.add(name);
  }
  const parsed = settings.safeParse(input);
  if (!parsed.success) {
    const keys = new Set(parsed.error.issues.map((issue) => issue.path[0]));
    throw new ConfigError(SETTING_ROWS.filter((row) => keys.has(row.key)).map(explainRow));
  }
  const config = parsed.data;
  const contradictions = listContradictions(config);
  if (contradictions.length > 0) throw new ConfigError(contradictions);
  return { config, given, warnings: listUnknown(env) };
}

/** Settings that are right each by itself and wrong together. */
function listContradictions(config: Config): string[] {
  const problems: string[] = [];
  if (config.dedupWindowDays > config.rawRetentionDays)
    problems.push("DEDUP_WINDOW_DAYS: expected at most RAW_RETENTION_DAYS, for example 2 and 30");
  if (config.ingestMode === "broker" && config.rabbitmqUrl === undefined)
    problems.push(
      "INGEST_MODE: broker needs RABBITMQ_URL, for example amqps://tallystick@broker.example:5671/%2F",
    );
  if (config.oidcIssuer !== undefined && config.oidcAudience === undefined)
    problems.push(
      "OIDC_ISSUER: needs OIDC_AUDIENCE, for example https://tallystick.example: tokens for other services would be taken otherwise",
    );
  if (config.oidcClientId !== undefined && config.oidcIssuer === undefined)
    problems.push(
      "OIDC_CLIENT_ID: needs OIDC_ISSUER, for example https://login.example/realms/main",
    );
  if (config.oidcClientSecret !== undefined && config.oidcClientId === undefined)
    problems.push("OIDC_CLIENT_SECRET: needs OIDC_CLIENT_ID, for example tallystick");
  return problems;
}

const explainRow = (row: SettingRow): string =>
  `${row.name}: expected ${row.kind}, for example ${row.example}`;

function listUnknown(env: Readonly<Record<string, string | undefined>>): string[] {
  const names = [...SETTING_ROWS.map((row) => row.name), ...OTHER_VARIABLES];
  return Object.keys(env)
    .filter((name) => name.startsWith(PREFIX) && !names.includes(name))
    .toSorted()
    .map((name) => {
      const closest = findClosest(name.slice(PREFIX.length), names) ?? findClosest(name, names);
      return `${name} is not a setting${closest ? `; did you mean ${closest}?` : "; see docs/configuration.md"}`;
    });
}

/** A setting as printed: secrets are blanked. */
export type PrintedSetting = { name: string; value: string; isDefault: boolean };

/** All settings as they are in force, secrets blanked, in the order of the table. */
export function printConfig(loaded: LoadedConfig): PrintedSetting[] {
  const values: Readonly<Record<string, unknown>> = loaded.config;
  return SETTING_ROWS.map((row) => ({
    name: row.name,
    value: formatSetting(row, values[row.key]),
    isDefault: !loaded.given.has(row.name),
  }));
}

function formatSetting({ secret }: SettingRow, value: unknown): string {
  const text = formatValue(value);
  if (secret === undefined || text === "") return text;
  return secret === "whole" ? "[redacted]" : redactUrl(text);
}

function formatValue(value: unknown): string {
  if (value === undefined) return "";
  if (value instanceof Map) return [...value].map((pair) => pair.join("=")).join(",");
  if (Array.isArray(value) || value instanceof Set) return [...value].join(",");
  if (typeof value === "object" && value !== null) return Object.values(value).join(":");
  return value === "any" ? "*" : String(value);
}

/** Host and database help whoever reads it; password and parameters are nobody's business. */
function redactUrl(text: string): string {
  const url = new URL(text);
  return `${url.protocol}//${url.username ? "[redacted]@" : ""}${url.host}${url.pathname}`;
}
