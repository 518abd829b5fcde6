import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type App, openApp } from "#app";
import { loadConfig } from "#config";
import { silentLogger, systemClock } from "#kernel";

/** The service as `npm start` runs it, with its default settings, in this process and on a database of the bench. */
export async function openBenchApp(databaseUrl: string): Promise<App & AsyncDisposable> {
  await using scope = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "tallystick-bench-"));
  scope.defer(() => rm(folder, { recursive: true, force: true }));
  const { config } = loadConfig({ DATABASE_URL: databaseUrl, DATA_DIR: folder, PORT: "0" });
  const app = scope.use(
    await openApp(config, {
      logger: silentLogger,
      clock: systemClock,
      random: Math.random,
      onProgress: () => undefined,
      signal: new AbortController().signal,
    }),
  );
  const owned = scope.move();
  return { ...app, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
