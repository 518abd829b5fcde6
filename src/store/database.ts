import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import { type AuditEntry, appendAudit } from "./audit.ts";
import { createTurns } from "./audit-turns.ts";
import { isConnectionLost } from "./errors.ts";

/**
 * One statement, bound parameters only: sql<Row>`select … where id = ${id}`.
 * int8 arrives as a number (a value beyond 2^53 throws); money is selected `::text`.
 */
export type Sql = <Row extends pg.QueryResultRow = never>(
  strings: TemplateStringsArray,
  ...values: readonly unknown[]
) => Promise<Row[]>;

/** An open transaction, or a single session, on one connection. */
export type Tx = {
  readonly sql: Sql;
  /** Runs text with no parameters: DDL, or identifiers from a closed list. Never user input. */
  exec(text: string): Promise<pg.QueryResult>;
  /** COPY … FROM STDIN in one write (several crash the driver when the server errors mid-COPY). Returns the rows stored. */
  copyIn(statement: string, data: Buffer): Promise<number>;
  /** COPY … TO STDOUT, whole. Callers bound the rows. */
  copyOut(statement: string): Promise<Buffer>;
  /** COPY … TO STDOUT, piece by piece as it arrives; read to the end. */
  copyOutChunks(statement: string): AsyncIterable<Buffer>;
};

export type DatabaseOptions = {
  /** Owner connection: migrations, ingest, rollup. */
  url: string;
  /** Connections for ingest and rollup (a rollup consumer holds at most one). */
  ownerConnectionsMax: number;
  /** Connections for API reads, apart from ingest so that neither starves the other. */
  apiConnectionsMax: number;
  /** Limit of one owner statement, ms. */
  ownerStatementMsMax: number;
  /** Limit of one API statement, ms. */
  apiStatementMsMax: number;
  /** Limit of a connection attempt, ms. */
  connectMsMax: number;
  /** Told of errors on idle connections; they are replaced. */
  onIdleError: (error: Error) => void;
};

/** The database, with its two walls: the owner's transactions, and the API's under row-level security. */
export type Database = AsyncDisposable & {
  /** A transaction as the owner. Rolled back when `work` throws; the connection is destroyed when it broke. */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** Single statements as the owner, each its own transaction. */
  readonly sql: Sql;
  /**
   * A snapshot that shows one org's rows and no other, whatever its statements say, and changes nothing. With `audit` the
   * entry is appended to the org's chain in the same transaction: no entry, no answer. Such reads of one org take turns.
   */
  withOrg<T>(orgId: number, work: (tx: Tx) => Promise<T>, audit?: AuditEntry): Promise<T>;
  /** A snapshot of all orgs: system answers only. `audit` as with `withOrg`, on chain 0. */
  withSystem<T>(work: (tx: Tx) => Promise<T>, audit?: AuditEntry): Promise<T>;
  /** A snapshot of which orgs there are and how far they are counted, and of nothing else: never audited. */
  withDirectory<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /**
   * A transaction that changes who may come in: orgs, models, keys, sessions, revocations; of one org, or ("*") of any.
   * Rolled back when `work` throws. Whoever changes something appends to the audit log in it.
   */
  change<T>(orgId: number | "*", work: (tx: Tx) => Promise<T>): Promise<T>;
  /**
   * A session that lasts until disposed: leases, advisory locks, temporary tables. It plans each statement once,
   * without its parameters and for indexes: its tables grow from nothing faster than statistics follow. When `prepare`
   * throws, the session is closed again: nobody else could.
   */
  openSession(prepare?: (session: Session) => Promise<unknown>): Promise<Session>;
};

/** One connection, held until disposed and then closed. */
export type Session = AsyncDisposable & {
  readonly sql: Sql;
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
};

const INT8 = 20;
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text" | "binary"): unknown =>
    oid === INT8 && format !== "binary"
      ? parseSafeInt8
      : pg.types.getTypeParser(oid, format)) as never,
};

function parseSafeInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value))
    throw new RangeError(`int8 ${text} does not fit a number; select it ::text`);
  return value;
}

/** Opens both pools and proves the owner's connection works. Throws what PostgreSQL said when it does not. */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  // Statements are short and many: compiling them or sharing them out among workers costs more than it saves.
  const planner = "-c jit=off -c max_parallel_workers_per_gather=0";
  const common = {
    connectionString: options.url,
    connectionTimeoutMillis: options.connectMsMax,
    application_name: "tallystick",
    types,
  };
  const owner = new pg.Pool({
    ...common,
    max: options.ownerConnectionsMax,
    options: planner,
    statement_timeout: options.ownerStatementMsMax,
    lock_timeout: options.ownerStatementMsMax,
    idle_in_transaction_session_timeout: options.ownerStatementMsMax * 2,
  });
  const api = new pg.Pool({
    ...common,
    max: options.apiConnectionsMax,
    // The server's own limit comes first; this one frees a connection whose server is no longer heard from.
    query_timeout: options.apiStatementMsMax + 500,
    lock_timeout: options.apiStatementMsMax,
    options: `${planner} -c role=tallystick_api`,
  });
  for (const pool of [owner, api]) {
    pool.on("error", options.onIdleError);
    // Between its greeting and whoever waits for it nobody listens to a connection: an error then would end the process.
    // Whoever uses the connection next is told of it.
    pool.on("connect", (client) => client.on("error", () => undefined));
  }
  try {
    await owner.query("select 1");
  } catch (error) {
    await Promise.all([owner.end(), api.end()]);
    throw error;
  }
  // With its values in hand a plan leaves out the filters that a question does not have, row by row.
  const enter = (role: Role, orgId: number | "" | "*") =>
    `set local role ${role}; set local app.org_id = '${orgId}'; set local plan_cache_mode = force_custom_plan; ` +
    `set local statement_timeout = ${options.apiStatementMsMax}`;
  // As above: without it, a connection whose server is no longer heard from would never be given back.
  const ownerLimit = { query_timeout: options.ownerStatementMsMax + 500 };
  const takeTurn = createTurns({ waitMsMax: options.apiStatementMsMax });
  /** One snapshot for a role and an org (0: none); with an entry, of one that has appended it to the org's chain. */
  const read = <T>(
    { role, orgId }: { role: Role; orgId: number },
    work: (tx: Tx) => Promise<T>,
    audit: AuditEntry | undefined,
  ): Promise<T> => {
    const begin = (access: string) =>
      `begin isolation level repeatable read ${access}; ${enter(role, orgId === 0 ? "" : orgId)}`;
    if (audit === undefined)
      return onClient(api, (client) => inTransaction(client, begin("read only"), work));
    return takeTurn(orgId, () =>
      onClient(api, (client) =>
        underAuditLock(client, orgId, () =>
          inTransaction(client, begin("read write"), async (tx) => {
            await appendAudit(tx, orgId, audit);
            return await work(tx);
          }),
        ),
      ),
    );
  };
  return {
    sql: sqlOf((config) => owner.query(Object.assign(config, ownerLimit))),
    transaction: (work) => onClient(owner, (client) => inTransaction(client, "begin", work)),
    withOrg: async (orgId, work, audit) => {
      requireOrgId(orgId);
      return await read({ role: "tallystick_api", orgId }, work, audit);
    },
    withSystem: (work, audit) => read({ role: "tallystick_system", orgId: 0 }, work, audit),
    withDirectory: (work) => read({ role: "tallystick_directory", orgId: 0 }, work, undefined),
    change: async (orgId, work) => {
      if (orgId !== "*") requireOrgId(orgId);
      const begin = `begin; ${enter("tallystick_admin", orgId)}`;
      return await onClient(api, (client) => inTransaction(client, begin, work));
    },
    openSession: async (prepare) => {
      const client = await owner.connect();
      // A lost connection shows at the next statement; unheard, the event would end the process.
      client.on("error", options.onIdleError);
      const session: Session = {
        sql: sqlOf((config) => client.query(config)),
        transaction: (work) => inTransaction(client, "begin", work),
        // Destroyed rather than returned: a session may hold temporary tables and locks.
        [Symbol.asyncDispose]: async () => client.release(true),
      };
      try {
        await client.query("set plan_cache_mode = force_generic_plan; set enable_seqscan = off");
        await prepare?.(session);
        return session;
      } catch (error) {
        // A connection that is never given back, even a lost one, keeps its place, and the pool would never end.
        client.release(true);
        throw error;
      }
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([owner.end(), api.end()]);
    },
  };
}

/** Who a transaction of the API is, to the database. */
type Role = "tallystick_api" | "tallystick_system" | "tallystick_directory" | "tallystick_admin";

function requireOrgId(orgId: number): void {
  if (!Number.isInteger(orgId) || orgId < 1) throw new RangeError(`no such org: ${orgId}`);
}

/** The same Database for a caller whose every read of an org, or of all, is to be told in the audit log. */
export const auditedDatabase = (
  database: Database,
  entry: Omit<AuditEntry, "action">,
): Database => ({
  ...database,
  withOrg: (orgId, work) => database.withOrg(orgId, work, { ...entry, action: "org.read" }),
  withSystem: (work) => database.withSystem(work, { ...entry, action: "system.read" }),
});

/** First key of the locks that append_audit takes; the second is the org. */
const AUDIT_LOCK_CLASS = 1_635_083_369;

/**
 * Runs `work` while this connection holds the lock of a chain. Taken before the transaction: its one snapshot must show
 * the chain's end. A connection that cannot give the lock back is closed, which does.
 */
async function underAuditLock<T>(
  client: pg.PoolClient,
  orgId: number,
  work: () => Promise<T>,
): Promise<T> {
  await client.query("select pg_advisory_lock($1, $2)", [AUDIT_LOCK_CLASS, orgId]);
  try {
    return await work();
  } finally {
    await client
      .query("select pg_advisory_unlock($1, $2)", [AUDIT_LOCK_CLASS, orgId])
      // Whoever took the connection out of the pool hears of it and closes it.
      .catch((error: unknown) => client.emit("error", error));
  }
}

async function onClient<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let failure: Error | undefined;
  const onError = (error: Error) => (failure = error);
  client.on("error", onError);
  try {
    return await work(client);
  } catch (error) {
    if (isConnectionLost(error)) failure = error as Error;
    throw error;
  } finally {
    client.removeListener("error", onError);
    client.release(failure);
  }
}

async function inTransaction<T>(
  client: pg.PoolClient,
  begin: string,
  work: (tx: Tx) => Promise<T>,
): Promise<T> {
  await client.query(begin);
  try {
    const result = await work(txOf(client));
    await client.query("commit");
    return result;
  } catch (error) {
    if (!isConnectionLost(error)) await client.query("rollback").catch(() => undefined);
    throw error;
  }
}

function txOf(client: pg.PoolClient): Tx {
  return {
    sql: sqlOf((config) => client.query(config)),
    exec: (text) => client.query(text),
    copyIn: (statement, data) =>
      new Promise((resolve, reject) => {
        const stream = client.query(copyFrom(statement));
        stream.on("error", reject);
        stream.on("finish", () => resolve(stream.rowCount));
        stream.end(data);
      }),
    copyOut: async (statement) => {
      const parts: Buffer[] = [];
      for await (const part of client.query(copyTo(statement))) parts.push(part as Buffer);
      return Buffer.concat(parts);
    },
    copyOutChunks: (statement) => client.query(copyTo(statement)),
  };
}

function sqlOf(query: (config: pg.QueryConfig) => Promise<pg.QueryResult>): Sql {
  return (async (strings: TemplateStringsArray, ...values: readonly unknown[]) => {
    const bound: unknown[] = [];
    let text = strings[0] ?? "";
    values.forEach((value, i) => {
      text += value instanceof Identifier ? value.name : `$${bound.push(value)}`;
      text += strings[i + 1] ?? "";
    });
    const { rows } = await query({ name: statementName(text), text, values: bound });
    return rows as unknown[];
  }) as Sql;
}

const statementNames = new Map<string, string>();

/** Every statement is prepared once per connection, under a name that stands for its text. */
function statementName(text: string): string {
  let name = statementNames.get(text);
  if (!name) statementNames.set(text, (name = `s${statementNames.size}`));
  return name;
}

/** A table name inside a statement. */
class Identifier {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** Puts a table name from a closed list into a statement: sql`select … from ${table("rollup_org_hour")}`. Throws on anything but [a-z0-9_]. */
export function table(name: string): Identifier {
  if (!/^[a-z][a-z0-9_]{0,62}$/.test(name)) throw new RangeError("not a table name");
  return new Identifier(name);
}
