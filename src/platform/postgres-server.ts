import pg from "pg";
import { OperatorError, retry, type Logger } from "#kernel";
import { systemCodeOf } from "./system-error.ts";

const VERSION_MIN = 15;

/** What there is to know about a PostgreSQL server before trusting it with the data. */
export type PostgresFacts = {
  /** "15.14", as the server says it. */
  version: string;
  majorVersion: number;
  encoding: string;
  isSuperuser: boolean;
  mayBypassRls: boolean;
  mayCreateRoles: boolean;
  mayCreateTables: boolean;
  /** A standby: reads only. */
  isStandby: boolean;
  /** Time zones the server knows; a few hundred, or its time zone data is missing. */
  timeZones: number;
  dataChecksums: boolean;
};

/** Asks a server about itself with one statement. Throws OperatorError in plain words when it cannot be reached. */
export async function inspectPostgres(url: string): Promise<PostgresFacts> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 5_000,
    query_timeout: 10_000,
    application_name: "tallystick",
  });
  client.on("error", () => undefined); // a lost connection rejects the statement below as well
  try {
    await client.connect();
    const { rows } = await client.query<PostgresFacts>(`
      select current_setting('server_version') as "version",
             current_setting('server_version_num')::int / 10000 as "majorVersion",
             pg_encoding_to_char(d.encoding) as "encoding",
             r.rolsuper as "isSuperuser",
             r.rolbypassrls as "mayBypassRls",
             r.rolcreaterole as "mayCreateRoles",
             has_schema_privilege(current_user, 'public', 'create') as "mayCreateTables",
             pg_is_in_recovery() as "isStandby",
             (select count(*)::int from pg_timezone_names) as "timeZones",
             current_setting('data_checksums')::bool as "dataChecksums"
        from pg_database d, pg_roles r
       where d.datname = current_database()
         and r.rolname = current_user`);
    const [facts] = rows;
    if (facts === undefined) throw new Error("the server does not know its own database");
    return facts;
  } catch (error) {
    throw explainConnection(error, url);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Everything that keeps Tallystick from using this server, each with what to do; none: all is well. */
export function listPostgresProblems(facts: PostgresFacts): string[] {
  const problems: string[] = [];
  if (facts.majorVersion < VERSION_MIN) {
    problems.push(`It is PostgreSQL ${facts.version}; ${VERSION_MIN} or newer is needed.`);
  }
  if (facts.encoding !== "UTF8") {
    problems.push(
      `Its encoding is ${facts.encoding}; create the database with \`encoding 'UTF8' template template0\`.`,
    );
  }
  if (facts.isStandby)
    problems.push("It is a standby, which can only be read; connect to the primary.");
  if (!facts.isSuperuser && !facts.mayBypassRls) {
    problems.push(
      "The role must bypass row-level security (COPY cannot run under it): `alter role … bypassrls`.",
    );
  }
  if (!facts.isSuperuser && !facts.mayCreateRoles) {
    problems.push(
      "The role must be able to make the roles that the API reads as: `alter role … createrole`.",
    );
  }
  if (!facts.mayCreateTables) {
    problems.push(
      "The role may not create tables: make it the owner of the database, or `grant create on schema public`.",
    );
  }
  if (facts.timeZones < 300) {
    problems.push(
      `It knows ${facts.timeZones} time zones only; install the system's time zone data (tzdata).`,
    );
  }
  return problems;
}

export type ConnectOptions = {
  logger: Logger;
  random: () => number;
  signal: AbortSignal;
  /** How often to try while the server cannot be reached: it may be starting beside us. */
  attemptsMax: number;
};

/** Waits until the server can be reached and checks that it will do. Throws OperatorError with every problem at once. */
export async function connectPostgres(
  url: string,
  options: ConnectOptions,
): Promise<PostgresFacts> {
  const facts = await retry(() => inspectPostgres(url), {
    attemptsMax: options.attemptsMax,
    waitMs: 250,
    waitMsMax: 5_000,
    isRetryable: (error) => error instanceof PostgresUnreachable,
    random: options.random,
    signal: options.signal,
    onRetry: (error) =>
      options.logger.warn({ err: error }, "PostgreSQL cannot be reached; trying again"),
  });
  const problems = listPostgresProblems(facts);
  if (problems.length === 0) return facts;
  throw new OperatorError(
    `The PostgreSQL at ${placeOf(url)} cannot be used:\n${problems.map((problem) => `  ${problem}`).join("\n")}`,
  );
}

/** The server could not be reached now; it may be later. */
export class PostgresUnreachable extends OperatorError {}

function explainConnection(error: unknown, url: string): unknown {
  const place = placeOf(url);
  const code = systemCodeOf(error);
  const cause = { cause: error };
  if (code === "28P01" || code === "28000") {
    return new OperatorError(
      `PostgreSQL at ${place} refuses the user or password of DATABASE_URL, or pg_hba.conf does not let this machine in.`,
      cause,
    );
  }
  if (code === "3D000") {
    return new OperatorError(
      `PostgreSQL at ${place} has no such database. Create it: \`create database … encoding 'UTF8' template template0\`.`,
      cause,
    );
  }
  if (code === "57P03" || code === "53300" || code.startsWith("08")) {
    return new PostgresUnreachable(
      `PostgreSQL at ${place} takes no connections at the moment (${code}).`,
      cause,
    );
  }
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    return new PostgresUnreachable(`The host of DATABASE_URL (${place}) cannot be found.`, cause);
  }
  if (/^E[A-Z]+$/.test(code) || /timeout|terminated/i.test(String(error))) {
    return new PostgresUnreachable(
      `Nothing answers at ${place}. Is PostgreSQL running, and reachable from here?`,
      cause,
    );
  }
  return error;
}

/** Host and database of a connection URL: what may be shown. */
function placeOf(url: string): string {
  const { host, pathname } = new URL(url);
  return `${host}${pathname}`;
}
