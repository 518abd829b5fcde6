import { chmod, mkdir, rm } from "node:fs/promises";
import { silentLogger } from "#kernel";
import { openDataDir, startPostgres } from "#platform";

/** The PostgreSQL that Tallystick brings along, set up for tests in `folder`: made anew, without fsync. */
export async function startEmbeddedForTests(
  folder: string,
): Promise<AsyncDisposable & { url: string }> {
  await using scope = new AsyncDisposableStack();
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o711);
  const dataDir = scope.use(await openDataDir(folder));
  const server = scope.use(
    await startPostgres({
      dataDir: dataDir.path,
      logger: silentLogger,
      onProgress: () => undefined,
      settings: {
        fsync: "off",
        full_page_writes: "off",
        synchronous_commit: "off",
        shared_buffers: "64MB",
        max_connections: "300",
      },
      stopMsMax: 5_000,
      random: () => 0,
    }),
  );
  const owned = scope.move();
  return {
    url: server.url,
    [Symbol.asyncDispose]: async () => {
      await owned.disposeAsync();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
