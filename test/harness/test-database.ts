import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import type pg from "pg";
import { neverCrash, silentLogger } from "#kernel";
import { migrate, openDatabase, type Database } from "#store";
import { defaultServer, leaseServer, type ServerKind } from "./shared-server.ts";

const MIGRATIONS = new URL("../../src/store/migrations/", import.meta.url);

export type TestDatabaseOptions = {
  /** Which server; see `defaultServer`. */
  server?: ServerKind;
  /** False: an empty database, to migrate in the test. */
  migrated?: boolean;
  ownerConnectionsMax?: number;
  apiConnectionsMax?: number;
  /** Limits of one statement, ms. */
  ownerStatementMsMax?: number;
  apiStatementMsMax?: number;
};

/** A database of the test's own, dropped at the end. */
export type TestDatabase = AsyncDisposable & {
  readonly database: Database;
  /** Owner connection (superuser). */
  readonly url: string;
  readonly name: string;
};

/** `await using db = await testDatabase()`: a migrated database, cut from a template in milliseconds. */
export async function testDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const server = await leaseServer(options.server ?? defaultServer());
  const template = options.migrated === false ? "template1" : await ensureTemplate(server);
  const name = `t_${process.pid}_${randomBytes(5).toString("hex")}`;
  await server.pool.query(`create database ${name} template ${template}`);
  const url = databaseUrl(server.url, name);
  const drop = () => server.pool.query(`drop database if exists ${name} with (force)`);
  try {
    const database = await openDatabase({
      url,
      ownerConnectionsMax: options.ownerConnectionsMax ?? 5,
      apiConnectionsMax: options.apiConnectionsMax ?? 3,
      ownerStatementMsMax: options.ownerStatementMsMax ?? 30_000,
      apiStatementMsMax: options.apiStatementMsMax ?? 10_000,
      connectMsMax: 10_000,
      onIdleError: () => undefined,
    });
    return {
      database,
      url,
      name,
      [Symbol.asyncDispose]: async () => {
        await database[Symbol.asyncDispose]();
        await drop();
      },
    };
  } catch (error) {
    await drop();
    throw error;
  }
}

function databaseUrl(serverUrl: string, name: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return url.href;
}

const templates = new Map<string, Promise<string>>();

/** Name of the migrated template on this server; made once per state of the migrations, whoever comes first. */
function ensureTemplate(server: { pool: pg.Pool; url: string }): Promise<string> {
  let template = templates.get(server.url);
  if (template === undefined) {
    template = makeTemplate(server);
    templates.set(server.url, template);
  }
  return template;
}

async function makeTemplate(server: { pool: pg.Pool; url: string }): Promise<string> {
  const name = `template_${await digestMigrations()}`;
  const client = await server.pool.connect();
  try {
    await client.query("select pg_advisory_lock(hashtext($1))", [name]);
    const { rows } = await client.query<{ ready: boolean }>(
      "select datistemplate as ready from pg_database where datname = $1",
      [name],
    );
    if (rows[0]?.ready !== true) {
      await client.query(`drop database if exists ${name} with (force)`);
      await client.query(`create database ${name}`);
      await migrate(databaseUrl(server.url, name), { logger: silentLogger, crash: neverCrash });
      // The mark of a finished template: one that a killed run left half-made is made again.
      await client.query(`alter database ${name} is_template true`);
    }
    await client.query("select pg_advisory_unlock(hashtext($1))", [name]);
    return name;
  } finally {
    client.release();
  }
}

async function digestMigrations(): Promise<string> {
  const hash = createHash("sha256");
  const files = (await readdir(MIGRATIONS)).filter((file) => file.endsWith(".sql")).toSorted();
  for (const file of files) hash.update(file).update(await readFile(new URL(file, MIGRATIONS)));
  return hash.digest("hex").slice(0, 16);
}
