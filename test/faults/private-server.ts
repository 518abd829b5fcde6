import { join } from "node:path";
import { hasDebianPostgres, startDebianPostgres, temporaryFolder } from "#harness";
import { silentLogger } from "#kernel";
import { openDataDir, startPostgres, type EmbeddedPostgres } from "#platform";

/** A PostgreSQL server that one test may stop and kill. It writes to disk as in production: fsync is on. */
export type PrivateServer = AsyncDisposable & {
  /** Superuser connection; the same after each start. */
  readonly url: string;
  readonly port: number;
  /** The postmaster. */
  pid(): Promise<number>;
  stop(): Promise<void>;
  /** No effect when it runs. Also after the postmaster was killed. */
  start(): Promise<void>;
};

const DURABLE = ["fsync = on", "full_page_writes = on", "synchronous_commit = on"];

/** Debian's PostgreSQL 15 where it is installed, else the one Tallystick brings along. */
export async function startPrivateServer(): Promise<PrivateServer> {
  await using scope = new AsyncDisposableStack();
  const folder = scope.use(await temporaryFolder());
  const server = hasDebianPostgres()
    ? await startDebian(scope, join(folder.path, "server"))
    : await startEmbedded(scope, folder.path);
  const owned = scope.move();
  return { ...server, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function startDebian(
  scope: AsyncDisposableStack,
  folder: string,
): Promise<Omit<PrivateServer, typeof Symbol.asyncDispose>> {
  const server = scope.use(await startDebianPostgres(folder, DURABLE));
  return {
    url: server.url,
    port: server.port,
    pid: () => server.pid(),
    stop: () => server.stop("fast"),
    start: () => server.start(),
  };
}

async function startEmbedded(
  scope: AsyncDisposableStack,
  folder: string,
): Promise<Omit<PrivateServer, typeof Symbol.asyncDispose>> {
  const dataDir = scope.use(await openDataDir(join(folder, "data")));
  const launch = () =>
    startPostgres({
      dataDir: dataDir.path,
      logger: silentLogger,
      onProgress: () => undefined,
      settings: { shared_buffers: "64MB" },
      stopMsMax: 10_000,
      random: () => 0,
    });
  let running: EmbeddedPostgres | undefined = await launch();
  scope.defer(async () => await running?.[Symbol.asyncDispose]());
  return {
    url: running.url,
    port: Number(new URL(running.url).port),
    pid: async () => running?.pid() ?? 0,
    stop: async () => {
      await running?.[Symbol.asyncDispose]();
      running = undefined;
    },
    start: async () => {
      running ??= await launch();
    },
  };
}
